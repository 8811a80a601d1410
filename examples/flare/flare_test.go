package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/volume"
)

// The tests run the program as a shell would: the built one that $FLARE_CLI names,
// or else this test binary, which then behaves as the program.
func TestMain(m *testing.M) {
	if os.Getenv("FLARE_TEST_AS_PROGRAM") != "" {
		main()
	}
	os.Exit(m.Run())
}

func program(args ...string) *exec.Cmd {
	name := os.Getenv("FLARE_CLI")
	if name == "" {
		name, _ = os.Executable()
	}
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "FLARE_TEST_AS_PROGRAM=1")
	return c
}

// flare runs the program and checks its exit code, and that a failure is one
// message of the program, not a crash.
func flare(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	c := program(args...)
	c.Stdout, c.Stderr = &o, &e
	if err := c.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	if got := c.ProcessState.ExitCode(); got != code {
		t.Fatalf("flare %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, e.String())
	}
	if code != 0 && !strings.Contains(e.String(), "flare: ") || strings.Contains(e.String(), "goroutine ") {
		t.Errorf("flare %s: standard error is\n%s", strings.Join(args, " "), e.String())
	}
	return o.String(), e.String()
}

// model is the demo's network; tests that need it are skipped while it is absent.
func model(t *testing.T) string {
	t.Helper()
	path := os.Getenv("FLARE_TEST_MODEL")
	if path == "" {
		path = filepath.Join("..", "demo", "flare13_phantom.onnx")
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("FLARE_REQUIRE_DATA") == "1" {
			t.Fatal(err)
		}
		t.Skipf("no network to test with: %v (FLARE_TEST_MODEL names another)", err)
	}
	return path
}

// phantoms makes n small CTs once per test and returns the folder with the images.
func phantoms(t *testing.T, n string) string {
	t.Helper()
	dir := t.TempDir()
	flare(t, 0, "phantom", dir, "-n", n, "--seed", "5")
	return filepath.Join(dir, "imagesTr")
}

func file(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func read(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"segment"}, {"convert"}, {"info"}, {"devices"}, {"phantom"}, {"plan"}, {"evaluate"}, {"efficiency"}} {
		stdout, stderr := flare(t, 0, append(args, "--help")...)
		if !strings.HasPrefix(stdout, "Usage: flare") || stderr != "" {
			t.Errorf("%v --help: %q, %q", args, stdout, stderr)
		}
	}
	if stdout, _ := flare(t, 0, "--version"); !strings.HasPrefix(stdout, "flare 0.") {
		t.Errorf("--version: %q", stdout)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"cut"},
		{"segment"},
		{"segment", "in.nii", "out.nii"}, // no model
		{"segment", "-m", "model.onnx", "in.nii"},                 // no output
		{"segment", "-m", "model.onnx", "-d", "abacus", "i", "o"}, // no such device anywhere
		{"segment", "-m", "model.onnx", "--threads=x", "i", "o"},  // not a number
		{"segment", "-m", "model.onnx", "--threads=-1", "i", "o"}, // not a sensible one
		{"segment", "-m", "model.onnx", "--sharpen", "i", "o"},    // no such option
		{"convert", "out.onnx"},                                   // from what?
		{"convert", "--onnx", "net.onnx", "out.onnx"},             // no plans
		{"convert", "--onnx", "net.onnx", "folder", "out.onnx"},   // one or the other
		{"plan"},                          // what?
		{"plan", ""},                      // nothing
		{"plan", "dir", "--planner", "x"}, // no such planner
		{"plan", "dir", "--threads", "-1"},
		{"plan", "--fingerprint", "f.json", "out.json"},                                        // of which dataset?
		{"plan", "--fingerprint", "f.json", "--dataset-json", "d.json", "-o", "x", "out.json"}, // one place
		{"plan", "--fingerprint", "f.json", "--dataset-json", "d.json", "d.json"},              // not over it
		{"phantom"},                       // where?
		{"phantom", "dir", "-n", "0"},     // nothing to do
		{"phantom", "dir", "-n", "10001"}, // names have four digits
		{"phantom", "dir", "-n", "99999999999"},
		{"phantom", ""},                      // nowhere
		{"info", ""},                         // of nothing
		{"convert", "", "out.onnx"},          // from nothing
		{"phantom", "dir", "--size", "huge"}, // unknown
		{"phantom", "dir", "--seed", "-1"},   // unsigned
		{"info"},                             // of what?
		{"devices", "cuda"},                  // takes nothing
	} {
		flare(t, 2, args...)
	}
}

