package segment

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/volume"
)

// names lists a folder.
func names(t testing.TB, folder string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// writeImage writes a small image and returns its path.
func writeImage(t testing.TB, path string) string {
	t.Helper()
	require.NoError(t, imageio.Write(t.Context(), path, noiseImage(t, geometry(9, 9, 9), 1)))
	return path
}

// No output takes the place of an input, of the model or of another output, whatever
// name it goes by; and nothing is read before that is known.
func TestOutputsSpareInputs(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	two, second := open(t, pair, OpenOptions{}), open(t, secondStage(t), OpenOptions{})
	bundle := at("tiny.nii") // a name that an output may have
	require.NoError(t, Convert(t.Context(), at("tiny.onnx"), ConvertOptions{Folder: tiny}))
	require.NoError(t, os.Rename(at("tiny.onnx"), bundle))
	one := open(t, bundle, OpenOptions{})
	in := writeImage(t, at("a_0000.nii.gz"))
	further := writeImage(t, at("a_0001.nii.gz"))
	alone := writeImage(t, at("b.nii"))
	require.NoError(t, os.Symlink("b.nii", at("soft.nii")))
	require.NoError(t, os.Link(alone, at("hard.nii")))
	require.NoError(t, os.Symlink("new.nii", at("early.nii")))
	before := names(t, dir)
	for _, c := range []struct {
		model *Model
		in    string
		out   string
		o     Options
		text  string
	}{
		{two, in, in, Options{}, "a_0000.nii.gz: an input"},
		{two, in, further, Options{}, "a_0001.nii.gz: an input"},
		{two, in, at("new.nii"), Options{ProbabilitiesFile: further}, "a_0001.nii.gz: an input"},
		{one, alone, at("soft.nii"), Options{}, "b.nii: an input"},
		{one, at("soft.nii"), alone, Options{}, "soft.nii: an input"},
		{one, alone, at("hard.nii"), Options{}, "b.nii: an input"},
		{one, alone, at("new.nii"), Options{ProbabilitiesFile: at("hard.nii")}, "b.nii: an input"},
		{one, alone, at("new.nii"), Options{ProbabilitiesFile: dir + "/./new.nii"}, "two outputs in one file"},
		{one, alone, at("new.nii"), Options{ProbabilitiesFile: at("early.nii")}, "two outputs in one file"},
		{one, alone, bundle, Options{}, "tiny.nii: an input"},
		{second, alone, in, Options{PreviousFile: in}, "a_0000.nii.gz: an input"},
		{one, "", at("new.nii"), Options{}, "is empty"},
		{one, alone, "", Options{}, "is empty"},
	} {
		_, err := c.model.SegmentFile(t.Context(), c.in, c.out, c.o)
		assert.Equal(t, ErrArgument, KindOf(err), "%s to %s", c.in, c.out)
		assert.ErrorContains(t, err, c.text)
	}
	assert.Equal(t, before, names(t, dir))
	_, err := one.SegmentFile(t.Context(), at("hard.nii"), at("new.nii"), Options{ProbabilitiesFile: at("p.nii")})
	assert.NoError(t, err)
}

// Labels and probabilities appear together or not at all.
func TestBothOutputsOrNone(t *testing.T) {
	m, dir := open(t, tiny, OpenOptions{}), t.TempDir()
	in := writeImage(t, filepath.Join(dir, "in.nii"))
	soft := filepath.Join(dir, "soft.nii.gz")
	for _, out := range []string{filepath.Join(dir, "absent", "out.nii"), filepath.Join(in, "out.nii"), dir + ".nii/"} {
		_, err := m.SegmentFile(t.Context(), in, out, Options{ProbabilitiesFile: soft})
		assert.Contains(t, []Kind{ErrNotFound, ErrIO, ErrUnsupported}, KindOf(err))
		assert.Equal(t, []string{"in.nii"}, names(t, dir))
	}
	// Cancelled when all is computed and the first file was begun.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := m.SegmentFile(ctx, in, filepath.Join(dir, "out.nii"), Options{ProbabilitiesFile: soft, Progress: func(phase string, _ float64) {
		if phase == "write" {
			cancel()
		}
	}})
	if KindOf(err) != ErrCancelled { // progress comes at most 20 times a second: the phase may not have been told
		require.NoError(t, err)
		t.Skip("the call was over before it told that it writes")
	}
	assert.Equal(t, []string{"in.nii"}, names(t, dir))
}

