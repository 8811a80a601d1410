package nnunet

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
)

// smallPlans is a complete plans.json with one configuration per kind.
const smallPlans = `{
 "dataset_name": "Dataset001_Test", "plans_name": "p", "image_reader_writer": "SimpleITKIO", "_note": "an extra key",
 "transpose_forward": [1, 2, 0], "transpose_backward": [2, 0, 1], "label_manager": "LabelManager",
 "foreground_intensity_properties_per_channel": {
  "0": {"mean": 80.5, "std": 140, "min": -2048, "max": 3000, "median": 100, "percentile_00_5": -970, "percentile_99_5": 290},
  "1": {"mean": NaN, "std": Infinity, "min": -Infinity}},
 "configurations": {
  "3d_fullres": {
   "batch_size": 2, "patch_size": [16, 32, 32], "spacing": [2.5, 0.75, 0.75], "preprocessor_name": "DefaultPreprocessor",
   "normalization_schemes": ["CTNormalization", "ZScoreNormalization"], "use_mask_for_norm": [false, true], "batch_dice": true,
   "resampling_fn_data": "resample_data_or_seg_to_shape",
   "resampling_fn_data_kwargs": {"is_seg": false, "order": 3, "order_z": 0, "force_separate_z": null},
   "resampling_fn_seg": "resample_data_or_seg_to_shape", "resampling_fn_seg_kwargs": {"is_seg": true, "order": 1},
   "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
   "resampling_fn_probabilities_kwargs": {"order": 1, "force_separate_z": true, "separate_z_anisotropy_threshold": 2.5},
   "architecture": {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
     "n_stages": 3, "features_per_stage": [4, 8, 16], "conv_op": "torch.nn.modules.conv.Conv3d",
     "kernel_sizes": [[1, 3, 3], 3, [3, 3, 3]], "strides": [1, [1, 2, 2], 2], "n_conv_per_stage": 2,
     "n_conv_per_stage_decoder": [2, 1], "conv_bias": true,
     "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-05, "affine": true},
     "dropout_op": null, "dropout_op_kwargs": null, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": true}},
    "_kw_requires_import": ["conv_op"]},
   "next_stage": "cascade"},
  "residual": {"inherits_from": "3d_fullres", "architecture": {
    "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "arch_kwargs": {
     "n_stages": 3, "features_per_stage": [4, 8, 16], "conv_op": "torch.nn.modules.conv.Conv3d",
     "kernel_sizes": 3, "strides": [1, 2, 2], "n_blocks_per_stage": [1, 3, 4], "n_conv_per_stage_decoder": 1,
     "norm_op": "torch.nn.BatchNorm3d", "norm_op_kwargs": {}, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"negative_slope": 0.2},
     "block": "dynamic_network_architectures.building_blocks.residual.BottleneckD", "bottleneck_channels": [2, 2, 4], "stem_channels": 6}}},
  "cascade": {"inherits_from": "residual", "previous_stage": "3d_fullres", "spacing": [1, 1, 1]},
  "old": {"inherits_from": "3d_fullres", "architecture": null, "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 32,
   "unet_max_num_features": 100, "n_conv_per_stage_encoder": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2], "num_pool_per_axis": [1, 2, 2],
   "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]]},
  "a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}, "orphan": {"inherits_from": "nobody"}
 }}`

