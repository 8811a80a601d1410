package nnunet

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
)

func TestDataset(t *testing.T) {
	d, err := ParseDataset([]byte(`{"name": "Test", "channel_names": {"1": "T1", "10": "FLAIR", "2": "T2"},
		"labels": {"background": 0, "zebra": 1, "ant": 2}, "numTraining": 12, "file_ending": ".nii.gz", "more": []}`), "dataset.json")
	require.NoError(t, err)
	require.Equal(t, []string{"T1", "T2", "FLAIR"}, d.Channels)
	require.Equal(t, []Label{{"background", []int{0}}, {"zebra", []int{1}}, {"ant", []int{2}}}, d.Labels)
	require.Equal(t, "Test", d.Name)
	require.Equal(t, ".nii.gz", d.FileEnding)
	require.Equal(t, 12, d.NumTraining)
	require.Equal(t, -1, d.IgnoreLabel)
	require.Equal(t, 3, d.NumHeads())
	require.Equal(t, 3, d.NumInputs(&Configuration{}))
	require.Equal(t, 5, d.NumInputs(&Configuration{PreviousStage: "3d_lowres"}))
	require.False(t, d.HasRegions())
}

func TestRegions(t *testing.T) {
	// The labels of BraTS, with an ignore label.
	d, err := ParseDataset([]byte(`{"modality": {"0": "FLAIR"}, "regions_class_order": [1, 2, 3],
		"labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3, "ignore": 4}}`), "dataset.json")
	require.NoError(t, err)
	require.True(t, d.HasRegions())
	require.Equal(t, 3, d.NumHeads())
	require.Equal(t, []int{0, 1, 2, 3}, d.Values())
	require.Equal(t, 4, d.IgnoreLabel)
	require.Equal(t, []int{1, 2, 3}, d.RegionsClassOrder)
	require.Equal(t, "tumor core", d.Regions()[1].Name)
}

func TestDatasetErrors(t *testing.T) {
	cases := map[string]struct {
		labels string
		kind   fault.Kind
		says   string
	}{
		"gap":               {`{"background": 0, "a": 1, "b": 3}`, fault.Model, "1 is followed by 3"},
		"no background":     {`{"none": 0, "a": 1}`, fault.Model, "background"},
		"background is 1":   {`{"background": 1, "a": 0}`, fault.Model, "background is [1]"},
		"background region": {`{"background": [0, 1], "a": 1}`, fault.Model, "background"},
		"ignore in between": {`{"background": 0, "ignore": 1, "a": 2}`, fault.Model, "followed by 2"},
		"ignore too high":   {`{"background": 0, "a": 1, "ignore": 3}`, fault.Model, "ignore is 3"},
		"ignore is a list":  {`{"background": 0, "a": 1, "ignore": [2]}`, fault.Format, "ignore"},
		"text":              {`{"background": 0, "a": "one"}`, fault.Format, `"one", expected a whole number from 0 to 65535, or for a region a list of them`},
		"negative":          {`{"background": 0, "a": -1}`, fault.Format, "-1"},
		"half":              {`{"background": 0, "a": 1.5}`, fault.Format, "1.5"},
		"list":              {`[]`, fault.Format, "an object"},
		"v1":                {`{"0": "background", "1": "a"}`, fault.Format, `"background"`},
		"no order":          {`{"background": 0, "a": [1, 2], "b": 2}`, fault.Model, "regions_class_order"},
		"empty region":      {`{"background": 0, "a": []}`, fault.Format, "[]"},
	}
	for name, test := range cases {
		_, err := ParseDataset([]byte(`{"channel_names": {"0": "CT"}, "labels": `+test.labels+`}`), "some/dataset.json")
		require.Error(t, err, name)
		require.Equal(t, test.kind, fault.KindOf(err), "%s: %v", name, err)
		require.Contains(t, err.Error(), test.says, name)
		require.Contains(t, err.Error(), "some/dataset.json", name)
	}
	_, err := ParseDataset([]byte(`{"channel_names": {"0": "CT"}, "labels": {"liver": 1}}`), "d")
	require.EqualError(t, err, `d: key "labels" lacks "background": 0`)
	_, err = ParseDataset([]byte(`{"channel_names": {}, "labels": {"background": 0}}`), "d")
	require.Equal(t, fault.Format, fault.KindOf(err))
	_, err = ParseDataset([]byte(`{"channel_names": {"CT": "0"}, "labels": {"background": 0}}`), "d")
	require.Equal(t, fault.Format, fault.KindOf(err))
	_, err = ParseDataset([]byte(`{}`), "d")
	require.Equal(t, fault.Model, fault.KindOf(err))
}

func TestGenericDataset(t *testing.T) {
	d, err := GenericDataset(2, 14)
	require.NoError(t, err)
	require.Equal(t, 14, d.NumHeads())
	require.Equal(t, []string{"0", "1"}, d.Channels)
	require.Equal(t, Label{"label_13", []int{13}}, d.Labels[13])
	again, err := ParseDataset(d.Raw, d.File)
	require.NoError(t, err)
	require.Equal(t, d, again)
	_, err = GenericDataset(0, 14)
	require.Equal(t, fault.Model, fault.KindOf(err))
	_, err = GenericDataset(1, 1<<40)
	require.Equal(t, fault.Model, fault.KindOf(err))
}

func FuzzDataset(f *testing.F) {
	f.Add([]byte(`{"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "ignore": 2}, "numTraining": 3}`))
	f.Add([]byte(`{"modality": {"0": "CT"}, "labels": {"background": 0, "a": [1, 2], "b": 2, "b": 2}, "regions_class_order": [1, 2]}`))
	matrixSeeds(f, "dataset.json", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDataset(b, "dataset.json")
		if err != nil {
			return
		}
		if d.HasRegions() && d.NumHeads() != len(d.RegionsClassOrder) {
			t.Fatalf("%d heads, order %v", d.NumHeads(), d.RegionsClassOrder)
		}
	})
}
