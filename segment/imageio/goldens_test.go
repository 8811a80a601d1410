package imageio

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// golden is what SimpleITK reads in a file; see testdata/make_goldens.py and make_formats.py.
type golden struct {
	File       string
	Files      map[string][]byte // it and others beside, where they are no files of testdata
	Error      bool              // SimpleITK refuses it
	Refused    string            // libflare refuses it, with this kind, SimpleITK does not
	Size       []int
	Components int // values of a voxel
	NotFinite  int
	Spacing    []float64
	Origin     []float64
	Direction  []float64
	DType      string
	Sum        float64
	First      []float64
	Last       []float64
}

// wide are the types that volume lacks, and what they are read as when the
// values need no more than int32.
var wide = map[string]string{"int8": "int16", "uint32": "int32", "int64": "int32", "uint64": "int32"}

func goldens(t testing.TB, list string) []golden {
	b, err := os.ReadFile(filepath.Join("testdata", list))
	require.NoError(t, err)
	var all []golden
	require.NoError(t, json.Unmarshal(b, &all))
	require.Greater(t, len(all), 2)
	return all
}

// match compares an image with what SimpleITK read: geometry to 1e-5, voxels to
// float32's precision.
func match(t *testing.T, g golden, im *Image) {
	t.Helper()
	n, axes := len(g.Size), min(len(g.Size), 3)
	size, channels, dims := [3]int{1, 1, 1}, max(1, g.Components), n
	copy(size[:], g.Size[:axes])
	if n == 4 {
		channels = g.Size[3]
	} else if n == 3 && channels > 1 {
		dims = 4
	}
	assert.Equal(t, dims, im.Dims)
	assert.Equal(t, size, im.Size)
	assert.Equal(t, channels, im.Channels)
	spacing, origin, direction := [3]float64{1, 1, 1}, [3]float64{}, volume.Identity
	copy(spacing[:], g.Spacing[:axes])
	copy(origin[:], g.Origin[:axes])
	for i := range axes {
		for j := range axes {
			direction[3*i+j] = g.Direction[n*i+j]
		}
	}
	assert.InDeltaSlice(t, spacing[:], im.Spacing[:], 1e-5)
	assert.InDeltaSlice(t, origin[:], im.Origin[:], 1e-5)
	assert.InDeltaSlice(t, direction[:], im.Direction[:], 1e-5)
	voxels, sum := values(im.Volume), 0.0
	for _, v := range voxels {
		sum += v
	}
	assert.InEpsilon(t, 1+abs64(g.Sum), 1+abs64(sum), 1e-6) // 1+: InEpsilon needs a number other than 0
	assert.Equal(t, g.First, voxels[:len(g.First)])
	assert.Equal(t, g.Last, voxels[len(voxels)-len(g.Last):])
}

func abs64(v float64) float64 { return max(v, -v) }

func TestGoldens(t *testing.T) {
	kinds := map[string]fault.Kind{"format": fault.Format, "unsupported": fault.Unsupported}
	for _, g := range goldens(t, "goldens.json") {
		t.Run(g.File, func(t *testing.T) {
			path := filepath.Join("testdata", g.File)
			switch {
			case g.Refused != "":
				refuse(t, path, kinds[g.Refused])
				return
			case g.Error:
				_, err := Read(t.Context(), path)
				require.ErrorContains(t, err, g.File)
				require.Contains(t, []fault.Kind{fault.Format, fault.Unsupported}, fault.KindOf(err))
				return
			}
			im, err := Read(t.Context(), path)
			require.NoError(t, err)
			defer im.Free()
			match(t, g, im)
			switch {
			case g.File == "int64_wide.nii" || g.File == "uint32_wide.nii": // beyond int32
				assert.Equal(t, volume.Float64, im.DType)
			case wide[g.DType] != "":
				assert.Equal(t, wide[g.DType], im.DType.String())
			default:
				assert.Equal(t, g.DType, im.DType.String())
			}
		})
	}
}

// TestForSimpleITK writes labels on the grid of every golden, and the golden's
// voxels with a new header, and reads both back. With `go test -artifacts` the
// files stay, and testdata/make_goldens.py --check-written reads them with
// SimpleITK.
func TestForSimpleITK(t *testing.T) {
	out := t.ArtifactDir()
	for _, g := range goldens(t, "goldens.json") {
		if g.Error || g.Refused != "" {
			continue
		}
		im, err := Read(t.Context(), filepath.Join("testdata", g.File))
		require.NoError(t, err)
		name := filepath.Join(out, strings.Split(g.File, ".")[0])
		for i, ending := range []string{".nii", ".nii.gz"} {
			dtype := []volume.DType{volume.Uint8, volume.Uint16}[i]
			labels, err := volume.New(im.Geometry, 1, dtype)
			require.NoError(t, err)
			for i := range labels.Data {
				labels.Data[i] = byte(i % 14)
			}
			path := name + ".labels" + ending
			require.NoError(t, im.WriteLabels(t.Context(), path, labels))
			back, err := Read(t.Context(), path)
			require.NoError(t, err)
			assert.Equal(t, im.Geometry, back.Geometry, path)
			assert.Equal(t, min(im.Dims, 3), back.Dims, path)
			assert.Equal(t, dtype, back.DType)
			assert.Equal(t, labels.Data, back.Data)
			keptHeader(t, im.header, back.header)
			back.Free()
			labels.Free()
		}
		if im.Dims > 2 {
			path := name + ".write.nii.gz"
			require.NoError(t, Write(t.Context(), path, im.Volume))
			back, err := Read(t.Context(), path)
			require.NoError(t, err)
			assert.Equal(t, im.Data, back.Data)
			match(t, g, back)
			back.Free()
		}
		im.Free()
	}
}

// keptHeader asserts that a label file's header places voxels as its image's
// header does, field by field, and says nothing of intensities.
func keptHeader(t *testing.T, image, labels header) {
	t.Helper()
	assert.Equal(t, image.SizeofHdr, labels.SizeofHdr)
	assert.Equal(t, image.Pixdim, labels.Pixdim)
	assert.Equal(t, image.XyztUnits, labels.XyztUnits)
	assert.Equal(t, []int32{image.QformCode, image.SformCode}, []int32{labels.QformCode, labels.SformCode})
	assert.Equal(t, image.Quatern, labels.Quatern)
	assert.Equal(t, image.Qoffset, labels.Qoffset)
	if finite(image.Srow) { // NaN equals nothing
		assert.Equal(t, image.Srow, labels.Srow)
	}
	assert.Equal(t, image.Descrip, labels.Descrip)
	assert.Equal(t, []float64{1, 0, 0, 0}, []float64{labels.SclSlope, labels.SclInter, labels.CalMax, labels.CalMin})
	assert.Equal(t, int64(labels.SizeofHdr)+4, labels.VoxOffset)
}
