package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/volume"
)

func text(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPlan(t *testing.T) {
	parent := t.TempDir()
	raw := filepath.Join(parent, "Dataset007_Phantoms")
	flare(t, 0, "phantom", raw, "-n", "2", "--seed", "5")
	before := names(t, raw)
	_, stderr := flare(t, 0, "plan", raw+"/", "--threads", "2")
	if !strings.Contains(stderr, "2 cases") || !strings.Contains(stderr, "3d_fullres: 3x3x3 mm, patch ") {
		t.Errorf("standard error is %q", stderr)
	}
	if got := names(t, raw); !slices.Equal(got, before) {
		t.Errorf("the dataset's folder holds %v, before %v", got, before)
	}
	out := raw + "_preprocessed"
	if got := names(t, out); !slices.Equal(got, []string{"dataset.json", "dataset_fingerprint.json", "plans.json"}) {
		t.Errorf("written: %v", got)
	}
	if text(t, out, "dataset.json") != text(t, raw, "dataset.json") {
		t.Error("dataset.json is not a copy")
	}
	plans, err := nnunet.ParsePlans([]byte(text(t, out, "plans.json")), "plans.json")
	if err != nil || plans.DatasetName != "Dataset007_Phantoms" || !slices.Equal(plans.Configurations, []string{"2d", "3d_fullres"}) {
		t.Errorf("plans: %+v, %v", plans, err)
	}

	// The same from the fingerprint alone, with every planner.
	named := filepath.Join(parent, "elsewhere", "Dataset007_Phantoms")
	if err := os.MkdirAll(named, 0o777); err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Join(named, "dataset.json"), []byte(text(t, raw, "dataset.json")))
	for _, planner := range nnunet.Planners() {
		alone := filepath.Join(parent, planner+".json")
		flare(t, 0, "plan", "--fingerprint", filepath.Join(out, "dataset_fingerprint.json"), "--dataset-json", filepath.Join(named, "dataset.json"), "--planner", planner, alone)
		if (planner == "ExperimentPlanner") != (text(t, alone) == text(t, out, "plans.json")) {
			t.Errorf("%s: plans like ExperimentPlanner's, or not", planner)
		}
	}
	folder := filepath.Join(parent, "new", "student")
	flare(t, 0, "plan", raw, "--planner", "Student", "-o", folder)
	if a, b := text(t, folder, "plans.json"), text(t, parent, "Student.json"); a != b {
		t.Errorf("Student: %s\n%s", a, b)
	}
}

// rawDataset makes a raw dataset of three cases of the given channels, all voxels of the
// images and some of the labels above 0.
func rawDataset(t *testing.T, channels int, size [3]int) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "Dataset001_Small")
	for _, sub := range []string{"imagesTr", "labelsTr"} {
		if err := os.MkdirAll(filepath.Join(folder, sub), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	names := map[string]string{}
	for c := range channels {
		names[string(rune('0'+c))] = "CT"
	}
	for _, name := range []string{"a", "b", "c"} {
		for c := range channels {
			store(t, filepath.Join(folder, "imagesTr", name+"_000"+string(rune('0'+c))+".nii.gz"), size, 7, 8, 9, 10)
		}
		store(t, filepath.Join(folder, "labelsTr", name+".nii.gz"), size, 0, 1, 2)
	}
	describe, err := json.Marshal(map[string]any{"channel_names": names, "labels": map[string]int{"background": 0, "organ": 1, "ignore": 2},
		"numTraining": 3, "file_ending": ".nii.gz"})
	if err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Join(folder, "dataset.json"), describe)
	return folder
}

// store writes an image whose voxels repeat the given values.
func store(t *testing.T, path string, size [3]int, values ...float32) {
	t.Helper()
	v, err := volume.New(volume.Geometry{Size: size, Spacing: [3]float64{1, 1, 2}, Direction: volume.Identity}, 1, volume.Float32)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Free()
	for i := range volume.As[float32](v) {
		volume.As[float32](v)[i] = values[i%len(values)]
	}
	if err := imageio.Write(t.Context(), path, v); err != nil {
		t.Fatal(err)
	}
}