func TestPlans(t *testing.T) {
	p, err := ParsePlans([]byte(smallPlans), "plans.json")
	require.NoError(t, err)
	require.Equal(t, "Dataset001_Test", p.DatasetName)
	require.Equal(t, [3]int{1, 2, 0}, p.TransposeForward)
	require.Equal(t, [3]int{2, 0, 1}, p.TransposeBackward)
	require.Equal(t, Intensity{80.5, 140, -2048, 3000, 100, -970, 290}, p.Intensity[0])
	require.True(t, math.IsNaN(p.Intensity[1].Mean) && math.IsNaN(p.Intensity[1].Percentile995))
	require.Equal(t, []string{"3d_fullres", "a", "b", "cascade", "old", "orphan", "residual"}, p.Configurations)

	c, err := p.Configuration("3d_fullres")
	require.NoError(t, err)
	off, on := false, true
	require.Equal(t, &Configuration{
		Name: "3d_fullres", PatchSize: []int{16, 32, 32}, Spacing: []float64{2.5, 0.75, 0.75}, BatchSize: 2, BatchDice: true,
		Normalization: []string{"CTNormalization", "ZScoreNormalization"}, UseMask: []bool{false, true}, NextStages: []string{"cascade"},
		Data:          Resampling{Name: "resample_data_or_seg_to_shape", Order: 3, Threshold: 3},
		Seg:           Resampling{Name: "resample_data_or_seg_to_shape", IsSeg: true, Order: 1, ForceSeparateZ: &off, Threshold: 3}, // the function's default is False
		Probabilities: Resampling{Name: "resample_data_or_seg_to_shape", Order: 1, ForceSeparateZ: &on, Threshold: 2.5},
	}, c)
	a, err := p.Architecture("3d_fullres")
	require.NoError(t, err)
	plain := Architecture{
		Class: "PlainConvUNet", Dims: 3, Stages: 3, Features: []int{4, 8, 16},
		Kernels: [][]int{{1, 3, 3}, {3, 3, 3}, {3, 3, 3}}, Strides: [][]int{{1, 1, 1}, {1, 2, 2}, {2, 2, 2}},
		BlocksPerStage: []int{2, 2, 2}, DecoderPerStage: []int{2, 1}, ConvBias: true,
		Norm: Norm{NormInstance, 1e-5, true}, Nonlin: Nonlin{NonlinLeakyReLU, 0.01},
	}
	require.Equal(t, &plain, a)

	c, err = p.Configuration("cascade")
	require.NoError(t, err)
	require.Equal(t, "3d_fullres", c.PreviousStage)
	require.Equal(t, []float64{1, 1, 1}, c.Spacing)
	require.Equal(t, []int{16, 32, 32}, c.PatchSize)
	a, err = p.Architecture("cascade")
	require.NoError(t, err)
	require.Equal(t, "ResidualEncoderUNet", a.Class)
	require.Equal(t, []int{1, 3, 4}, a.BlocksPerStage)
	require.Equal(t, []int{1, 1}, a.DecoderPerStage)
	require.Equal(t, Norm{NormBatch, 1e-5, true}, a.Norm)
	require.Equal(t, Nonlin{NonlinLeakyReLU, 0.2}, a.Nonlin)
	require.Equal(t, 6, a.StemChannels)
	require.Equal(t, []int{2, 2, 4}, a.Bottleneck)
	require.False(t, a.ConvBias)

	a, err = p.Architecture("old")
	require.NoError(t, err)
	plain.Features, plain.DecoderPerStage, plain.StemChannels = []int{32, 64, 100}, []int{2, 2}, 32
	require.Equal(t, &plain, a)
}

