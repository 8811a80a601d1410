package imageio

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// member makes a gzip member of deflate data and of the bytes that it stands for.
func member(deflated, plain []byte) []byte {
	b := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}
	b = append(b, deflated...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(plain))
	return binary.LittleEndian.AppendUint32(b, uint32(len(plain)))
}

func gunzipAll(file []byte) ([]byte, error) {
	g, err := newGunzip(bytes.NewReader(file))
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
			got, err := gunzipAll(file)
			require.NoError(t, err, "%s, level %d", name, level)
			require.True(t, bytes.Equal(plain, got), "%s, level %d", name, level)
			got, err = gunzipAll(append(append(file, file...), "garbage"...))
			require.NoError(t, err, "%s, level %d, two members", name, level)
			require.True(t, bytes.Equal(append(bytes.Clone(plain), plain...), got))
			for _, cut := range []int{1, 8, 9, len(file) / 2} {
				if cut < len(file) {
					got, err := gunzipAll(file[:len(file)-cut])
					require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%s, level %d, %d bytes too few", name, level, cut)
					require.True(t, bytes.HasPrefix(plain, got))
				}
			}
		}
	}
}

// Whoever stops reading early leaves no goroutine behind.
func TestGunzipIsGivenUp(t *testing.T) {
	plain := make([]byte, 20*inflatedBytes)
	var b bytes.Buffer
	z, _ := flate.NewWriter(&b, 1)
	z.Write(plain)
	require.NoError(t, z.Close())
	before := runtime.NumGoroutine()
	for range 50 {
		g, err := newGunzip(bytes.NewReader(member(b.Bytes(), plain)))
		require.NoError(t, err)
		_, err = io.ReadFull(g, make([]byte, inflatedBytes+3))
		require.NoError(t, err)
		g.free()
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before+1)
}

func TestGunzipChecksum(t *testing.T) {
	file := member([]byte{3, 0}, nil) // an empty block
	file[len(file)-1]++
	_, err := gunzipAll(file)
	require.ErrorIs(t, err, gzip.ErrChecksum)
}
