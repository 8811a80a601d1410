package student

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/volume"
)

// TestScoreCase: regions and ignored voxels score as the region alone, without the
// ignored voxels, in both maps.
func TestScoreCase(t *testing.T) {
	for text, regions := range map[string][][]int{
		`{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2, "c": 3, "ignore": 4}, "file_ending": ".nii.gz"}`:                                               {{1}, {2}, {3}},
		`{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "whole": [1, 2], "core": 2, "c": 3, "ignore": 4}, "regions_class_order": [1, 2, 3], "file_ending": ".nii.gz"}`: {{1, 2}, {2}, {3}},
	} {
		d, err := nnunet.ParseDataset([]byte(text), "dataset.json")
		require.NoError(t, err)
		r := &runner{ctx: t.Context(), raw: &nnunet.RawDataset{Dataset: d}, Config: Config{Test: &Test{Tolerance: 1.2}}}
		g := volume.Geometry{Size: [3]int{14, 12, 9}, Spacing: [3]float64{1, 1.5, 2}, Direction: volume.Identity}
		random := rand.New(rand.NewPCG(1, 2))
		var maps [2]*volume.Volume
		var files [2]string
		for i := range maps {
			data := make([]float32, g.Voxels()) // nnU-Net's own readers take such labels, too
			for k := range data {
				if x, y, z := k%14, k/14%12, k/14/12; x > 2+i && x < 11 && y > 2 && y < 10-i && z > 1 {
					data[k] = float32(1 + (x+y)/8) // 1, 2, and 3 in one corner that only one of them has
				}
				if i == 1 && random.IntN(8) == 0 {
					data[k] = 4
				}
			}
			maps[i], err = volume.Wrap(g, 1, volume.Float32, cmem.Bytes(data))
			require.NoError(t, err)
			files[i] = filepath.Join(t.TempDir(), "x.nii.gz")
			require.NoError(t, imageio.Write(t.Context(), files[i], maps[i]))
		}
		live := cmem.Live()
		dice, nsd, err := r.scoreCase(files[0], files[1])
		require.NoError(t, err)
		assert.Equal(t, live, cmem.Live())
		require.Len(t, dice, 3)
		for i, region := range regions {
			var only [2]*volume.Volume
			both, voxels := 0, 0 // in both maps; in each, summed
			for m := range only {
				data := make([]byte, g.Voxels())
				for k, v := range volume.As[float32](maps[m]) {
					if slices.Contains(region, int(v)) && volume.As[float32](maps[1])[k] != 4 {
						data[k] = 1
						voxels++
						if m == 1 && only[0].Data[k] == 1 {
							both++
						}
					}
				}
				only[m], err = volume.Wrap(g, 1, volume.Uint8, data)
				require.NoError(t, err)
			}
			alone, err := evaluate.Volumes(t.Context(), only[0], only[1], evaluate.Options{Tolerance: 1.2})
			require.NoError(t, err)
			assert.Equal(t, float64(alone.NSD), nsd[i])
			assert.InDelta(t, 2*float64(both)/float64(voxels), dice[i], 1e-12)
			assert.Less(t, nsd[i], 1.0)
		}
	}
}

// TestInterval compares with the normal approximation, which holds for many numbers.
func TestInterval(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	x := make([]float64, 400)
	for i := range x {
		x[i] = 5 + random.NormFloat64() // the mean's deviation is 1/20
	}
	got := interval(x)
	assert.InDelta(t, mean(x)-1.96/20, got[0], 0.01)
	assert.InDelta(t, mean(x)+1.96/20, got[1], 0.01)
	assert.Equal(t, got, interval(x))
	assert.Equal(t, [2]float64{3, 3}, interval([]float64{3}))
}