func TestPlansErrors(t *testing.T) {
	replace := func(old, new string) string {
		require.Contains(t, smallPlans, old)
		return strings.Replace(smallPlans, old, new, 1)
	}
	cases := map[string]struct {
		plans, configuration string
		kind                 fault.Kind
		says                 []string
	}{
		"empty":        {"", "", fault.Format, []string{"not a JSON object"}},
		"list":         {"[]", "", fault.Format, []string{"not a JSON object"}},
		"null":         {"null", "", fault.Format, []string{"null"}},
		"trailing":     {smallPlans + "x", "", fault.Format, []string{"not a JSON object"}},
		"no keys":      {"{}", "", fault.Model, []string{`"transpose_forward" is missing`, `"configurations" is missing`}},
		"transpose":    {replace("[2, 0, 1]", "[0, 1, 2]"), "", fault.Format, []string{"transpose_backward", "[0,1,2]", "inverse"}},
		"transpose 4":  {replace("[2, 0, 1]", "[0, 1, 2, 3]"), "", fault.Format, []string{"transpose_backward"}},
		"manager":      {replace(`"LabelManager"`, `"Mine"`), "", fault.Unsupported, []string{"label_manager", "Mine"}},
		"unknown":      {smallPlans, "2d", fault.Model, []string{"2d", "3d_fullres"}},
		"circle":       {smallPlans, "a", fault.Model, []string{"a -> b -> a"}},
		"orphan":       {smallPlans, "orphan", fault.Model, []string{"orphan", "nobody"}},
		"no patch":     {replace(`"patch_size"`, `"pitch_size"`), "3d_fullres", fault.Model, []string{`"3d_fullres"`, `"patch_size" is missing`}},
		"big patch":    {replace("[16, 32, 32]", "[4096, 4096, 4096]"), "3d_fullres", fault.Format, []string{"patch_size", "4096"}},
		"zero patch":   {replace("[16, 32, 32]", "[16, 0, 32]"), "3d_fullres", fault.Format, []string{"[16,0,32]"}},
		"long patch":   {replace("[16, 32, 32]", "[1"+strings.Repeat(",1", 99)+"]"), "3d_fullres", fault.Format, []string{"patch_size"}},
		"spacing":      {replace("[2.5, 0.75, 0.75]", "[2.5, -1, 0.75]"), "3d_fullres", fault.Format, []string{"spacing", "[2.5,-1,0.75]"}},
		"NaN spacing":  {replace("[2.5, 0.75, 0.75]", "[2.5, NaN, 0.75]"), "3d_fullres", fault.Format, []string{"spacing"}},
		"scheme":       {replace(`"ZScoreNormalization"]`, `"Mine"]`), "3d_fullres", fault.Unsupported, []string{"Mine"}},
		"two faults":   {strings.Replace(replace(`"ZScoreNormalization"]`, `"Mine"]`), `"resampling_fn_seg": "resample_data_or_seg_to_shape"`, `"resampling_fn_seg": "theirs"`, 1), "3d_fullres", fault.Unsupported, []string{"Mine", "theirs", "resampling_fn_seg"}},
		"statistics":   {replace(`"ZScoreNormalization"]`, `"CTNormalization"]`), "3d_fullres", fault.Model, []string{"channel 1", "percentile_00_5"}},
		"mask":         {replace("[false, true]", "[false]"), "3d_fullres", fault.Format, []string{"use_mask_for_norm"}},
		"kwarg":        {replace(`"order_z": 0,`, `"order_q": 0,`), "3d_fullres", fault.Unsupported, []string{"resampling_fn_data_kwargs", "order_q"}},
		"order":        {replace(`"order": 3`, `"order": 6`), "3d_fullres", fault.Format, []string{"order", "6"}},
		"preprocessor": {replace("DefaultPreprocessor", "MyPreprocessor"), "3d_fullres", fault.Unsupported, []string{"MyPreprocessor"}},

		"class":         {replace("unet.PlainConvUNet", "primus.Primus"), "3d_fullres", fault.Unsupported, []string{"Primus", "network_class_name"}},
		"no class":      {replace("network_class_name", "name"), "3d_fullres", fault.Model, []string{"network_class_name"}},
		"conv1d":        {replace("Conv3d", "Conv1d"), "3d_fullres", fault.Unsupported, []string{"conv_op", "Conv1d"}},
		"conv2d":        {replace("Conv3d", "Conv2d"), "3d_fullres", fault.Format, []string{"kernel_sizes"}},
		"stages":        {replace(`"n_stages": 3`, `"n_stages": 1000000000`), "3d_fullres", fault.Format, []string{"n_stages"}},
		"features":      {replace("[4, 8, 16]", "[4, 8]"), "3d_fullres", fault.Format, []string{"features_per_stage", "[4,8]"}},
		"more features": {replace("[4, 8, 16]", "[4, 8, 1e9]"), "3d_fullres", fault.Format, []string{"4096"}},
		"even kernel":   {replace("[1, 3, 3], 3,", "[1, 2, 3], 3,"), "3d_fullres", fault.Unsupported, []string{"kernel_sizes", "odd"}},
		"norm":          {replace("InstanceNorm3d", "GroupNorm"), "3d_fullres", fault.Unsupported, []string{"GroupNorm"}},
		"norm kwarg":    {replace(`"affine": true`, `"dtype": "half"`), "3d_fullres", fault.Unsupported, []string{"dtype"}},
		"nonlin":        {replace("torch.nn.LeakyReLU", "torch.nn.Hardswish"), "3d_fullres", fault.Unsupported, []string{"Hardswish"}},
		"argument":      {replace(`"conv_bias"`, `"conv_bass"`), "3d_fullres", fault.Unsupported, []string{"conv_bass"}},
		"block":         {replace("residual.BottleneckD", "residual.Mine"), "residual", fault.Unsupported, []string{"Mine"}},
		"no bottleneck": {replace(`"bottleneck_channels": [2, 2, 4], `, ""), "residual", fault.Model, []string{"bottleneck_channels"}},
		"old":           {replace(`"UNet_base_num_features": 32`, `"UNet_base_num_features": null`), "old", fault.Format, []string{"UNet_base_num_features"}},
		"neither":       {replace(`"UNet_class_name"`, `"class"`), "old", fault.Model, []string{"architecture", "UNet_class_name"}},
	}
	for name, test := range cases {
		p, err := ParsePlans([]byte(test.plans), "some/plans.json")
		if err == nil {
			if _, err = p.Configuration(test.configuration); err == nil {
				_, err = p.Architecture(test.configuration)
			}
		}
		require.Error(t, err, name)
		require.Equal(t, test.kind, fault.KindOf(err), "%s: %v", name, err)
		for _, s := range append(test.says, "some/plans.json") {
			require.Contains(t, err.Error(), s, name)
		}
		require.Less(t, len(err.Error()), 1000, name)
	}
}

