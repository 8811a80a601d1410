// Package matrix is the proof that nnU-Net's models give nnU-Net's labels here: one
// row per interesting combination of plans, networks, checkpoints, inputs,
// resampling and labels (cases.py). make_matrix.py made the folders and ran nnU-Net on them.
//
//	go test -v ./segment/matrix                     # the table
//	go test -v ./segment/matrix -run Matrix/2d      # some rows
package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/volume"
)

// What agreement means.
const (
	mostImage         = 1e-5  // error of the image on the network's grid, of its range
	mostLogits        = 1e-3  // error of the logits, of their range
	mostProbabilities = 1e-3  // error of a probability
	leastLabels       = 99.98 // percent of the voxels that either calls foreground
)

// Row is one line of rows.json. Paths start in testdata. What a row does not say is
// the library's default: final checkpoints, all folds, no mirroring.
type Row struct {
	Name, Subject string
	Model         string   // results folder; with ONNX only its plans.json and dataset.json
	ONNX          string   // a network exported by others
	Inputs        []string // a file per channel (the library finds the others by the first), or one with all of them
	Golden        string   // folder of what nnU-Net made of it
	Configuration string   // of the plans, with ONNX

	Mirror        bool
	Folds         string // such as "0,2"
	Checkpoint    string
	Previous      string   // cascade: label file of the previous stage
	Combine       string   // several models, as a list combines them: parts, ensemble, cascade
	Models        []Part   // the list
	First         string   // cascade of a list: what nnU-Net's first stage gave, for the stages
	Postprocess   bool     // apply the folder's postprocessing.pkl
	Components    []any    `json:"postprocessed"` // what it says: labels and regions that keep their largest component
	Probabilities bool     // compare them, too
	Image, Logits Sample   // on the network's grid; of Model where there are several
	Tiles         [3][]int // positions of tiles along each axis of the padded grid
	ProbSample    Sample   `json:"probabilities_sample"` // on the image's grid
	Foreground    int      // voxels of the golden
	Smooth        float64  // part of neighbouring voxels with equal labels
	Shipped       float64  `json:"shipped_percent"` // agreement of nnU-Net's half precision with float32
}

// Part is one model of a list; Labels maps names of its labels to their final numbers.
type Part struct {
	Path   string         `json:"path"`
	Labels map[string]int `json:"labels,omitempty"`
}

// Sample says which values of an array a golden holds: of the flattened array every
// Step-th, from 0 on.
type Sample struct {
	Shape    []int
	Step     int
	Min, Max float64 // of the whole array
}

func rows(t *testing.T) []Row {
	t.Helper()
	data, err := os.ReadFile("rows.json")
	require.NoError(t, err)
	var list []Row
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&list))
	require.GreaterOrEqual(t, len(list), 40)
	return list
}

func testdata(path string) string { return filepath.Join("testdata", filepath.FromSlash(path)) }

func TestMatrix(t *testing.T) {
	runtime := testenv.Runtime(t)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "row\tsubject\timage\ttiles\tlogits\tfolder %\tbundle %\thalf precision %\t")
	passed, list := 0, rows(t)
	for _, row := range list {
		r := &result{row: row, runtime: runtime}
		ok := t.Run(row.Name, func(t *testing.T) { r.started = true; r.run(t) })
		if !r.started { // left out by -run
			continue
		}
		note := "FAILS"
		if ok {
			passed++
			note = ""
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%s\n", row.Name, row.Subject, r.image, r.tiles, r.logits, r.folder, r.bundle, row.Shipped, note)
	}
	w.Flush()
	t.Logf("%d of %d rows of the matrix agree with nnU-Net; errors are the largest, as part of the range\n%s", passed, len(list), table.String())
}

// result is what came of a row, for the table.
type result struct {
	row                                  Row
	runtime                              string
	started                              bool
	image, tiles, logits, folder, bundle string
}

func (r *result) run(t *testing.T) {
	row := r.row
	bundle := r.convert(t, row.Model)
	r.stages(t, bundle)
	folder, open := testdata(row.Model), segment.OpenOptions{Folds: row.Folds, Checkpoint: row.Checkpoint}
	if row.Combine != "" {
		folder = r.list(t, func(model string) string { return testdata(model) })
		bundle = r.list(t, func(model string) string { return r.convert(t, model) })
	}
	if r.folder = "-"; row.ONNX == "" {
		r.folder = r.labels(t, folder, open)
	}
	r.bundle = r.labels(t, bundle, segment.OpenOptions{})
}

// convert makes a bundle of a model.
func (r *result) convert(t *testing.T, model string) string {
	row := r.row
	bundle := filepath.Join(t.TempDir(), filepath.Base(model)+".onnx")
	options := segment.ConvertOptions{Folder: testdata(model), Folds: row.Folds, Checkpoint: row.Checkpoint}
	if row.ONNX != "" {
		options = segment.ConvertOptions{ONNX: testdata(row.ONNX), Plans: testdata(model + "/plans.json"),
			Dataset: testdata(model + "/dataset.json"), Configuration: row.Configuration}
	}
	require.NoError(t, segment.Convert(context.Background(), bundle, options), "stage: convert")
	return bundle
}

// list writes the row's list of models, which path finds.
func (r *result) list(t *testing.T, path func(model string) string) string {
	models := slices.Clone(r.row.Models)
	for i := range models {
		var err error
		models[i].Path, err = filepath.Abs(path(models[i].Path))
		require.NoError(t, err)
	}
	text, err := json.Marshal(map[string]any{"flare_list": 1, "combine": r.row.Combine, "models": models})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "list.json")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}

