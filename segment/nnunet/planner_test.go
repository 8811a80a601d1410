package nnunet

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
)

// plannerGolden is an entry of planner.json.gz (make_planner_goldens.py).
type plannerGolden struct {
	Name, Folder         string
	Fingerprint, Dataset json.RawMessage
	Plans                map[string]*string // nil where nnU-Net fails
}

func plannerGoldens(t *testing.T) (list []plannerGolden) {
	f, err := os.Open("testdata/planner.json.gz")
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	require.NoError(t, json.NewDecoder(z).Decode(&list))
	return list
}

func (g *plannerGolden) parse(t *testing.T) (*Fingerprint, *Dataset) {
	f, err := ParseFingerprint(g.Fingerprint, "fingerprint")
	require.NoError(t, err)
	d, err := ParseDataset(g.Dataset, "dataset.json")
	require.NoError(t, err)
	return f, d
}

// The texts are nnU-Net's to the last byte: 2-D, coarse axes anywhere, tiny, huge, many
// channels, many labels, regions, few cases, with all planners.
func TestPlanSynthetic(t *testing.T) {
	compared := 0
	for _, g := range plannerGoldens(t) {
		for planner, want := range g.Plans {
			t.Run(g.Name+"/"+planner, func(t *testing.T) {
				f, d := g.parse(t)
				plans, err := Plan(planner, f, d, g.Folder)
				if want == nil {
					require.Error(t, err)
					assert.Equal(t, fault.Unsupported, fault.KindOf(err), "%v", err)
					return
				}
				require.NoError(t, err)
				require.Equal(t, *want, string(plans.Raw))
				compared++
			})
		}
	}
	assert.Greater(t, compared, 80)
}

// The pairs of fingerprint and plans that others published: five Decathlon datasets with
// three planners (their plans are called nnUNetPlans whatever the planner). nnU-Net 2.8.1
// gives the same texts.
func TestPlanDecathlon(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join(testenv.Data(t, "plans_golden"), "baseline_*", "Dataset*"))
	require.NoError(t, err)
	require.Len(t, folders, 15)
	for _, folder := range folders {
		model := filepath.Base(filepath.Dir(folder))
		planner := map[string]string{"baseline_ConvolutionalEncoder": "ExperimentPlanner",
			"baseline_ResidualEncoderM": "ResEncM", "baseline_ResidualEncoderL": "ResEncL"}[model]
		t.Run(filepath.Base(folder)+"/"+planner, func(t *testing.T) {
			plans := planFolder(t, planner, folder)
			want, err := os.ReadFile(filepath.Join(folder, "plans.json"))
			require.NoError(t, err)
			got := bytes.ReplaceAll(plans.Raw, []byte(plans.PlansName), []byte("nnUNetPlans"))
			require.Equal(t, string(want), string(got))
		})
	}
}

func planFolder(t *testing.T, planner, folder string) *Plans {
	f, err := ReadFingerprint(filepath.Join(folder, "dataset_fingerprint.json"))
	require.NoError(t, err)
	d, err := ReadDataset(filepath.Join(folder, "dataset.json"))
	require.NoError(t, err)
	plans, err := Plan(planner, f, d, filepath.Base(folder))
	require.NoError(t, err)
	return plans
}

func TestPlanHippocampus(t *testing.T) {
	folder := testenv.Data(t, "nnunet_golden", "hippocampus")
	plans := planFolder(t, "ExperimentPlanner", filepath.Join(folder, "model"))
	want, err := os.ReadFile(filepath.Join(folder, "nnUNetPlans_default.json"))
	require.NoError(t, err)
	got := bytes.Replace(plans.Raw, []byte(`"model"`), []byte(`"Dataset004_Hippocampus"`), 1)
	require.Equal(t, string(want), string(got))
}
