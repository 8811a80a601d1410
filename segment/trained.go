package segment

import (
	"os"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
)

// Trained is one fold's network in memory, and what it was trained for.
type Trained struct {
	Plans         *nnunet.Plans
	Dataset       *nnunet.Dataset
	Configuration string
	Fold          string              // "0", "1", ..., "all"
	MirrorAxes    []int               // along which it was mirrored in training
	Parameters    []nnunet.NamedArray // by state-dict name, each once
}

// WriteBundle writes the bundle of a trained network: whole or not at all. Errors: Argument
// (a name that does not end in .onnx), Model (parameters that do not fit the plans), IO.
func WriteBundle(out string, t Trained) error {
	if !strings.HasSuffix(out, ".onnx") {
		return fault.New(fault.Argument, "%q: a bundle's name ends in .onnx", out)
	}
	c, err := t.Plans.Configuration(t.Configuration)
	if err != nil {
		return err
	}
	architecture, err := t.Plans.Architecture(t.Configuration)
	if err != nil {
		return err
	}
	weights := onnx.NewStateDict()
	for _, p := range t.Parameters {
		weights.Add(p.Name, p.Shape, func(dst []float32) error { copy(dst, p.Values); return nil })
	}
	model, err := onnx.Network(architecture, t.Dataset.NumInputs(c), t.Dataset.NumHeads(), c.PatchSize, []onnx.FoldWeights{{Name: t.Fold, Weights: weights}})
	if err != nil {
		return err
	}
	describe(model, t.Plans, t.Dataset, t.Configuration, architecture.Class, []string{t.Fold}, t.MirrorAxes)
	return writeBundle(out, model, out)
}

// OpenWeights reads what a bundle or a results folder of nnU-Net was trained for, and the
// weights of one of its folds: that called fold if it has one, else its first. Trained's
// Parameters stay nil; done, to be called when the weights are not needed any more, frees
// or closes what they lie in. Errors: those of Open but the devices'.
func OpenWeights(path, fold string) (t Trained, weights *onnx.StateDict, done func(), err error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return folderWeights(path, fold)
	}
	r, model, done, err := read(path, OpenOptions{})
	if err != nil {
		return t, nil, nil, err
	}
	if !slices.Contains(r.folds, fold) {
		fold = r.folds[0]
	}
	t = Trained{Plans: r.plans, Dataset: r.dataset, Configuration: r.configuration.Name, Fold: fold, MirrorAxes: r.mirrorAxes}
	if weights, err = model.FoldWeights(fold); err != nil {
		done()
		return t, nil, nil, fault.New(fault.Unsupported, "%s: a network that others exported: it cannot be trained on (%w)", path, err)
	}
	return t, weights, done, nil
}

// folderWeights is OpenWeights of a results folder, whose checkpoints hold the heads of deep
// supervision, too, which a bundle lacks.
func folderWeights(path, fold string) (t Trained, weights *onnx.StateDict, done func(), err error) {
	folder, err := nnunet.OpenFolder(path, "")
	if err != nil {
		return t, nil, nil, err
	}
	if folds := folder.DefaultFolds(); !slices.Contains(folds, fold) {
		fold = folds[0]
	}
	c, err := folder.OpenFold(fold)
	if err != nil {
		return t, nil, nil, err
	}
	t = Trained{Plans: folder.Plans, Dataset: folder.Dataset, Configuration: folder.Configuration, Fold: fold, MirrorAxes: c.MirrorAxes}
	return t, onnx.CheckpointWeights(c), func() { c.Close() }, nil
}
