package nnunet

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
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

// The FLARE23 entry was planned by an early nnU-Net 2, which compared the memory of one patch
// of 2-D networks otherwise, and its 3d_fullres was edited by hand. Its fingerprint gives
// what nnU-Net 2.8.1 makes of it (flare23_plans.json.gz), and of the entry's own plans all
// that these two leave.
func TestPlanFLARE23(t *testing.T) {
	folder := testenv.Data(t, "plans_golden", "FLARE23_blackbean", "model")
	got := bytes.Replace(planFolder(t, "ExperimentPlanner", folder).Raw, []byte(`"model"`), []byte(`"Dataset140_FLARE23"`), 1)
	f, err := os.Open("testdata/flare23_plans.json.gz")
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	want, err := io.ReadAll(z)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))

	var old, here map[string]any
	text, err := os.ReadFile(filepath.Join(folder, "plans.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &old))
	require.NoError(t, json.Unmarshal(got, &here))
	compared := 0
	for key, v := range old {
		if key != "dataset_name" && key != "configurations" {
			assert.Equal(t, v, here[key], key)
		}
	}
	for name, c := range old["configurations"].(map[string]any) {
		plan := here["configurations"].(map[string]any)[name].(map[string]any)
		if a, ok := plan["architecture"].(map[string]any); ok { // which were other keys
			args := a["arch_kwargs"].(map[string]any)
			plan["pool_op_kernel_sizes"], plan["conv_kernel_sizes"] = args["strides"], args["kernel_sizes"]
			plan["n_conv_per_stage_encoder"], plan["n_conv_per_stage_decoder"] = args["n_conv_per_stage"], args["n_conv_per_stage_decoder"]
		}
		for key, v := range c.(map[string]any) {
			switch {
			case key == "UNet_class_name" || key == "UNet_base_num_features" || key == "unet_max_num_features" || key == "num_pool_per_axis":
			case name == "3d_fullres" && (key == "spacing" || key == "patch_size"):
			case name == "2d" && (key == "batch_size" || key == "patch_size" || strings.Contains(key, "kernel_sizes") || strings.Contains(key, "n_conv")):
			default:
				compared++
				assert.Equal(t, v, plan[key], "%s %s", name, key)
			}
		}
	}
	assert.Greater(t, compared, 50)
}

// FLARE22's winner's student: for a CT stored in whatever order, the coarsest axis comes
// first. The plans are nnU-Net's but for the network's numbers.
func TestPlanStudent(t *testing.T) {
	shape, spacing := [3]int{400, 120, 380}, [3]float64{0.8, 2.5, 0.8}
	f := &Fingerprint{Spacings: [][3]float64{spacing}, Shapes: [][3]int{shape}, Intensity: make([]Intensity, 1), MedianRelativeSize: 1}
	d, err := ParseDataset([]byte(`{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}`), "dataset.json")
	require.NoError(t, err)
	p, err := Plan("Student", f, d, "Dataset022_FLARE")
	require.NoError(t, err)
	assert.Equal(t, "flareStudentPlans", p.PlansName)
	assert.Equal(t, [3]int{1, 0, 2}, p.TransposeForward)
	assert.Equal(t, []string{"3d_fullres"}, p.Configurations)
	c, err := p.Configuration("3d_fullres")
	require.NoError(t, err)
	assert.Equal(t, []float64{4, 1.2, 1.2}, c.Spacing)
	assert.Equal(t, []int{32, 128, 192}, c.PatchSize)
	assert.Equal(t, []string{"CTNormalization"}, c.Normalization)
	assert.Equal(t, 2, c.BatchSize)
	assert.True(t, c.BatchDice, "the patch is a small part of 75x267x253 voxels")
	assert.True(t, c.NoMirroring)
	a, err := p.Architecture("3d_fullres")
	require.NoError(t, err)
	assert.Equal(t, &Architecture{Class: "PlainConvUNet", Dims: 3, Stages: 5, ConvBias: true,
		Kernels:  [][]int{{1, 3, 3}, {3, 3, 3}, {3, 3, 3}, {3, 3, 3}, {3, 3, 3}},
		Strides:  [][]int{{1, 1, 1}, {1, 2, 2}, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}},
		Features: []int{16, 32, 64, 128, 256}, BlocksPerStage: []int{2, 2, 2, 2, 2}, DecoderPerStage: []int{2, 2, 2, 2},
		Norm: Norm{NormInstance, 1e-5, true}, Nonlin: Nonlin{NonlinLeakyReLU, 0.01}}, a)

	other, err := Plan("Isotropic25", f, d, "Dataset022_FLARE")
	require.NoError(t, err)
	c, err = other.Configuration("3d_fullres")
	require.NoError(t, err)
	assert.Equal(t, []float64{2.5, 2.5, 2.5}, c.Spacing)
	assert.False(t, c.NoMirroring)
}

