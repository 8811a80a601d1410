package student_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/phantom"
)

// card is what examples/noisy_student/ship.py wrote beside a network.
type card struct {
	Labels    []string
	Tolerance float64 `json:"tolerance_mm"`
	Cases     map[string]struct{ DSC, NSD []float64 }
}

// TestShippedStudent makes the scores of the hippocampus student's model card again: those of
// all of its test cases, which it has never seen.
func TestShippedStudent(t *testing.T) {
	data := testenv.Data(t, "msd_task04_hippocampus")
	scoresAgain(t, filepath.Join(testenv.Root(t), "examples", "noisy_student", "hippocampus"), 45, func(name string) (image, labels string) {
		return filepath.Join(data, "imagesTr", name+".nii.gz"), filepath.Join(data, "labelsTr", name+".nii.gz")
	})
}

// TestShippedPhantomStudent makes the scores of two of the demo's test cases again.
func TestShippedPhantomStudent(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 {
		image, labels, err := phantom.Generate(phantom.Sample(2, i, phantom.Clinical))
		require.NoError(t, err)
		name := fmt.Sprintf("phantom_%04d", i)
		require.NoError(t, imageio.Write(t.Context(), filepath.Join(dir, name+"_image.nii"), image))
		require.NoError(t, imageio.Write(t.Context(), filepath.Join(dir, name+".nii"), labels))
		image.Free()
		labels.Free()
	}
	scoresAgain(t, filepath.Join(testenv.Root(t), "examples", "demo", "flare13_phantom"), 32, func(name string) (image, labels string) {
		labels = filepath.Join(dir, name+".nii")
		if _, err := os.Stat(labels); err != nil {
			return "", ""
		}
		return filepath.Join(dir, name+"_image.nii"), labels
	})
}

// scoresAgain compares the scores of model.onnx with those of model.json, which has so many
// cases; files names a case's, or none where it is to be left out.
func scoresAgain(t *testing.T, model string, cases int, files func(name string) (image, labels string)) {
	t.Helper()
	var c card
	text, err := os.ReadFile(model + ".json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &c))
	require.Len(t, c.Cases, cases)
	o := evaluate.Options{Tolerance: c.Tolerance}
	for i, name := range c.Labels {
		o.Labels = append(o.Labels, evaluate.Label{Value: i + 1, Name: name})
	}

	m, err := segment.Open(t.Context(), model+".onnx", segment.OpenOptions{Runtime: testenv.Runtime(t)})
	require.NoError(t, err)
	defer m.Close()
	dsc, nsd, n := make([]float64, len(c.Labels)), make([]float64, len(c.Labels)), 0.0 // sums of differences from the card
	for name, want := range c.Cases {
		image, reference := files(name)
		if image == "" {
			continue
		}
		labels := filepath.Join(t.TempDir(), "labels.nii.gz")
		_, err := m.SegmentFile(t.Context(), image, labels, segment.Options{})
		require.NoError(t, err)
		r, err := evaluate.Files(t.Context(), labels, reference, o)
		require.NoError(t, err)
		n++
		for i, s := range r.Cases[0].Scores {
			if math.IsNaN(float64(s.DSC)) { // neither has any of it
				s.DSC, s.NSD = 1, 1
			}
			dsc[i] += float64(s.DSC) - want.DSC[i]
			nsd[i] += float64(s.NSD) - want.NSD[i]
		}
	}
	require.Positive(t, n)
	for i, label := range c.Labels { // processors round differently
		assert.InDelta(t, 0, dsc[i]/n, 1e-3, label)
		assert.InDelta(t, 0, nsd[i]/n, 2e-3, label)
	}
}
