package imageio

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReadEveryType reads every voxel type in both versions and byte orders,
// plain and gzipped, with the type's extreme values among the 24 voxels.
func TestReadEveryType(t *testing.T) {
	cases := []struct {
		code   int16
		voxels any
		dtype  volume.DType
	}{
		{2, fill[uint8](0, math.MaxUint8), volume.Uint8},
		{4, fill[int16](math.MinInt16, math.MaxInt16), volume.Int16},
		{8, fill[int32](math.MinInt32, math.MaxInt32), volume.Int32},
		{16, fill[float32](-math.MaxFloat32, math.SmallestNonzeroFloat32), volume.Float32},
		{64, fill[float64](-math.MaxFloat64, math.SmallestNonzeroFloat64), volume.Float64},
		{256, fill[int8](math.MinInt8, math.MaxInt8), volume.Int16},
		{512, fill[uint16](0, math.MaxUint16), volume.Uint16},
		{768, fill[uint32](0, math.MaxInt32), volume.Int32},
		{768, fill[uint32](0, math.MaxInt32+1), volume.Float64},
		{1024, fill[int64](math.MinInt32, math.MaxInt32), volume.Int32},
		{1024, fill[int64](math.MinInt32-1, 0), volume.Float64},
		{1280, fill[uint64](0, math.MaxInt32), volume.Int32},
		{1280, fill[uint64](0, 1<<63), volume.Float64},
	}
	before := cmem.Live()
	for _, c := range cases {
		for _, version := range []int32{size1, size2} {
			for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
				for _, name := range []string{"a.nii", "a.nii.gz"} {
					t.Run(fmt.Sprintf("%T/%d/%s/%s", c.voxels, version, order, name), func(t *testing.T) {
						h := plain()
						h.SizeofHdr, h.Datatype, h.VoxOffset = version, c.code, int64(version)+4
						content := encode(h, order, c.voxels)
						if name == "a.nii.gz" {
							content = gzipped(content)
						}
						im, err := Read(t.Context(), put(t, name, content))
						require.NoError(t, err)
						defer im.Free()
						assert.Equal(t, c.dtype, im.DType)
						assert.Equal(t, [3]int{4, 3, 2}, im.Size)
						want := make([]float64, 24)
						for i := range want {
							want[i] = at(c.voxels, i)
						}
						assert.Equal(t, want, values(im.Volume))
					})
				}
			}
		}
	}
	assert.Equal(t, before, cmem.Live())
}

// fill returns 24 values: 0, 1, 2, ... with low first and high last.
func fill[T real](low, high T) []T {
	x := make([]T, 24)
	for i := range x {
		x[i] = T(i)
	}
	x[0], x[23] = low, high
	return x
}

func at(x any, i int) float64 {
	switch x := x.(type) {
	case []uint8:
		return float64(x[i])
	case []int8:
		return float64(x[i])
	case []int16:
		return float64(x[i])
	case []uint16:
		return float64(x[i])
	case []int32:
		return float64(x[i])
	case []uint32:
		return float64(x[i])
	case []int64:
		return float64(x[i])
	case []uint64:
		return float64(x[i])
	case []float32:
		return float64(x[i])
	}
	return x.([]float64)[i]
}

// TestBlocks reads volumes larger than one block and not a multiple of it, with
// the value that forces float64 in the last block.
func TestBlocks(t *testing.T) {
	const n = 300 * 300 * 3 // 8 bytes each: 8.2 blocks
	voxels := make([]int64, n)
	for i := range voxels {
		voxels[i] = int64(i) - 1000
	}
	h := plain()
	h.Dim, h.Datatype = [8]int64{3, 300, 300, 3}, 1024
	for _, dtype := range []volume.DType{volume.Int32, volume.Float64} {
		im, err := Read(t.Context(), put(t, "a.nii.gz", gzipped(encode(h, binary.BigEndian, voxels))))
		require.NoError(t, err)
		assert.Equal(t, dtype, im.DType)
		for i, v := range values(im.Volume) {
			require.Equal(t, float64(voxels[i]), v, i)
		}
		im.Free()
		voxels[n-1] = 1 << 40 // for the second round
	}
}

// TestWriteEveryType writes every volume type with one and two channels and an
// oblique left-handed geometry, and reads it back.
func TestWriteEveryType(t *testing.T) {
	s, c := math.Sin(0.3), math.Cos(0.3)
	g := volume.Geometry{
		Size: [3]int{5, 4, 3}, Spacing: [3]float64{0.7, 0.8, 2.5}, Origin: [3]float64{-100.5, 20, 7},
		Direction: [9]float64{c, s, 0, -s, c, 0, 0, 0, -1},
	}
	for d := volume.Uint8; d <= volume.Float64; d++ {
		for channels := 1; channels <= 2; channels++ {
			for _, name := range []string{"a.nii", "a.NII.GZ"} {
				v, err := volume.New(g, channels, d)
				require.NoError(t, err)
				for i := range v.Data {
					v.Data[i] = byte(i % 63) // no NaN in any float type
				}
				path := filepath.Join(t.TempDir(), name)
				require.NoError(t, Write(t.Context(), path, v))
				im, err := Read(t.Context(), path)
				require.NoError(t, err)
				assert.Equal(t, 2+channels, im.Dims)
				assert.Equal(t, d, im.DType)
				assert.Equal(t, v.Data, im.Data)
				assert.InDeltaSlice(t, g.Direction[:], im.Direction[:], 1e-6)
				assert.InDeltaSlice(t, g.Spacing[:], im.Spacing[:], 1e-6)
				assert.InDeltaSlice(t, g.Origin[:], im.Origin[:], 1e-6)
				assert.Equal(t, []int32{size1, 1, 1}, []int32{im.header.SizeofHdr, im.header.QformCode, im.header.SformCode})
				im.Free()
				v.Free()
			}
		}
	}
}

