package student_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/internal/testenv"
)

// TestShippedStudent makes the scores of the hippocampus student's model card again: those of
// all of its test cases, which it has never seen.
func TestShippedStudent(t *testing.T) {
	data := testenv.Data(t, "msd_task04_hippocampus")
	folder := filepath.Join(testenv.Root(t), "examples", "noisy_student")
	var card struct {
		Labels    []string
		Tolerance float64 `json:"tolerance_mm"`
		Cases     map[string]struct{ DSC, NSD []float64 }
	}
	text, err := os.ReadFile(filepath.Join(folder, "hippocampus.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &card))
	require.Len(t, card.Cases, 45)

	m, err := segment.Open(t.Context(), filepath.Join(folder, "hippocampus.onnx"), segment.OpenOptions{Runtime: testenv.Runtime(t)})
	require.NoError(t, err)
	defer m.Close()
	var dsc, nsd [2]float64 // sums of differences from the card
	for name, want := range card.Cases {
		labels := filepath.Join(t.TempDir(), "labels.nii.gz")
		_, err := m.SegmentFile(t.Context(), filepath.Join(data, "imagesTr", name+".nii.gz"), labels, segment.Options{})
		require.NoError(t, err)
		r, err := evaluate.Files(t.Context(), labels, filepath.Join(data, "labelsTr", name+".nii.gz"),
			evaluate.Options{Labels: []evaluate.Label{{Value: 1, Name: card.Labels[0]}, {Value: 2, Name: card.Labels[1]}}, Tolerance: card.Tolerance})
		require.NoError(t, err)
		for i, s := range r.Cases[0].Scores {
			dsc[i] += float64(s.DSC) - want.DSC[i]
			nsd[i] += float64(s.NSD) - want.NSD[i]
		}
	}
	for i, label := range card.Labels { // processors round differently
		assert.InDelta(t, 0, dsc[i]/45, 1e-3, label)
		assert.InDelta(t, 0, nsd[i]/45, 1e-3, label)
	}
}
