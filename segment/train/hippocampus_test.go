package train

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train/dataset"
)

// TestHippocampus trains a small network on real cases for about two minutes, from image
// files to the Dice of whole validation cases: 10 epochs of 60 steps. An untrained network
// has 0.0; one that calls all of the foreground by one label, 0.3.
func TestTrainHippocampus(t *testing.T) {
	if testing.Short() {
		t.Skip("two minutes")
	}
	raw := testenv.Data(t, "msd_task04_hippocampus")
	d, err := nnunet.ReadDataset(testenv.Data(t, "nnunet_golden", "hippocampus", "model", "dataset.json"))
	require.NoError(t, err)
	splits, err := dataset.ReadSplits(testenv.Data(t, "nnunet_golden", "hippocampus", "splits_final.json"))
	require.NoError(t, err)
	split := dataset.Split{Train: splits[0].Train[:60], Val: splits[0].Val[:8]}
	o := dataset.Options{Plans: smallPlans(t, []int{40, 56, 40}, []int{8, 16, 32}), Dataset: d, Configuration: "3d_fullres", Threads: 2}
	for _, name := range append(split.Train, split.Val...) {
		o.Cases = append(o.Cases, nnunet.RawCase{Name: name, Images: []string{filepath.Join(raw, "imagesTr", name+".nii.gz")},
			Label: filepath.Join(raw, "labelsTr", name+".nii.gz")})
	}
	c, err := dataset.Preprocess(t.Context(), t.TempDir(), o)
	require.NoError(t, err)
	defer c.Close()
	s := Default()
	s.Epochs, s.Iterations, s.ValidationIterations, s.Momentum = 10, 60, 5, 0.95
	folder := t.TempDir()
	summary, err := Run(t.Context(), RunOptions{Options: Options{Runtime: testenv.Runtime(t)}, Settings: s, Cache: c,
		Fold: "0", Splits: []dataset.Split{split}, Folder: folder})
	require.NoError(t, err)
	state, _ := parametersOf(t, folder)
	for _, e := range state.Epochs {
		fmt.Printf("epoch %d: loss %.3f, validation %.3f, pseudo Dice %.3f, %.3f s for a step, waited %.2f %%\n", e.Number, e.Loss, e.ValidationLoss, e.Dice, e.StepSeconds, 100*e.Waited)
	}
	fmt.Printf("mean Dice %.4f\n", summary.Foreground.Dice)
	assert.Greater(t, summary.Foreground.Dice, 0.7)
	for _, m := range summary.Mean {
		assert.False(t, math.IsNaN(m.Dice))
	}
	assert.Less(t, state.Epochs[9].Loss, state.Epochs[0].Loss-0.3)
}