// What can be known before the model is opened is said before the model is opened.
func TestEarlyFailures(t *testing.T) {
	dir := t.TempDir()
	in := file(t, filepath.Join(dir, "ct.nii"), make([]byte, 352))
	file(t, filepath.Join(dir, "ct.txt"), nil)
	empty := filepath.Join(dir, "empty")
	twins := filepath.Join(dir, "twins")
	for _, d := range []string{empty, twins} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	protected := file(t, filepath.Join(dir, "protected.json"), []byte("x"))
	if err := os.Chmod(protected, 0o444); err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Join(twins, "a.nii"), nil)
	file(t, filepath.Join(twins, "a_0000.nii.gz"), nil)
	dicom := t.TempDir()
	file(t, filepath.Join(dicom, "1.dcm"), append(make([]byte, 128), "DICM"...))
	out := filepath.Join(dir, "labels.nii.gz")
	for _, test := range []struct {
		code int
		says string
		args []string
	}{
		{4, "absent.nii", []string{filepath.Join(dir, "absent.nii"), out}},
		{4, "holds no", []string{empty, dir}},
		{7, "GetGDCMSeriesFileNames('" + dicom + "')", []string{dicom, dir}},
		{7, "GetGDCMSeriesFileNames('" + dicom + "')", []string{filepath.Join(dicom, "1.dcm"), out}},
		{4, "absent does not exist", []string{in, filepath.Join(dir, "absent", "labels.nii.gz")}},
		{5, "not a directory", []string{in, filepath.Join(in, "labels.nii.gz")}}, // below a file
		{4, "absent does not exist", []string{in, out, "--stats", filepath.Join(dir, "absent", "stats.json")}},
		{5, "read-only", []string{in, out, "--stats", protected}},
		{5, "not a regular file", []string{in, out, "--stats", "/dev/null"}},
		{2, "IN is empty", []string{"", out}},
		{2, "OUT is empty", []string{in, ""}},
		{2, "--model is empty", []string{"-m", "", in, out}},
		{5, "is a folder", []string{in, out, "--stats", empty}},
		{5, "not a directory", []string{twins + "/.", filepath.Join(in, "labels")}},
		{7, "ct.txt", []string{filepath.Join(dir, "ct.txt"), out}},
		{7, "labels.png", []string{in, filepath.Join(dir, "labels.png")}},
		{2, "overwritten", []string{in, in}},
		{2, "overwritten", []string{in, dir}},
		{2, "same case", []string{twins, empty}},
		{2, "one image", []string{twins, empty, "--probabilities", "p.nii"}},
		{4, "absent.nii", []string{in, out, "--previous", filepath.Join(dir, "absent.nii")}},
		{4, "holds no ct with one of the endings .nii.gz", []string{in, out, "--previous", empty}},
		{2, "name a folder", []string{dir, empty, "--previous", in}},
		{7, "ct.txt", []string{in, out, "--previous", filepath.Join(dir, "ct.txt")}},
		{2, "overwritten", []string{in, filepath.Join(twins, "a.nii"), "--previous", filepath.Join(twins, "a.nii")}},
		{4, "absent.onnx", []string{in, out}}, // the model
	} {
		_, stderr := flare(t, test.code, append([]string{"segment", "-m", filepath.Join(dir, "absent.onnx")}, test.args...)...)
		if !strings.Contains(stderr, test.says) {
			t.Errorf("%v: %q does not say %q", test.args, stderr, test.says)
		}
	}
	if left := names(t, dir); !slices.Equal(left, []string{"ct.nii", "ct.txt", "empty", "protected.json", "twins"}) {
		t.Errorf("failures left files: %v", left)
	}
	flare(t, 4, "convert", filepath.Join(dir, "absent"), filepath.Join(dir, "out.onnx"))
	flare(t, 4, "info", filepath.Join(dir, "absent"))
	flare(t, 5, "phantom", filepath.Join(in, "below"), "-n", "1")
}

func TestDevices(t *testing.T) {
	if os.Getenv("FLARE_CLI") == "" && os.Getenv("FLARE_ONNXRUNTIME") == "" {
		t.Skip("no ONNX Runtime to test with; ./build.sh test has one")
	}
	stdout, _ := flare(t, 0, "devices")
	for _, want := range []string{"ONNX Runtime 1.", "ort", "cuda"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("devices: %q lacks %q", stdout, want)
		}
	}
}

