package nnunet

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
)

// folder makes a results folder of the given files.
func folder(t *testing.T, files ...string) string {
	dir := t.TempDir()
	pth, err := os.ReadFile("testdata/numpy2.pth")
	require.NoError(t, err)
	for _, name := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		content := pth
		switch filepath.Base(name) {
		case "plans.json":
			content = []byte(smallPlans)
		case "dataset.json":
			content = []byte(`{"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "a": 1}}`)
		}
		require.NoError(t, os.WriteFile(path, content, 0o644))
	}
	return dir
}

func TestFolder(t *testing.T) {
	dir := folder(t, "plans.json", "dataset.json", "fold_10/checkpoint_final.pth", "fold_2/checkpoint_final.pth",
		"fold_all/checkpoint_final.pth", "fold_0/checkpoint_best.pth", "fold_x/checkpoint_final.pth", "fold_01/checkpoint_final.pth")
	f, err := OpenFolder(dir, "")
	require.NoError(t, err)
	require.Equal(t, []string{"2", "10", "all"}, f.Folds)
	require.Equal(t, []string{"2", "10"}, f.DefaultFolds())
	require.Equal(t, "3d_fullres", f.Configuration)
	c, err := f.OpenFold("all")
	require.NoError(t, err)
	require.Equal(t, "3", c.Fold) // what the file says
	require.NoError(t, c.Close())
	_, err = f.OpenFold("../fold_2")
	require.Equal(t, fault.NotFound, fault.KindOf(err))

	f, err = OpenFolder(dir, "checkpoint_best.pth")
	require.NoError(t, err)
	require.Equal(t, []string{"0"}, f.Folds)
	require.Equal(t, []string{"0"}, f.DefaultFolds())
	_, err = OpenFolder(dir, "fold_0/checkpoint_best.pth")
	require.Equal(t, fault.Argument, fault.KindOf(err))
}

func TestFolderErrors(t *testing.T) {
	cases := map[string]struct {
		files []string
		kind  fault.Kind
		says  []string
	}{
		"empty":      {nil, fault.NotFound, []string{"plans.json", "dataset.json", "checkpoint_final.pth"}},
		"no plans":   {[]string{"dataset.json", "fold_0/checkpoint_final.pth"}, fault.NotFound, []string{"plans.json"}},
		"no dataset": {[]string{"plans.json", "fold_0/checkpoint_final.pth"}, fault.NotFound, []string{"dataset.json"}},
		"no fold":    {[]string{"plans.json", "dataset.json"}, fault.NotFound, []string{"fold_*"}},
		"only best":  {[]string{"plans.json", "dataset.json", "fold_0/checkpoint_best.pth"}, fault.NotFound, []string{"fold_0/checkpoint_best.pth"}},
		"v1":         {[]string{"plans.pkl", "fold_0/model_final_checkpoint.model"}, fault.Unsupported, []string{"v1"}},
	}
	for name, test := range cases {
		dir := folder(t, test.files...)
		_, err := OpenFolder(dir, "")
		require.Error(t, err, name)
		require.Equal(t, test.kind, fault.KindOf(err), "%s: %v", name, err)
		for _, s := range append(test.says, dir) {
			require.Contains(t, err.Error(), s, name)
		}
	}
	_, err := OpenFolder(filepath.Join(t.TempDir(), "none"), "")
	require.Equal(t, fault.NotFound, fault.KindOf(err))
	_, err = OpenFolder("folder_test.go", "")
	require.Equal(t, fault.Format, fault.KindOf(err))

	dir := folder(t, "plans.json", "dataset.json", "fold_0/checkpoint_final.pth")
	require.NoError(t, os.Truncate(filepath.Join(dir, "fold_0/checkpoint_final.pth"), 1000))
	_, err = OpenFolder(dir, "")
	require.Equal(t, fault.Format, fault.KindOf(err))
	require.Contains(t, err.Error(), "truncated")
	require.NoError(t, os.Truncate(filepath.Join(dir, "plans.json"), 100))
	_, err = OpenFolder(dir, "")
	require.Equal(t, fault.Format, fault.KindOf(err))
	require.NoError(t, os.Truncate(filepath.Join(dir, "plans.json"), 1<<40)) // a sparse file
	_, err = OpenFolder(dir, "")
	require.Equal(t, fault.Format, fault.KindOf(err))
}
