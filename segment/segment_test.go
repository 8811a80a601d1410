package segment

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/volume"
)

// Small networks with random weights, as nnU-Net stores them.
const (
	tiny  = "onnx/testdata/plain3d"         // 1 channel, 3 labels, patch 8 x 16 x 16, 1 mm
	folds = "onnx/testdata/old_plans_folds" // three folds, plans of the old kind
	flat  = "onnx/testdata/plain2d_nonorm"  // two-dimensional
	pair  = "onnx/testdata/plain2d_batchnorm_relu"
)

func geometry(x, y, z int) volume.Geometry {
	return volume.Geometry{Size: [3]int{x, y, z}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
}

// noiseImage is an image of random voxels; the same for the same size.
func noiseImage(t testing.TB, g volume.Geometry, channels int) *volume.Volume {
	t.Helper()
	v, err := volume.New(g, channels, volume.Int16)
	require.NoError(t, err)
	t.Cleanup(v.Free)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range volume.As[int16](v) {
		volume.As[int16](v)[i] = int16(r.NormFloat64()*100) | 1
	}
	return v
}

func newLabels(t testing.TB, g volume.Geometry) *volume.Volume {
	t.Helper()
	v, err := volume.New(g, 1, volume.Uint8)
	require.NoError(t, err)
	t.Cleanup(v.Free)
	return v
}

func labelsOf(t testing.TB, m *Model, image *volume.Volume, o Options) []byte {
	t.Helper()
	labels := newLabels(t, image.Geometry)
	_, err := m.Segment(context.Background(), image, labels, o)
	require.NoError(t, err)
	return labels.Data
}

func TestFoldsOfFolderAndBundle(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), "folds.onnx")
	require.NoError(t, Convert(context.Background(), bundle, ConvertOptions{Folder: folds}))
	data, err := os.ReadFile(bundle)
	require.NoError(t, err)
	model, err := onnx.Parse(data)
	require.NoError(t, err)
	assert.Equal(t, []string{"0", "1", "2"}, model.Folds())

	image := noiseImage(t, geometry(20, 30, 25), 1)
	maps := map[string][]byte{}
	for _, path := range []string{folds, bundle} {
		for _, list := range []string{"", "all", "0", "2,1"} {
			m := open(t, path, OpenOptions{Folds: list})
			got := labelsOf(t, m, image, Options{})
			if want, ok := maps[strings.TrimSuffix(list, "all")]; ok {
				assert.Equal(t, want, got, "%s folds %q", path, list)
			}
			maps[strings.TrimSuffix(list, "all")] = got
		}
	}
	assert.NotEqual(t, maps[""], maps["0"], "folds differ")
	for path, list := range map[string]string{folds: "7", bundle: "0,0"} {
		_, err := Open(context.Background(), path, OpenOptions{Folds: list})
		assert.Error(t, err)
	}
}

// Both devices, any number of threads, 2-D and 3-D networks.
func TestDevicesAgree(t *testing.T) {
	for _, c := range []struct {
		folder   string
		channels int
	}{{tiny, 1}, {flat, 1}, {pair, 2}, {"onnx/testdata/residual3d", 1}, {"onnx/testdata/residual2d_bottleneck_batchnorm", 3}} {
		image := noiseImage(t, geometry(40, 37, 11), c.channels)
		var first []byte
		for _, o := range []OpenOptions{{Device: "openvino", Threads: 2}, {Device: "ort", Threads: 1}, {Device: "AUTO", Threads: 10000}, {}} {
			m := open(t, c.folder, o)
			got := labelsOf(t, m, image, Options{})
			if first == nil {
				first = bytes.Clone(got)
				assert.Greater(t, len(count(got)), 1, "%s: more than one label", c.folder)
			}
			percent, _ := agreement(t, first, got)
			assert.Greater(t, percent, 99.9, "%s on %v", c.folder, o)
		}
	}
}

func count(labels []byte) map[byte]int {
	n := map[byte]int{}
	for _, l := range labels {
		n[l]++
	}
	return n
}