// A program with no ONNX Runtime beside it says where it looked.
func TestNoRuntime(t *testing.T) {
	text, err := os.ReadFile(program().Path)
	if err != nil {
		t.Fatal(err)
	}
	alone := filepath.Join(t.TempDir(), "flare")
	if err := os.WriteFile(alone, text, 0o777); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(alone, "devices")
	c.Env = append(os.Environ(), "FLARE_TEST_AS_PROGRAM=1", "FLARE_ONNXRUNTIME=/nowhere/at/all")
	stderr, _ := c.CombinedOutput()
	if c.ProcessState.ExitCode() != 11 || !strings.Contains(string(stderr), "/nowhere/at/all") ||
		!strings.Contains(string(stderr), filepath.Dir(alone)) {
		t.Errorf("exit code %d, want 11; %s", c.ProcessState.ExitCode(), stderr)
	}
}

func TestPhantomsAreReproducible(t *testing.T) {
	a, b, c := t.TempDir(), t.TempDir(), t.TempDir()
	flare(t, 0, "phantom", a, "-n", "2", "--seed", "7")
	flare(t, 0, "phantom", b, "-n", "2", "--seed", "7", "--size", "small")
	flare(t, 0, "phantom", c, "-n", "1", "--seed", "8")
	want := map[string][]string{
		".":        {"dataset.json", "imagesTr", "labelsTr"},
		"imagesTr": {"phantom_0000_0000.nii.gz", "phantom_0001_0000.nii.gz"},
		"labelsTr": {"phantom_0000.nii.gz", "phantom_0001.nii.gz"},
	}
	for dir, files := range want {
		if got := names(t, filepath.Join(a, dir)); !slices.Equal(got, files) {
			t.Errorf("%s holds %v, want %v", dir, got, files)
		}
	}
	same := func(x, y, name string) bool {
		p, _ := os.ReadFile(filepath.Join(x, name))
		q, _ := os.ReadFile(filepath.Join(y, name))
		return len(p) > 0 && bytes.Equal(p, q)
	}
	for _, name := range []string{"imagesTr/phantom_0000_0000.nii.gz", "imagesTr/phantom_0001_0000.nii.gz", "labelsTr/phantom_0001.nii.gz", "dataset.json"} {
		if !same(a, b, name) {
			t.Errorf("seed 7 gave two different %s", name)
		}
	}
	if same(a, c, "imagesTr/phantom_0000_0000.nii.gz") {
		t.Error("seeds 7 and 8 gave the same image")
	}
	var dataset struct {
		Channels map[string]string `json:"channel_names"`
		Labels   map[string]int    `json:"labels"`
		Ending   string            `json:"file_ending"`
		Number   int               `json:"numTraining"`
	}
	read(t, filepath.Join(a, "dataset.json"), &dataset)
	if len(dataset.Labels) != 14 || dataset.Labels["background"] != 0 || dataset.Labels["liver"] != 1 ||
		dataset.Channels["0"] != "CT" || dataset.Ending != ".nii.gz" || dataset.Number != 2 {
		t.Errorf("dataset.json is %+v", dataset)
	}
}