// What a caller would have given wrongly in memory is, in a file, content that does not
// fit the model.
func TestBadContentOfFiles(t *testing.T) {
	m, dir := open(t, tiny, OpenOptions{}), t.TempDir()
	labels := newLabels(t, geometry(9, 9, 9))
	image, err := volume.New(geometry(9, 9, 9), 1, volume.Float64)
	require.NoError(t, err)
	defer image.Free()
	for name, spoil := range map[string]func(){
		"huge.nii":    func() { volume.As[float64](image)[5] = 1e300 },
		"spacing.nii": func() { image.Spacing[1] = 1e9 },
	} {
		clear(image.Data)
		volume.As[float64](image)[0], image.Spacing = 1, [3]float64{1, 1, 1}
		spoil()
		in := filepath.Join(dir, name)
		require.NoError(t, imageio.Write(t.Context(), in, image))
		_, err = m.SegmentFile(t.Context(), in, filepath.Join(dir, "out.nii"), Options{})
		assert.Equal(t, ErrModel, KindOf(err), "%v", err)
		assert.ErrorContains(t, err, name)
		labels.Geometry = image.Geometry
		_, err = m.Segment(t.Context(), image, labels, Options{})
		assert.Equal(t, ErrArgument, KindOf(err), "%v", err)
	}
	in := writeImage(t, filepath.Join(dir, "in.nii"))
	stage := filepath.Join(dir, "stage.nii")
	require.NoError(t, imageio.Write(t.Context(), stage, noiseImage(t, geometry(9, 9, 8), 1)))
	_, err = open(t, secondStage(t), OpenOptions{}).SegmentFile(t.Context(), in, filepath.Join(dir, "out.nii"), Options{PreviousFile: stage})
	assert.Equal(t, ErrModel, KindOf(err), "%v", err)
	assert.ErrorContains(t, err, "stage.nii: previous labels of [9 9 8] voxels")
	assert.NoFileExists(t, filepath.Join(dir, "out.nii"))
	assert.Equal(t, ErrArgument, KindOf(func() error {
		image.Spacing, image.Direction[0] = [3]float64{1, 1, 1}, 2
		_, err := m.Segment(t.Context(), image, labels, Options{})
		return err
	}()), "a direction that is no unit vector")
}

// A case of more channels than the model takes is refused, not cut.
func TestTooManyChannels(t *testing.T) {
	m, dir := open(t, tiny, OpenOptions{}), t.TempDir()
	in := writeImage(t, filepath.Join(dir, "a_0000.nii.gz"))
	out := filepath.Join(dir, "out.nii")
	_, err := m.SegmentFile(t.Context(), in, out, Options{})
	require.NoError(t, err)
	require.NoError(t, os.Remove(out))
	writeImage(t, filepath.Join(dir, "a_0001.nii.gz"))
	_, err = m.SegmentFile(t.Context(), in, out, Options{})
	assert.Equal(t, ErrModel, KindOf(err))
	assert.ErrorContains(t, err, "a_0000.nii.gz: 2 channels, the model expects 1")
	assert.NoFileExists(t, out)
}

// Reading and writing stop once the context is done, whatever is in memory then.
func TestCancelWhileReading(t *testing.T) {
	m, dir := open(t, tiny, OpenOptions{}), t.TempDir()
	in, out := writeImage(t, filepath.Join(dir, "in.nii.gz")), filepath.Join(dir, "out.nii.gz")
	before := cmem.Live()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := m.SegmentFile(ctx, in, out, Options{Progress: func(phase string, _ float64) {
		assert.Equal(t, "read", phase)
		cancel()
	}})
	assert.Equal(t, ErrCancelled, KindOf(err))
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "in.nii.gz: cancelled", "the reader noticed")
	assert.Equal(t, before, cmem.Live())
	assert.Equal(t, []string{"in.nii.gz"}, names(t, dir))
	_, err = m.SegmentFile(t.Context(), in, out, Options{})
	assert.NoError(t, err, "the model stays usable")
}

func TestConvertSparesSources(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	folder := copyFolder(t, tiny, "", "", "")
	bundle := at("bundle.onnx")
	require.NoError(t, Convert(t.Context(), bundle, ConvertOptions{Folder: folder}))
	for _, name := range []string{"plans", "dataset"} {
		require.NoError(t, os.CopyFS(at(name), os.DirFS(folder)))
		require.NoError(t, os.Rename(at(name+"/"+name+".json"), at(name+".onnx")))
	}
	require.NoError(t, os.Symlink("bundle.onnx", at("link.onnx")))
	require.NoError(t, os.Symlink(filepath.Join(folder, "fold_0", "checkpoint_final.pth"), at("weights.onnx")))
	require.NoError(t, os.Link(at("plans.onnx"), at("hard.onnx")))
	named := ConvertOptions{ONNX: bundle, Plans: at("plans.onnx"), Dataset: at("dataset.onnx"), Configuration: "golden"}
	content := func() map[string]string {
		all := map[string]string{}
		for _, root := range []string{dir, folder} {
			require.NoError(t, filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
				if err == nil && !info.IsDir() {
					text, _ := os.ReadFile(path)
					all[path] = string(text)
				}
				return err
			}))
		}
		return all
	}
	inside := filepath.Join(folder, "bundle.onnx")
	require.NoError(t, Convert(t.Context(), inside, ConvertOptions{Folder: folder}), "a new file may lie there")
	before := content()
	for out, o := range map[string]ConvertOptions{
		bundle: named, at("link.onnx"): named, at("plans.onnx"): named, at("hard.onnx"): named, at("dataset.onnx"): named,
		at("weights.onnx"): {Folder: folder}, inside: {Folder: folder},
	} {
		err := Convert(t.Context(), out, o)
		assert.Equal(t, ErrArgument, KindOf(err), "%s: %v", out, err)
		assert.ErrorContains(t, err, "would be overwritten")
	}
	assert.Equal(t, before, content())
	assert.NoError(t, Convert(t.Context(), at("new.onnx"), named))
}

