package imageio

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// writeChannel writes a 3 x 2 x 2 volume whose voxels all have one value.
func writeChannel(t *testing.T, path string, d volume.DType, size int, spacing float64, value byte) {
	t.Helper()
	v, err := volume.New(volume.Geometry{Size: [3]int{size, 2, 2}, Spacing: [3]float64{spacing, 1, 1}, Direction: volume.Identity}, 1, d)
	require.NoError(t, err)
	defer v.Free()
	clear(v.Data)
	for i := 0; i < len(v.Data); i += d.Size() {
		v.Data[i] = value
	}
	require.NoError(t, Write(t.Context(), path, v))
}

func TestReadCase(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeChannel(t, at("a_0000.nii.gz"), volume.Int16, 3, 1, 5)
	writeChannel(t, at("a_0001.nii.gz"), volume.Int16, 3, 1, 7)
	writeChannel(t, at("a_0002.nii.gz"), volume.Uint8, 3, 1, 9)

	// What is of another ending or has no four digits is another case.
	for _, name := range []string{"a_0003.nii", "a_00004.nii.gz", "a_5.nii.gz", "a_0006.NII.GZ", "aa_0007.nii.gz", "a_000x.nii.gz"} {
		writeChannel(t, at(name), volume.Int16, 3, 1, 1)
	}
	files, err := CaseFiles(at("a_0000.nii.gz"))
	require.NoError(t, err)
	assert.Equal(t, []string{at("a_0000.nii.gz"), at("a_0001.nii.gz"), at("a_0002.nii.gz")}, files)
	for _, channels := range []int{1, 2} { // nothing is ignored in silence
		_, err = ReadCase(t.Context(), at("a_0000.nii.gz"), channels)
		assert.Equal(t, fault.Model, fault.KindOf(err))
		assert.ErrorContains(t, err, fmt.Sprintf("3 channels, the model expects %d: files up to a_0002.nii.gz", channels))
	}
	writeChannel(t, at("c_0000.nii.gz"), volume.Int16, 3, 1, 5)
	writeChannel(t, at("c_0002.nii.gz"), volume.Int16, 3, 1, 5)
	_, err = ReadCase(t.Context(), at("c_0000.nii.gz"), 1)
	assert.ErrorContains(t, err, "2 channels, the model expects 1", "with a gap")
	_, err = ReadCase(t.Context(), at("c_0000.nii.gz"), 2)
	assert.ErrorContains(t, err, "c_0001.nii.gz: no such file", "with a gap")

	writeChannel(t, at("d_0000.nii.gz"), volume.Int16, 3, 1, 5)
	writeChannel(t, at("d_0001.nii.gz"), volume.Int16, 3, 1, 7)
	im, err := ReadCase(t.Context(), at("d_0000.nii.gz"), 2)
	require.NoError(t, err)
	assert.Equal(t, 2, im.Channels)
	assert.Equal(t, volume.Int16, im.DType)
	assert.EqualValues(t, 5, volume.As[int16](im.Volume)[0])
	assert.EqualValues(t, 7, volume.As[int16](im.Volume)[12])
	im.Free()

	im, err = ReadCase(t.Context(), at("a_0000.nii.gz"), 3)
	require.NoError(t, err)
	assert.Equal(t, volume.Float32, im.DType, "channels of different types")
	assert.EqualValues(t, []float32{5, 7, 9}, []float32{volume.As[float32](im.Volume)[0], volume.As[float32](im.Volume)[12], volume.As[float32](im.Volume)[24]})
	im.Free()

	im, err = ReadCase(t.Context(), at("a_0001.nii.gz"), 1)
	require.NoError(t, err)
	assert.Equal(t, 1, im.Channels, "not the first file: the file itself")
	im.Free()
	_, err = ReadCase(t.Context(), at("a_0001.nii.gz"), 3)
	assert.Equal(t, fault.Model, fault.KindOf(err))
	assert.ErrorContains(t, err, "a_0001.nii.gz: 1 channel, the model expects 3")
	assert.ErrorContains(t, err, at("a_0000.nii.gz"))

	_, err = ReadCase(t.Context(), at("a_0000.nii.gz"), 4)
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	assert.ErrorContains(t, err, "a_0003.nii.gz")
	writeChannel(t, at("b_0000.nii"), volume.Int16, 3, 1, 5)
	writeChannel(t, at("b_0001.nii"), volume.Int16, 4, 1, 5)
	_, err = ReadCase(t.Context(), at("b_0000.nii"), 2)
	assert.ErrorContains(t, err, "b_0001.nii: [4 2 2] voxels")
	writeChannel(t, at("b_0001.nii"), volume.Int16, 3, 1.01, 5)
	_, err = ReadCase(t.Context(), at("b_0000.nii"), 2)
	assert.ErrorContains(t, err, "one spacing")

	// A file with all channels, and one more beside it.
	both, err := volume.New(volume.Geometry{Size: [3]int{3, 2, 2}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}, 2, volume.Uint8)
	require.NoError(t, err)
	clear(both.Data)
	require.NoError(t, Write(t.Context(), at("e_0000.nii"), both))
	require.NoError(t, Write(t.Context(), at("e_0007.nii"), both))
	both.Free()
	im, err = ReadCase(t.Context(), at("e_0007.nii"), 2)
	require.NoError(t, err)
	im.Free()
	require.NoError(t, os.Remove(at("e_0007.nii")))
	im, err = ReadCase(t.Context(), at("e_0000.nii"), 2)
	require.NoError(t, err)
	assert.Equal(t, 2, im.Channels)
	im.Free()
	writeChannel(t, at("e_0001.nii"), volume.Uint8, 3, 1, 5)
	_, err = ReadCase(t.Context(), at("e_0000.nii"), 2)
	assert.ErrorContains(t, err, "3 channels, the model expects 2")
	assert.Zero(t, cmem.Live())
}

