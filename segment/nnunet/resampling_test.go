package nnunet

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
)

// withData is smallPlans with another resampling function for images.
func withData(t *testing.T, function, arguments string) string {
	t.Helper()
	const before = `"resampling_fn_data": "resample_data_or_seg_to_shape",
   "resampling_fn_data_kwargs": {"is_seg": false, "order": 3, "order_z": 0, "force_separate_z": null},`
	require.Contains(t, smallPlans, before)
	return strings.Replace(smallPlans, before, `"resampling_fn_data": "`+function+`", "resampling_fn_data_kwargs": `+arguments+`,`, 1)
}

// Arguments that are left out have the defaults of the Python functions' signatures.
func TestResamplingFunctions(t *testing.T) {
	off := false
	for _, c := range []struct {
		function, arguments string
		want                Resampling
	}{
		{"resample_data_or_seg_to_shape", `{}`, Resampling{Order: 3, ForceSeparateZ: &off, Threshold: 3}},
		{"resample_data_or_seg_to_shape", `{"order": 5, "order_z": 4, "force_separate_z": null, "separate_z_anisotropy_threshold": 2.5}`,
			Resampling{Order: 5, OrderZ: 4, Threshold: 2.5}},
		{"resample_torch_fornnunet", `{}`, Resampling{Threshold: 3, Mode: "linear", AnisoAxisMode: "nearest-exact"}},
		{"resample_torch_fornnunet", `{"is_seg": false, "force_separate_z": false, "memefficient_seg_resampling": true, "mode": "nearest",
			"aniso_axis_mode": "linear", "num_threads": 8, "device": "cpu"}`,
			Resampling{ForceSeparateZ: &off, Threshold: 3, Mode: "nearest", AnisoAxisMode: "linear", MemEfficient: true}},
		{"resample_torch_simple", `{"mode": "nearest-exact"}`, Resampling{Mode: "nearest-exact"}},
		{"no_resampling_hack", `{}`, Resampling{}},
		{"no_resampling_data_or_seg_to_shape", `{}`, Resampling{}},
	} {
		p, err := ParsePlans([]byte(withData(t, c.function, c.arguments)), "plans.json")
		require.NoError(t, err)
		configuration, err := p.Configuration("3d_fullres")
		require.NoError(t, err, c.function)
		c.want.Name = c.function
		require.Equal(t, c.want, configuration.Data)
	}
}

func TestResamplingErrors(t *testing.T) {
	for _, c := range []struct {
		function, arguments string
		kind                fault.Kind
		says                []string
	}{
		{"theirs", `{}`, fault.Unsupported, []string{"resampling_fn_data", "theirs", "resample_torch_fornnunet"}},
		{"resample_torch_simple", `{"is_seg": true}`, fault.Unsupported, []string{"resampling_fn_data_kwargs", "is_seg true"}},
		{"no_resampling_hack", `{"order": 1}`, fault.Unsupported, []string{"resampling_fn_data_kwargs", "order", "no_resampling_hack"}},
		{"resample_data_or_seg_to_shape", `{"mode": "linear"}`, fault.Unsupported, []string{"mode"}},
		{"resample_torch_simple", `{"force_separate_z": true}`, fault.Unsupported, []string{"force_separate_z"}},
		{"resample_torch_fornnunet", `{"mode": "bicubic", "aniso_axis_mode": "area"}`, fault.Unsupported, []string{"bicubic", "area", "nearest-exact"}},
		{"resample_torch_fornnunet", `{"mode": 3}`, fault.Format, []string{"mode", "3"}},
		{"resample_data_or_seg_to_shape", `{"order_z": 6}`, fault.Format, []string{"order_z", "6"}},
	} {
		p, err := ParsePlans([]byte(withData(t, c.function, c.arguments)), "plans.json")
		require.NoError(t, err)
		_, err = p.Configuration("3d_fullres")
		require.Error(t, err)
		require.Equal(t, c.kind, fault.KindOf(err), err)
		for _, s := range c.says {
			require.ErrorContains(t, err, s)
		}
	}
}

// Only a cascade resamples labels: elsewhere is_seg of resampling_fn_seg does not matter.
func TestCascadeResamplesLabelsAsLabels(t *testing.T) {
	p, err := ParsePlans([]byte(strings.Replace(smallPlans, `{"is_seg": true, "order": 1}`, `{"order": 1}`, 1)), "plans.json")
	require.NoError(t, err)
	_, err = p.Configuration("3d_fullres")
	require.NoError(t, err)
	_, err = p.Configuration("cascade")
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
	require.ErrorContains(t, err, "is_seg false")
}
