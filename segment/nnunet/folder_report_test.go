package nnunet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
)

// TestFolderNamesEverything: what is wrong with plans, dataset, configuration,
// network and checkpoint comes in one message, each with its file.
func TestFolderNamesEverything(t *testing.T) {
	dir := folder(t, "plans.json", "dataset.json", "fold_0/checkpoint_final.pth")
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	plans := smallPlans
	plans = strings.NewReplacer("torch.nn.LeakyReLU", "torch.nn.Tanh", "DefaultPreprocessor", "Mine", `"LabelManager"`, `"Theirs"`,
		`"dropout_op": null,`, `"squeeze": 1,`).Replace(plans)
	write("plans.json", plans)
	_, err := OpenFolder(dir, "")
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
	for _, s := range []string{filepath.Join(dir, "plans.json"), `"torch.nn.Tanh"`, `"Mine"`, `"Theirs"`, `"squeeze"`, `"nonlin"`, `"preprocessor_name"`, `"label_manager"`} {
		require.ErrorContains(t, err, s)
	}

	// What is malformed outweighs it, and the files are independent.
	write("dataset.json", `{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 2}}`)
	require.NoError(t, os.Truncate(filepath.Join(dir, "fold_0/checkpoint_final.pth"), 1000))
	_, err = OpenFolder(dir, "")
	require.Equal(t, fault.Model, fault.KindOf(err))
	for _, s := range []string{`"Theirs"`, filepath.Join(dir, "dataset.json"), "consecutive", "checkpoint_final.pth", "truncated"} {
		require.ErrorContains(t, err, s)
	}
}

func TestPrimusIsNamed(t *testing.T) {
	dir := folder(t, "plans.json", "dataset.json", "fold_0/checkpoint_final.pth")
	path := filepath.Join(dir, "fold_0/checkpoint_final.pth")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	i := strings.Index(string(b), "nnUNetTrainerq") // a text and the opcode that notes it
	require.Positive(t, i)
	copy(b[i:], "nnUNet_Primus")
	require.NoError(t, os.WriteFile(path, b, 0o644))
	_, err = OpenFolder(dir, "")
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
	require.ErrorContains(t, err, "trainer_name")
	require.ErrorContains(t, err, "nnUNet_Primus")
}

func TestOpenFolds(t *testing.T) {
	dir := folder(t, "plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth", "fold_2/checkpoint_final.pth")
	f, err := OpenFolder(dir, "")
	require.NoError(t, err)
	require.Equal(t, "nnUNetTrainer", f.Trainer)
	a, err := f.Architecture()
	require.NoError(t, err)
	require.Equal(t, "PlainConvUNet", a.Class)
	open, err := f.OpenFolds([]string{"2", "0"})
	require.NoError(t, err)
	require.Len(t, open, 2)
	for _, c := range open {
		require.NoError(t, c.Close())
	}
	require.NoError(t, os.Truncate(filepath.Join(dir, "fold_1/checkpoint_final.pth"), 1000))
	require.NoError(t, os.Truncate(filepath.Join(dir, "fold_2/checkpoint_final.pth"), 0))
	_, err = f.OpenFolds([]string{"0", "1", "2", "7"})
	require.Equal(t, fault.Format, fault.KindOf(err))
	for _, s := range []string{"fold_1", "truncated", "fold_2", "empty", `"7"`} {
		require.ErrorContains(t, err, s)
	}
}

func TestPostprocessingIsFound(t *testing.T) {
	files := []string{"plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth"}
	for _, test := range []struct {
		want string
		more []string
	}{
		{"", nil},
		{"postprocessing.pkl", []string{"postprocessing.pkl"}},
		{"crossval_results_folds_0_1_2_3_4/postprocessing.pkl", []string{"postprocessing.pkl",
			"crossval_results_folds_0/postprocessing.pkl", "crossval_results_folds_0_1_2_3_4/postprocessing.pkl"}},
		{"crossval_results_folds_0_1/postprocessing.pkl", []string{
			"crossval_results_folds_0_1_2/postprocessing.pkl", "crossval_results_folds_0_1/postprocessing.pkl"}},
	} {
		dir := folder(t, append(test.more, files...)...)
		f, err := OpenFolder(dir, "")
		require.NoError(t, err)
		if test.want != "" {
			test.want = filepath.Join(dir, test.want)
		}
		require.Equal(t, test.want, f.Postprocessing)
	}
}

func TestParsePickle(t *testing.T) {
	v, err := ParsePickle([]byte("\x80\x02](K\x01X\x01\x00\x00\x00acos\nsystem\n}K\x02U\x01b\x86e."))
	require.NoError(t, err)
	require.Equal(t, []any{1, "a", Object{"os.system"}, map[string]any{}, []any{2, "b"}}, v)
	// A list within itself, and lists of twice the same, 40 deep.
	for _, bad := range []string{"\x80\x02]q\x00h\x00a.", "\x80\x02]" + strings.Repeat("q\x00h\x00\x86", 40) + "."} {
		_, err := ParsePickle([]byte(bad))
		require.ErrorContains(t, err, "refused")
	}
}
