package dataset

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/volume"
)

// TestSplits: nnU-Net's own splits_final.json of the hippocampus cases.
func TestSplits(t *testing.T) {
	want, err := ReadSplits(testenv.Data(t, "nnunet_golden", "hippocampus", "splits_final.json"))
	require.NoError(t, err)
	var cases []string
	for _, s := range want {
		cases = append(cases, s.Val...)
	}
	require.Len(t, cases, 195)
	got, err := CrossValidation(cases)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	one, err := SplitOf("3", cases, nil)
	require.NoError(t, err)
	assert.Equal(t, want[3], one)
	all, err := SplitOf("all", cases, nil)
	require.NoError(t, err)
	assert.Len(t, all.Train, 195)
	assert.Equal(t, all.Train, all.Val)
	for _, bad := range []string{"5", "-1", "x", ""} {
		_, err = SplitOf(bad, cases, nil)
		assert.Equal(t, fault.Argument, fault.KindOf(err))
	}
	_, err = SplitOf("0", cases[:4], nil)
	assert.ErrorContains(t, err, "4 training cases")
	_, err = SplitOf("0", cases, []Split{{[]string{"elsewhere"}, cases[:1]}})
	assert.ErrorContains(t, err, "elsewhere")
	_, err = SplitOf("0", cases, []Split{{nil, cases[:1]}})
	assert.Equal(t, fault.Model, fault.KindOf(err))
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

// golden returns the options for testdata's case.
func golden(t *testing.T) Options {
	t.Helper()
	plans, err := nnunet.ParsePlans(read(t, "testdata/bordered_plans.json"), "bordered_plans.json")
	require.NoError(t, err)
	d, err := nnunet.ParseDataset([]byte(`{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}`), "dataset.json")
	require.NoError(t, err)
	return Options{Plans: plans, Dataset: d, Configuration: "3d_fullres", Threads: 2, Fingerprint: []byte("{}"),
		Cases: []nnunet.RawCase{{Name: "bordered", Images: []string{"testdata/bordered_image.nii.gz"}, Label: "testdata/bordered_label.nii.gz"}}}
}

// TestCase: image, labels (-1 outside the nonzero mask) and locations as nnU-Net 2.8.1
// makes them of a transposed, cropped, masked and resampled case.
func TestCase(t *testing.T) {
	live := cmem.Live()
	folder := t.TempDir()
	c, err := Preprocess(t.Context(), folder, golden(t))
	require.NoError(t, err)
	defer c.Close()
	assert.Equal(t, live, cmem.Live())
	k, err := c.Case("bordered")
	require.NoError(t, err)
	image, shape, err := npy.Read("testdata/bordered_image.npy")
	require.NoError(t, err)
	assert.Equal(t, shape, append([]int{k.Channels}, k.Shape[:]...))
	assert.InDeltaSlice(t, image, k.Image, 1e-5)
	labels, _, err := npy.Read("testdata/bordered_labels.npy")
	require.NoError(t, err)
	got := make([]float32, len(k.Labels))
	for i, v := range k.Labels {
		got[i] = float32(v)
	}
	assert.Equal(t, labels, got)
	assert.True(t, slices.Contains(k.Labels, -1))
	locations, _, err := npy.Read("testdata/bordered_locations.npy")
	require.NoError(t, err)
	var all []float32
	for _, l := range k.Locations {
		for _, v := range l {
			all = append(all, float32(v))
		}
	}
	assert.Equal(t, locations, all)
	assert.Equal(t, [][]int{{1}, {2}}, c.Classes)
	assert.Equal(t, [3]int{24, 10, 20}, k.Transposed)
	assert.Equal(t, [3]int{3, 2, 4}, k.CropFrom) // bbox_used_for_cropping
	assert.Equal(t, [3]int{17, 7, 14}, k.Cropped)
	assert.Equal(t, [3]float64{1.5, 0.8, 1.2}, k.GridSpacing)
	assert.Equal(t, c.Dataset.Raw, golden(t).Dataset.Raw)
	assert.Equal(t, "{}", string(c.Fingerprint))
	assert.FileExists(t, c.Reference("bordered"))
}

// TestHippocampus compares an image with nnU-Net's.
func TestHippocampus(t *testing.T) {
	raw, model := testenv.Data(t, "msd_task04_hippocampus"), testenv.Data(t, "nnunet_golden", "hippocampus", "model")
	o := golden(t)
	var err error
	o.Plans, err = nnunet.ParsePlans(read(t, filepath.Join(model, "plans.json")), "plans.json")
	require.NoError(t, err)
	o.Cases = []nnunet.RawCase{{Name: "hippocampus_024", Images: []string{filepath.Join(raw, "imagesTr", "hippocampus_024.nii.gz")},
		Label: filepath.Join(raw, "labelsTr", "hippocampus_024.nii.gz")}}
	c, err := Preprocess(t.Context(), t.TempDir(), o)
	require.NoError(t, err)
	defer c.Close()
	k, err := c.Case("hippocampus_024")
	require.NoError(t, err)
	want, _, err := npy.Read(testenv.Data(t, "nnunet_golden", "hippocampus", "hippocampus_024_preprocessed.npy"))
	require.NoError(t, err)
	assert.InDeltaSlice(t, want, k.Image, 1e-5)
	assert.Equal(t, [3]int{}, k.CropFrom)
}

// TestResume: what is there is kept, what changed is made again, what is damaged is
// found.
func TestResume(t *testing.T) {
	folder, o := t.TempDir(), golden(t)
	source := t.TempDir()
	image, label := filepath.Join(source, "i.nii.gz"), filepath.Join(source, "l.nii.gz")
	require.NoError(t, os.WriteFile(image, read(t, o.Cases[0].Images[0]), 0o666))
	require.NoError(t, os.WriteFile(label, read(t, o.Cases[0].Label), 0o666))
	o.Cases = append(o.Cases, nnunet.RawCase{Name: "second", Images: []string{image}, Label: label})
	kept := map[string]bool{}
	o.Progress = func(name string, k bool, done, total int) { kept[name] = k; assert.Equal(t, 2, total) }
	run := func(want ...bool) {
		t.Helper()
		c, err := Preprocess(t.Context(), folder, o)
		require.NoError(t, err)
		c.Close()
		assert.Equal(t, map[string]bool{"bordered": want[0], "second": want[1]}, kept)
	}
	run(false, false)
	run(true, true)
	later := filepath.Join(folder, "second.labels.npy")
	require.NoError(t, os.WriteFile(label, read(t, label), 0o666)) // a newer file
	run(true, false)
	moved := filepath.Join(t.TempDir(), "moved") // the same files elsewhere
	require.NoError(t, os.Rename(source, moved))
	gone, err := Open(folder)
	require.NoError(t, err)
	err = gone.Sourced(gone.Cases)
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	assert.ErrorContains(t, err, "no such file")
	gone.Close()
	image, label = filepath.Join(moved, "i.nii.gz"), filepath.Join(moved, "l.nii.gz")
	o.Cases[1].Images, o.Cases[1].Label = []string{image}, label
	run(true, true)
	there, err := Open(folder)
	require.NoError(t, err)
	assert.NoError(t, there.Sourced(there.Cases))
	assert.Equal(t, label, there.Reference("second"))
	there.Close()

	data := read(t, later)
	data[len(data)-1] ^= 1
	require.NoError(t, os.WriteFile(later, data, 0o666))
	c, err := Open(folder)
	require.NoError(t, err)
	k, err := c.Case("second")
	require.NoError(t, err)
	for range 2 {
		err = k.Verify()
		assert.ErrorContains(t, err, "second.labels.npy: damaged")
		assert.Equal(t, fault.Format, fault.KindOf(err))
	}
	_, err = c.Case("third")
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	c.Close()
	run(true, false)
	require.NoError(t, os.Truncate(later, 100))
	c, err = Open(folder)
	require.NoError(t, err)
	_, err = c.Case("second")
	assert.Equal(t, fault.Format, fault.KindOf(err))
	c.Close()
	run(true, false)

	text := bytes.Replace(o.Plans.Raw, []byte("1.2]"), []byte("1.3]"), 1)
	require.NotEqual(t, text, o.Plans.Raw)
	o.Plans, err = nnunet.ParsePlans(text, "plans.json")
	require.NoError(t, err)
	run(false, false)

	cancelled := o
	cancelled.Progress = nil
	ctx, stop := testContext(t)
	stop()
	_, err = Preprocess(ctx, folder, cancelled)
	assert.Equal(t, fault.Cancelled, fault.KindOf(err))
	c, err = Open(folder) // nothing was to do
	require.NoError(t, err)
	c.Close()
	cancelled.Plans = golden(t).Plans
	_, err = Preprocess(ctx, folder, cancelled)
	assert.Equal(t, fault.Cancelled, fault.KindOf(err))
	_, err = Open(folder)
	assert.ErrorContains(t, err, "flare preprocess")
}

// TestRefusals: labels that do not fit, by name.
func TestRefusals(t *testing.T) {
	o := golden(t)
	write := func(size [3]int, spacing float64, value uint8) string {
		g := volume.Geometry{Size: size, Spacing: [3]float64{spacing, 0.9, 2}, Direction: volume.Identity}
		data := make([]byte, g.Voxels())
		data[7] = value
		v, err := volume.Wrap(g, 1, volume.Uint8, data)
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "odd.nii.gz")
		require.NoError(t, imageio.Write(t.Context(), path, v))
		return path
	}
	for _, c := range []struct {
		label, text string
		kind        fault.Kind
	}{
		{write([3]int{20, 24, 10}, 1.1, 3), "a voxel is 3, dataset.json has only the labels", fault.Format},
		{write([3]int{20, 24, 11}, 1.1, 1), "[20 24 11] voxels (x, y, z) and 1 channels, but its image", fault.Model},
		{write([3]int{20, 24, 10}, 1.2, 1), "spacing [1.2", fault.Model},
	} {
		o.Cases[0].Label = c.label
		_, err := Preprocess(t.Context(), t.TempDir(), o)
		assert.Equal(t, c.kind, fault.KindOf(err))
		assert.ErrorContains(t, err, "case bordered: "+c.label)
		assert.ErrorContains(t, err, c.text)
	}
	o.Cases[0].Label = write([3]int{20, 24, 10}, 1.1, 0) // empty
	c, err := Preprocess(t.Context(), t.TempDir(), o)
	require.NoError(t, err)
	defer c.Close()
	k, err := c.Case("bordered")
	require.NoError(t, err)
	assert.Equal(t, [][]int32{nil, nil}, k.Locations)

	_, err = Open(t.TempDir())
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	folder := t.TempDir()
	text, _ := json.Marshal(description{Format: 99})
	require.NoError(t, os.WriteFile(filepath.Join(folder, "cache.json"), text, 0o666))
	_, err = Open(folder)
	assert.Equal(t, fault.Unsupported, fault.KindOf(err))
}