func TestShapesOfImages(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	for _, g := range []volume.Geometry{geometry(1, 1, 1), geometry(30, 20, 1), geometry(1, 20, 30), geometry(3, 3, 3), geometry(50, 10, 9)} {
		labelsOf(t, m, noiseImage(t, g, 1), Options{Mirror: true})
	}
	g := geometry(10, 10, 10)
	zero, err := volume.New(g, 1, volume.Float64)
	require.NoError(t, err)
	defer zero.Free()
	clear(zero.Data)
	labelsOf(t, m, zero, Options{})
}

// Outside the crop all is background, in the labels and in the probabilities.
func TestCropIsUndone(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	g := geometry(24, 20, 18)
	image := noiseImage(t, g, 1)
	inside := func(x, y, z int) bool { return x >= 5 && x < 20 && y >= 3 && y < 15 && z >= 4 }
	voxels := volume.As[int16](image)
	for i := range voxels {
		if !inside(i%24, i/24%20, i/480) {
			voxels[i] = 0
		}
	}
	probabilities := make([]float32, 3*len(voxels))
	labels := newLabels(t, g)
	for i := range labels.Data {
		labels.Data[i] = 77 // what was there before must not stay
	}
	_, err := m.Segment(context.Background(), image, labels, Options{Probabilities: probabilities})
	require.NoError(t, err)
	n := len(voxels)
	for i, l := range labels.Data {
		p := []float32{probabilities[i], probabilities[n+i], probabilities[2*n+i]}
		if !inside(i%24, i/24%20, i/480) {
			require.Zero(t, l)
			require.Equal(t, []float32{1, 0, 0}, p)
			continue
		}
		require.InDelta(t, 1, p[0]+p[1]+p[2], 1e-5)
		require.GreaterOrEqual(t, p[l]+1e-6, max(p[0], p[1], p[2]), "the label has the highest probability")
	}
}

func TestFilesInAndOut(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	dir := t.TempDir()
	g := geometry(21, 22, 23)
	g.Origin = [3]float64{-5, 7, 9}
	image := noiseImage(t, g, 1)
	in, out, soft := filepath.Join(dir, "in.nii.gz"), filepath.Join(dir, "out.nii.gz"), filepath.Join(dir, "soft.nii.gz")
	require.NoError(t, imageio.Write(t.Context(), in, image))
	var phases []string
	stats, err := m.SegmentFile(context.Background(), in, out, Options{ProbabilitiesFile: soft, Progress: func(phase string, fraction float64) {
		phases = append(phases, phase)
		assert.True(t, fraction >= 0 && fraction <= 1)
	}})
	require.NoError(t, err)
	assert.NotEmpty(t, phases)
	assert.Positive(t, stats.Seconds.Read)
	assert.Positive(t, stats.Seconds.Open)
	assert.Greater(t, stats.Seconds.Total, stats.Seconds.Network)
	assert.Greater(t, stats.PeakMemory, int64(10<<20))
	assert.Equal(t, "fp32", stats.Precision)
	written := readLabels(t, out)
	assert.Equal(t, labelsOf(t, m, image, Options{}), written.Data)
	p, err := imageio.Read(t.Context(), soft)
	require.NoError(t, err)
	defer p.Free()
	assert.Equal(t, 3, p.Channels)
	assert.Equal(t, g.Origin, p.Origin)
}

// The same image in every format gets the same labels, in every format; those of a
// segmentation have names.
func TestFormatsInAndOut(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	g := geometry(21, 22, 23)
	g.Origin, g.Direction = [3]float64{-5, 7, 9}, [9]float64{0, -1, 0, 1, 0, 0, 0, 0, -1}
	image := noiseImage(t, g, 1)
	want := labelsOf(t, m, image, Options{})
	for i, ending := range imageio.Endings {
		dir := t.TempDir()
		in, out := filepath.Join(dir, "in"+ending), filepath.Join(dir, "out"+imageio.Endings[(i+3)%len(imageio.Endings)])
		require.NoError(t, imageio.Write(t.Context(), in, image))
		for _, out := range []string{out, filepath.Join(dir, "labels"+ending)} {
			_, err := m.SegmentFile(t.Context(), in, out, Options{})
			require.NoError(t, err, out)
			written := readLabels(t, out)
			assert.Equal(t, want, written.Data, out)
			assert.InDeltaSlice(t, g.Origin[:], written.Origin[:], 1e-5)
			assert.InDeltaSlice(t, g.Direction[:], written.Direction[:], 1e-6)
			if strings.HasSuffix(out, ".seg.nrrd") {
				content, err := os.ReadFile(out)
				require.NoError(t, err)
				for i, l := range m.labels()[1:] {
					assert.Contains(t, string(content), fmt.Sprintf("\nSegment%d_Name:=%s\n", i, l.Name))
				}
			}
		}
	}
}

