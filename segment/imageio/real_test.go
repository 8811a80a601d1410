package imageio

import (
	"path/filepath"
	"testing"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRealFiles reads the corner cases that nibabel tests with and a real CT,
// and compares with what SimpleITK reads there; see testdata/make_goldens.py.
func TestRealFiles(t *testing.T) {
	for _, c := range goldens(t, "real.json") {
		t.Run(c.File, func(t *testing.T) {
			im, err := Read(t.Context(), testenv.Data(t, c.File))
			require.NoError(t, err)
			defer im.Free()
			match(t, c, im)
			labels, err := volume.New(im.Geometry, 1, volume.Uint8)
			require.NoError(t, err)
			defer labels.Free()
			clear(labels.Data)
			path := filepath.Join(t.TempDir(), "labels.nii.gz")
			require.NoError(t, im.WriteLabels(t.Context(), path, labels))
			back, err := Read(t.Context(), path)
			require.NoError(t, err)
			defer back.Free()
			assert.Equal(t, im.Geometry, back.Geometry)
			keptHeader(t, im.header, back.header)
		})
	}
}

// clinical is a CT of clinical size: 512 x 512 x 168 voxels of int16.
const clinical = "nnunet_golden/ct_512x512x168.nii.gz"

func TestClinicalCT(t *testing.T) {
	path := testenv.Data(t, clinical)
	before := cmem.Live()
	im, err := Read(t.Context(), path)
	require.NoError(t, err)
	assert.Equal(t, [3]int{512, 512, 168}, im.Size)
	assert.Equal(t, volume.Int16, im.DType)
	assert.EqualValues(t, 512*512*168*2, cmem.Live()-before, "one copy of the voxels")
	im.Free()
	assert.Equal(t, before, cmem.Live())
}

func BenchmarkReadClinicalCT(b *testing.B) {
	path := testenv.Data(b, clinical)
	for b.Loop() {
		im, err := Read(b.Context(), path)
		require.NoError(b, err)
		b.SetBytes(int64(len(im.Data)))
		im.Free()
	}
}

func BenchmarkWriteLabelsClinicalCT(b *testing.B) {
	im, err := Read(b.Context(), testenv.Data(b, clinical))
	require.NoError(b, err)
	defer im.Free()
	seg, err := Read(b.Context(), testenv.Data(b, "nnunet_golden/ct_512x512x168_nnunet_fp32.nii.gz"))
	require.NoError(b, err)
	defer seg.Free()
	path := filepath.Join(b.TempDir(), "labels.nii.gz")
	b.SetBytes(int64(len(seg.Data)))
	for b.Loop() {
		require.NoError(b, im.WriteLabels(b.Context(), path, seg.Volume))
	}
}
