package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestStudent: pseudo-labels of a folder with a bad file, resumed and in shards; and a whole
// student, called again.
func TestStudent(t *testing.T) {
	if os.Getenv("FLARE_CLI") == "" && os.Getenv("FLARE_ONNXRUNTIME") == "" {
		t.Skip("no ONNX Runtime to test with; ./build.sh test has one")
	}
	raw, dir := rawDataset(t, 1, [3]int{20, 18, 12}), t.TempDir()
	flare(t, 0, "train", raw, "-o", filepath.Join(dir, "teacher"), "--epochs", "2", "--iterations", "2", "--validation", "1", "--batch", "2", "--fold", "all", "--threads", "2")
	teacher, images, out := filepath.Join(dir, "teacher", "model.onnx"), filepath.Join(dir, "images"), filepath.Join(dir, "labels")
	if err := os.Mkdir(images, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"u1", "u2"} {
		store(t, filepath.Join(images, name+"_0000.nii.gz"), [3]int{20, 18, 12}, 7, 8, 9, 10)
	}
	file(t, filepath.Join(images, "v_0000.nii.gz"), []byte("nonsense"))

	joined := filepath.Join(dir, "joined.onnx")
	flare(t, 0, "convert", teacher, teacher, joined)
	label := func(code int, args ...string) string {
		_, stderr := flare(t, code, append([]string{"pseudo-label", "-m", joined, "--threads", "2", images}, args...)...)
		return stderr
	}
	label(0, out, "--shard", "1/3")
	for range 2 {
		if text := label(6, out); !strings.Contains(text, "1 of 3 cases could not be read and were left out: v (") || !strings.Contains(text, "of them from before") {
			t.Errorf("standard error: %s", text)
		}
	}
	if got := names(t, out); !slices.Equal(got, []string{"u1.json", "u1.nii.gz", "u2.json", "u2.nii.gz"}) {
		t.Errorf("labels: %v", got)
	}
	label(6, filepath.Join(dir, "more"), "--previous", out, "--no-mirror", "--ignore-uncertain", "0.8", "--soft", "0.9")
	if got := names(t, filepath.Join(dir, "more")); !slices.Contains(got, "u2.npz") {
		t.Errorf("with probabilities: %v", got)
	}
	for _, bad := range []string{"3/2", "0/2", "x", "1/2/3"} {
		label(2, out, "--shard", bad)
	}
	label(2, images)

	few := map[string]any{"epochs": 1, "iterations": 2, "validation_iterations": 1, "batch": 2}
	config, err := json.Marshal(map[string]any{"labelled": raw, "unlabelled": "images", "run": "run", "threads": 2,
		"teacher": map[string]any{"models": []string{"joined.onnx"}}, "student": map[string]any{"training": few}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "student.json")
	file(t, path, config)
	for _, want := range []string{"round_1_student: finished after", "round_1_student: finished before"} {
		if _, text := flare(t, 6, "student", path); !strings.Contains(text, want) || !strings.Contains(text, "1 of 3 cases could not be read") {
			t.Errorf("standard error lacks %q: %s", want, text)
		}
	}
	flare(t, 0, "segment", "-m", filepath.Join(dir, "run", "student.onnx"), filepath.Join(images, "u1_0000.nii.gz"), filepath.Join(dir, "x.nii.gz"))
	shardsOfARun(t, dir, path)
	file(t, path, []byte("{}"))
	flare(t, 2, "student", path)
	flare(t, 4, "student", filepath.Join(dir, "none.json"))
}

// shardsOfARun: labels with weights that two machines made for a run are taken as they are.
func shardsOfARun(t *testing.T, dir, config string) {
	t.Helper()
	labels := filepath.Join(dir, "run", "round_1", "labels")
	for _, shard := range []string{"1/2", "2/2"} {
		code := map[string]int{"1/2": 6, "2/2": 0}[shard] // the first has the bad file
		flare(t, code, "pseudo-label", "-m", filepath.Join(dir, "run", "teacher", "teacher.onnx"), filepath.Join(dir, "images"), labels, "--weights", "--shard", shard, "--threads", "2")
	}
	made := func() (all []string) {
		for _, name := range []string{"u1.json", "u1.nii.gz", "u2.json", "u2.nii.gz", "weights/u1.nii.gz", "weights/u2.nii.gz"} {
			info, err := os.Stat(filepath.Join(labels, name))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, name+" of "+info.ModTime().String(), text(t, labels, name))
		}
		return all
	}
	before := made()
	var c map[string]any
	read(t, config, &c)
	c["pseudo_labels"] = map[string]any{"weights": true}
	weighted, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	file(t, config, weighted)
	if _, text := flare(t, 6, "student", config); !strings.Contains(text, "round_1_labels: begins") || !strings.Contains(text, "round_1_student: finished after") {
		t.Errorf("standard error: %s", text)
	}
	if !slices.Equal(made(), before) {
		t.Error("labels that shards had made were made again")
	}
	var dataset struct {
		Dataset map[string]struct{ Weight string }
	}
	read(t, filepath.Join(dir, "run", "round_1", "dataset", "dataset.json"), &dataset)
	for _, name := range []string{"u1", "u2"} {
		if got, want := dataset.Dataset[name].Weight, filepath.Join(labels, "weights", name+".nii.gz"); got != want {
			t.Errorf("the weights of %s are read from %q, expected %q", name, got, want)
		}
	}
}
