package nnunet

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
)

// rawDataset makes a folder with a dataset.json and empty files.
func rawDataset(t *testing.T, text string, files ...string) string {
	folder := filepath.Join(t.TempDir(), "Dataset003_Files")
	for _, name := range append(files, "imagesTr/x", "labelsTr/x") {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o777))
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), nil, 0o666))
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "dataset.json"), []byte(text), 0o666))
	return folder
}

const rawJSON = `{"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "a": 1}, "numTraining": 2, "file_ending": ".nii.gz"`

func TestRawDatasetFolders(t *testing.T) {
	// Files of other endings are none of the dataset; a single file may hold all channels.
	folder := rawDataset(t, rawJSON+"}", "imagesTr/b_2_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/a_0000.nii.gz", "imagesTr/c_0000.nii",
		"labelsTr/a.nii.gz", "labelsTr/b_2.nii.gz", "labelsTr/more.nii.gz", "weightsTr/b_2.nii.gz")
	r, err := OpenRawDataset(folder + "/")
	require.NoError(t, err)
	at := func(name string) string { return filepath.Join(folder, name) }
	assert.Equal(t, "Dataset003_Files", r.Name)
	assert.Equal(t, []RawCase{
		{"a", []string{at("imagesTr/a_0000.nii.gz"), at("imagesTr/a_0001.nii.gz")}, at("labelsTr/a.nii.gz"), ""},
		{"b_2", []string{at("imagesTr/b_2_0000.nii.gz")}, at("labelsTr/b_2.nii.gz"), at("weightsTr/b_2.nii.gz")},
	}, r.Cases)
}

func TestRawDatasetListed(t *testing.T) {
	folder := rawDataset(t, rawJSON+`, "dataset": {"z": {"images": ["t1/z.nii.gz", "$FLARE_TEST_HERE/z.nii.gz"], "label": "${FLARE_TEST_HERE}/l.nii.gz"},
		"a": {"images": ["t1/z.nii.gz"], "label": "t1/$FLARE_TEST_NOWHERE.nii.gz"}}}`,
		"t1/z.nii.gz", "t2/z.nii.gz", "t2/l.nii.gz", "t1/$FLARE_TEST_NOWHERE.nii.gz")
	t.Setenv("FLARE_TEST_HERE", filepath.Join(folder, "t2"))
	r, err := OpenRawDataset(folder)
	require.NoError(t, err)
	at := func(name string) string { return filepath.Join(folder, name) }
	assert.Equal(t, []RawCase{ // in the file's order
		{"z", []string{at("t1/z.nii.gz"), at("t2/z.nii.gz")}, at("t2/l.nii.gz"), ""},
		{"a", []string{at("t1/z.nii.gz")}, at("t1/$FLARE_TEST_NOWHERE.nii.gz"), ""},
	}, r.Cases)
}

func TestRawDatasetErrors(t *testing.T) {
	for _, c := range []struct {
		kind     fault.Kind
		text     string
		files    []string
		contains []string
	}{
		{fault.Model, rawJSON + "}", []string{"imagesTr/a_0001.nii.gz", "imagesTr/b_0000.nii.gz", "imagesTr/b_0002.nii.gz", "imagesTr/c.nii.gz", "imagesTr/.nii.gz", "labelsTr/b.nii.gz"},
			[]string{"imagesTr/a_0000.nii.gz is missing: the case has a_0001.nii.gz", "labelsTr/a.nii.gz is missing", "imagesTr/b_0001.nii.gz is missing",
				"imagesTr/c.nii.gz: the name lacks a channel", "imagesTr/.nii.gz: the name lacks"}},
		{fault.Model, rawJSON + "}", []string{"imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"}, []string{"numTraining is 2, but there are 1 cases"}},
		{fault.Model, rawJSON + "}", nil, []string{"there is no training case"}},
		{fault.Model, `{"channel_names": {"0": "CT"}, "labels": {"background": 0}}`, nil, []string{`key "file_ending" is missing`}},
		{fault.Model, rawJSON + `, "dataset": {"a": {"images": ["x", "y", "z"], "label": "l"}, "b": {"label": ""}}}`, []string{"x"},
			[]string{`dataset "a": key "images": found ["x","y","z"], expected 2 files`, "y: no such file", "l: no such file", `dataset "b": key "images" is missing`}},
		{fault.Format, rawJSON + `, "dataset": [1]}`, nil, []string{`key "dataset": found [1], expected an object`}},
		{fault.Format, rawJSON + `, "dataset": {"a": 1}}`, nil, []string{`dataset: key "a": found 1`}},
	} {
		_, err := OpenRawDataset(rawDataset(t, c.text, c.files...))
		assert.Equal(t, c.kind, fault.KindOf(err), "%v", err)
		for _, s := range c.contains {
			assert.ErrorContains(t, err, s)
		}
	}
	_, err := OpenRawDataset(filepath.Join(t.TempDir(), "none"))
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	_, err = OpenRawDataset(t.TempDir())
	assert.ErrorContains(t, err, "dataset.json: no such file")
}
