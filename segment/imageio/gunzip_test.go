package imageio

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
)

// member makes a gzip member of deflate data and of the bytes that it stands for.
func member(deflated, plain []byte) []byte {
	b := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}
	b = append(b, deflated...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(plain))
	return binary.LittleEndian.AppendUint32(b, uint32(len(plain)))
}

// gunzipAll reads a gzip file with the given sizes of buffers.
func gunzipAll(file []byte, packed, inflated int) ([]byte, error) {
	g, err := newGunzipOf(bytes.NewReader(file), packed, inflated)
	if err != nil {
		return nil, err
	}
	defer g.free()
	b, err := io.ReadAll(g)
	if n, again := g.Read(make([]byte, 1)); n != 0 || again == nil || err != nil && again != err {
		return nil, fmt.Errorf("%w, and then %d bytes, %v", err, n, again)
	}
	return b, err
}

// material is data of every kind that a compressor treats in a way of its own: repeats at
// every distance and of every length, noise, runs of values of one to eight bytes.
func material() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := func(n, values int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.IntN(values))
		}
		return b
	}
	runs := []byte{}
	for width := 1; width <= 8; width++ {
		for range 100 {
			runs = append(runs, bytes.Repeat(noise(width, 256), 1+r.IntN(300))...)
		}
	}
	far := noise(32768, 256)
	far = append(far, far...) // distances of 32768
	for range 2000 {
		n, from := 3+r.IntN(300), r.IntN(len(far)-400)
		far = append(far, far[from:from+n]...)
	}
	image := make([]byte, 400000)
	for i := 0; i < len(image); i += 2 {
		binary.LittleEndian.PutUint16(image[i:], uint16(1000+20*r.NormFloat64()))
	}
	return map[string][]byte{
		"empty": nil, "byte": {7}, "noise": noise(200000, 256), "two values": noise(500000, 2), "runs": runs, "far": far,
		"zeros": make([]byte, 1000000), "image": image, "skewed": bytes.Join([][]byte{noise(100000, 3), noise(3000, 256)}, nil),
	}
}

// The decoder gives what was compressed, at every level of the standard library's
// compressor, whatever the sizes of the buffers: small ones end in the middle of
// everything.
func TestGunzip(t *testing.T) {
	before := cmem.Live()
	for name, plain := range material() {
		for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
			var b bytes.Buffer
			z, err := flate.NewWriter(&b, level)
			require.NoError(t, err)
			for rest := plain; len(rest) > 0; { // several blocks, also empty and stored ones
				n := min(len(rest), 70000)
				z.Write(rest[:n])
				z.Flush()
				rest = rest[n:]
			}
			require.NoError(t, z.Close())
			file := member(b.Bytes(), plain)
			for _, sizes := range [][2]int{{packedBytes, inflatedBytes}, {660, 5}, {700, 2570}, {1500, 40000}} {
				if len(plain) > 1000*sizes[1] {
					continue // the history is copied for every block
				}
				got, err := gunzipAll(file, sizes[0], sizes[1])
				require.NoError(t, err, "%s, level %d, %v", name, level, sizes)
				require.True(t, bytes.Equal(plain, got), "%s, level %d, %v", name, level, sizes)
			}
			for _, cut := range []int{1, 8, 9, len(file) / 2} {
				if cut < len(file) {
					got, err := gunzipAll(file[:len(file)-cut], 1500, 4000)
					require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%s, level %d, %d bytes too few", name, level, cut)
					require.True(t, bytes.HasPrefix(plain, got))
				}
			}
		}
	}
	assert.Equal(t, before, cmem.Live())
}

// Every field that a member's header may have, by RFC 1952.
func TestGunzipHeader(t *testing.T) {
	plain := member([]byte{3, 0}, nil) // an empty block
	for flags := range 32 {
		h := append([]byte{}, plain[:10]...)
		h[3] = byte(flags)
		if flags&4 != 0 {
			h = append(append(h, 0, 1), make([]byte, 256)...)
		}
		if flags&8 != 0 {
			h = append(h, "name\x00"...)
		}
		if flags&16 != 0 {
			h = append(h, "comment\x00"...)
		}
		spoiled := append([]byte{}, h...)
		if flags&2 != 0 {
			crc := crc32.ChecksumIEEE(h)
			h = append(h, byte(crc), byte(crc>>8))
			spoiled = append(spoiled, byte(crc), byte(crc>>8)^1)
		}
		got, err := gunzipAll(append(h, plain[10:]...), 2000, 1000)
		require.NoError(t, err, "flags %d", flags)
		require.Empty(t, got)
		if flags&2 != 0 {
			_, err = gunzipAll(append(spoiled, plain[10:]...), 2000, 1000)
			require.ErrorIs(t, err, errHeader)
		}
		for n := range len(h) {
			_, err := gunzipAll(h[:n], 2000, 1000)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "flags %d, %d bytes", flags, n)
		}
	}
	for place, value := range map[int]byte{0: 0, 1: 0, 2: 7, 3: 0x20} {
		h := append([]byte{}, plain...)
		h[place] = value
		_, err := gunzipAll(h, 2000, 1000)
		require.ErrorIs(t, err, errHeader)
	}
	length := append([]byte{}, plain...)
	length[len(length)-1]++
	_, err := gunzipAll(length, 2000, 1000)
	require.ErrorIs(t, err, errChecksum)
}

// A match of one member does not reach into the member before.
func TestGunzipMembersApart(t *testing.T) {
	first := member([]byte{0x4b, 0x04, 0x00}, []byte("a")) // "a" in a fixed block
	// Fixed codes: a length of 3 (0000001) and distance 1 (00000).
	reaching := member([]byte{0x03, 0x02, 0x00}, []byte("aaa"))
	_, err := gunzipAll(append(first, reaching...), 2000, 1000)
	require.ErrorIs(t, err, errDeflate)
}

// FuzzInflate compares the decoder with the standard library's on any bytes.
func FuzzInflate(f *testing.F) {
	for _, plain := range material() {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			var b bytes.Buffer
			z, _ := flate.NewWriter(&b, level)
			z.Write(plain[:min(len(plain), 3000)])
			z.Close()
			f.Add(b.Bytes())
		}
	}
	seeds, _ := filepath.Glob(filepath.Join("testdata", "*.gz"))
	for _, path := range seeds {
		if content, err := os.ReadFile(path); err == nil && len(content) > 10 {
			f.Add(content[10:])
		}
	}
	f.Fuzz(func(t *testing.T, deflated []byte) {
		const most = 1 << 22 // of zeros, a few bytes make very many
		source := bytes.NewReader(deflated)
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(source), most))
		if len(want) == most {
			return
		}
		if wantErr == nil {
			deflated = deflated[:len(deflated)-source.Len()]
		}
		for _, sizes := range [][2]int{{packedBytes, inflatedBytes}, {700, 300}} {
			got, err := gunzipAll(member(deflated, want), sizes[0], sizes[1])
			if wantErr == nil && (err != nil || !bytes.Equal(want, got)) {
				t.Fatalf("%v: %d bytes, %v; the standard library has %d", sizes, len(got), err, len(want))
			}
			if n := min(len(got), len(want)); !bytes.Equal(got[:n], want[:n]) {
				t.Fatalf("%v: other bytes than the standard library's", sizes)
			}
			if wantErr != nil && wantErr != io.ErrUnexpectedEOF && err == nil {
				t.Fatalf("%v: no error, the standard library says %v", sizes, wantErr)
			}
		}
	})
}