func testContext(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithCancel(t.Context())
}

// TestWeights: a case's weights come to the network's grid from the nearest voxel, through crop,
// transposition and resampling; other files than weights on the image's grid are refused.
func TestWeights(t *testing.T) {
	live := cmem.Live()
	o := golden(t)
	image, err := imageio.Read(t.Context(), o.Cases[0].Images[0])
	require.NoError(t, err)
	defer image.Free()
	weights, err := volume.New(image.Geometry, 1, volume.Uint8)
	require.NoError(t, err)
	defer weights.Free()
	for i := range weights.Data {
		weights.Data[i] = uint8(i * 131 % 256)
	}
	file, folder := filepath.Join(t.TempDir(), "w.nii.gz"), t.TempDir()
	require.NoError(t, imageio.Write(t.Context(), file, weights))
	plain, err := Preprocess(t.Context(), folder, o)
	require.NoError(t, err)
	k, err := plain.Case("bordered")
	require.NoError(t, err)
	assert.Nil(t, k.Doubt)
	plain.Close()

	o.Cases[0].Weight = file
	kept := true
	o.Progress = func(_ string, k bool, _, _ int) { kept = k }
	c, err := Preprocess(t.Context(), folder, o)
	require.NoError(t, err)
	assert.False(t, kept)
	k, err = c.Case("bordered")
	require.NoError(t, err)
	require.NoError(t, k.Verify())
	require.Len(t, k.Doubt, k.Shape[0]*k.Shape[1]*k.Shape[2])
	assert.NotEqual(t, k.Shape, k.Cropped)
	forward := o.Plans.TransposeForward
	assert.NotEqual(t, [3]int{0, 1, 2}, forward)
	for i, doubt := range k.Doubt {
		at := [3]int{i / (k.Shape[1] * k.Shape[2]), i / k.Shape[2] % k.Shape[1], i % k.Shape[2]}
		var from [3]int // z, y, x of the image
		for a := range 3 {
			middle := (float64(at[a]) + 0.5) * float64(k.Cropped[a]) / float64(k.Shape[a]) // of the voxel, in crop's voxels
			from[forward[a]] = k.CropFrom[a] + int(middle)
		}
		w := weights.Data[(from[0]*k.Size[1]+from[1])*k.Size[0]+from[2]]
		require.InDelta(t, 1-float64(w)/255, float64(doubt), 1e-6, "voxel %v from %v", at, from)
	}
	c.Close()
	c, err = Preprocess(t.Context(), folder, o)
	require.NoError(t, err)
	assert.True(t, kept)
	c.Close()

	o.Cases[0].Weight = o.Cases[0].Images[0]
	_, err = Preprocess(t.Context(), folder, o)
	assert.Equal(t, fault.Format, fault.KindOf(err))
	assert.ErrorContains(t, err, "expected")
	weights.Free()
	image.Free()
	assert.Equal(t, live, cmem.Live())
}
