package segment

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/volume"
)

// writeList writes a list file and returns its path.
func writeList(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list.json")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	a, err := filepath.Abs(path)
	require.NoError(t, err)
	return a
}

func TestParts(t *testing.T) {
	path := writeList(t, `{"flare_list": 1, "combine": "parts", "models": [
		{"path": "`+absolute(t, tiny)+`", "labels": {"organ2": 300, "organ1": 7}},
		{"path": "`+absolute(t, "onnx/testdata/residual3d")+`", "labels": {"organ1": 9}}]}`)
	before := cmem.Live()
	m := open(t, path, OpenOptions{})
	assert.Equal(t, before, cmem.Live(), "the networks wait until they are needed")
	d := m.Describe()
	assert.Equal(t, []Label{{"background", 0}, {"organ1", 7}, {"organ1", 9}, {"organ2", 300}}, d.Labels)
	assert.Len(t, d.Models, 2)

	image := noiseImage(t, geometry(30, 22, 18), 1)
	first := bytes.Clone(labelsOf(t, open(t, tiny, OpenOptions{}), image, Options{}))
	second := bytes.Clone(labelsOf(t, open(t, "onnx/testdata/residual3d", OpenOptions{}), image, Options{}))
	labels, err := volume.New(image.Geometry, 1, volume.Uint16)
	require.NoError(t, err)
	defer labels.Free()
	fractions := []float64{}
	stats, err := m.Segment(context.Background(), image, labels, Options{Progress: func(_ string, f float64) { fractions = append(fractions, f) }})
	require.NoError(t, err)
	assert.IsNonDecreasing(t, fractions)
	assert.Equal(t, "openvino", stats.Device)
	for i, v := range volume.As[uint16](labels) {
		want := map[byte]uint16{0: 0, 1: 7, 2: 300}[first[i]]
		if second[i] == 1 { // organ2 of the second is not asked for
			want = 9
		}
		require.Equal(t, want, v, "voxel %d", i)
	}
	_, err = m.Segment(context.Background(), image, newLabels(t, image.Geometry), Options{})
	assert.ErrorContains(t, err, "uint16 for labels above 255")
	_, err = m.Segment(context.Background(), image, labels, Options{Probabilities: make([]float32, 10)})
	assert.Equal(t, ErrUnsupported, KindOf(err))
}

// The average of two models' probabilities decides.
func TestEnsemble(t *testing.T) {
	other := "onnx/testdata/residual3d"
	path := writeList(t, `{"flare_list": 1, "combine": "ensemble", "models": [{"path": "`+absolute(t, tiny)+`"}, {"path": "`+absolute(t, other)+`"}]}`)
	image := noiseImage(t, geometry(30, 22, 18), 1)
	n := image.Voxels()
	sum := make([]float32, 3*n)
	for _, folder := range []string{tiny, other} {
		own := make([]float32, 3*n)
		labelsOf(t, open(t, folder, OpenOptions{}), image, Options{Probabilities: own})
		for i, v := range own {
			sum[i] += v / 2
		}
	}
	m := open(t, path, OpenOptions{})
	got := make([]float32, 3*n)
	labels := labelsOf(t, m, image, Options{Probabilities: got})
	for i := range sum {
		require.InDelta(t, sum[i], got[i], 1e-6)
	}
	for i, l := range labels {
		require.GreaterOrEqual(t, got[int(l)*n+i], max(got[i], got[n+i], got[2*n+i]))
	}
	assert.Equal(t, bytes.Clone(labels), labelsOf(t, m, image, Options{}), "with and without asking for probabilities")
}

// A folder turned into a cascade's second stage: its plans name a previous stage, and
// its first convolution takes the labels as well.
func TestCascadeNeedsItsFirstStage(t *testing.T) {
	ctx := context.Background()
	image := noiseImage(t, geometry(12, 12, 12), 1)
	labels := newLabels(t, image.Geometry)
	m := open(t, tiny, OpenOptions{})
	_, err := m.Segment(ctx, image, labels, Options{Previous: labels})
	assert.Equal(t, ErrArgument, KindOf(err))
	assert.ErrorContains(t, err, "takes no labels of a previous stage")
	second := copyFolder(t, tiny, "plans.json", `"batch_dice":false`, `"batch_dice":false,"previous_stage":"low"`)
	_, err = Open(ctx, second, OpenOptions{})
	assert.Equal(t, ErrModel, KindOf(err), "one channel short of the labels")
	assert.ErrorContains(t, err, "encoder.stages.0.0.convs.0.conv.weight")
}

