package augment

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBoxesAgreeWithNNUNet(t *testing.T) {
	var golden []struct {
		Strong, Planar bool
		Patch, Box     [3]int
		Angle          float64
	}
	readGolden(t, "boxes.json", &golden)
	for _, g := range golden {
		p := Default(Setup{Patch: g.Patch, Channels: 1})
		if g.Strong {
			p = Strong(Setup{Patch: g.Patch, Channels: 1})
		}
		assert.Equal(t, g.Box, p.Spatial.Box, "%v", g)
		assert.Equal(t, g.Angle, p.Spatial.Angle, "%v", g)
		assert.Equal(t, g.Planar || g.Patch[0] == 1, p.Spatial.Planar, "%v", g)
	}
}

// kind is a transform as make_goldens.py describes it: batchgeneratorsv2's class and options.
type kind = map[string]any

// describe translates a transform of the sample's patch into batchgeneratorsv2's terms.
func describe(transform Transform, patch [3]int) kind {
	first := 0 // the number of nnU-Net's first axis: it has no z in 2-D
	if patch[0] == 1 {
		first = 1
	}
	axes := func(v []int) []any {
		out := []any{}
		for _, a := range v {
			out = append(out, float64(a-first))
		}
		return out
	}
	list := func(v ...float64) []any {
		out := []any{}
		for _, x := range v {
			out = append(out, x)
		}
		return out
	}
	around := func(lo, hi float64) []any { return []any{"around", lo, hi} }
	last := func(n int) []any {
		out := []any{}
		for i := range n {
			out = append(out, float64(i-n))
		}
		return out
	}
	const gradient, gamma, scale = "_brightness_gradient_additive_max_strength", "_local_gamma_gamma", "_brightnessadditive_localgamma_transform_scale"
	switch t := transform.(type) {
	case Random:
		k := describe(t.Transform, patch)
		k["p"] = t.P
		return k
	case OneOf:
		of := []any{}
		for _, t := range t {
			of = append(of, describe(t, patch))
		}
		return kind{"kind": "OneOf", "of": of}
	case Noise:
		return kind{"kind": "GaussianNoiseTransform", "noise_variance": list(0, t.Sigma), "p_per_channel": 1., "synchronize_channels": true}
	case Blur:
		return kind{"kind": "GaussianBlurTransform", "blur_sigma": list(t.Lo, t.Hi), "synchronize_channels": false, "synchronize_axes": t.Together, "p_per_channel": t.PChannel}
	case Multiply:
		return kind{"kind": "MultiplicativeBrightnessTransform", "multiplier_range": around(t.Lo, t.Hi), "synchronize_channels": false, "p_per_channel": 1.}
	case Shift:
		return kind{"kind": "BrightnessAdditiveTransform", "mu": 0., "sigma": t.Sigma, "synchronize_channels": false, "p_per_channel": t.PChannel}
	case Contrast:
		return kind{"kind": "ContrastTransform", "contrast_range": around(t.Lo, t.Hi), "preserve_range": t.Clip, "synchronize_channels": false, "p_per_channel": t.PChannel}
	case LowResolution:
		k := kind{"kind": "SimulateLowResolutionTransform", "scale": list(t.Lo, t.Hi), "synchronize_channels": false, "synchronize_axes": true, "p_per_channel": t.PChannel}
		if t.Planar && patch[0] > 1 {
			k["ignore_axes"] = list(0)
		}
		return k
	case Gamma:
		invert := 0.
		if t.Invert {
			invert = 1
		}
		return kind{"kind": "GammaTransform", "gamma": around(t.Lo, t.Hi), "p_invert_image": invert, "synchronize_channels": false, "p_per_channel": 1., "p_retain_stats": 1.}
	case Mirror:
		return kind{"kind": "MirrorTransform", "allowed_axes": axes(t.Axes)}
	case Rot90:
		return kind{"kind": "Rot90Transform", "num_axis_combinations": 1., "num_rot_per_combination": list(0, 1, 2, 3), "allowed_axes": axes(t.Axes)}
	case Permute:
		return kind{"kind": "TransposeAxesTransform", "allowed_axes": axes(t.Axes)}
	case Median:
		return kind{"kind": "MedianFilterTransform", "filter_size": list(minMedian, maxMedian+1), "p_same_for_each_channel": 0., "p_per_channel": t.PChannel}
	case Blank:
		size := []any{}
		for _, n := range patch[first:] {
			size = append(size, list(float64(max(1, n/10)), float64(n/3)))
		}
		return kind{"kind": "BlankRectangleTransform", "rectangle_size": size, "num_rectangles": list(1, 5), "force_square": false, "p_per_channel": t.PChannel}
	case Gradient:
		return kind{"kind": "BrightnessGradientAdditiveTransform", "scale": scale, "loc": list(-0.5, 1.5), "max_strength": gradient,
			"same_for_all_channels": false, "mean_centered": false, "clip_intensities": false, "p_per_channel": t.PChannel}
	case LocalGamma:
		return kind{"kind": "LocalGammaTransform", "scale": scale, "loc": list(-0.5, 1.5), "gamma": gamma, "same_for_all_channels": false, "p_per_channel": t.PChannel}
	case Sharpen:
		return kind{"kind": "SharpeningTransform", "strength": list(t.Lo, t.Hi), "p_same_for_each_channel": 0., "p_per_channel": t.PChannel, "p_clamp_intensities": 0.}
	case Mask:
		return kind{"kind": "MaskImageTransform", "apply_to_channels": axes([]int{t.Channels[0] + first}), "channel_idx_in_seg": 0., "set_outside_to": 0.}
	case Outside:
		return kind{"kind": "RemoveLabelTransform", "label_value": -1., "set_to": 0.}
	case OneHot:
		labels := []any{}
		for _, l := range t.Labels {
			labels = append(labels, float64(l))
		}
		return kind{"kind": "MoveSegAsOneHotToDataTransform", "source_channel_idx": 1., "all_labels": labels, "remove_channel_from_source": true}
	case Operator:
		return kind{"kind": "ApplyRandomBinaryOperatorTransform", "channel_idx": last(t.Channels), "strel_size": list(1, 8), "p_per_label": t.PChannel}
	case Component:
		return kind{"kind": "RemoveRandomConnectedComponentFromOneHotEncodingTransform", "channel_idx": last(t.Channels), "fill_with_other_class_p": 0.,
			"dont_do_if_covers_more_than_x_percent": t.Most, "p_per_label": t.PChannel}
	}
	panic(fmt.Sprintf("%T", transform))
}

