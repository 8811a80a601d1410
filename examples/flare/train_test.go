package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libflare/libflare/segment/nnunet"
)

// TestTrain goes from a folder of images to labels: plan, preprocess, train, export,
// segment.
func TestTrain(t *testing.T) {
	if os.Getenv("FLARE_CLI") == "" && os.Getenv("FLARE_ONNXRUNTIME") == "" {
		t.Skip("no ONNX Runtime to test with; ./build.sh test has one")
	}
	raw := rawDataset(t, 1, [3]int{20, 18, 12})
	run := filepath.Join(t.TempDir(), "run")
	few := []string{"--epochs", "2", "--iterations", "2", "--validation", "1", "--batch", "2", "--fold", "all", "--threads", "2"}
	train := func(code int, args ...string) string {
		_, stderr := flare(t, code, append(append([]string{"train"}, few...), args...)...)
		return stderr
	}
	out := train(0, raw, "-o", run)
	for _, want := range []string{"3 cases in ", "0 of them kept", "mean Dice of 3 validation cases"} {
		if !strings.Contains(out, want) {
			t.Errorf("standard error lacks %q: %s", want, out)
		}
	}
	for _, name := range []string{"model.onnx", "checkpoint.flare", "checkpoint_best.flare", "progress.csv", "progress.png", "validation", "plans.json", "dataset_fingerprint.json"} {
		if !slices.Contains(names(t, run), name) {
			t.Errorf("the run lacks %s: %v", name, names(t, run))
		}
	}
	preprocessed := raw + "_preprocessed"
	if out = train(2, raw, "-o", run); !strings.Contains(out, "resume") {
		t.Errorf("a second training in the folder: %s", out)
	}
	if out = train(0, filepath.Join(preprocessed, "3d_fullres"), "-o", run, "--resume"); strings.Contains(out, "cases in") {
		t.Errorf("a finished training, resumed on a cache: %s", out)
	}
	flare(t, 0, "preprocess", raw, "--plans", filepath.Join(preprocessed, "plans.json"), "-o", filepath.Join(preprocessed, "3d_fullres"))

	// Killed without a word after its first epoch, and resumed, it ends with the same bits.
	same := []string{raw, "--device", "ort", "--seed", "3", "-o"}
	whole, killed := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "killed")
	train(0, append(same, whole)...)
	c := program(append(append([]string{"train"}, few...), append(same, killed)...)...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 6000; i++ {
		if _, err := os.Stat(filepath.Join(killed, "checkpoint.flare")); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.Process.Kill()
	c.Wait()
	train(0, append(same, killed, "--resume")...)
	if text(t, whole, "model.onnx") != text(t, killed, "model.onnx") {
		t.Error("a training that was killed and resumed differs")
	}

	// What was exported segments, and is where a training can begin.
	folder, bundle := filepath.Join(t.TempDir(), "results"), filepath.Join(t.TempDir(), "b.onnx")
	flare(t, 0, "export", run, folder)
	flare(t, 0, "export", "--best", run, bundle)
	opened, err := nnunet.OpenFolder(folder, "")
	if err != nil || !slices.Equal(opened.Folds, []string{"all"}) {
		t.Errorf("%+v, %v", opened, err)
	}
	image := filepath.Join(raw, "imagesTr", "a_0000.nii.gz")
	for _, model := range []string{folder, bundle} {
		flare(t, 0, "segment", "-m", model, image, filepath.Join(t.TempDir(), "l.nii.gz"))
	}
	train(0, raw, "-o", filepath.Join(t.TempDir(), "tuned"), "--init", bundle, "--noise", "strong,nomirror,dropout=0.1", "--optimizer", "adamw")

	for _, bad := range [][]string{{raw, "-o", run + "2", "--noise", "loud"}, {raw, "-o", run + "2", "--rate", "-1"}} {
		train(2, bad...)
	}
	if out = train(8, raw, "-o", run+"2", "--fold", "7"); !strings.Contains(out, "3 training cases") {
		t.Errorf("fold 7: %s", out)
	}
	flare(t, 4, "export", t.TempDir(), bundle)
	flare(t, 4, "train", filepath.Join(t.TempDir(), "nothing"), "-o", run)
	file(t, filepath.Join(run, "checkpoint.flare"), []byte("flareckp"))
	flare(t, 6, "export", run, bundle)
	if err := os.Remove(filepath.Join(run, "plans.json")); err != nil {
		t.Fatal(err)
	}
	flare(t, 4, "export", run, bundle)
}