func TestBadLists(t *testing.T) {
	a, b := absolute(t, tiny), absolute(t, pair)
	for text, want := range map[string]string{
		`[]`:             "not a list of models",
		`{"models": []}`: "not a list of models",
		`{"flare_list": 1, "combine": "parts", "models": []}`:                                                                 "0 models",
		`{"flare_list": 1, "combine": "parts", "x": 1, "models": []}`:                                                         "unknown field",
		`{"flare_list": 1, "combine": "sum", "models": [{"path": "` + a + `"}]}`:                                              `combine is "sum"`,
		`{"flare_list": 1, "combine": "parts", "models": [{"path": "gone.onnx"}]}`:                                            "gone.onnx",
		`{"flare_list": 1, "combine": "parts", "models": [{"path": "` + a + `", "labels": {"heart": 1}}]}`:                    `has no label "heart"`,
		`{"flare_list": 1, "combine": "parts", "models": [{"path": "` + a + `", "labels": {"organ1": 1, "organ2": 1}}]}`:      "both have number 1",
		`{"flare_list": 1, "combine": "parts", "models": [{"path": "` + a + `", "labels": {"organ1": 70000}}]}`:               "70000",
		`{"flare_list": 1, "combine": "ensemble", "models": [{"path": "` + a + `"}, {"path": "` + absolute(t, folds) + `"}]}`: "different labels",
		`{"flare_list": 1, "combine": "ensemble", "models": [{"path": "` + a + `"}, {"path": "` + b + `"}]}`:                  "one image must fit all models",
		`{"flare_list": 1, "combine": "cascade", "models": [{"path": "` + a + `"}]}`:                                          "1 models",
		`{"flare_list": 1, "combine": "cascade", "models": [{"path": "` + a + `"}, {"path": "` + absolute(t, tiny) + `"}]}`:   `follows stage ""`,
	} {
		path := writeList(t, text)
		_, err := Open(context.Background(), path, OpenOptions{})
		assert.ErrorContains(t, err, want, text)
		assert.ErrorContains(t, err, path)
	}
}

// secondStage is a cascade's second stage that returns the labels of the first.
func secondStage(t *testing.T) string {
	t.Helper()
	return absolute(t, "../capi/test/cascade.onnx")
}

// A second stage anywhere but behind its first needs the labels of the first.
func TestSecondStageInAList(t *testing.T) {
	d := open(t, secondStage(t), OpenOptions{}).Describe()
	require.NotEmpty(t, d.PreviousStage)
	image := noiseImage(t, geometry(12, 12, 12), len(d.Channels))
	labels, previous := newLabels(t, image.Geometry), newLabels(t, image.Geometry)
	clear(previous.Data)
	for _, combine := range []string{"parts", "ensemble"} {
		path := writeList(t, `{"flare_list": 1, "combine": "`+combine+`", "models": [{"path": "`+secondStage(t)+`"}, {"path": "`+secondStage(t)+`"}]}`)
		m := open(t, path, OpenOptions{})
		_, err := m.Segment(context.Background(), image, labels, Options{})
		assert.Equal(t, ErrArgument, KindOf(err), combine)
		assert.ErrorContains(t, err, "needs the labels of stage")
		_, err = m.Segment(context.Background(), image, labels, Options{Previous: previous})
		assert.NoError(t, err, combine)
	}
}

// A model that was exchanged after its list was checked is refused, not misread.
func TestListOfAModelThatChanged(t *testing.T) {
	dir := t.TempDir()
	bundle := filepath.Join(dir, "model.onnx")
	require.NoError(t, Convert(context.Background(), bundle, ConvertOptions{Folder: tiny}))
	m := open(t, writeList(t, `{"flare_list": 1, "combine": "parts", "models": [{"path": "`+bundle+`"}]}`), OpenOptions{})
	image := noiseImage(t, geometry(12, 12, 12), 1)
	labelsOf(t, m, image, Options{})
	require.NoError(t, Convert(context.Background(), bundle, ConvertOptions{Folder: folds}))
	_, err := m.Segment(context.Background(), image, newLabels(t, image.Geometry), Options{})
	assert.Equal(t, ErrModel, KindOf(err))
	assert.ErrorContains(t, err, "has changed since")
}

// Volumes that a caller filled in wrongly, and buffers that overlap.
func TestUnsoundVolumes(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	image := noiseImage(t, geometry(12, 12, 12), 1)
	labels := newLabels(t, image.Geometry)
	short := &volume.Volume{Geometry: image.Geometry, Channels: 1, DType: volume.Int16, Data: image.Data[:100]}
	for name, c := range map[string][2]*volume.Volume{
		"short image": {short, labels}, "no image": {nil, labels}, "no labels": {image, nil},
		"short labels": {image, {Geometry: image.Geometry, Channels: 1, DType: volume.Uint8, Data: labels.Data[:9]}},
		"overlap":      {image, {Geometry: image.Geometry, Channels: 1, DType: volume.Uint16, Data: image.Data}},
	} {
		_, err := m.Segment(context.Background(), c[0], c[1], Options{})
		assert.Equal(t, ErrArgument, KindOf(err), name)
	}
	m.Close()
	assert.NotPanics(t, func() { m.Describe(); m.TypicalImage() })
	_, err := m.Segment(context.Background(), image, labels, Options{})
	assert.Equal(t, ErrHandle, KindOf(err))
}

// A tiny file whose spacing asks for an absurd grid, and plans and dataset that count
// channels differently.
func TestNumbersThatDoNotFit(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	g := geometry(8, 8, 8)
	g.Spacing = [3]float64{100000, 100000, 100000}
	_, err := m.Segment(context.Background(), noiseImage(t, g, 1), newLabels(t, g), Options{})
	assert.Equal(t, ErrMemory, KindOf(err))
	assert.ErrorContains(t, err, "more than 2^40")
	_, err = Open(context.Background(), copyFolder(t, pair, "plans.json", `"normalization_schemes":["ZScoreNormalization","ZScoreNormalization"]`, `"normalization_schemes":["ZScoreNormalization"]`), OpenOptions{})
	assert.Error(t, err)
}