// Channels in files of their own, _0000 and _0001, are the same as in one 4-D file.
func TestChannelsInSeveralFiles(t *testing.T) {
	m := open(t, pair, OpenOptions{})
	dir, g := t.TempDir(), geometry(20, 21, 5)
	both := noiseImage(t, g, 2)
	require.NoError(t, imageio.Write(t.Context(), filepath.Join(dir, "both.nii.gz"), both))
	n := len(both.Data) / 2
	for i, name := range []string{"case_0000.nii.gz", "case_0001.nii.gz"} {
		one, err := volume.Wrap(g, 1, both.DType, both.Data[i*n:(i+1)*n])
		require.NoError(t, err)
		require.NoError(t, imageio.Write(t.Context(), filepath.Join(dir, name), one))
	}
	want := bytes.Clone(labelsOf(t, m, both, Options{}))
	for _, in := range []string{"both.nii.gz", "case_0000.nii.gz"} {
		out := filepath.Join(dir, "out_"+in)
		_, err := m.SegmentFile(context.Background(), filepath.Join(dir, in), out, Options{})
		require.NoError(t, err)
		assert.Equal(t, want, readLabels(t, out).Data, in)
	}
	_, err := m.SegmentFile(context.Background(), filepath.Join(dir, "case_0001.nii.gz"), filepath.Join(dir, "o.nii"), Options{})
	assert.Equal(t, ErrModel, KindOf(err))
}

// Everything that a file or a folder can have wrong, and what the error names.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	m := open(t, tiny, OpenOptions{})
	ctx := context.Background()
	in := filepath.Join(dir, "in.nii.gz")
	require.NoError(t, imageio.Write(t.Context(), in, noiseImage(t, geometry(9, 9, 9), 1)))
	two := filepath.Join(dir, "two.nii")
	require.NoError(t, imageio.Write(t.Context(), two, noiseImage(t, geometry(9, 9, 9), 2)))
	empty := filepath.Join(dir, "empty.nii.gz")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, c := range []struct {
		in, out string
		kind    Kind
		texts   []string
	}{
		{"missing.nii.gz", "o.nii.gz", ErrNotFound, []string{"missing.nii.gz"}},
		{empty, "o.nii.gz", ErrFormat, []string{"empty.nii.gz"}},
		{in, "o.png", ErrUnsupported, []string{"o.png", ".nii.gz"}},
		{in, "no/such/folder/o.nii.gz", ErrNotFound, []string{"no/such/folder"}},
		{two, "o.nii.gz", ErrModel, []string{"two.nii", "2 channels", "expects 1"}},
	} {
		_, err := m.SegmentFile(ctx, c.in, filepath.Join(dir, c.out), Options{})
		assert.Contains(t, []Kind{c.kind, ErrIO}, KindOf(err), "%s: %v", c.in, err)
		for _, text := range c.texts {
			assert.ErrorContains(t, err, text)
		}
	}
	// A 2-D image is not one slice of a volume: nnU-Net would stretch it to 999 slices.
	plane := filepath.Join(dir, "plane.nii")
	require.NoError(t, imageio.Write(t.Context(), plane, noiseImage(t, geometry(9, 9, 1), 1)))
	header, err := os.ReadFile(plane)
	require.NoError(t, err)
	header[40] = 2 // dim[0]
	require.NoError(t, os.WriteFile(plane, header, 0o600))
	_, err = m.SegmentFile(ctx, plane, filepath.Join(dir, "o.nii"), Options{})
	assert.Equal(t, ErrModel, KindOf(err))
	assert.ErrorContains(t, err, "a 2-D image, but the model's configuration golden is three-dimensional")
	_, err = open(t, flat, OpenOptions{}).SegmentFile(ctx, plane, filepath.Join(dir, "plane_labels.nii"), Options{})
	assert.NoError(t, err, "a 2-D network takes it")

	left, err := filepath.Glob(filepath.Join(dir, "o*"))
	require.NoError(t, err)
	assert.Empty(t, left, "nothing half-written stays")

	image, labels := noiseImage(t, geometry(9, 9, 9), 1), newLabels(t, geometry(9, 9, 8))
	_, err = m.Segment(ctx, image, labels, Options{})
	assert.ErrorContains(t, err, "sizes must agree")
	_, err = m.Segment(ctx, image, image, Options{})
	assert.ErrorContains(t, err, "int16 cannot hold")
	_, err = m.Segment(ctx, image, newLabels(t, image.Geometry), Options{Probabilities: make([]float32, 5)})
	assert.ErrorContains(t, err, "need 2187")

	// After all that the model still works.
	labelsOf(t, m, image, Options{})
}