// stages compares what goes in and out of the network.
func (r *result) stages(t *testing.T, bundle string) {
	row := r.row
	previous := row.Previous
	if row.Combine == "cascade" {
		previous = row.First
	}
	if previous != "" {
		previous = testdata(previous)
	}
	s := stagesOf(t, bundle, testdata(row.Inputs[0]), previous, row.Mirror, r.runtime)
	defer s.free()

	worst := compare(t, "image", s.image, s.shape, row.Image, testdata(row.Golden+"/image.npy"), mostImage)
	r.image = fmt.Sprintf("%.1e", worst)
	n := 1
	for axis, want := range row.Tiles {
		assert.Equal(t, want, s.tiles[axis], "stage: tiles along axis %d", axis)
		n *= len(want)
	}
	r.tiles = fmt.Sprint(n)
	assert.Equal(t, n, s.count, "stage: tiles")
	shape := append([]int{len(s.logits) / (s.shape[1] * s.shape[2] * s.shape[3])}, s.shape[1:]...)
	worst = compare(t, "logits", s.logits, shape, row.Logits, testdata(row.Golden+"/logits.npy"), mostLogits)
	r.logits = fmt.Sprintf("%.1e", worst)
}

// compare returns the largest error of an array against its golden sample, as part
// of the range.
func compare(t *testing.T, stage string, got []float32, shape []int, s Sample, golden string, most float64) float64 {
	t.Helper()
	want, _, err := npy.Read(golden)
	require.NoError(t, err)
	require.Equal(t, s.Shape, shape, "stage: %s", stage)
	require.Equal(t, (len(got)+s.Step-1)/s.Step, len(want), "%s is not a sample of %v", golden, s.Shape)
	worst, at := 0.0, 0
	for i, v := range want {
		if e := math.Abs(float64(got[i*s.Step] - v)); !(e <= worst) {
			worst, at = e, i*s.Step
		}
	}
	worst /= s.Max - s.Min
	assert.LessOrEqual(t, worst, most, "stage: %s, worst at element %d: %g, nnU-Net %g, range %g to %g", stage, at, got[at], want[at/s.Step], s.Min, s.Max)
	return worst
}

// labels segments a row's image with the model at path and compares the label map.
func (r *result) labels(t *testing.T, path string, open segment.OpenOptions) string {
	row := r.row
	open.Runtime, open.Threads = r.runtime, 2
	m, err := segment.Open(context.Background(), path, open)
	require.NoError(t, err, "stage: open")
	defer m.Close()
	out := filepath.Join(t.TempDir(), "labels.nii.gz")
	options := segment.Options{Mirror: row.Mirror, Postprocess: row.Postprocess}
	if row.Previous != "" {
		options.PreviousFile = testdata(row.Previous)
	}
	if row.Probabilities {
		options.ProbabilitiesFile = filepath.Join(t.TempDir(), "probabilities.nii")
	}
	_, err = m.SegmentFile(context.Background(), testdata(row.Inputs[0]), out, options)
	require.NoError(t, err, "stage: segment")

	if row.Probabilities {
		p := read(t, options.ProbabilitiesFile)
		require.Equal(t, volume.Float32, p.DType)
		compare(t, "probabilities", volume.As[float32](p.Volume), []int{p.Channels, p.Size[2], p.Size[1], p.Size[0]}, row.ProbSample,
			testdata(row.Golden+"/probabilities.npy"), mostProbabilities)
	}
	percent := agreement(t, read(t, out), read(t, testdata(row.Golden+"/labels.nii.gz")), row.Foreground)
	assert.GreaterOrEqual(t, percent, leastLabels, "stage: labels, from %s", filepath.Base(path))
	return fmt.Sprintf("%.3f", percent)
}

func read(t *testing.T, path string) *imageio.Image {
	t.Helper()
	im, err := imageio.Read(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(im.Free)
	return im
}

// agreement returns the percentage of equal labels among the voxels that either map
// calls foreground, and checks that the maps lie at the same place.
func agreement(t *testing.T, mine, golden *imageio.Image, foreground int) float64 {
	t.Helper()
	require.Equal(t, golden.Size, mine.Size)
	assert.InDeltaSlice(t, golden.Spacing[:], mine.Spacing[:], 1e-5)
	assert.InDeltaSlice(t, golden.Origin[:], mine.Origin[:], 1e-3)
	assert.InDeltaSlice(t, golden.Direction[:], mine.Direction[:], 1e-5)
	a, b := labelValues(t, mine), labelValues(t, golden)
	either, equal, its := 0, 0, 0
	for i := range a {
		if b[i] != 0 {
			its++
		}
		if a[i] != 0 || b[i] != 0 {
			either++
			if a[i] == b[i] {
				equal++
			}
		}
	}
	require.Equal(t, foreground, its, "the golden is the one of rows.json")
	return 100 * float64(equal) / float64(either)
}

func labelValues(t *testing.T, im *imageio.Image) []int {
	t.Helper()
	values := make([]int, im.Voxels())
	for i := range values {
		switch im.DType {
		case volume.Uint8:
			values[i] = int(im.Data[i])
		case volume.Uint16:
			values[i] = int(volume.As[uint16](im.Volume)[i])
		default:
			t.Fatalf("labels of type %s", im.DType)
		}
	}
	return values
}

func TestMain(m *testing.M) {
	code := m.Run()
	if live := cmem.Live(); code == 0 && live != 0 {
		os.Stderr.WriteString("tests left C memory allocated\n")
		code = 1
	}
	os.Exit(code)
}