func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeChannel(t, at("t1.nii.gz"), volume.Int16, 3, 1, 5)
	writeChannel(t, at("other.nii"), volume.Uint8, 3, 1, 7)
	im, err := ReadFiles(t.Context(), []string{at("t1.nii.gz"), at("other.nii")})
	require.NoError(t, err)
	assert.Equal(t, 2, im.Channels)
	assert.Equal(t, []float32{5, 7}, []float32{volume.As[float32](im.Volume)[0], volume.As[float32](im.Volume)[12]})
	require.NoError(t, Write(t.Context(), at("both.nii"), im.Volume))
	im.Free()
	im, err = ReadFiles(t.Context(), []string{at("both.nii")})
	require.NoError(t, err)
	assert.Equal(t, 2, im.Channels)
	im.Free()
	for _, c := range []struct {
		kind     fault.Kind
		contains string
		files    []string
	}{
		{fault.Argument, "no image file", nil},
		{fault.Model, "both.nii: 2 channels in one of 2 files", []string{at("both.nii"), at("t1.nii.gz")}},
		{fault.Model, "both.nii: [3 2 2] voxels and 2 channels", []string{at("t1.nii.gz"), at("both.nii")}},
		{fault.NotFound, "none.nii", []string{at("t1.nii.gz"), at("none.nii")}},
	} {
		_, err := ReadFiles(t.Context(), c.files)
		assert.Equal(t, c.kind, fault.KindOf(err), "%v", err)
		assert.ErrorContains(t, err, c.contains)
	}
	assert.Zero(t, cmem.Live())
}

// What ITK makes 0 is counted, in every file of a case.
func TestNotFinite(t *testing.T) {
	dir := t.TempDir()
	v, err := volume.New(volume.Geometry{Size: [3]int{3, 2, 2}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}, 1, volume.Float32)
	require.NoError(t, err)
	defer v.Free()
	x := volume.As[float32](v)
	clear(x)
	x[1], x[4], x[5] = float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))
	a, b := filepath.Join(dir, "a.nii"), filepath.Join(dir, "b.nii.gz")
	require.NoError(t, Write(t.Context(), a, v))
	x[1] = 0
	require.NoError(t, Write(t.Context(), b, v))
	im, err := ReadFiles(t.Context(), []string{a, b})
	require.NoError(t, err)
	defer im.Free()
	assert.Equal(t, 5, im.NotFinite)
	assert.Equal(t, make([]float32, 24), volume.As[float32](im.Volume))
}
