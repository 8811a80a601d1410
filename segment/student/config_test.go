package student

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o666)) }
	write(`{"labelled": "raw", "unlabelled": "/images", "run": "run", "teacher": {"training": {"epochs": 30}, "models": ["a.onnx"]},
		"student": {"training": {"epochs": 50, "dropout": 0.3}}, "fine_tuning": {"seed": 7}, "supervised": {}}`)
	c, err := Read(path)
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(dir, "raw"), "/images", filepath.Join(dir, "run"), filepath.Join(dir, "a.onnx")},
		[]string{c.Labelled, c.Unlabelled, c.Run, c.Teacher.Models[0]})
	assert.Equal(t, 30, c.Teacher.Training.Epochs)
	assert.Equal(t, 250, c.Teacher.Training.Iterations, "a default")
	assert.False(t, c.Teacher.Training.Strong)
	assert.Equal(t, []any{50, 0.3, true, true, -1.0}, []any{c.Student.Training.Epochs, c.Student.Training.Dropout, c.Student.Training.Strong,
		c.Student.Training.NoMirroring, c.Student.Training.StochasticDepth})
	assert.Equal(t, []any{5, 0.001, uint64(7), true}, []any{c.FineTuning.Epochs, c.FineTuning.LearningRate, c.FineTuning.Seed, c.FineTuning.Strong})
	assert.Equal(t, 30, c.Supervised.Epochs)
	assert.Equal(t, "3d_fullres", c.Teacher.Configuration)

	for text, want := range map[string]string{
		`{`:                             "unexpected EOF",
		`{"labelled": "a", "run": "b"}`: `"unlabelled" is missing`,
		`{"label": "a"}`:                `unknown field "label"`,
		`{"student": {"training": {"depth": 1}}}`:                                                                      `unknown field "depth"`,
		`{"labelled": "a", "unlabelled": "c", "run": "b", "student": {"training": {"dropout": 1}}}`:                    "student.training: setting dropout is 1, must be 0 to 0.99",
		`{"labelled": "a", "unlabelled": "c", "run": "b", "teacher": {"training": {"optimizer": "adam"}}}`:             `teacher.training: optimizer "adam" is not one of sgd, adamw`,
		`{"labelled": "a", "unlabelled": "c", "run": "b", "fine_tuning": {"epochs": -1}}`:                              "fine_tuning: setting epochs is -1",
		`{"labelled": "a", "unlabelled": "c", "run": "b", "supervised": {"momentum": 2}}`:                              "supervised: setting momentum is 2",
		`{"labelled": "a", "unlabelled": "c", "run": "b", "rounds": 0}`:                                                "rounds is 0",
		`{"labelled": "a", "unlabelled": "c", "run": "b", "mode": "quick"}`:                                            `mode "quick"`,
		`{"labelled": "a", "unlabelled": "c", "run": "b", "selection": {"keep": 0}}`:                                   "selection.keep is 0",
		`{"labelled": "a", "unlabelled": "c", "run": "b", "teacher": {"folds": []}}`:                                   "neither models nor folds",
		`{"labelled": "a", "unlabelled": "c", "run": "b", "test": {"images": "x"}}`:                                    `"test" needs`,
		`{"labelled": "a", "unlabelled": "c", "run": "b", "selection": {"fold_agreement": 2}}`:                         "fold_agreement is 2",
		`{"labelled": "a", "unlabelled": "c", "run": "b", "test": {"images": "x", "labels": "y", "tolerance_mm": -1}}`: "tolerance_mm is -1",
	} {
		write(text)
		_, err := Read(path)
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, path)
	}
}

func score(v float64) *float64 { return &v }