// compact returns a JSON file's text without spaces between the tokens.
func compact(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, json.Compact(&b, text))
	return b.String()
}

// copyFolder copies a golden folder, with one text replaced in one file,
// whose JSON is compacted first.
func copyFolder(t *testing.T, from, file, old, new string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(from)))
	if file != "" {
		path := filepath.Join(dir, file)
		text := compact(t, path)
		require.Contains(t, text, old)
		require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, old, new)), 0o600))
	}
	return dir
}

func TestBadModels(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		file, old, new string
		kind           Kind
		texts          []string
	}{
		{"plans.json", `"patch_size"`, `"patch"`, ErrModel, []string{"plans.json", "patch_size"}},
		{"plans.json", "PlainConvUNet", "FancyNet", ErrUnsupported, []string{"plans.json", "FancyNet"}},
		{"plans.json", `"resampling_fn_data":"resample_data_or_seg_to_shape"`, `"resampling_fn_data":"resample_fancy"`, ErrUnsupported, []string{"resample_fancy"}},
		{"plans.json", "ZScoreNormalization", "FancyNormalization", ErrUnsupported, []string{"FancyNormalization"}},
		{"plans.json", `"order":3`, `"order":9`, ErrFormat, []string{"resampling_fn_data", "order", "9"}},
		{"plans.json", "{", "[", ErrFormat, []string{"plans.json"}},
		{"plans.json", "[4,6,8]", "[4,6,9]", ErrModel, []string{"stages.2"}},
		{"dataset.json", `"organ2":2`, `"organ2":2,"organ3":3`, ErrModel, []string{"seg_layers"}},
	} {
		_, err := Open(ctx, copyFolder(t, tiny, c.file, c.old, c.new), OpenOptions{})
		assert.Equal(t, c.kind, KindOf(err), "%s -> %s: %v", c.old, c.new, err)
		for _, text := range c.texts {
			assert.ErrorContains(t, err, text)
		}
	}
	whole := copyFolder(t, tiny, "", "", "")
	for _, name := range []string{"plans.json", "dataset.json", "fold_0"} {
		dir := copyFolder(t, tiny, "", "", "")
		require.NoError(t, os.RemoveAll(filepath.Join(dir, name)))
		_, err := Open(ctx, dir, OpenOptions{})
		assert.Equal(t, ErrNotFound, KindOf(err), name)
		assert.ErrorContains(t, err, strings.TrimSuffix(name, "0"))
	}
	checkpoint := filepath.Join(whole, "fold_0", "checkpoint_final.pth")
	data, err := os.ReadFile(checkpoint)
	require.NoError(t, err)
	for _, n := range []int{0, 10, len(data) / 2, len(data) - 1} {
		require.NoError(t, os.WriteFile(checkpoint, data[:n], 0o600))
		_, err := Open(ctx, whole, OpenOptions{})
		assert.Equal(t, ErrFormat, KindOf(err), "%d bytes", n)
		assert.ErrorContains(t, err, "checkpoint_final.pth")
	}

	_, err = Open(ctx, filepath.Join(whole, "none.onnx"), OpenOptions{})
	assert.Equal(t, ErrNotFound, KindOf(err))
	_, err = Open(ctx, filepath.Join(whole, "plans.json"), OpenOptions{})
	assert.Equal(t, ErrFormat, KindOf(err))
	assert.ErrorContains(t, err, "not a list of models")
	text := filepath.Join(whole, "text.onnx")
	require.NoError(t, os.WriteFile(text, []byte("plain text"), 0o600))
	_, err = Open(ctx, text, OpenOptions{})
	assert.Equal(t, ErrFormat, KindOf(err))
	assert.ErrorContains(t, err, "not an ONNX model")
	_, err = Open(ctx, whole, OpenOptions{Checkpoint: "best.pth"})
	assert.Equal(t, ErrNotFound, KindOf(err))
	assert.ErrorContains(t, err, "best.pth")
}