func TestInfo(t *testing.T) {
	m := model(t)
	stdout, stderr := flare(t, 0, "info", m)
	if !strings.Contains(stdout, "13 left kidney") || stderr != "" {
		t.Errorf("info: %q, %q", stdout, stderr)
	}
	for _, want := range []string{"PlainConvUNet, 1,181,406 parameters", "CT (CASE_0000.nii.gz", "tiles of", "a clinical CT: 512 x 512 x 168 voxels", "GB"} {
		if filepath.Base(m) == "flare13_phantom.onnx" && !strings.Contains(stdout, want) {
			t.Errorf("info lacks %q: %s", want, stdout)
		}
	}
	stdout, _ = flare(t, 0, "info", m, "--json")
	var d struct {
		Labels []struct {
			Name  string
			Value int
		}
		Estimate struct {
			Size    [3]int
			Tiles   int
			Seconds float64
			Memory  int64 `json:"peak_memory_bytes"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &d); err != nil || len(d.Labels) != 14 {
		t.Errorf("info --json: %v\n%s", err, stdout)
	}
	if e := d.Estimate; e.Size[0] < 1 || e.Tiles < 1 || !(e.Seconds > 0) || e.Memory < 1e7 {
		t.Errorf("the estimate is %+v", e)
	}
}

// Of a list, the card of the whole and one of each model.
func TestInfoOfAList(t *testing.T) {
	m, err := filepath.Abs(model(t))
	if err != nil {
		t.Fatal(err)
	}
	list := file(t, filepath.Join(t.TempDir(), "two.json"),
		fmt.Appendf(nil, `{"flare_list": 1, "combine": "parts", "models": [{"path": %q}, {"path": %[1]q, "labels": {"liver": 1}}]}`, m))
	stdout, _ := flare(t, 0, "info", list)
	for _, want := range []string{"parts of 2 models", "model 1", "model 2", "tiles of"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("info lacks %q: %s", want, stdout)
		}
	}
}

// The second stage of a cascade that gives the labels of the first, and whose
// post-processing keeps the largest component of label 1 (capi/cascade_test.go).
func TestCascade(t *testing.T) {
	model(t) // only with a runtime
	m := filepath.Join("..", "..", "capi", "test", "cascade.onnx")
	g := volume.Geometry{Size: [3]int{20, 18, 16}, Spacing: [3]float64{1, 1, 2}, Direction: volume.Identity}
	image, err := volume.New(g, 1, volume.Int16)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Free()
	stage, err := volume.New(g, 1, volume.Uint8)
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Free()
	for i := range volume.As[int16](image) {
		volume.As[int16](image)[i] = 40
		stage.Data[i] = uint8(i / 5 % 3)
	}
	dir := t.TempDir()
	images, stages, out := filepath.Join(dir, "images"), filepath.Join(dir, "stages"), filepath.Join(dir, "labels")
	for _, d := range []string{images, stages} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for path, v := range map[string]*volume.Volume{images + "/a_0000.nii.gz": image, images + "/b.nii": image, stages + "/a.nii.gz": stage, stages + "/b.nii.gz": stage} {
		if err := imageio.Write(t.Context(), path, v); err != nil {
			t.Fatal(err)
		}
	}
	pieces := func(path string) (same bool, ones int) {
		v, err := imageio.Read(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Free()
		return bytes.Equal(v.Data, stage.Data), bytes.Count(v.Data, []byte{1})
	}
	flare(t, 0, "segment", "-m", m, "--previous", stages, images, out)
	for _, name := range []string{"a.nii.gz", "b.nii"} {
		if same, _ := pieces(filepath.Join(out, name)); !same {
			t.Errorf("%s: not the labels of the first stage", name)
		}
	}
	one := filepath.Join(dir, "one.nii.gz")
	flare(t, 0, "segment", "-m", m, "--previous", stages, images+"/a_0000.nii.gz", one)
	_, all := pieces(one)
	flare(t, 0, "segment", "-m", m, "--previous", stages+"/b.nii.gz", "--postprocess", images+"/a_0000.nii.gz", one)
	if _, kept := pieces(one); kept == 0 || kept >= all {
		t.Errorf("post-processing keeps %d of %d voxels", kept, all)
	}
	_, stderr := flare(t, 2, "segment", "-m", m, images+"/b.nii", one)
	if !strings.Contains(stderr, "second stage") {
		t.Errorf("without --previous: %s", stderr)
	}
	if stdout, _ := flare(t, 0, "info", m); !strings.Contains(stdout, "previous stage") {
		t.Errorf("info: %s", stdout)
	}
}

// statsKeys are the names that other programs rely on.
var statsKeys = []string{"body", "device", "mode", "notes", "organs", "peak_memory_bytes", "precision", "seconds", "threads", "tiles", "tiles_skipped"}
var secondsKeys = []string{"export", "network", "open", "preprocess", "read", "total", "write"}

func TestSegmentFile(t *testing.T) {
	m, images, dir := model(t), phantoms(t, "1"), t.TempDir()
	in := filepath.Join(images, "phantom_0000_0000.nii.gz")
	stdout, stderr := flare(t, 0, "segment", in, filepath.Join(dir, "labels.nii.gz"), "-m", m, "-d", "cpu", "--threads", "1",
		"--stats", filepath.Join(dir, "stats.json"), "--probabilities", filepath.Join(dir, "p.nii.gz"))
	if stdout != "" || !strings.Contains(stderr, "network") || strings.Contains(stderr, "\r") {
		t.Errorf("standard output %q, standard error %q", stdout, stderr)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"labels.nii.gz", "p.nii.gz", "stats.json"}) {
		t.Errorf("wrote %v", got)
	}
	var stats map[string]any
	read(t, filepath.Join(dir, "stats.json"), &stats)
	seconds, _ := stats["seconds"].(map[string]any)
	if got := slices.Sorted(maps.Keys(stats)); !slices.Equal(got, statsKeys) {
		t.Errorf("stats have %v", got)
	}
	if got := slices.Sorted(maps.Keys(seconds)); !slices.Equal(got, secondsKeys) {
		t.Errorf("seconds have %v", got)
	}
	sum := -seconds["total"].(float64) // counts from the start of the process, so it is more than all
	for _, s := range seconds {
		if s.(float64) < 0 {
			t.Errorf("negative seconds: %v", seconds)
		}
		sum += s.(float64)
	}
	if sum > seconds["total"].(float64) || stats["threads"] != 1.0 || !(stats["tiles"].(float64) >= 1) {
		t.Errorf("stats are %v", stats)
	}

	// Into a folder the name is the case's; mirroring and folds are accepted.
	out := t.TempDir()
	flare(t, 0, "segment", "-m", m, "--mirror", "--folds", "all", in, out)
	if got := names(t, out); !slices.Equal(got, []string{"phantom_0000.nii.gz"}) {
		t.Errorf("wrote %v", got)
	}
}

func TestSegmentFolder(t *testing.T) {
	m, images, out := model(t), phantoms(t, "2"), filepath.Join(t.TempDir(), "new", "labels")
	flare(t, 0, "segment", "-m", m, images, out)
	whole := []string{"phantom_0000.nii.gz", "phantom_0001.nii.gz"}
	if got := names(t, out); !slices.Equal(got, whole) {
		t.Errorf("wrote %v", got)
	}

	// A case that fails keeps neither the earlier nor the later ones from being done.
	file(t, filepath.Join(images, "phantom_0000b_0000.nii.gz"), []byte("no image"))
	again, stats := t.TempDir(), filepath.Join(t.TempDir(), "stats.json")
	_, stderr := flare(t, 6, "segment", "-m", m, "--stats", stats, images, again)
	if got := names(t, again); !slices.Equal(got, whole) || !strings.Contains(stderr, "2 of 3 cases") {
		t.Errorf("wrote %v, said %s", got, stderr)
	}
	var s struct {
		Cases  map[string]map[string]any
		Failed map[string]string
	}
	read(t, stats, &s)
	if len(s.Cases) != 2 || !slices.Equal(slices.Sorted(maps.Keys(s.Cases["phantom_0001"])), statsKeys) || s.Failed["phantom_0000b"] == "" {
		t.Errorf("stats are %+v", s)
	}
	for _, name := range whole {
		a, _ := os.ReadFile(filepath.Join(out, name))
		b, _ := os.ReadFile(filepath.Join(again, name))
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs between two runs", name)
		}
	}
}

func TestFailuresWithModel(t *testing.T) {
	m, dir := model(t), t.TempDir()
	good := filepath.Join(phantoms(t, "1"), "phantom_0000_0000.nii.gz")
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "labels.nii.gz")
	text := file(t, filepath.Join(dir, "text.nii"), []byte("This is not an image."))
	cut := file(t, filepath.Join(dir, "cut.nii.gz"), content[:len(content)/2])
	empty := file(t, filepath.Join(dir, "empty.nii.gz"), nil)
	notModel := file(t, filepath.Join(dir, "model.onnx"), []byte("This is not a network."))
	for _, test := range []struct {
		code int
		args []string
	}{
		{6, []string{"segment", "-m", m, text, out}},
		{6, []string{"segment", "-m", m, cut, out}},
		{6, []string{"segment", "-m", m, empty, out}},
		{6, []string{"segment", "-m", notModel, good, out}},
		{6, []string{"info", notModel}},
		{2, []string{"segment", "-m", m, "--previous", good, good, out}}, // no cascade
		{10, []string{"segment", "-m", m, "-d", "cuda", good, out}},
	} {
		if test.code == 10 && strings.Contains(devices(t), "cuda available") {
			continue
		}
		_, stderr := flare(t, test.code, test.args...)
		t.Log(strings.TrimSpace(stderr))
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a failure wrote labels")
	}
}

func devices(t *testing.T) string {
	stdout, _ := flare(t, 0, "devices")
	return strings.Join(strings.Fields(stdout), " ")
}

// Ctrl-C during the network ends the program soon, with its own exit code, and
// leaves nothing.
func TestCancel(t *testing.T) {
	m, images, out := model(t), phantoms(t, "2"), t.TempDir()
	c := program("segment", "-m", m, "--mirror", images, out)
	pipe, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	for lines.Scan() && !strings.HasSuffix(lines.Text(), ": network") {
	}
	asked := time.Now()
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		t.Log(lines.Text())
	}
	io.Copy(io.Discard, pipe)
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 12 {
		t.Errorf("exit code %d, want 12", code)
	}
	if took := time.Since(asked); took > 10*time.Second { // one tile, on a busy machine
		t.Errorf("took %v to stop", took)
	}
	if got := names(t, out); len(got) != 0 { // the second case is not begun
		t.Errorf("left %v", got)
	}
}