func TestChoose(t *testing.T) {
	scores := []Scores{
		{Case: "a", Agreement: score(0.9), Foreground: 10},
		{Case: "b", Agreement: score(0.6), Foreground: 10},
		{Case: "c", Agreement: score(0.95), Previous: score(0.5), Foreground: 10},
		{Case: "d", Foreground: 0},
		{Case: "e", Agreement: score(0.8), Previous: score(0.9), Foreground: 10},
		{Case: "f", Foreground: 5}, // one fold, first round: nothing to judge by
	}
	kept := func(s Selection) (names string, reasons map[string]string) {
		reasons = map[string]string{}
		all, err := s.choose(scores)
		require.NoError(t, err)
		for _, d := range all {
			if d.Kept {
				names += d.Case
				assert.Empty(t, d.Reason)
			} else {
				reasons[d.Case] = d.Reason
			}
		}
		return names, reasons
	}
	names, reasons := kept(Selection{Keep: 1})
	assert.Equal(t, "abcef", names)
	assert.Equal(t, map[string]string{"d": "no label was found"}, reasons)
	names, reasons = kept(Selection{FoldAgreement: 0.7, RoundAgreement: 0.6, Keep: 0.66})
	assert.Equal(t, "af", names)
	assert.Equal(t, map[string]string{"b": "fold agreement 0.6000 is below 0.7", "c": "round agreement 0.5000 is below 0.6", "d": "no label was found",
		"e": "rank 3 of 3 by agreement, of which a share of 0.66 is kept"}, reasons)
	names, _ = kept(Selection{Keep: 0.01})
	assert.Equal(t, "f", names, "one at least")

	scores = scores[1:4]
	_, err := (&Selection{FoldAgreement: 0.99, Keep: 1}).choose(scores)
	assert.Equal(t, fault.Model, fault.KindOf(err))
	assert.ErrorContains(t, err, "all 3 pseudo-labels were rejected")
	assert.ErrorContains(t, err, "The best: c: fold agreement 0.9500 is below 0.99; b: fold agreement 0.6000 is below 0.99; d: no label was found")
	_, err = (&Selection{Keep: 1}).choose(nil)
	assert.ErrorContains(t, err, "no unlabelled case could be read")
}

func TestDatasetJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"modality": {"0": "a \"b\"", "1": "c"}, "labels": {"background": 0, "x": [1, 2], "y": 2}, "regions_class_order": [1, 2], "file_ending": ".nii", "numTraining": 9,
			"overwrite_image_reader_writer": "SimpleITKIO", "name": "n", "dataset": {}}`: "",
		`{"channel_names": {"0": "a"}, "labels": {"background": 0, "x": 1, "ignore": 2}, "file_ending": ".nii.gz"}`: "",
	} {
		d, err := nnunet.ParseDataset([]byte(text), "dataset.json")
		require.NoError(t, err)
		for _, ignore := range []bool{false, true} {
			cases := []nnunet.RawCase{{Name: "a", Images: []string{"/x/a.mha", `/x/"b`}, Label: "/y/a.nii", Weight: "/z/a.nii"}, {Name: "b", Images: []string{"c"}, Label: "d"}}
			made, err := datasetJSON(d, ignore, cases, false)
			require.NoError(t, err)
			got, err := nnunet.ParseDataset(made, "made")
			require.NoError(t, err, "%s", made)
			assert.Equal(t, []any{d.Channels, d.Labels, d.RegionsClassOrder, d.FileEnding, d.Name, 2},
				[]any{got.Channels, got.Labels, got.RegionsClassOrder, got.FileEnding, got.Name, got.NumTraining}, want)
			ignored := d.IgnoreLabel
			if ignore {
				ignored = len(d.Values())
			}
			assert.Equal(t, ignored, got.IgnoreLabel)
			a, _ := d.Reader()
			b, _ := got.Reader()
			assert.Equal(t, a, b)
			listed, err := datasetJSON(d, ignore, cases, true)
			require.NoError(t, err)
			var list struct {
				Dataset map[string]struct {
					Images        []string
					Label, Weight string
				}
			}
			require.NoError(t, json.Unmarshal(listed, &list))
			require.Len(t, list.Dataset, 2)
			for _, c := range cases {
				k := list.Dataset[c.Name]
				assert.Equal(t, []any{c.Images, c.Label, c.Weight}, []any{k.Images, k.Label, k.Weight})
			}
		}
	}
}