// An ONNX file and plans that contradict each other, and bundles that were spoiled.
func TestBadBundles(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	bundle := filepath.Join(dir, "tiny.onnx")
	require.NoError(t, Convert(ctx, bundle, ConvertOptions{Folder: tiny, Orientation: "ras"}))
	plans := filepath.Join(tiny, "plans.json")
	convert := func(old, new, configuration string) error {
		text := compact(t, plans)
		require.Contains(t, text, old)
		changed := filepath.Join(dir, "plans.json")
		require.NoError(t, os.WriteFile(changed, []byte(strings.ReplaceAll(text, old, new)), 0o600))
		return Convert(ctx, filepath.Join(dir, "new.onnx"), ConvertOptions{ONNX: bundle, Plans: changed, Configuration: configuration})
	}
	assert.NoError(t, convert("", "", "golden"))
	require.NoError(t, os.Remove(filepath.Join(dir, "new.onnx")))
	err := convert("[8,16,16]", "[8,16,32]", "golden")
	assert.Equal(t, ErrModel, KindOf(err))
	assert.ErrorContains(t, err, "[1 1 8 16 16] does not take what the plans ask for, [1 1 8 16 32]")
	err = Convert(ctx, filepath.Join(dir, "new.onnx"), ConvertOptions{ONNX: bundle, Plans: filepath.Join(flat, "plans.json"), Configuration: "golden"})
	assert.ErrorContains(t, err, "has 5 dimensions, the plans ask for [1 1 16 16]")
	err = convert("", "", "3d_fullres")
	assert.Equal(t, ErrModel, KindOf(err))
	assert.ErrorContains(t, err, "3d_fullres")
	assert.NoFileExists(t, filepath.Join(dir, "new.onnx"))

	spoil := func(change func(*onnx.Model)) error {
		data, err := os.ReadFile(bundle)
		require.NoError(t, err)
		m, err := onnx.Parse(data)
		require.NoError(t, err)
		change(m)
		data, err = m.Marshal()
		require.NoError(t, err)
		path := filepath.Join(dir, "spoiled.onnx")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		_, err = Open(ctx, path, OpenOptions{})
		assert.ErrorContains(t, err, path)
		return err
	}
	for text, change := range map[string]func(*onnx.Model){
		"without plans":           func(m *onnx.Model) { m.Metadata = nil },
		`bundle format "2"`:       func(m *onnx.Model) { m.SetMeta(metaFormat, "2") },
		"orientation \"XYZ\"":     func(m *onnx.Model) { m.SetMeta(metaOrientation, "XYZ") },
		"mirror axes [0 0]":       func(m *onnx.Model) { m.SetMeta(metaMirrorAxes, "[0,0]") },
		"mirror axes [3]":         func(m *onnx.Model) { m.SetMeta(metaMirrorAxes, "[3]") },
		"are not a list":          func(m *onnx.Model) { m.SetMeta(metaMirrorAxes, "x") },
		"its metadata name [0 1]": func(m *onnx.Model) { m.SetMeta(metaFolds, "0,1") },
		"expected one of each":    func(m *onnx.Model) { m.Graph.Outputs = nil },
		"the dataset's labels ask": func(m *onnx.Model) {
			m.SetMeta(metaDataset, `{"channel_names":{"0":"x"},"labels":{"background":0,"a":1}}`)
		},
		"the dataset asks for 2": func(m *onnx.Model) {
			m.SetMeta(metaDataset, `{"channel_names":{"0":"x","1":"y"},"labels":{"background":0,"a":1,"b":2}}`)
		},
	} {
		assert.ErrorContains(t, spoil(change), text)
	}

	for _, o := range []ConvertOptions{{}, {Folder: tiny, ONNX: bundle}, {ONNX: bundle}, {Folder: tiny, Orientation: "XX"}} {
		assert.Equal(t, ErrArgument, KindOf(Convert(ctx, filepath.Join(dir, "new.onnx"), o)), "%+v", o)
	}
	assert.Equal(t, ErrArgument, KindOf(Convert(ctx, filepath.Join(dir, "new.zip"), ConvertOptions{Folder: tiny})))
}