func TestPlanBadDatasets(t *testing.T) {
	size := [3]int{12, 11, 10}
	nan := float32(0)
	nan /= nan
	for _, test := range []struct {
		name string
		code int
		says string
		do   func(folder string)
	}{
		{"label outside", 6, "labelsTr/b.nii.gz: a voxel is 3, dataset.json has only the labels 0 1 2", func(f string) { store(t, f+"/labelsTr/b.nii.gz", size, 0, 3) }},
		{"label between", 6, "labelsTr/b.nii.gz: a voxel is 0.5", func(f string) { store(t, f+"/labelsTr/b.nii.gz", size, 0, 0.5) }},
		{"several at once", 6, "labelsTr/c.nii.gz: a voxel is -1", func(f string) {
			store(t, f+"/labelsTr/b.nii.gz", size, 0, 3)
			store(t, f+"/labelsTr/c.nii.gz", size, 0, -1)
		}},
		{"grids", 8, "labelsTr/a.nii.gz: [12 11 9] voxels", func(f string) { store(t, f+"/labelsTr/a.nii.gz", [3]int{12, 11, 9}, 0, 1) }},
		{"channels' grids", 8, "imagesTr/a_0001.nii.gz: [12 11 9] voxels", func(f string) { store(t, f+"/imagesTr/a_0001.nii.gz", [3]int{12, 11, 9}, 1) }},
		{"no foreground", 8, "no case has a labelled voxel", func(f string) {
			for _, name := range []string{"a", "b", "c"} {
				store(t, f+"/labelsTr/"+name+".nii.gz", size, 0)
			}
		}},
		{"empty file", 6, "labelsTr/b.nii.gz: the file is empty", func(f string) { file(t, f+"/labelsTr/b.nii.gz", nil) }},
		{"NaN", 6, "imagesTr/b_0000.nii.gz: 330 voxels are NaN", func(f string) { store(t, f+"/imagesTr/b_0000.nii.gz", size, 1, nan, 2, 3) }},
		{"NaN in labels", 6, "labelsTr/b.nii.gz: 660 voxels are NaN", func(f string) { store(t, f+"/labelsTr/b.nii.gz", size, 1, nan) }},
		{"no label", 8, "labelsTr/c.nii.gz is missing", func(f string) { os.Remove(f + "/labelsTr/c.nii.gz") }},
		{"first channel", 8, "imagesTr/c_0000.nii.gz is missing", func(f string) { os.Remove(f + "/imagesTr/c_0000.nii.gz") }},
		{"second channel", 8, "1 channels, dataset.json has 2", func(f string) { os.Remove(f + "/imagesTr/c_0001.nii.gz") }},
		{"too many channels", 8, "a_0002.nii.gz: dataset.json has 2 channels", func(f string) { store(t, f+"/imagesTr/a_0002.nii.gz", size, 1) }},
		{"name without channel", 8, "imagesTr/d.nii.gz: the name lacks a channel", func(f string) { store(t, f+"/imagesTr/d.nii.gz", size, 1) }},
		{"no case", 8, "no training case", func(f string) { os.RemoveAll(f + "/imagesTr"); os.Mkdir(f+"/imagesTr", 0o777) }},
		{"no images", 4, "imagesTr: no such", func(f string) { os.RemoveAll(f + "/imagesTr") }},
		{"number of cases", 8, "numTraining is 3, but there are 2 cases", func(f string) {
			os.Remove(f + "/imagesTr/c_0000.nii.gz")
			os.Remove(f + "/imagesTr/c_0001.nii.gz")
		}},
		{"no dataset.json", 4, "dataset.json: no such file", func(f string) { os.Remove(f + "/dataset.json") }},
		{"no JSON", 6, "dataset.json: not a JSON object", func(f string) { file(t, f+"/dataset.json", []byte("labels")) }},
		{"nothing", 4, "Small: no such", func(f string) { os.RemoveAll(f) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := rawDataset(t, 2, size)
			test.do(folder)
			out := filepath.Join(t.TempDir(), "out")
			_, stderr := flare(t, test.code, "plan", folder, "-o", out)
			if !strings.Contains(stderr, test.says) {
				t.Errorf("%q does not say %q", stderr, test.says)
			}
			if _, err := os.Stat(filepath.Join(out, "plans.json")); err == nil {
				t.Error("plans were written")
			}
		})
	}
}

func TestPlanNotesAndPlaces(t *testing.T) {
	size := [3]int{12, 11, 10}
	folder := rawDataset(t, 1, size)
	store(t, folder+"/labelsTr/b.nii.gz", size, 0)
	_, stderr := flare(t, 0, "plan", folder)
	if !strings.Contains(stderr, "1 cases (b) have no foreground") {
		t.Errorf("standard error is %q", stderr)
	}
	flare(t, 2, "plan", folder, "-o", folder) // dataset.json lies there
	flare(t, 5, "plan", folder, "-o", folder+"/dataset.json")
	in := filepath.Join(folder+"_preprocessed", "dataset_fingerprint.json")
	one := []string{"plan", "--fingerprint", in, "--dataset-json", folder + "/dataset.json"}
	flare(t, 2, append(one, in)...)
	flare(t, 4, append(one, filepath.Join(folder, "none", "plans.json"))...)
	flare(t, 4, "plan", "--fingerprint", "none.json", "--dataset-json", folder+"/dataset.json", "x.json")
	bad := file(t, filepath.Join(t.TempDir(), "f.json"), []byte(strings.Replace(text(t, in), "12", "-12", 1)))
	flare(t, 6, "plan", "--fingerprint", bad, "--dataset-json", folder+"/dataset.json", "x.json")

	flat := rawDataset(t, 1, [3]int{30, 20, 1}) // which no preset is for
	flare(t, 7, "plan", flat, "--planner", "Student")
	flare(t, 0, "plan", flat)
}