// TestRunBadInput: what cannot work is refused before anything is trained, and what can is
// not given up for one bad case.
func TestRunBadInput(t *testing.T) {
	base := toyConfig(t)
	base.Teacher.Models = []string{randomBundle(t, plainDataset, []int{4, 8}, 1), randomBundle(t, plainDataset, []int{4, 8}, 2)}
	base.Rounds, base.FineTuning, base.Supervised, base.Test = 1, nil, nil, nil
	refused := func(kind fault.Kind, text string, change func(c *Config)) {
		t.Helper()
		c := base
		c.Run = filepath.Join(t.TempDir(), "run")
		change(&c)
		_, err := Run(t.Context(), c, runOptions(t))
		assert.Equal(t, kind, fault.KindOf(err), "%v", err)
		assert.ErrorContains(t, err, text)
		assert.NoDirExists(t, filepath.Join(c.Run, "teacher", "fold_0"))
		assert.NoDirExists(t, filepath.Join(c.Run, "round_1", "student"))
	}
	refused(fault.Model, "all 4 pseudo-labels were rejected", func(c *Config) { c.Selection.FoldAgreement = 0.999 })
	refused(fault.Model, "the teacher ", func(c *Config) { c.Teacher.Models = []string{randomBundle(t, manyDataset, []int{4, 8}, 1)} })
	refused(fault.Argument, "case case_00 is among the labelled cases as well", func(c *Config) { c.Unlabelled = filepath.Join(c.Labelled, "imagesTr") })
	refused(fault.Argument, "holds other things", func(c *Config) { c.Run = base.Unlabelled })
	other := filepath.Join(toyFolder(t, 30, 1), "imagesTr")
	refused(fault.NotFound, "holds no labels of case case_30", func(c *Config) { c.Test = &Test{Images: other, Labels: c.Labelled} })
	refused(fault.Argument, "case case_10 is among the unlabelled cases as well", func(c *Config) { c.Test = &Test{Images: c.Unlabelled, Labels: c.Unlabelled} })
	refused(fault.NotFound, "no such file", func(c *Config) { c.Labelled = filepath.Join(c.Run, "none") })
	refused(fault.Model, "no configuration \"2d\"", func(c *Config) { c.Student.Configuration = "2d" })
	refused(fault.Argument, "student.training: stochastic_depth is 0.5, but a PlainConvUNet", func(c *Config) { c.Student.Training.StochasticDepth = 0.5 })
	refused(fault.Model, "student.training: the patch [16 16 17] cannot be halved", func(c *Config) { c.Student.Training.Patch = []int{16, 16, 17} })
	refused(fault.Unsupported, "student.training: soft is true", func(c *Config) { c.Student.Training.Soft = true })
	two := filepath.Join(t.TempDir(), "two.json")
	text := bytes.ReplaceAll(toyPlans(t, []int{4, 8}), []byte(`["ZScoreNormalization"]`), []byte(`["ZScoreNormalization", "ZScoreNormalization"]`))
	require.NoError(t, os.WriteFile(two, bytes.ReplaceAll(text, []byte(`[false]`), []byte(`[false, false]`)), 0o666))
	refused(fault.Model, "student.training: the plans' configuration 3d_fullres normalises 2 channels, dataset.json names 1", func(c *Config) { c.Student.Plans = two })
	folds := func(list ...string) func(c *Config) {
		return func(c *Config) { c.Teacher.Models, c.Teacher.Folds = nil, list }
	}
	refused(fault.Argument, `teacher.folds: there is no fold "7", only 0 to 4 and all`, folds("0", "7"))
	refused(fault.Argument, "teacher.folds names fold 0 twice", folds("0", "1", "0"))
	refused(fault.Argument, "teacher.training: patch [16 16]", func(c *Config) { folds("0")(c); c.Teacher.Training.Patch = []int{16, 16} })
	refused(fault.Argument, `supervised: optimizer "adam"`, func(c *Config) { s := c.Teacher.Training; s.Optimizer = "adam"; c.Supervised = &s })

	moved := toyFolder(t, 40, 1)
	image, labels := toyImage(t, 40)
	labels.Spacing[1] = 2
	require.NoError(t, imageio.Write(t.Context(), filepath.Join(moved, "labelsTr", "case_40.nii.gz"), labels))
	test := &Test{Images: filepath.Join(moved, "imagesTr"), Labels: filepath.Join(moved, "labelsTr")}
	refused(fault.Model, "case_40.nii.gz: spacing [1 2 1] mm (x, y, z), but its image", func(c *Config) { c.Test = test })
	require.NoError(t, imageio.Write(t.Context(), filepath.Join(moved, "labelsTr", "case_40.nii.gz"), image))
	refused(fault.Format, "a voxel is ", func(c *Config) { c.Test = test })

	// An image that cannot be read is left out, and known to be.
	c := base
	c.PseudoLabels.IgnoreBelow = 0.9
	require.NoError(t, os.WriteFile(filepath.Join(c.Unlabelled, "case_11_0000.nii.gz"), []byte("nonsense"), 0o666))
	for range 2 { // also when nothing is done
		r, err := Run(t.Context(), c, runOptions(t))
		require.NoError(t, err)
		require.Len(t, r.Skipped, 1)
		assert.Equal(t, "case_11", r.Skipped[0].Case)
		assert.Equal(t, fault.Format, fault.KindOf(r.Err()))
		assert.ErrorContains(t, r.Err(), "1 of 4 cases could not be read")
		assert.Equal(t, []RoundResult{{Labelled: []string{"case_10", "case_12", "case_13"}, Kept: 3}}, r.Rounds)
	}
	d, err := nnunet.ReadDataset(filepath.Join(c.Run, "round_1", "dataset", "dataset.json"))
	require.NoError(t, err)
	assert.Equal(t, 3, d.IgnoreLabel)
	assert.Equal(t, 9, d.NumTraining)
	assert.Contains(t, string(read(t, filepath.Join(c.Run, "round_1", "labels", "case_10.nii.gz"))), "\x03", "ignored voxels")
}

