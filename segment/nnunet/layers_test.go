package nnunet

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
)

// architectureWith returns the network of smallPlans with parts of the text
// replaced: old, new, old, new, ...
func architectureWith(t *testing.T, trainer string, replace ...string) (*Architecture, error) {
	t.Helper()
	text := smallPlans
	for i := 0; i < len(replace); i += 2 {
		require.Contains(t, text, replace[i])
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	p, err := ParsePlans([]byte(text), "plans.json")
	require.NoError(t, err)
	return p.ArchitectureOf("3d_fullres", trainer)
}

func TestNonlin(t *testing.T) {
	const was = `"nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": true}`
	for now, want := range map[string]Nonlin{
		`"nonlin": null`: {},
		`"nonlin": "torch.nn.ReLU", "nonlin_kwargs": {"inplace": true}`:                   {NonlinReLU, 0},
		`"nonlin": "torch.nn.modules.activation.LeakyReLU"`:                               {NonlinLeakyReLU, 0.01},
		`"nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"negative_slope": 0.3}`:        {NonlinLeakyReLU, 0.3},
		`"nonlin": "torch.nn.PReLU", "nonlin_kwargs": {"init": 0.1, "num_parameters": 1}`: {NonlinPReLU, 0},
		`"nonlin": "torch.nn.ELU", "nonlin_kwargs": {"alpha": 0.5, "inplace": true}`:      {NonlinELU, 0.5},
		`"nonlin": "torch.nn.ELU"`:  {NonlinELU, 1},
		`"nonlin": "torch.nn.GELU"`: {NonlinGELU, 0},
		`"nonlin": "torch.nn.GELU", "nonlin_kwargs": {"approximate": "tanh"}`: {NonlinGELUTanh, 0},
		`"nonlin": "torch.nn.SiLU", "nonlin_kwargs": {"inplace": true}`:       {NonlinSiLU, 0},
		`"nonlin": "torch.nn.Mish", "nonlin_kwargs": null`:                    {NonlinMish, 0},
	} {
		a, err := architectureWith(t, "", was, now)
		require.NoError(t, err, now)
		require.Equal(t, want, a.Nonlin, now)
	}
	for now, says := range map[string]string{
		`"nonlin": "torch.nn.Tanh"`: "torch.nn.Tanh",
		`"nonlin": "torch.nn.PReLU", "nonlin_kwargs": {"num_parameters": 4}`:     "num_parameters",
		`"nonlin": "torch.nn.GELU", "nonlin_kwargs": {"inplace": true}`:          "inplace", // torch refuses it
		`"nonlin": "torch.nn.ReLU", "nonlin_kwargs": {"negative_slope": 1}`:      "negative_slope",
		`"nonlin": "torch.nn.ReLU", "nonlin_kwargs": {"": 1}`:                    `argument ""`,
		`"nonlin": "torch.nn.GELU", "nonlin_kwargs": {"approximate": "sigmoid"}`: "approximate",
	} {
		_, err := architectureWith(t, "", was, now)
		require.ErrorContains(t, err, says, now)
	}
}

// TestRunningStatistics: at inference, tracking statistics decides what a norm
// does and its class only whether affine is the default.
func TestRunningStatistics(t *testing.T) {
	const was = `"norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-05, "affine": true}`
	for now, want := range map[string]Norm{
		`"norm_op": "torch.nn.InstanceNorm3d", "norm_op_kwargs": {"eps": 0.001}`:                {NormInstance, 1e-3, false},
		`"norm_op": "torch.nn.InstanceNorm3d", "norm_op_kwargs": {"track_running_stats": true}`: {NormBatch, 1e-5, false},
		`"norm_op": "torch.nn.BatchNorm3d", "norm_op_kwargs": {"track_running_stats": false}`:   {NormInstance, 1e-5, true},
		`"norm_op": "torch.nn.BatchNorm3d", "norm_op_kwargs": {"affine": false}`:                {NormBatch, 1e-5, false},
		`"norm_op": null`: {},
	} {
		a, err := architectureWith(t, "", was, now)
		require.NoError(t, err, now)
		require.Equal(t, want, a.Norm, now)
	}
}

func TestTrainerBN(t *testing.T) {
	a, err := architectureWith(t, "nnUNetTrainerBN")
	require.NoError(t, err)
	require.Equal(t, Norm{NormBatch, 1e-5, true}, a.Norm)
	// Whatever stands there is replaced, but something must.
	a, err = architectureWith(t, "nnUNetTrainerBN", `"torch.nn.modules.instancenorm.InstanceNorm3d"`, `"GroupNorm"`)
	require.NoError(t, err)
	require.Equal(t, NormBatch, a.Norm.Kind)
	_, err = architectureWith(t, "nnUNetTrainerBN", `"norm_op":`, `"no":`)
	require.Equal(t, fault.Model, fault.KindOf(err))
	a, err = architectureWith(t, "nnUNetTrainerNoDeepSupervision")
	require.NoError(t, err)
	require.Equal(t, NormInstance, a.Norm.Kind)

	p, err := ParsePlans([]byte(smallPlans), "plans.json")
	require.NoError(t, err)
	a, err = p.ArchitectureOf("old", "nnUNetTrainerBN")
	require.NoError(t, err)
	require.Equal(t, Norm{NormBatch, 1e-5, true}, a.Norm)
}

func TestResidualUNet(t *testing.T) {
	a, err := architectureWith(t, "", "unet.PlainConvUNet", "unet.ResidualUNet", "n_conv_per_stage", "n_blocks_per_stage")
	require.NoError(t, err)
	require.True(t, a.Residual())
	require.Equal(t, 4, a.StemChannels)
	require.Equal(t, []int{2, 2, 2}, a.BlocksPerStage)
	_, err = architectureWith(t, "", "unet.PlainConvUNet", "unet.ResidualUNet")
	require.ErrorContains(t, err, "n_blocks_per_stage")
	require.ErrorContains(t, err, "n_conv_per_stage")

	// nnU-Net converts older plans of two classes only.
	p, err := ParsePlans([]byte(strings.Replace(smallPlans, `"UNet_class_name": "PlainConvUNet"`, `"UNet_class_name": "ResidualUNet"`, 1)), "plans.json")
	require.NoError(t, err)
	_, err = p.Architecture("old")
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
}
