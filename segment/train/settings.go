package train

import (
	"math"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Settings are what decides, with the plans and the cases, how a training goes. The same
// settings give the same numbers.
type Settings struct {
	Epochs               int     `json:"epochs"`
	Iterations           int     `json:"iterations"`            // steps of an epoch
	ValidationIterations int     `json:"validation_iterations"` // batches behind an epoch's pseudo Dice
	Batch                int     `json:"batch"`                 // samples; 0: the plans'
	Patch                []int   `json:"patch,omitempty"`       // voxels, of the transposed axes; nil: the plans'
	Optimizer            string  `json:"optimizer"`             // sgd or adamw
	LearningRate         float64 `json:"learning_rate"`         // of the first epoch
	WeightDecay          float64 `json:"weight_decay"`
	Momentum             float64 `json:"momentum"`   // of sgd
	Clip                 float64 `json:"clip"`       // bound on the norm of the gradients
	Foreground           float64 `json:"foreground"` // share of a batch's samples that must hold foreground
	Seed                 uint64  `json:"seed"`

	Soft     bool `json:"soft,omitempty"`     // batches that the caller makes bring probabilities for each head instead of labels
	Weighted bool `json:"weighted,omitempty"` // voxels have weights: those of the batches that the caller makes, or of the cases

	// The noise of a noisy student.
	Strong          bool    `json:"strong"`           // augmentation of nnUNetTrainerDA5
	NoMirroring     bool    `json:"no_mirroring"`     // neither in training nor in inference
	Dropout         float64 `json:"dropout"`          // probability that a channel is dropped
	StochasticDepth float64 `json:"stochastic_depth"` // probability that a residual block is skipped; only for networks that have such
}

// Default returns nnU-Net's settings (nnUNetTrainer.py).
func Default() Settings {
	return Settings{Epochs: 1000, Iterations: 250, ValidationIterations: 50, Optimizer: "sgd",
		LearningRate: 0.01, WeightDecay: 3e-5, Momentum: 0.99, Clip: 12, Foreground: 0.33}
}

// Check refuses settings that make no sense, whatever is trained with them. Error: Argument.
func (s *Settings) Check() error {
	for _, c := range []struct {
		name   string
		value  float64
		lo, hi float64
	}{
		{"epochs", float64(s.Epochs), 1, 1e6}, {"iterations", float64(s.Iterations), 1, 1e6},
		{"validation_iterations", float64(s.ValidationIterations), 1, 1e6}, {"batch", float64(s.Batch), 0, 4096},
		{"learning_rate", s.LearningRate, 0, 10}, {"weight_decay", s.WeightDecay, 0, 1}, {"momentum", s.Momentum, 0, 1},
		{"clip", s.Clip, 1e-9, 1e9}, {"foreground", s.Foreground, 0, 1}, {"dropout", s.Dropout, 0, 0.99}, {"stochastic_depth", s.StochasticDepth, 0, 0.99},
	} {
		if !(c.value >= c.lo && c.value <= c.hi) || math.IsNaN(c.value) {
			return fault.New(fault.Argument, "setting %s is %g, must be %g to %g", c.name, c.value, c.lo, c.hi)
		}
	}
	if s.Optimizer != "sgd" && s.Optimizer != "adamw" {
		return fault.New(fault.Argument, "optimizer %q is not one of sgd, adamw", s.Optimizer)
	}
	return nil
}