// TestWriteLong writes more voxels along x than NIfTI-1 can say.
func TestWriteLong(t *testing.T) {
	g := volume.Geometry{Size: [3]int{40000, 1, 1}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	v, err := volume.New(g, 1, volume.Uint8)
	require.NoError(t, err)
	defer v.Free()
	clear(v.Data)
	path := filepath.Join(t.TempDir(), "long.nii.gz")
	require.NoError(t, Write(t.Context(), path, v))
	im, err := Read(t.Context(), path)
	require.NoError(t, err)
	defer im.Free()
	assert.EqualValues(t, size2, im.header.SizeofHdr)
	assert.Equal(t, g, im.Geometry)
}

// TestQuaternion checks that the qform written for an orthogonal matrix, among
// them all 48 signed axis permutations, gives the matrix back.
func TestQuaternion(t *testing.T) {
	check := func(m affine) {
		h := header{Pixdim: [8]float64{1, 1, 1, 1}}
		h.Quatern, h.Pixdim[0] = quaternion(m)
		q := h.qform()
		for i := range 3 {
			assert.InDeltaSlice(t, m[i][:3], q[i][:3], 1e-6, "%v", m)
		}
	}
	for _, p := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for signs := range 8 {
			var m affine
			for i, j := range p {
				m[i][j] = 1 - 2*float64(signs>>i&1)
			}
			check(m)
		}
	}
	for i := range 200 { // rotations about an axis that wanders, by angles up to half a turn
		a, x, y := float64(i)*math.Pi/199, math.Sin(float64(i)), math.Cos(float64(3*i))
		n := math.Sqrt(x*x + y*y + 0.25)
		s := math.Sin(a/2) / n
		h := header{Pixdim: [8]float64{1, 1, 1, 1}, Quatern: [3]float64{x * s, y * s, 0.5 * s}}
		check(h.qform())
	}
}

// TestSVD checks that the columns of u diagonalise M Mt to the squares of the
// singular values, largest first.
func TestSVD(t *testing.T) {
	for _, m := range []affine{
		{{1.5}, {0, -2}, {0, 0, 3}}, {{0, -2}, {1.5}, {0, 0, 3}}, {{2, 1, 0.5}, {-1, 3, 0.25}, {0.125, -2, 1}},
	} {
		u, w := svd(m)
		assert.True(t, w[0] >= w[1] && w[1] >= w[2] && w[2] > 0, w)
		for i := range 3 {
			for j := range 3 {
				sum := 0.0 // (Mt u_i) . (Mt u_j)
				for k := range 3 {
					var a, b float64
					for l := range 3 {
						a += m[l][k] * float64(u[l][i])
						b += m[l][k] * float64(u[l][j])
					}
					sum += a * b
				}
				want := 0.0
				if i == j {
					want = float64(w[i] * w[i])
				}
				assert.InDelta(t, want, sum, 1e-5, "%v", m)
			}
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	im, err := Read(t.Context(), put(t, "a.nii", encode(plain(), binary.LittleEndian, make([]int16, 24))))
	require.NoError(t, err)
	defer im.Free()
	out := filepath.Join(t.TempDir(), "out.nii")
	for _, c := range []struct {
		channels int
		dtype    volume.DType
		size     [3]int
		part     string
	}{
		{1, volume.Int16, im.Size, "int16"}, {2, volume.Uint8, im.Size, "2 channel"}, {1, volume.Uint8, [3]int{3, 4, 2}, "[3 4 2]"},
	} {
		g := im.Geometry
		g.Size = c.size
		labels, err := volume.New(g, c.channels, c.dtype)
		require.NoError(t, err)
		err = im.WriteLabels(t.Context(), out, labels)
		assert.Equal(t, fault.Argument, fault.KindOf(err))
		assert.ErrorContains(t, err, c.part)
		labels.Free()
	}
	assert.Equal(t, fault.Unsupported, fault.KindOf(Write(t.Context(), out+".gipl", im.Volume)))
	assert.Equal(t, fault.Unsupported, fault.KindOf(im.WriteLabels(t.Context(), "labels.png", im.Volume)))
	freed, err := volume.New(im.Geometry, 1, volume.Uint8)
	require.NoError(t, err)
	freed.Free()
	assert.Equal(t, fault.Argument, fault.KindOf(Write(t.Context(), out, freed)))
	assert.NoFileExists(t, out)
}
