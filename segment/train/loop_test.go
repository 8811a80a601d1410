package train

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/filelock"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train/dataset"
	"github.com/libflare/libflare/segment/volume"
)

// smallPlans returns plans of a 3-D network for hippocampus or made-up cases.
func smallPlans(t *testing.T, patch []int, features []int) *nnunet.Plans {
	t.Helper()
	stages := len(features)
	fill := func(n int, v any) (out []any) {
		for range n {
			out = append(out, v)
		}
		return out
	}
	strides := append([]any{[]int{1, 1, 1}}, fill(stages-1, []int{2, 2, 2})...)
	resampling := func(seg bool, order int) map[string]any {
		return map[string]any{"is_seg": seg, "order": order, "order_z": 0, "force_separate_z": nil}
	}
	spline := "resample_data_or_seg_to_shape"
	plans := map[string]any{
		"dataset_name": "small", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
		"transpose_forward": []int{0, 1, 2}, "transpose_backward": []int{0, 1, 2},
		"configurations": map[string]any{"3d_fullres": map[string]any{
			"data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": patch, "spacing": []float64{1, 1, 1},
			"normalization_schemes": []string{"ZScoreNormalization"}, "use_mask_for_norm": []bool{false}, "batch_dice": false,
			"resampling_fn_data": spline, "resampling_fn_seg": spline, "resampling_fn_probabilities": spline,
			"resampling_fn_data_kwargs": resampling(false, 3), "resampling_fn_seg_kwargs": resampling(true, 1), "resampling_fn_probabilities_kwargs": resampling(false, 1),
			"architecture": map[string]any{"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
				"_kw_requires_import": []string{"conv_op", "norm_op", "dropout_op", "nonlin"},
				"arch_kwargs": map[string]any{"n_stages": stages, "features_per_stage": features, "conv_op": "torch.nn.modules.conv.Conv3d",
					"kernel_sizes": fill(stages, []int{3, 3, 3}), "strides": strides, "n_conv_per_stage": fill(stages, 2), "n_conv_per_stage_decoder": fill(stages-1, 2),
					"conv_bias": true, "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": map[string]any{"eps": 1e-5, "affine": true},
					"dropout_op": nil, "dropout_op_kwargs": nil, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": map[string]any{"inplace": true}}}}},
	}
	text, err := json.Marshal(plans)
	require.NoError(t, err)
	p, err := nnunet.ParsePlans(text, "small plans")
	require.NoError(t, err)
	return p
}

// smallCache preprocesses made-up cases: a bright and a dark ball in noise; the second
// case has no label.
func smallCache(t *testing.T, cases int) *dataset.Cache {
	t.Helper()
	return smallCacheOf(t, cases, `{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "bright": 1, "dark": 2}, "file_ending": ".nii.gz"}`)
}

func smallCacheOf(t *testing.T, cases int, description string) *dataset.Cache {
	t.Helper()
	folder := t.TempDir()
	d, err := nnunet.ParseDataset([]byte(description), "dataset.json")
	require.NoError(t, err)
	o := dataset.Options{Plans: smallPlans(t, []int{16, 16, 16}, []int{4, 8}), Dataset: d, Configuration: "3d_fullres", Threads: 2}
	for i := range cases {
		g := volume.Geometry{Size: [3]int{18, 14, 20}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
		image, labels := make([]float32, g.Voxels()), make([]uint8, g.Voxels())
		noise := uint32(i + 1)
		for k := range image {
			x, y, z := k%18, k/18%14, k/18/14
			noise = noise*1664525 + 1013904223
			image[k] = 100 + float32(noise>>24)/16
			ball := func(cx, cy, cz int) bool { return (x-cx)*(x-cx)+(y-cy)*(y-cy)+(z-cz)*(z-cz) < 12 }
			switch {
			case ball(6, 5+i%3, 6):
				image[k], labels[k] = image[k]+60, 1
			case ball(12, 8, 12-i%4):
				image[k], labels[k] = image[k]-60, 2
			}
			if i == 1 {
				labels[k] = 0
			}
		}
		write := func(name string, dtype volume.DType, data []byte) string {
			v, err := volume.Wrap(g, 1, dtype, data)
			require.NoError(t, err)
			path := filepath.Join(folder, name)
			require.NoError(t, imageio.Write(t.Context(), path, v))
			return path
		}
		name := string(rune('a' + i))
		o.Cases = append(o.Cases, nnunet.RawCase{Name: name, Images: []string{write(name+"_0000.nii.gz", volume.Float32, cmem.Bytes(image))},
			Label: write(name+".nii.gz", volume.Uint8, labels)})
	}
	c, err := dataset.Preprocess(t.Context(), filepath.Join(folder, "cache"), o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func smallRun(t *testing.T, c *dataset.Cache) RunOptions {
	s := Default()
	s.Epochs, s.Iterations, s.ValidationIterations = 3, 6, 2
	return RunOptions{Options: Options{Device: "ort", Threads: 2, Workers: 2, Runtime: testenv.Runtime(t)}, Settings: s, Cache: c, Fold: "all",
		Folder: filepath.Join(t.TempDir(), "run")}
}

// parametersOf returns what a run's checkpoint holds.
func parametersOf(t *testing.T, folder string) (*State, map[string][]float32) {
	t.Helper()
	all := map[string][]float32{}
	s, err := readCheckpoint(filepath.Join(folder, checkpointFile), func(_ *State, a arrayName) ([]float32, error) {
		all[a.Name] = make([]float32, elements(a.Shape))
		return all[a.Name], nil
	})
	require.NoError(t, err)
	return s, all
}

// TestResume: a training that is cancelled again and again, at any step, ends with the
// bits of one that is not; with more workers, too.
func TestResume(t *testing.T) {
	live := cmem.Live()
	for _, optimizer := range []string{"sgd", "adamw"} {
		whole := smallRun(t, smallCache(t, 4))
		whole.Settings.Optimizer, whole.Settings.Dropout = optimizer, 0.1
		summary, err := Run(t.Context(), whole)
		require.NoError(t, err)
		require.Len(t, summary.Cases, 4)
		state, want := parametersOf(t, whole.Folder)
		require.Len(t, state.Epochs, 3)

		parts := whole
		parts.Folder, parts.Resume, parts.Workers = filepath.Join(t.TempDir(), "run"), true, 3
		stops := 0
		for done := false; !done; {
			ctx, stop := context.WithCancel(t.Context())
			seen := 0
			parts.Progress = func(Progress) {
				if seen++; seen == 2+stops%3 {
					stop()
				}
			}
			_, err := Run(ctx, parts)
			stop()
			if done = err == nil; !done {
				require.Equal(t, fault.Cancelled, fault.KindOf(err), "%v", err)
				stops++
				require.Less(t, stops, 40)
				if stops > 6 {
					parts.Progress = nil
					_, err = Run(t.Context(), parts)
					require.NoError(t, err)
					done = true
				}
			}
		}
		require.Positive(t, stops)
		got, have := parametersOf(t, parts.Folder)
		assert.Equal(t, want, have, "%s after %d stops", optimizer, stops)
		require.Len(t, got.Epochs, 3)
		for i := range got.Epochs {
			a, b := got.Epochs[i], state.Epochs[i]
			assert.Equal(t, []float64{b.Loss, b.ValidationLoss, b.Dice, b.EMA}, []float64{a.Loss, a.ValidationLoss, a.Dice, a.EMA})
		}
		for _, name := range []string{"plans.json", "dataset.json", "split.json", bestFile, bundleFile, "progress.csv", "progress.png", "events.out.tfevents.flare",
			"validation/summary.json", "validation/a.nii.gz"} {
			assert.FileExists(t, filepath.Join(parts.Folder, name))
		}

		// Other settings are another training.
		other := parts
		other.Progress, other.Settings.LearningRate = nil, 0.02
		_, err = Run(t.Context(), other)
		assert.Equal(t, fault.Model, fault.KindOf(err))
		assert.ErrorContains(t, err, "learning_rate 0.01, not 0.02")
		other = parts
		other.Resume = false
		_, err = Run(t.Context(), other)
		assert.ErrorContains(t, err, "resume it")
	}
	assert.Equal(t, live, cmem.Live())
}

// TestCheckpointFiles: damage of any kind is told by text.
func TestCheckpointFiles(t *testing.T) {
	o := smallRun(t, smallCache(t, 2))
	task := Task{Plans: o.Cache.Plans, Dataset: o.Cache.Dataset, Configuration: "3d_fullres", Fold: "all"}
	k, err := New(task, o.Settings, o.Options)
	require.NoError(t, err)
	defer k.Close()
	path := filepath.Join(t.TempDir(), "c.flare")
	require.NoError(t, k.Save(path))
	require.NoError(t, k.Load(path))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, c := range []struct {
		name string
		data []byte
		kind fault.Kind
		text string
	}{
		{"empty", nil, fault.Format, "not a checkpoint"},
		{"foreign", []byte("PK\x03\x04 something else altogether"), fault.Format, "not a checkpoint"},
		{"cut in the text", data[:100], fault.Format, "truncated"},
		{"cut in the arrays", data[:len(data)/2], fault.Format, "truncated"},
		{"cut at the end", data[:len(data)-1], fault.Format, "truncated"},
		{"longer", append(slices.Clone(data), 0), fault.Format, "damaged"},
		{"a flipped bit", flipped(data, len(data)-1000), fault.Format, "damaged"},
		{"another version", flipped(data, 8), fault.Unsupported, "format"},
	} {
		require.NoError(t, os.WriteFile(path, c.data, 0o666))
		err := k.Load(path)
		assert.Equal(t, c.kind, fault.KindOf(err), c.name)
		assert.ErrorContains(t, err, c.text, c.name)
	}
	assert.Equal(t, fault.NotFound, fault.KindOf(k.Load(path+"x")))
}

// TestCheckpointOnAFullDisk: the old checkpoint stays, and nothing else.
func TestCheckpointOnAFullDisk(t *testing.T) {
	if !testenv.OwnProcess(t) {
		return
	}
	o := smallRun(t, smallCache(t, 2))
	k, err := New(Task{Plans: o.Cache.Plans, Dataset: o.Cache.Dataset, Configuration: "3d_fullres", Fold: "all"}, o.Settings, o.Options)
	require.NoError(t, err)
	defer k.Close()
	path := filepath.Join(t.TempDir(), "c.flare")
	require.NoError(t, k.Save(path))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	testenv.FullDisk(t, uint64(len(data)/2), func() { err = k.Save(path) })
	assert.Equal(t, fault.IO, fault.KindOf(err))
	now, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, data, now)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func flipped(data []byte, at int) []byte {
	out := slices.Clone(data)
	out[at] ^= 2
	return out
}

// TestLock: two trainings in one folder are refused; a lock that a dead process left is
// none.
func TestLock(t *testing.T) {
	o := smallRun(t, smallCache(t, 2))
	o.Settings.Epochs = 1
	require.NoError(t, os.MkdirAll(o.Folder, 0o777))
	f, err := filelock.Lock(filepath.Join(o.Folder, lockFile), "")
	require.NoError(t, err)
	_, err = Run(t.Context(), o)
	assert.Equal(t, fault.IO, fault.KindOf(err))
	assert.ErrorContains(t, err, "another process trains here")
	f.Close()
	_, err = Run(t.Context(), o)
	require.NoError(t, err)
}

// TestImageGone: where a validation case's image is not there any more, no step is made.
func TestImageGone(t *testing.T) {
	o := smallRun(t, smallCache(t, 2))
	k, err := o.Cache.Case("b")
	require.NoError(t, err)
	image := k.Sources[0].Path
	require.NoError(t, os.Rename(image, image+".moved"))
	steps := 0
	o.Progress = func(Progress) { steps++ }
	_, err = Run(t.Context(), o)
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	assert.ErrorContains(t, err, image+": no such file")
	assert.Zero(t, steps)
	require.NoError(t, os.Rename(image+".moved", image))
	_, err = Run(t.Context(), o)
	require.NoError(t, err)
	assert.Positive(t, steps)
}

// TestDivergence: a loss that is not finite ends the training with step and cases; the
// checkpoint before it stays, its parameters finite.
func TestDivergence(t *testing.T) {
	o := smallRun(t, smallCache(t, 2))
	k, err := New(Task{Plans: o.Cache.Plans, Dataset: o.Cache.Dataset, Configuration: "3d_fullres", Fold: "all"}, o.Settings, o.Options)
	require.NoError(t, err)
	defer k.Close()
	for i := range k.Step.Images {
		k.Step.Images[i] = float32(math.NaN())
	}
	kept := slices.Clone(k.Step.Parameters.Values)
	_, err = k.Train(t.Context(), 0.01, 0)
	assert.Equal(t, fault.Model, fault.KindOf(err))
	assert.Equal(t, kept, k.Step.Parameters.Values)

	o.Settings.Epochs, o.Settings.LearningRate, o.Settings.Clip = 3, 10, 1e9
	o.Settings.WeightDecay = 1 // parameters grow by a factor of ten and more in each step
	_, err = Run(t.Context(), o)
	assert.Equal(t, fault.Model, fault.KindOf(err), "%v", err)
	assert.ErrorContains(t, err, "epoch 1, step ")
	assert.ErrorContains(t, err, "cases ")
	assert.ErrorContains(t, err, "the last good checkpoint is "+filepath.Join(o.Folder, checkpointFile))
	state, arrays := parametersOf(t, o.Folder)
	assert.Equal(t, 1, state.Epoch)
	for name, values := range arrays {
		for _, v := range values {
			require.False(t, math.IsNaN(float64(v)) || math.IsInf(float64(v), 0), name)
		}
	}
}

// TestRegions trains on overlapping regions, and on labels of which one is ignored.
func TestRegions(t *testing.T) {
	for keys, description := range map[string]string{
		"(1, 2) 2": `{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "both": [1, 2], "dark": 2}, "regions_class_order": [1, 2], "file_ending": ".nii.gz"}`,
		"1":        `{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "bright": 1, "ignore": 2}, "file_ending": ".nii.gz"}`,
		"(1, 2)":   `{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "both": [1, 2], "ignore": 3}, "regions_class_order": [1], "file_ending": ".nii.gz"}`,
	} {
		o := smallRun(t, smallCacheOf(t, 3, description))
		o.Settings.Epochs = 8
		summary, err := Run(t.Context(), o)
		require.NoError(t, err, keys)
		assert.Equal(t, keys, strings.Join(summary.Keys, " "))
		state, _ := parametersOf(t, o.Folder)
		assert.Less(t, state.Epochs[7].Loss, state.Epochs[0].Loss, keys)
		assert.Len(t, state.Epochs[7].ClassDice, len(summary.Keys))
	}
}

// TestWeightedCases: with weights of 1 a training goes as one without; labels do not matter
// where the weights are 0.
func TestWeightedCases(t *testing.T) {
	live := cmem.Live()
	// cache has weights in the slices from 9 on, and wrong labels among those: where a sample is interpolated, more than
	// a voxel away from other weights and from the case's border.
	cache := func(wrong bool, weight byte) *dataset.Cache {
		c := smallCache(t, 3)
		folder := t.TempDir()
		o := dataset.Options{Plans: c.Plans, Dataset: c.Dataset, Configuration: "3d_fullres", Threads: 2}
		for _, name := range c.Cases {
			k, err := c.Case(name)
			require.NoError(t, err)
			g := volume.Geometry{Size: k.Size, Spacing: k.Spacing, Origin: k.Origin, Direction: k.Direction}
			labels, weights := make([]byte, g.Voxels()), make([]byte, g.Voxels())
			for i := range labels {
				labels[i], weights[i] = byte(max(0, k.Labels[i])), 255
				x, y, z := i%g.Size[0], i/g.Size[0]%g.Size[1], i/(g.Size[0]*g.Size[1])
				if wrong && z >= 11 && z < 18 && x >= 2 && x < 16 && y >= 2 && y < 12 {
					labels[i] = byte(i % 3)
				}
				if z >= 9 {
					weights[i] = weight
				}
			}
			write := func(file string, data []byte) string {
				v, err := volume.Wrap(g, 1, volume.Uint8, data)
				require.NoError(t, err)
				file = filepath.Join(folder, file)
				require.NoError(t, imageio.Write(t.Context(), file, v))
				return file
			}
			image := strings.TrimSuffix(c.Reference(name), name+".nii.gz") + name + "_0000.nii.gz"
			o.Cases = append(o.Cases, nnunet.RawCase{Name: name, Images: []string{image}, Label: write(name+".nii.gz", labels), Weight: write(name+"_w.nii.gz", weights)})
		}
		made, err := dataset.Preprocess(t.Context(), filepath.Join(folder, "cache"), o)
		require.NoError(t, err)
		t.Cleanup(made.Close)
		return made
	}
	losses := func(c *dataset.Cache, weighted bool) []float64 {
		o := smallRun(t, c)
		o.Settings.Weighted, o.Settings.Foreground, o.Settings.Epochs = weighted, 0, 2 // boxes anywhere, whatever the labels are
		_, err := Run(t.Context(), o)
		require.NoError(t, err)
		state, _ := parametersOf(t, o.Folder)
		var all []float64
		for _, e := range state.Epochs {
			all = append(all, e.Loss, e.ValidationLoss)
		}
		return all
	}
	right, wrong := cache(false, 255), cache(true, 255)
	assert.InDeltaSlice(t, losses(right, false), losses(right, true), 1e-4)
	want := losses(cache(false, 0), true)
	assert.InDeltaSlice(t, want, losses(cache(true, 0), true), 1e-6)
	assert.Greater(t, math.Abs(losses(wrong, true)[0]-losses(right, true)[0]), 0.01)
	for _, c := range []*dataset.Cache{right, wrong} {
		c.Close()
	}
	assert.Equal(t, live, cmem.Live())
}

// TestFineTune: weights go through a bundle and through a results folder unchanged; a step
// on a caller's batch; batches of a wrong shape.
func TestFineTune(t *testing.T) {
	o := smallRun(t, smallCache(t, 2))
	o.Settings.Epochs = 1
	_, err := Run(t.Context(), o)
	require.NoError(t, err)
	_, want := parametersOf(t, o.Folder)
	folder := filepath.Join(t.TempDir(), "exported")
	require.NoError(t, ExportRun(o.Folder, folder, false))
	assert.FileExists(t, filepath.Join(folder, "fold_all", "checkpoint_final.pth"))
	for _, path := range []string{filepath.Join(o.Folder, bundleFile), folder} {
		k, err := FineTune(path, o.Settings, o.Options)
		require.NoError(t, err)
		assert.Equal(t, "all", k.Fold)
		for _, p := range k.Step.Parameters.Tensors {
			if path == folder || p.Name[:len("decoder.seg_layers.0")] != "decoder.seg_layers.0" {
				assert.Equal(t, want[p.Name], p.Data, p.Name)
			}
		}
		b := Batch{Images: make([]float32, 2*16*16*16), Labels: make([]float32, 2*16*16*16)}
		for i := range b.Images {
			b.Images[i], b.Labels[i] = float32(i%7), float32(i%7/6)
		}
		d, err := k.newData(o.Cache, dataset.Split{Train: o.Cache.Cases, Val: o.Cache.Cases})
		require.NoError(t, err)
		s, err := k.sampler(d, 5)
		require.NoError(t, err)
		cases, err := s.next(t.Context())
		require.NoError(t, err)
		assert.Len(t, cases, 2)
		s.close()
		require.NoError(t, k.Take(&b))
		first, err := k.Train(t.Context(), 0.01, 0)
		require.NoError(t, err)
		var last Result
		for range 10 {
			last, err = k.Train(t.Context(), 0.01, 0)
			require.NoError(t, err)
		}
		assert.Less(t, last.Loss, first.Loss)
		b.Images = b.Images[1:]
		err = k.Take(&b)
		assert.Equal(t, fault.Argument, fault.KindOf(err))
		assert.ErrorContains(t, err, "8191 numbers of images, expected 8192")
		b.Images = make([]float32, 8192)
		b.Soft = b.Images
		assert.ErrorContains(t, k.Take(&b), "soft targets")
		k.Close()
	}
	// Soft targets and weights come with the caller's batches.
	soft := o.Settings
	soft.Soft, soft.Weighted = true, true
	k, err := FineTune(folder, soft, o.Options)
	require.NoError(t, err)
	defer k.Close()
	b := Batch{Images: make([]float32, 8192), Soft: make([]float32, 3*8192), Weights: make([]float32, 8192)}
	for i := range b.Images {
		b.Images[i], b.Weights[i] = float32(i%7), float32(i%2)
		b.Soft[i%4096+i/4096*3*4096] = 1 // background
	}
	require.NoError(t, k.Take(&b))
	r, err := k.Train(t.Context(), 0.001, 0)
	require.NoError(t, err)
	assert.Positive(t, r.CE)
	_, err = k.newData(o.Cache, dataset.Split{Train: o.Cache.Cases, Val: o.Cache.Cases})
	assert.Equal(t, fault.Unsupported, fault.KindOf(err))

	for _, bad := range []func(s *Settings){func(s *Settings) { s.Epochs = 0 }, func(s *Settings) { s.LearningRate = math.NaN() },
		func(s *Settings) { s.Optimizer = "lion" }, func(s *Settings) { s.Dropout = 1 }} {
		s := Default()
		bad(&s)
		_, err := New(Task{Plans: o.Cache.Plans, Dataset: o.Cache.Dataset, Configuration: "3d_fullres", Fold: "0"}, s, o.Options)
		assert.Equal(t, fault.Argument, fault.KindOf(err))
	}
}
