package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// No output takes the place of a file that is read, or of another output, by whatever
// name; that is known before the model is opened.
func TestOutputsSpareInputs(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"in", "previous", "out", "model", "model/fold_0"} {
		if err := os.Mkdir(at(d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a_0000.nii", "a_0001.nii", "in/b_0000.nii", "in/b_0001.nii", "in/c.nii", "previous/a.nii", "previous/b.nii",
		"previous/c.nii", "out/c.nii", "model.onnx", "model/plans.json", "model/fold_0/checkpoint_final.pth"} {
		file(t, at(name), []byte(name))
	}
	for link, to := range map[string]string{"soft.json": "model.onnx", "early.nii": "new.nii", "soft.html": "a_0001.nii", "model/link.json": "fold_0/checkpoint_final.pth", "out/b.nii": "c.nii"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(at("a_0001.nii"), at("hard.nii")); err != nil {
		t.Fatal(err)
	}
	one := []string{"-m", at("model.onnx"), at("a_0000.nii"), at("new.nii"), "--previous", at("previous")}
	many := []string{"-m", at("model"), at("in"), at("new"), "--previous", at("previous")}
	for _, test := range []struct {
		usual []string
		args  []string
		says  string
	}{
		{one, []string{"--stats", at("a_0000.nii")}, "a_0000.nii would be overwritten by --stats"},
		{one, []string{"--stats", at("hard.nii")}, "a_0001.nii would be overwritten by --stats"},
		{one, []string{"--stats", at("new.nii")}, "new.nii would be overwritten by --stats"},
		{one, []string{"--stats", at("early.nii")}, "new.nii would be overwritten by --stats"},
		{one, []string{"--stats", at("soft.json")}, "model.onnx would be overwritten by --stats"},
		{one, []string{"--stats", at("previous/a.nii")}, "previous/a.nii would be overwritten by --stats"},
		{one, []string{"--probabilities", at("a_0000.nii")}, "a_0000.nii would be overwritten by --probabilities"},
		{one, []string{"--probabilities", at("a_0001.nii")}, "a_0001.nii would be overwritten by --probabilities"},
		{one, []string{"--probabilities", at("early.nii")}, "new.nii would be overwritten by --probabilities"},
		{one, []string{"--probabilities", at("previous/a.nii")}, "previous/a.nii would be overwritten by --probabilities"},
		{one, []string{"--probabilities", at("p.nii"), "--stats", at("in/../p.nii")}, "p.nii would be overwritten by --stats"},
		{one, []string{"--report", at("soft.html")}, "a_0001.nii would be overwritten by the report"},
		{one, []string{"--report", at("p.html"), "--stats", at("in/../p.html")}, "p.html would be overwritten by --stats"},
		{many, []string{"--report", at("reports.html")}, "name a folder for a report of every case"},
		{many, []string{"--stats", at("in/b_0001.nii")}, "b_0001.nii would be overwritten by --stats"},
		{many, []string{"--stats", at("previous/c.nii")}, "previous/c.nii would be overwritten by --stats"},
		{many, []string{"--stats", at("new/b.nii")}, "new/b.nii would be overwritten by --stats"},
		{many, []string{"--stats", at("model/plans.json")}, "model/plans.json would be overwritten by --stats"},
		{many, []string{"--stats", at("model/link.json")}, "model/link.json would be overwritten by --stats"},
		{[]string{"-m", at("model"), at("in"), at("in"), "--previous", at("previous")}, nil, "in/c.nii would be overwritten by the labels"},
		{[]string{"-m", at("model"), at("in"), at("previous"), "--previous", at("previous")}, nil, "previous/b.nii would be overwritten by the labels"},
		{[]string{"-m", at("model"), at("in"), at("out"), "--previous", at("previous")}, nil, "labels of another case"},
		{[]string{"-m", at("model"), at("a_0000.nii"), at("a_0001.nii")}, nil, "a_0001.nii would be overwritten by the labels"},
	} {
		_, stderr := flare(t, 2, append(append([]string{"segment"}, test.usual...), test.args...)...)
		if !strings.Contains(stderr, test.says) {
			t.Errorf("%v: %q does not say %q", test.args, stderr, test.says)
		}
	}
	for _, name := range []string{"a_0000.nii", "a_0001.nii", "in/b_0001.nii", "previous/a.nii", "model.onnx", "model/plans.json"} {
		if text, err := os.ReadFile(at(name)); err != nil || string(text) != name {
			t.Errorf("%s holds %q, %v", name, text, err)
		}
	}
}

// The bundles of a list are not overwritten either; that is known when it is opened.
func TestStatsSpareListedModels(t *testing.T) {
	text, err := os.ReadFile(model(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, in := t.TempDir(), filepath.Join(phantoms(t, "1"), "phantom_0000_0000.nii.gz")
	bundle := file(t, filepath.Join(dir, "bundle.onnx"), text)
	list := file(t, filepath.Join(dir, "list.json"), []byte(`{"flare_list": 1, "combine": "parts", "models": [{"path": "bundle.onnx"}]}`))
	_, stderr := flare(t, 2, "segment", "-m", list, "--stats", bundle, in, filepath.Join(dir, "out.nii"))
	if !strings.Contains(stderr, "bundle.onnx would be overwritten by --stats") {
		t.Error(stderr)
	}
}

// A full disk behind standard output is a failure to write.
func TestStandardOutputFails(t *testing.T) {
	m := model(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"devices"}, {"info", m}, {"info", "--json", m}} {
		c := program(args...)
		var stderr bytes.Buffer
		c.Stdout, c.Stderr = full, &stderr
		if c.Run(); c.ProcessState.ExitCode() != 5 || !strings.Contains(stderr.String(), "standard output: ") {
			t.Errorf("%v: exit code %d, want 5; %s", args, c.ProcessState.ExitCode(), stderr.String())
		}
	}
}

// A case of more channels than the model takes is refused.
func TestTooManyChannels(t *testing.T) {
	m, images, out := model(t), phantoms(t, "1"), t.TempDir()
	first := filepath.Join(images, "phantom_0000_0000.nii.gz")
	text, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Join(images, "phantom_0000_0001.nii.gz"), text)
	for _, in := range []string{first, images} {
		_, stderr := flare(t, 8, "segment", "-m", m, in, out)
		if !strings.Contains(stderr, "2 channels, the model expects 1") {
			t.Error(stderr)
		}
	}
	if left := names(t, out); len(left) != 0 {
		t.Errorf("wrote %v", left)
	}
}

// Further channels without the first are no images of their own; a file that is alone with
// its number is.
func TestFirstChannelIsMissing(t *testing.T) {
	m, images, out := model(t), phantoms(t, "1"), t.TempDir()
	scan := filepath.Join(images, "scan_0001.nii.gz")
	if err := os.Rename(filepath.Join(images, "phantom_0000_0000.nii.gz"), scan); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"scan_0002.nii", "other_0001.nii.gz", "scan_00002.nii.gz"} { // neither is of that case
		file(t, filepath.Join(images, name), []byte("no image"))
	}
	_, stderr := flare(t, 6, "segment", "-m", m, images, t.TempDir())
	if !strings.Contains(stderr, "1 of 4 cases") {
		t.Error(stderr)
	}
	file(t, filepath.Join(images, "scan_0003.nii.gz"), nil)
	_, stderr = flare(t, 4, "segment", "-m", m, images, out)
	if !strings.Contains(stderr, filepath.Join(images, "scan_0000.nii.gz")+" is missing") || !strings.Contains(stderr, "scan_0001.nii.gz and scan_0003.nii.gz are") {
		t.Error(stderr)
	}
	if left := names(t, out); len(left) != 0 {
		t.Errorf("wrote %v", left)
	}
}

// A link in the place of the labels stays; what it names is written.
func TestOutputLink(t *testing.T) {
	m, dir := model(t), t.TempDir()
	in := filepath.Join(phantoms(t, "1"), "phantom_0000_0000.nii.gz")
	target, link := filepath.Join(dir, "target.nii.gz"), filepath.Join(dir, "link.nii.gz")
	if err := os.Symlink("target.nii.gz", link); err != nil {
		t.Fatal(err)
	}
	flare(t, 0, "segment", "-m", m, in, link)
	if to, err := os.Readlink(link); err != nil || to != "target.nii.gz" {
		t.Errorf("the link is %q, %v", to, err)
	}
	if info, err := os.Lstat(target); err != nil || !info.Mode().IsRegular() {
		t.Error("the link's target was not written", err)
	}
}
