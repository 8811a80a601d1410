package imageio

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/require"
)

// plain is a sound header of 4 x 3 x 2 voxels of int16, which tests then spoil.
func plain() header {
	return header{
		SizeofHdr: size1, Magic: [8]byte{'n', '+', '1'}, Datatype: 4, Bitpix: 16,
		Dim: [8]int64{3, 4, 3, 2, 1, 1, 1, 1}, Pixdim: [8]float64{1, 1.5, 2, 3, 1, 1, 1, 1},
		VoxOffset: 352, SclSlope: 1, SformCode: 1, XyztUnits: 2,
		Srow: [3][4]float64{{1.5, 0, 0, 10}, {0, 2, 0, 20}, {0, 0, 3, 30}},
	}
}

// encode returns a file of header h (NIfTI-1 or 2, as SizeofHdr says) and the
// voxels, a slice of a fixed-size type, all in the given byte order.
func encode(h header, order binary.ByteOrder, voxels any) []byte {
	var b []byte
	if h.SizeofHdr == size1 {
		b, _ = binary.Append(nil, order, h.narrow())
	} else {
		h.Magic = [8]byte{'n', '+', '2', 0, '\r', '\n', 0x1a, '\n'}
		b, _ = binary.Append(nil, order, h)
	}
	b = append(b, 0, 0, 0, 0)
	b, err := binary.Append(b, order, voxels)
	if err != nil {
		panic(err)
	}
	return b
}

// gzipped compresses b as one member.
func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

// put writes a file into a fresh folder and returns its path.
func put(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// refuse asserts that reading path fails with the given kind and a message that
// has the file's name and the given parts, and that no C memory stays behind.
func refuse(t *testing.T, path string, kind fault.Kind, parts ...string) {
	t.Helper()
	before := cmem.Live()
	im, err := Read(t.Context(), path)
	require.Error(t, err)
	require.Nil(t, im)
	require.Equal(t, kind, fault.KindOf(err), err.Error())
	for _, part := range append(parts, filepath.Base(path)) {
		require.ErrorContains(t, err, part)
	}
	require.Equal(t, before, cmem.Live(), "C memory leaked")
}

// values returns a volume's voxels as float64, in storage order.
func values(v *volume.Volume) []float64 {
	switch v.DType {
	case volume.Uint8:
		return widened(volume.As[uint8](v))
	case volume.Int16:
		return widened(volume.As[int16](v))
	case volume.Uint16:
		return widened(volume.As[uint16](v))
	case volume.Int32:
		return widened(volume.As[int32](v))
	case volume.Float32:
		return widened(volume.As[float32](v))
	}
	return widened(volume.As[float64](v))
}

func widened[T uint8 | int16 | uint16 | int32 | float32 | float64](x []T) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}