// TestStochasticDepth: without being asked for it is the student's where its network has
// residual blocks; asked for without such it is refused.
func TestStochasticDepth(t *testing.T) {
	c := Default()
	tuning := c.Student.Training
	c.FineTuning = &tuning
	supervised := c.Teacher.Training
	c.Supervised = &supervised
	d, err := nnunet.ParseDataset([]byte(plainDataset), "dataset.json")
	require.NoError(t, err)
	text := toyPlans(t, []int{4, 8})
	plain, err := nnunet.ParsePlans(text, "plans.json")
	require.NoError(t, err)
	text = bytes.ReplaceAll(text, []byte("PlainConvUNet"), []byte("ResidualEncoderUNet"))
	residual, err := nnunet.ParsePlans(bytes.ReplaceAll(text, []byte(`"n_conv_per_stage"`), []byte(`"n_blocks_per_stage"`)), "plans.json")
	require.NoError(t, err)
	depths := func(teacher, student *nnunet.Plans, asked float64) ([]float64, error) {
		r := &runner{Config: c, raw: &nnunet.RawDataset{Dataset: d}}
		if asked > 0 {
			r.Student.Training.StochasticDepth = asked
		}
		err := r.checkTrainings(&plan{plans: teacher, configuration: "3d_fullres"}, &plan{plans: student, configuration: "3d_fullres"})
		return []float64{r.Teacher.Training.StochasticDepth, r.Student.Training.StochasticDepth, r.FineTuning.StochasticDepth, r.Supervised.StochasticDepth}, err
	}
	got, err := depths(residual, plain, 0)
	require.NoError(t, err)
	assert.Equal(t, []float64{0, 0, 0, 0}, got)
	got, err = depths(plain, residual, 0)
	require.NoError(t, err)
	assert.Equal(t, []float64{0, 0.1, 0.1, 0}, got)
	got, err = depths(plain, residual, 0.3)
	require.NoError(t, err)
	assert.Equal(t, []float64{0, 0.3, 0.1, 0}, got)
	_, err = depths(residual, plain, 0.3)
	assert.Equal(t, fault.Argument, fault.KindOf(err))
	assert.ErrorContains(t, err, "student.training: stochastic_depth is 0.3, but a PlainConvUNet has no residual blocks to skip")
	assert.Equal(t, -1.0, tuning.StochasticDepth, "the caller's")
}