// TestGoldenPlans reads every configuration of the plans that nnU-Net's
// planners and FLARE23's winner wrote.
func TestGoldenPlans(t *testing.T) {
	root := testenv.Data(t, "plans_golden")
	var files []string
	for _, pattern := range []string{"*/*/plans.json", "../model_flare13_onnx/plans.json", "../nnunet_golden/hippocampus/model/plans.json"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		files = append(files, found...)
	}
	require.Len(t, files, 18) // 15 of stock planners, FLARE23, and two more
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		p, err := ParsePlans(text, file)
		require.NoError(t, err)
		for _, name := range p.Configurations {
			c, err := p.Configuration(name)
			require.NoError(t, err)
			a, err := p.Architecture(name)
			require.NoError(t, err)
			require.Len(t, c.PatchSize, a.Dims)
			require.Equal(t, a.Stages, len(a.Features))
			require.Equal(t, 3, c.Data.Order)
			require.Equal(t, name == "3d_cascade_fullres", c.PreviousStage != "", name)
		}
		if strings.Contains(file, "FLARE23") { // plans without an architecture block, nested 3d_fullres
			a, err := p.Architecture("3d_fullres")
			require.NoError(t, err)
			require.Equal(t, Norm{NormInstance, 1e-5, true}, a.Norm)
			require.True(t, a.ConvBias)
		}
		dataset := filepath.Join(filepath.Dir(file), "dataset.json")
		if text, err = os.ReadFile(dataset); err != nil {
			continue
		}
		d, err := ParseDataset(text, dataset)
		require.NoError(t, err)
		require.Equal(t, len(d.Labels), d.NumHeads())
		var raw struct{ NumTraining int }
		require.NoError(t, json.Unmarshal(text, &raw))
		require.Equal(t, raw.NumTraining, d.NumTraining)
	}
}

func FuzzPlans(f *testing.F) {
	f.Add([]byte(smallPlans))
	f.Add([]byte(`{"transpose_forward": [0,1,2], "transpose_backward": [0,1,2], "configurations": {"a": {"patch_size": [1e3, 2]}}}`))
	f.Add([]byte(`{"configurations": null, "x": -Infinity, "y": "NaN\"", "z": NaN}`))
	matrixSeeds(f, "plans.json", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePlans(b, "plans.json")
		if err != nil {
			return
		}
		for _, name := range p.Configurations {
			if c, err := p.Configuration(name); err == nil {
				if len(c.Spacing) != len(c.PatchSize) || len(c.UseMask) != len(c.Normalization) {
					t.Fatalf("lengths differ: %+v", c)
				}
			}
			a, err := p.Architecture(name)
			if err != nil {
				continue
			}
			if len(a.Features) != a.Stages || len(a.Kernels) != a.Stages || len(a.Strides) != a.Stages ||
				len(a.BlocksPerStage) != a.Stages || len(a.DecoderPerStage) != a.Stages-1 || a.Bottleneck != nil && len(a.Bottleneck) != a.Stages {
				t.Fatalf("lengths differ: %+v", a)
			}
		}
	})
}