// A bundle that is converted again keeps what the options do not say anew.
func TestConvertBundle(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, Convert(t.Context(), at("first.onnx"), ConvertOptions{Folder: folds, Orientation: "RAS"}))
	data, err := os.ReadFile(at("first.onnx"))
	require.NoError(t, err)
	m, err := onnx.Parse(data)
	require.NoError(t, err)
	m.SetMeta(metaPostprocessing, `[{"keep_largest_component_of": [1], "background": 0}]`)
	data, err = m.Marshal()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(at("first.onnx"), data, 0o600))
	plans, _ := m.Meta(metaPlans)
	configuration, _ := m.Meta(metaConfiguration)
	require.NoError(t, os.WriteFile(at("plans.json"), []byte(plans), 0o600))
	o := ConvertOptions{ONNX: at("first.onnx"), Plans: at("plans.json"), Configuration: configuration}
	require.NoError(t, Convert(t.Context(), at("second.onnx"), o))
	first, second := open(t, at("first.onnx"), OpenOptions{}), open(t, at("second.onnx"), OpenOptions{})
	want, got := first.Describe(), second.Describe()
	got.Path = want.Path
	assert.Equal(t, want, got)
	assert.NotContains(t, got.Labels[1].Name, "label_")
	assert.Len(t, got.Folds, 3)
	assert.Equal(t, "RAS", got.Orientation)
	image := noiseImage(t, geometry(20, 30, 25), 1)
	assert.Equal(t, bytes.Clone(labelsOf(t, first, image, Options{Mirror: true})), labelsOf(t, second, image, Options{Mirror: true}))
	assert.True(t, got.Postprocessing)

	// What is given counts.
	text, _ := m.Meta(metaDataset)
	require.NoError(t, os.WriteFile(at("dataset.json"), []byte(strings.ReplaceAll(text, want.Labels[1].Name, "renamed")), 0o600))
	o.Dataset, o.Orientation = at("dataset.json"), "LPS"
	require.NoError(t, Convert(t.Context(), at("third.onnx"), o))
	third := open(t, at("third.onnx"), OpenOptions{}).Describe()
	assert.Equal(t, "renamed", third.Labels[1].Name)
	assert.Equal(t, "LPS", third.Orientation)
	assert.Equal(t, want.Folds, third.Folds)

	// Metadata that this library does not know are dropped, and it says so.
	m.SetMeta(metaFormat, "2")
	single, err := m.ExtractFolds([]string{"0"})
	require.NoError(t, err)
	data, err = single.Marshal()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(at("newer.onnx"), data, 0o600))
	var lines []string
	SetLog(func(level int, message string) {
		if level == LogWarning {
			lines = append(lines, message)
		}
	})
	defer SetLog(nil)
	require.NoError(t, Convert(t.Context(), at("fourth.onnx"), ConvertOptions{ONNX: at("newer.onnx"), Plans: at("plans.json"), Configuration: configuration}))
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0], `bundle format "2", this library reads format 1: its labels and other metadata are not kept`)
	assert.Equal(t, "label_1", open(t, at("fourth.onnx"), OpenOptions{}).Describe().Labels[1].Name)
}

// Options that cannot be followed are refused, once and by name.
func TestOptionsThatSayNothing(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), "folds.onnx")
	require.NoError(t, Convert(t.Context(), bundle, ConvertOptions{Folder: folds}))
	_, err := Open(t.Context(), bundle, OpenOptions{Checkpoint: "checkpoint_best.pth"})
	assert.Equal(t, ErrArgument, KindOf(err))
	assert.ErrorContains(t, err, `checkpoint "checkpoint_best.pth" is of folders`)
	for _, path := range []string{folds, bundle} {
		for _, list := range []string{",", "0,", "0,,1", "0,0", " "} {
			_, err := Open(t.Context(), path, OpenOptions{Folds: list})
			assert.Equal(t, ErrArgument, KindOf(err), "%s %q", path, list)
			assert.Equal(t, 1, strings.Count(err.Error(), "folds \""), "%v", err)
			assert.ErrorContains(t, err, "expected all, or names such as 0,1")
		}
	}
	_, err = Open(t.Context(), "", OpenOptions{})
	assert.Equal(t, ErrArgument, KindOf(err))
	assert.ErrorContains(t, err, "path is empty")
	assert.Equal(t, ErrArgument, KindOf(Convert(t.Context(), "", ConvertOptions{Folder: tiny})))
}
