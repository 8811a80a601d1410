package train

import (
	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/onnx"
)

// Init takes the weights of a bundle or of a results folder of nnU-Net, of the same
// network, to begin with. Heads of deep supervision that a bundle lacks stay as they are.
// Errors: those of segment.OpenWeights, and Model (another network); the parameters are
// then undefined.
func (t *Trainer) Init(path string) error {
	_, weights, done, err := segment.OpenWeights(path, t.Fold)
	if err != nil {
		return err
	}
	defer done()
	return t.load(path, weights)
}

func (t *Trainer) load(path string, weights *onnx.StateDict) error {
	if err := t.Step.Parameters.Load(weights); err != nil {
		return fault.New(fault.KindOf(err), "%s: %w", path, err)
	}
	return nil
}

// FineTune makes a trainer for the network in a bundle or a results folder, with its
// weights, for the task that it was trained for. Errors: those of New and Init.
func FineTune(path string, s Settings, o Options) (*Trainer, error) {
	from, weights, done, err := segment.OpenWeights(path, "")
	if err != nil {
		return nil, err
	}
	defer done()
	t, err := New(Task{Plans: from.Plans, Dataset: from.Dataset, Configuration: from.Configuration, Fold: from.Fold}, s, o)
	if err != nil {
		return nil, err
	}
	if err := t.load(path, weights); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}
