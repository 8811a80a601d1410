package main

import (
	"encoding/binary"
	"flag"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/postprocess"
)

var update = flag.Bool("update", false, "write test/cascade.onnx")

const cascadePlans = `{
  "dataset_name": "Dataset902_Echo", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
  "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
  "foreground_intensity_properties_per_channel": {},
  "configurations": {"second": {
    "previous_stage": "first", "patch_size": [8, 8, 8], "spacing": [1.0, 1.0, 1.0], "batch_dice": false,
    "normalization_schemes": ["NoNormalization"], "use_mask_for_norm": [false],
    "resampling_fn_data": "no_resampling_data_or_seg_to_shape", "resampling_fn_data_kwargs": {},
    "resampling_fn_seg": "no_resampling_data_or_seg_to_shape", "resampling_fn_seg_kwargs": {},
    "resampling_fn_probabilities": "no_resampling_data_or_seg_to_shape", "resampling_fn_probabilities_kwargs": {}
  }}}`

const cascadeDataset = `{"channel_names": {"0": "CT"}, "labels": {"background": 0, "one": 1, "two": 2}, "numTraining": 1, "file_ending": ".nii.gz"}`

// test/cascade.onnx is the second stage of a cascade whose labels are those of the
// first stage, so that the tests of all bindings see whether these arrive: a
// convolution of one voxel from the image and two labels to three logits. The
// post-processing that it stores keeps the largest component of label 1.
func TestCascadeBundle(t *testing.T) {
	weights := []float32{
		0, 0, 0, // background: see bias
		0, 2, 0,
		0, 0, 2,
	}
	bias := []float32{1, 0, 0}
	tensor := func(name string, values []float32, dims ...int64) *onnx.Tensor {
		raw := make([]byte, 0, 4*len(values))
		for _, v := range values {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		return &onnx.Tensor{Name: name, Type: onnx.Float, Dims: dims, Raw: raw}
	}
	model := onnx.Model{IRVersion: onnx.IRVersion, Opsets: []onnx.Opset{{Version: onnx.OpsetVersion}}, Graph: &onnx.Graph{
		Name:         "echo",
		Inputs:       []*onnx.ValueInfo{{Name: "input", Type: onnx.Float, Dims: onnx.Fixed(1, 3, 8, 8, 8)}},
		Outputs:      []*onnx.ValueInfo{{Name: "output", Type: onnx.Float, Dims: onnx.Fixed(1, 3, 8, 8, 8)}},
		Initializers: []*onnx.Tensor{tensor("weights", weights, 3, 3, 1, 1, 1), tensor("bias", bias, 3)},
		Nodes:        []*onnx.Node{{OpType: "Conv", Inputs: []string{"input", "weights", "bias"}, Outputs: []string{"output"}}},
	}}
	for key, value := range map[string]string{
		"format": "1", "plans": cascadePlans, "dataset": cascadeDataset, "configuration": "second", "network": "echo", "folds": "0",
		"mirror_axes": "[]", "postprocessing": postprocess.Marshal([]postprocess.Step{{Labels: []int{1}}}),
	} {
		model.SetMeta("flare."+key, value)
	}
	slices.SortFunc(model.Metadata, func(a, b onnx.Property) int { return strings.Compare(a.Key, b.Key) })
	made, err := model.Marshal()
	require.NoError(t, err)
	const stored = "test/cascade.onnx"
	if *update {
		require.NoError(t, os.WriteFile(stored, made, 0o666))
	}
	kept, err := os.ReadFile(stored)
	require.NoError(t, err)
	require.True(t, string(kept) == string(made), "%s is not what this test makes: go test ./capi -update", stored)
}