func TestCancelAndClose(t *testing.T) {
	m := open(t, tiny, OpenOptions{Threads: 1})
	image, labels := noiseImage(t, geometry(120, 120, 60), 1), newLabels(t, geometry(120, 120, 60))

	// From the progress callback, in the middle of the network.
	ctx, cancel := context.WithCancel(context.Background())
	_, err := m.Segment(ctx, image, labels, Options{Progress: func(phase string, fraction float64) {
		if phase == "network" {
			cancel()
		}
	}})
	assert.Equal(t, ErrCancelled, KindOf(err))
	assert.ErrorIs(t, err, context.Canceled)

	// A deadline, also while waiting in the queue.
	short, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	_, err = m.Segment(short, image, labels, Options{})
	assert.Equal(t, ErrCancelled, KindOf(err))
	_, err = m.Segment(short, image, labels, Options{})
	assert.Equal(t, ErrCancelled, KindOf(err))

	// The model still works; closing it ends a running call and refuses later ones.
	small := noiseImage(t, geometry(9, 9, 9), 1)
	labelsOf(t, m, small, Options{})
	running := make(chan error, 1)
	started := make(chan struct{})
	var once sync.Once
	go func() {
		_, err := m.Segment(context.Background(), image, labels, Options{Progress: func(string, float64) { once.Do(func() { close(started) }) }})
		running <- err
	}()
	<-started
	m.Close()
	assert.Equal(t, ErrCancelled, KindOf(<-running))
	_, err = m.Segment(context.Background(), small, newLabels(t, small.Geometry), Options{})
	assert.Contains(t, []Kind{ErrHandle, ErrCancelled}, KindOf(err))
	m.Close()
}

// However far a call has come when it is cancelled, it ends as cancelled, leaves no file
// and the model usable.
func TestCancelAnywhere(t *testing.T) {
	m, dir := open(t, tiny, OpenOptions{Threads: 2}), t.TempDir()
	in, out, page := filepath.Join(dir, "in.nii.gz"), filepath.Join(dir, "out.nii.gz"), filepath.Join(dir, "page.html")
	image := noiseImage(t, geometry(64, 60, 40), 1)
	require.NoError(t, imageio.Write(context.Background(), in, image))
	stats, err := m.SegmentFile(context.Background(), in, out, Options{ReportFile: page})
	require.NoError(t, err)
	want, err := os.ReadFile(out)
	require.NoError(t, err)
	require.NoError(t, os.Remove(out))
	require.NoError(t, os.Remove(page))
	live, whole := cmem.Live(), time.Duration(stats.Seconds.Total*float64(time.Second))
	const moments = 40
	cancelled, started := 0, map[string]bool{}
	for i := range moments {
		phase := "begin"
		ctx, cancel := context.WithTimeout(context.Background(), whole*time.Duration(i)/moments)
		_, err := m.SegmentFile(ctx, in, out, Options{ReportFile: page, Progress: func(p string, _ float64) { phase = p }})
		cancel()
		if err == nil {
			require.NoError(t, os.Remove(out))
			require.NoError(t, os.Remove(page))
			continue
		}
		cancelled++
		started[phase] = true
		assert.Equal(t, ErrCancelled, KindOf(err), "%v", err)
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Len(t, files, 1, "only the input is there")
		assert.Equal(t, live, cmem.Live())
	}
	assert.Greater(t, cancelled, moments/4)
	assert.Greater(t, len(started), 1, "%v", started)
	_, err = m.SegmentFile(context.Background(), in, out, Options{})
	require.NoError(t, err)
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

// A reader that reorients gives the network what the same image stored in RAS gives.
func TestReaderThatReorients(t *testing.T) {
	reorienting := open(t, copyFolder(t, tiny, "plans.json", `"SimpleITKIO"`, `"SimpleITKIOWithReorient"`), OpenOptions{})
	assert.Equal(t, "RAS", reorienting.Describe().Orientation)
	image := noiseImage(t, geometry(20, 19, 18), 1) // stored in LPS
	want, got := bytes.Clone(labelsOf(t, open(t, tiny, OpenOptions{}), image, Options{})), labelsOf(t, reorienting, image, Options{})
	assert.NotEqual(t, want, got, "the network sees x and y reversed")
	image.Direction = [9]float64{-1, 0, 0, 0, -1, 0, 0, 0, 1} // now it is stored in RAS
	assert.Equal(t, want, labelsOf(t, reorienting, image, Options{}))
}

func TestManyThreadsOneModel(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	image := noiseImage(t, geometry(30, 30, 20), 1)
	want := bytes.Clone(labelsOf(t, m, image, Options{}))
	var wait sync.WaitGroup
	for range 8 {
		labels := newLabels(t, image.Geometry)
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range 3 {
				_, err := m.Segment(context.Background(), image, labels, Options{})
				assert.NoError(t, err)
				assert.Equal(t, want, labels.Data)
			}
		}()
	}
	wait.Wait()
}

