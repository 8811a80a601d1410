package train

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

// TestCheck: what New would refuse is refused without a device.
func TestCheck(t *testing.T) {
	plain := smallPlans(t, []int{16, 16, 16}, []int{4, 8})
	text := bytes.ReplaceAll(plain.Raw, []byte("PlainConvUNet"), []byte("ResidualEncoderUNet"))
	residual, err := nnunet.ParsePlans(bytes.ReplaceAll(text, []byte(`"n_conv_per_stage"`), []byte(`"n_blocks_per_stage"`)), "residual plans")
	require.NoError(t, err)
	d, err := nnunet.ParseDataset([]byte(`{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "numTraining": 1, "file_ending": ".nii.gz"}`), "dataset.json")
	require.NoError(t, err)
	task := Task{Plans: plain, Dataset: d, Configuration: "3d_fullres", Fold: "0"}
	require.NoError(t, task.Check(Default()))
	for text, change := range map[string]func(*Task, *Settings){
		"setting dropout is 1, must be 0 to 0.99":                 func(_ *Task, s *Settings) { s.Dropout = 1 },
		`optimizer "adam" is not one of sgd, adamw`:               func(_ *Task, s *Settings) { s.Optimizer = "adam" },
		"patch [16 16]: configuration 3d_fullres needs 3 numbers": func(_ *Task, s *Settings) { s.Patch = []int{16, 16} },
		"patch [16 16 17]":             func(_ *Task, s *Settings) { s.Patch = []int{16, 16, 17} },
		`no configuration "2d"`:        func(k *Task, _ *Settings) { k.Configuration = "2d" },
		"stochastic_depth is 0.1, but": func(_ *Task, s *Settings) { s.StochasticDepth = 0.1 },
	} {
		k, s := task, Default()
		change(&k, &s)
		err := k.Check(s)
		assert.ErrorContains(t, err, text)
		_, same := New(k, s, Options{Device: "none"})
		assert.Equal(t, err, same)
	}
	// Stochastic depth is for networks with residual blocks, and is refused where it would do nothing.
	s := Default()
	s.StochasticDepth = 0.1
	err = task.Check(s)
	assert.Equal(t, fault.Argument, fault.KindOf(err))
	assert.ErrorContains(t, err, "a PlainConvUNet has no residual blocks to skip: expected 0, or the plans of a residual network")
	task.Plans = residual
	assert.NoError(t, task.Check(s))
}