func TestPlanErrors(t *testing.T) {
	g := plannerGoldens(t)[0]
	for _, c := range []struct {
		kind    fault.Kind
		message string
		planner string
		change  func(f *Fingerprint, d *Dataset)
	}{
		{fault.Argument, `planner "ResEncXL": there are only ExperimentPlanner, Isotropic25, ResEncL, ResEncM, Student`, "ResEncXL", nil},
		{fault.Model, "the fingerprint has 1 channels, dataset.json has 2", "", func(f *Fingerprint, d *Dataset) { d.Channels = []string{"a", "b"} }},
		{fault.Argument, "20 spacings and 21 shapes", "", func(f *Fingerprint, d *Dataset) { f.Spacings = f.Spacings[1:] }},
		{fault.Argument, "case 1 has [0 1 1] voxels", "", func(f *Fingerprint, d *Dataset) { f.Shapes[1] = [3]int{0, 1, 1} }},
		{fault.Argument, "a statistic of channel 0 is NaN", "", func(f *Fingerprint, d *Dataset) { f.Intensity[0].Std = math.NaN() }},
		{fault.Unsupported, "case 3, [100 500 500] voxels of [1e+08 1 1] mm, would have", "", func(f *Fingerprint, d *Dataset) {
			f.Shapes[3], f.Spacings[3] = [3]int{100, 500, 500}, [3]float64{1e8, 1, 1}
		}},
		{fault.Unsupported, `nnU-Net has no reader for ".dcm"`, "", func(f *Fingerprint, d *Dataset) { d.FileEnding = ".dcm" }},
		{fault.Unsupported, "no U-Net can be planned", "", func(f *Fingerprint, d *Dataset) { // voxels of a needle's shape
			for i := range f.Spacings {
				f.Spacings[i], f.Shapes[i] = [3]float64{1000, 0.001, 0.001}, [3]int{2, 1000, 1000}
			}
		}},
	} {
		f, d := g.parse(t)
		if c.change != nil {
			c.change(f, d)
		}
		if c.planner == "" {
			c.planner = "ExperimentPlanner"
		}
		_, err := Plan(c.planner, f, d, "x")
		assert.Equal(t, c.kind, fault.KindOf(err), "%v", err)
		assert.ErrorContains(t, err, c.message)
	}
}

func TestFingerprintErrors(t *testing.T) {
	const good = `{"spacings": [[1, 1, 1]], "shapes_after_crop": [[9, 9, 9]], "median_relative_size_after_cropping": 1.0,
		"foreground_intensity_properties_per_channel": {"0": {"max": 1, "mean": 1, "median": 1, "min": 1, "percentile_00_5": 1, "percentile_99_5": 1, "std": 1}}}`
	_, err := ParseFingerprint([]byte(good), "f.json")
	require.NoError(t, err)
	for _, c := range []struct {
		kind               fault.Kind
		from, to, contains string
	}{
		{fault.Format, "{", "[", "f.json: not a JSON object"},
		{fault.Format, "[1, 1, 1]", "[1, -1, 1]", `key "spacings": element 0 is [1,-1,1], expected three numbers`},
		{fault.Format, "[1, 1, 1]", "[1, 1]", `element 0 is [1,1]`},
		{fault.Format, "[9, 9, 9]", `"9"`, `key "shapes_after_crop": element 0`},
		{fault.Format, "[9, 9, 9]", `[9, 9, 1e9]`, `key "shapes_after_crop": element 0`},
		{fault.Model, "[[1, 1, 1]]", "[[1, 1, 1], [1, 1, 1]]", "2 spacings and 1 shapes_after_crop"},
		{fault.Model, `"spacings"`, `"spacing"`, `key "spacings" is missing`},
		{fault.Model, `"0"`, `"1"`, `key "0" is missing`},
		{fault.Format, `"mean": 1`, `"mean": NaN`, `key "mean": found null`},
		{fault.Model, `"std"`, `"sd"`, `key "std" is missing`},
		{fault.Model, `"median_relative`, `"relative`, `key "median_relative_size_after_cropping" is missing`},
	} {
		_, err := ParseFingerprint([]byte(strings.Replace(good, c.from, c.to, 1)), "f.json")
		assert.Equal(t, c.kind, fault.KindOf(err), "%s: %v", c.to, err)
		assert.ErrorContains(t, err, c.contains)
	}
}

func FuzzFingerprint(f *testing.F) {
	f.Add([]byte(`{"spacings": [[1, 1, 1]], "shapes_after_crop": [[9, 90, 9]], "median_relative_size_after_cropping": 0.5,
		"foreground_intensity_properties_per_channel": {"0": {"max": 1, "mean": 1, "median": 1, "min": 1, "percentile_00_5": 1, "percentile_99_5": 1, "std": 1}}}`))
	f.Add([]byte(`{"spacings": [[1e3, 1e-3, 1], [2, 2, 2]], "shapes_after_crop": [[2, 1000000, 300], [1, 1, 1]], "median_relative_size_after_cropping": 1,
		"foreground_intensity_properties_per_channel": {"0": {"max": 1, "mean": 1, "median": 1, "min": 1, "percentile_00_5": 1, "percentile_99_5": 1, "std": 1}}}`))
	d, err := ParseDataset([]byte(`{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}`), "dataset.json")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		fingerprint, err := ParseFingerprint(b, "f.json")
		if err != nil {
			return
		}
		again, err := ParseFingerprint(fingerprint.JSON(), "again")
		require.NoError(t, err)
		require.Equal(t, fingerprint, again)
		for _, planner := range Planners() {
			_, _ = Plan(planner, fingerprint, d, "x")
		}
	})
}
