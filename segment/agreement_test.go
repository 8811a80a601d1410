package segment

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
)

// TestAgreement compares the agreement of folds with what segmenting with every fold alone
// gives: the image's grid is the network's, so that labels can be compared voxel by voxel.
// Strips and mirroring change nothing.
func TestAgreement(t *testing.T) {
	image := noiseImage(t, geometry(20, 30, 25), 1)
	for _, mirror := range []bool{false, true} {
		m := open(t, folds, OpenOptions{})
		all := bytes.Clone(labelsOf(t, m, image, Options{Mirror: mirror}))
		var own [][]byte
		for _, fold := range []string{"0", "1", "2"} {
			own = append(own, bytes.Clone(labelsOf(t, open(t, folds, OpenOptions{Folds: fold}), image, Options{Mirror: mirror})))
		}
		live := cmem.Live()
		for _, strips := range []int{0, 2, 5} {
			a := &Agreement{Voxels: make([]uint8, len(all))}
			got := labelsOf(t, m, image, Options{Mirror: mirror, Agreement: a, strips: strips})
			assert.Equal(t, all, got, "labels are the same")
			require.Len(t, a.Labels, 1)
			for i, l := range a.Labels {
				assert.Equal(t, i+1, l.Value)
				want := 0.0
				for _, one := range own {
					want += dice(one, all, byte(l.Value)) / 3
				}
				assert.InDelta(t, want, l.Dice, 1e-12, "label %d", l.Value)
				assert.Less(t, l.Dice, 0.99, "folds differ")
				assert.True(t, l.Any)
			}
			for i, v := range all {
				n := 0
				for _, one := range own {
					if one[i] == v {
						n++
					}
				}
				require.EqualValues(t, n, a.Voxels[i], "voxel %d", i)
			}
		}
		assert.Equal(t, live+3*int64(len(all)), cmem.Live(), "three label maps, until the test ends")
	}
	_, err := open(t, folds, OpenOptions{}).Segment(t.Context(), image, newLabels(t, image.Geometry), Options{Agreement: &Agreement{Voxels: make([]uint8, 3)}})
	assert.Equal(t, fault.Argument, fault.KindOf(err))
}

// dice is the plain reference.
func dice(a, b []byte, label byte) float64 {
	both, sum := 0, 0
	for i := range a {
		if a[i] == label {
			sum++
		}
		if b[i] == label {
			sum++
		}
		if a[i] == label && b[i] == label {
			both++
		}
	}
	if sum == 0 {
		return 1
	}
	return 2 * float64(both) / float64(sum)
}

// TestJoinFolds: folds joined from bundles of one fold each are the bundle of their folder,
// byte for byte; what cannot be joined is refused.
func TestJoinFolds(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	whole := filepath.Join(dir, "whole.onnx")
	require.NoError(t, Convert(ctx, whole, ConvertOptions{Folder: folds}))
	var parts []string
	for _, fold := range []string{"0", "1", "2"} {
		part := filepath.Join(dir, fold+".onnx")
		require.NoError(t, Convert(ctx, part, ConvertOptions{Folder: folds, Folds: fold}))
		parts = append(parts, part)
	}
	same := func(models ...string) {
		out := filepath.Join(dir, "joined.onnx")
		require.NoError(t, JoinFolds(ctx, out, models))
		want, err := os.ReadFile(whole)
		require.NoError(t, err)
		got, err := os.ReadFile(out)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(want, got), "%v", models)
	}
	same(parts...)
	same(folds)

	// Clashing names are numbered anew.
	out := filepath.Join(dir, "numbered.onnx")
	require.NoError(t, JoinFolds(ctx, out, []string{parts[1], parts[1], whole}))
	assert.Equal(t, []string{"0", "1", "2", "3", "4"}, open(t, out, OpenOptions{}).Describe().Folds)

	for text, models := range map[string][]string{
		"different plans":               {folds, tiny},
		"no model":                      {},
		"an input, which would be over": {out, parts[0]},
		"no such file":                  {filepath.Join(dir, "none.onnx")},
	} {
		err := JoinFolds(ctx, out, models)
		assert.ErrorContains(t, err, text)
	}
}
