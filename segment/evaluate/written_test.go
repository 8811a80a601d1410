package evaluate

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/testenv"
)

// writtenScores is testdata/written.json, which testdata/make_written.py explains.
type writtenScores struct {
	Written     map[string][7]float64
	Hippocampus map[string]map[string][7]float64
}

func readWritten(t *testing.T) (w writtenScores) {
	text, err := os.ReadFile("testdata/written.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &w))
	return w
}

func compareWritten(t *testing.T, want map[string][7]float64, scores []Score, name string) {
	t.Helper()
	require.Len(t, scores, len(want), name)
	for _, s := range scores {
		w, ok := want[strconv.Itoa(s.Label)]
		require.True(t, ok, "%s: label %d", name, s.Label)
		for i, got := range []Number{s.DSC, s.NSD, s.ASSD, s.HD, s.HD95, s.RAVD, s.Volume} {
			assert.InDelta(t, w[i], float64(got), 1e-6, "%s: label %d, score %d", name, s.Label, i) // NIfTI's spacing is of float32
		}
	}
}

// TestFilesOfOthers: predictions that nnU-Net and SimpleITK wrote score against references in
// any other format as surface-distance and numpy have it, on an oblique grid.
func TestFilesOfOthers(t *testing.T) {
	want := readWritten(t).Written
	files, err := filepath.Glob("testdata/written/*")
	require.NoError(t, err)
	pairs := 0
	for _, reference := range files {
		if caseName(reference) != "reference" {
			continue
		}
		for _, prediction := range files {
			if caseName(prediction) == "reference" {
				continue
			}
			r, err := Files(context.Background(), prediction, reference, Options{})
			require.NoError(t, err)
			compareWritten(t, want, r.Cases[0].Scores, prediction)
			pairs++
		}
	}
	assert.Equal(t, 3*9, pairs)
}

// TestNNUNetsLabels scores what nnU-Net predicted against the right labels.
func TestNNUNetsLabels(t *testing.T) {
	for name, want := range readWritten(t).Hippocampus {
		r, err := Files(context.Background(), testenv.Data(t, "nnunet_golden", "hippocampus", "labels_plain_fp32", name+".nii.gz"),
			testenv.Data(t, "msd_task04_hippocampus", "labelsTr", name+".nii.gz"), Options{})
		require.NoError(t, err)
		compareWritten(t, want, r.Cases[0].Scores, name)
	}
}