func describeSpatial(s Spatial) kind {
	patch, border := []any{}, []any{}
	for i, n := range s.Patch {
		if i > 0 || !s.Planar {
			patch, border = append(patch, float64(n)), append(border, 0.)
		}
	}
	together := 0.
	if s.Together {
		together = 1
	}
	return kind{"kind": "SpatialTransform", "patch_size": patch, "patch_center_dist_from_border": border, "random_crop": false,
		"p_elastic_deform": 0., "p_rotation": s.PRotate, "rotation": []any{-s.Angle, s.Angle}, "p_rot_per_axis": s.PAngle, "p_scaling": s.PScale,
		"scaling": []any{s.Scale[0], s.Scale[1]}, "p_synchronize_scaling_across_axes": together, "p_synchronize_def_scale_across_axes": 0.,
		"bg_style_seg_sampling": false, "mode_seg": "bilinear", "border_mode_seg": "constant", "mode_image": "bilinear",
		"padding_mode_image": "zeros", "padding_value_seg": -1., "padding_value_image": 0., "align_corners": false}
}

// The pipelines are nnU-Net's: every kind, in its order, with every probability and range.
func TestPipelinesAgreeWithNNUNet(t *testing.T) {
	var golden []struct {
		Strong, Cascade, Masked bool
		Patch                   [3]int
		Transforms              []kind
	}
	readGolden(t, "pipelines.json", &golden)
	require.Len(t, golden, 30)
	for _, g := range golden {
		s := Setup{Patch: g.Patch, Channels: 2}
		if g.Masked {
			s.Masked = []int{1}
		}
		if g.Cascade {
			s.Previous = []int16{1, 2, 3}
		}
		p := Default(s)
		if g.Strong {
			p = Strong(s)
		}
		got := []kind{}
		if p.Spatial.Planar && g.Patch[0] > 1 {
			got = append(got, kind{"kind": "Convert3DTo2DTransform"}, describeSpatial(p.Spatial), kind{"kind": "Convert2DTo3DTransform"})
		} else {
			got = append(got, describeSpatial(p.Spatial))
		}
		for _, step := range p.Transforms {
			got = append(got, describe(step, g.Patch))
		}
		want, err := json.MarshalIndent(g.Transforms, "", " ")
		require.NoError(t, err)
		have, err := json.MarshalIndent(got, "", " ")
		require.NoError(t, err)
		assert.Equal(t, string(want), string(have))
	}
}
