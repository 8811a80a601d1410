package student

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train"
	"github.com/libflare/libflare/segment/volume"
)

// A toy: a bright and a dark ball in noise, 18 x 14 x 20 voxels of 1 mm.
const toyDataset = `{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "bright": 1, "dark": 2}, "numTraining": %d, "file_ending": ".nii.gz"}`

// toyPlans returns plans of a network with patches of 16^3.
func toyPlans(t testing.TB, features []int) []byte {
	t.Helper()
	fill := func(n int, v any) (out []any) {
		for range n {
			out = append(out, v)
		}
		return out
	}
	stages := len(features)
	resampling := func(seg bool, order int) map[string]any {
		return map[string]any{"is_seg": seg, "order": order, "order_z": 0, "force_separate_z": nil}
	}
	spline := "resample_data_or_seg_to_shape"
	text, err := json.Marshal(map[string]any{
		"dataset_name": "toy", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
		"transpose_forward": []int{0, 1, 2}, "transpose_backward": []int{0, 1, 2},
		"configurations": map[string]any{"3d_fullres": map[string]any{
			"data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": []int{16, 16, 16}, "spacing": []float64{1, 1, 1},
			"normalization_schemes": []string{"ZScoreNormalization"}, "use_mask_for_norm": []bool{false}, "batch_dice": false,
			"resampling_fn_data": spline, "resampling_fn_seg": spline, "resampling_fn_probabilities": spline,
			"resampling_fn_data_kwargs": resampling(false, 3), "resampling_fn_seg_kwargs": resampling(true, 1), "resampling_fn_probabilities_kwargs": resampling(false, 1),
			"architecture": map[string]any{"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
				"_kw_requires_import": []string{"conv_op", "norm_op", "dropout_op", "nonlin"},
				"arch_kwargs": map[string]any{"n_stages": stages, "features_per_stage": features, "conv_op": "torch.nn.modules.conv.Conv3d",
					"kernel_sizes": fill(stages, []int{3, 3, 3}), "strides": append([]any{[]int{1, 1, 1}}, fill(stages-1, []int{2, 2, 2})...),
					"n_conv_per_stage": fill(stages, 2), "n_conv_per_stage_decoder": fill(stages-1, 2),
					"conv_bias": true, "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": map[string]any{"eps": 1e-5, "affine": true},
					"dropout_op": nil, "dropout_op_kwargs": nil, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": map[string]any{"inplace": true}}}}},
	})
	require.NoError(t, err)
	return text
}

// toyImage makes case number i, and its labels.
func toyImage(t testing.TB, i int) (image, labels *volume.Volume) {
	t.Helper()
	g := volume.Geometry{Size: [3]int{18, 14, 20}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	voxels, values := make([]float32, g.Voxels()), make([]uint8, g.Voxels())
	noise := uint32(i + 1)
	for k := range voxels {
		x, y, z := k%18, k/18%14, k/18/14
		noise = noise*1664525 + 1013904223
		voxels[k] = 100 + float32(noise>>24)/16
		ball := func(cx, cy, cz int) bool { return (x-cx)*(x-cx)+(y-cy)*(y-cy)+(z-cz)*(z-cz) < 12 }
		switch {
		case ball(6, 5+i%3, 6):
			voxels[k], values[k] = voxels[k]+60, 1
		case ball(12, 8, 12-i%4):
			voxels[k], values[k] = voxels[k]-60, 2
		}
	}
	image, err := volume.Wrap(g, 1, volume.Float32, cmem.Bytes(voxels))
	require.NoError(t, err)
	labels, err = volume.Wrap(g, 1, volume.Uint8, values)
	require.NoError(t, err)
	return image, labels
}

// toyFolder writes n cases from number first on as a raw dataset and returns its folder.
func toyFolder(t testing.TB, first, n int) string {
	t.Helper()
	folder := t.TempDir()
	for _, sub := range []string{"imagesTr", "labelsTr"} {
		require.NoError(t, os.Mkdir(filepath.Join(folder, sub), 0o777))
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "dataset.json"), fmt.Appendf(nil, toyDataset, n), 0o666))
	for i := first; i < first+n; i++ {
		image, labels := toyImage(t, i)
		require.NoError(t, imageio.Write(t.Context(), filepath.Join(folder, "imagesTr", fmt.Sprintf("case_%02d_0000.nii.gz", i)), image))
		require.NoError(t, imageio.Write(t.Context(), filepath.Join(folder, "labelsTr", fmt.Sprintf("case_%02d.nii.gz", i)), labels))
	}
	return folder
}

// randomBundle writes a bundle of a network that was not trained, whose numbers depend on
// the seed.
func randomBundle(t testing.TB, dataset string, features []int, seed uint64) string {
	t.Helper()
	plans, err := nnunet.ParsePlans(toyPlans(t, features), "plans.json")
	require.NoError(t, err)
	d, err := nnunet.ParseDataset([]byte(dataset), "dataset.json")
	require.NoError(t, err)
	s := train.Default()
	s.Seed = seed
	k, err := train.New(train.Task{Plans: plans, Dataset: d, Configuration: "3d_fullres", Fold: "0"}, s, train.Options{Device: "ort", Runtime: testenv.Runtime(t)})
	require.NoError(t, err)
	defer k.Close()
	path := filepath.Join(t.TempDir(), "model.onnx")
	require.NoError(t, k.Export(path))
	return path
}

// read returns the voxels of a label file.
func read(t testing.TB, path string) []uint8 {
	t.Helper()
	v, err := imageio.Read(t.Context(), path)
	require.NoError(t, err)
	defer v.Free()
	return append([]uint8{}, v.Data...)
}
