package train

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/nnunet"
)

// jsonSummary is nnU-Net's summary.json.
type jsonSummary struct {
	Foreground map[string]float64            `json:"foreground_mean"`
	Mean       map[string]map[string]float64 `json:"mean"`
	Cases      []struct {
		Metrics    map[string]map[string]float64 `json:"metrics"`
		Prediction string                        `json:"prediction_file"`
		Reference  string                        `json:"reference_file"`
	} `json:"metric_per_case"`
}

// TestSummary: metrics of nnU-Net's own predictions are those in its own summary.json, and
// so are their means and the file.
func TestSummary(t *testing.T) {
	text, err := os.ReadFile(testenv.Data(t, "nnunet_golden", "hippocampus", "nnunet_validation_summary.json"))
	require.NoError(t, err)
	var want jsonSummary
	require.NoError(t, json.Unmarshal(text, &want))
	dataset, err := nnunet.ReadDataset(testenv.Data(t, "nnunet_golden", "hippocampus", "model", "dataset.json"))
	require.NoError(t, err)
	predictions, err := filepath.Glob(filepath.Join(testenv.Data(t, "nnunet_golden", "hippocampus", "labels_mirror_shipped"), "*.nii.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, predictions)
	var s Summary
	for _, p := range predictions {
		name := strings.TrimSuffix(filepath.Base(p), ".nii.gz")
		require.NoError(t, s.compare(t.Context(), dataset, name, p, testenv.Data(t, "msd_task04_hippocampus", "labelsTr", name+".nii.gz")))
		for _, c := range want.Cases {
			if strings.HasSuffix(c.Reference, name+".nii.gz") {
				for i, key := range []string{"1", "2"} {
					names, values := s.Cases[len(s.Cases)-1].Metrics[i].values()
					for k, n := range names {
						// The labels were predicted anew; a voxel or two differ from the validation's.
						assert.InEpsilon(t, c.Metrics[key][n], *values[k], 5e-3, "%s %s %s", name, key, n)
					}
				}
			}
		}
	}
	s.average()

	// The means of nnU-Net's per-case numbers, and the file with its keys in its order.
	var all Summary
	all.Keys = []string{"1", "2"}
	for _, c := range want.Cases {
		k := CaseMetrics{Prediction: c.Prediction, Reference: c.Reference, Metrics: make([]Metrics, 2)}
		for i := range k.Metrics {
			names, values := k.Metrics[i].values()
			for j, n := range names {
				*values[j] = c.Metrics[all.Keys[i]][n]
			}
		}
		all.Cases = append(all.Cases, k)
	}
	all.average()
	names, values := all.Foreground.values()
	for j, n := range names {
		assert.InEpsilon(t, want.Foreground[n], *values[j], 1e-12, n)
	}
	var b bytes.Buffer
	require.NoError(t, all.write(&b))
	lines, expected := strings.Split(b.String(), "\n"), strings.Split(string(text), "\n")
	require.Equal(t, len(expected), len(lines))
	for i := range lines {
		key, _, _ := strings.Cut(expected[i], ": ")
		mine, _, _ := strings.Cut(lines[i], ": ")
		assert.Equal(t, key, mine, i)
	}
	var back jsonSummary
	require.NoError(t, json.Unmarshal(b.Bytes(), &back))
	assert.Equal(t, want.Cases, back.Cases)
}

// TestMetrics: counts on a few voxels, labels that are in neither map, regions, ignored
// voxels.
func TestMetrics(t *testing.T) {
	prediction, reference := []float32{0, 1, 1, 2, 2, 0}, []float32{0, 1, 2, 2, 3, 1}
	m := metrics(prediction, reference, [][]int{{1}, {1, 2}, {5}}, 3)
	assert.Equal(t, Metrics{Dice: 0.5, IoU: 1. / 3, TP: 1, FP: 1, FN: 1, TN: 2, Predicted: 2, Truth: 2}, m[0])
	assert.Equal(t, 3., m[1].TP)
	assert.Equal(t, 1., m[1].FN)
	assert.True(t, math.IsNaN(m[2].Dice))
	s := Summary{Keys: []string{"1", "(1, 2)", "5"}, Cases: []CaseMetrics{{Metrics: m}}}
	s.average()
	var b bytes.Buffer
	require.NoError(t, s.write(&b))
	assert.Contains(t, b.String(), `"Dice": NaN`)
	regional, err := nnunet.ParseDataset([]byte(`{"channel_names": {"0": "CT"}, "labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2], "file_ending": ".nii.gz"}`), "d")
	require.NoError(t, err)
	keys, values := regions(regional)
	assert.Equal(t, []string{"(1, 2)", "2"}, keys)
	assert.Equal(t, [][]int{{1, 2}, {2}}, values)
}