// Models in several threads give what each gives alone, and afterwards leave the cores to
// the host.
func TestModelsSideBySide(t *testing.T) {
	image := noiseImage(t, geometry(40, 40, 20), 1)
	var models []*Model
	var want [][]byte
	for _, path := range []string{tiny, folds, flat, tiny} {
		m := open(t, path, OpenOptions{Device: "openvino", Threads: 2})
		models, want = append(models, m), append(want, bytes.Clone(labelsOf(t, m, image, Options{})))
	}
	var wait sync.WaitGroup
	for i, m := range models {
		labels := newLabels(t, image.Geometry)
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range 5 {
				_, err := m.Segment(context.Background(), image, labels, Options{})
				assert.NoError(t, err)
				assert.Equal(t, want[i], labels.Data, m.path)
			}
		}()
	}
	wait.Wait()

	var before, after syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &before))
	time.Sleep(time.Second)
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &after))
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	assert.Less(t, spent, int64(200*time.Millisecond), "processor time of the idle process in a second; a thread that spins takes all of it")
}

func TestThreadsThatDoNotExist(t *testing.T) {
	_, err := Open(context.Background(), tiny, OpenOptions{Threads: -1, Runtime: testenv.Runtime(t)})
	assert.Equal(t, ErrArgument, KindOf(err))
	assert.ErrorContains(t, err, "-1 threads")
}

func TestDescribeAndDevices(t *testing.T) {
	m := open(t, tiny, OpenOptions{Threads: 1})
	d := m.Describe()
	assert.Equal(t, "Dataset900_Golden", d.Task)
	assert.Equal(t, "PlainConvUNet", d.Network)
	assert.Equal(t, []Label{{"background", 0}, {"organ1", 1}, {"organ2", 2}}, d.Labels)
	assert.Equal(t, []int{8, 16, 16}, d.PatchSize)
	assert.Equal(t, 1, d.Threads)
	list, err := Devices("")
	require.NoError(t, err, "the runtime that Open loaded stays")
	assert.Equal(t, "1.24.1", list.RuntimeVersion)
	assert.Len(t, list.Devices, 4)
}

func TestLog(t *testing.T) {
	var lines []string
	SetLog(func(level int, message string) { lines = append(lines, message) })
	open(t, tiny, OpenOptions{})
	SetLog(nil)
	require.NotEmpty(t, lines)
	assert.Contains(t, lines[0], "fp32 on openvino")
	open(t, tiny, OpenOptions{})
	assert.Len(t, lines, 1)
	assert.Equal(t, ErrInternal, KindOf(errors.New("from elsewhere")))
	assert.Equal(t, ErrIO, KindOf(Errorf(ErrIO, "disk")))
}
