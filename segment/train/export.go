package train

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

// Export writes the network as it is: to a name that ends in .onnx a bundle, which
// segment.Open takes; else a results folder of nnU-Net, made if need be, with plans.json,
// dataset.json, dataset_fingerprint.json and fold_K/checkpoint_final.pth, with which
// nnU-Net 2.8.1 predicts.
func (t *Trainer) Export(path string) error {
	return export(path, t.Task, t.Settings, &t.state, t.named())
}

func export(path string, t Task, s Settings, state *State, parameters []nnunet.NamedArray) error {
	c, err := t.Plans.Configuration(t.Configuration)
	if err != nil {
		return err
	}
	if strings.HasSuffix(path, ".onnx") {
		return segment.WriteBundle(path, segment.Trained{Plans: t.Plans, Dataset: t.Dataset, Configuration: t.Configuration,
			Fold: t.Fold, MirrorAxes: mirrorAxes(c, s), Parameters: parameters})
	}
	fold := filepath.Join(path, "fold_"+t.Fold)
	if err := os.MkdirAll(fold, 0o777); err != nil {
		return fault.File(fold, err)
	}
	e := nnunet.Export{Plans: t.Plans.Raw, Dataset: t.Dataset.Raw, Configuration: t.Configuration, Fold: t.Fold,
		MirrorAxes: mirrorAxes(c, s), Parameters: parameters}
	e.Training.Epochs = len(state.Epochs)
	if state.BestEMA != nil {
		e.Training.BestEMA = *state.BestEMA
	}
	for _, r := range state.Epochs {
		h := &e.Training
		h.Loss, h.ValidationLoss = append(h.Loss, r.Loss), append(h.ValidationLoss, r.ValidationLoss)
		h.Dice, h.EMA, h.ClassDice = append(h.Dice, r.Dice), append(h.EMA, r.EMA), append(h.ClassDice, r.ClassDice)
		h.LearningRates = append(h.LearningRates, r.LearningRate)
		h.EpochStarts, h.EpochEnds = append(h.EpochStarts, r.Start), append(h.EpochEnds, r.End)
	}
	var b imageio.Batch
	defer b.Discard()
	if err := b.Add(filepath.Join(fold, nnunet.DefaultCheckpoint), e.Write); err != nil {
		return err
	}
	for name, text := range t.files() {
		if err := b.AddText(filepath.Join(path, name), text); err != nil {
			return err
		}
	}
	return b.Commit()
}

// files returns the JSON files of a task by name.
func (t *Task) files() map[string][]byte {
	files := map[string][]byte{"plans.json": t.Plans.Raw, "dataset.json": t.Dataset.Raw}
	if t.Fingerprint != nil {
		files["dataset_fingerprint.json"] = t.Fingerprint
	}
	return files
}

// Names of a run's files.
const (
	checkpointFile = "checkpoint.flare"      // the last state
	bestFile       = "checkpoint_best.flare" // parameters of the best moving average of the pseudo Dice
	bundleFile     = "model.onnx"
)

// ExportRun is Trainer.Export for the folder of a run, of its last state, or with best
// where the moving average of the pseudo Dice was best. No engine is needed.
func ExportRun(run, path string, best bool) error {
	task, err := readTask(run)
	if err != nil {
		return err
	}
	file := filepath.Join(run, checkpointFile)
	if best {
		file = filepath.Join(run, bestFile)
	}
	var parameters []nnunet.NamedArray
	defer func() {
		for _, p := range parameters {
			cmem.Free(p.Values)
		}
	}()
	state, err := readCheckpoint(file, func(_ *State, a arrayName) ([]float32, error) {
		if strings.HasPrefix(a.Name, optimizerPrefix) {
			return nil, nil
		}
		values, err := cmem.Alloc[float32](elements(a.Shape))
		if err == nil {
			parameters = append(parameters, nnunet.NamedArray{Name: a.Name, Shape: a.Shape, Values: values})
		}
		return values, err
	})
	if err != nil {
		return err
	}
	task.Configuration, task.Fold = state.Configuration, state.Fold
	return export(path, *task, state.Settings, state, parameters)
}

// readTask reads a folder's plans.json, dataset.json and, if it is there,
// dataset_fingerprint.json.
func readTask(folder string) (*Task, error) {
	text := map[string][]byte{}
	for _, name := range []string{"plans.json", "dataset.json", "dataset_fingerprint.json"} {
		var err error
		if text[name], err = nnunet.ReadJSON(filepath.Join(folder, name)); err != nil && name != "dataset_fingerprint.json" {
			return nil, fault.New(fault.KindOf(err), "%w (expected the folder of a training)", err)
		}
	}
	plans, err := nnunet.ParsePlans(text["plans.json"], filepath.Join(folder, "plans.json"))
	if err != nil {
		return nil, err
	}
	d, err := nnunet.ParseDataset(text["dataset.json"], filepath.Join(folder, "dataset.json"))
	if err != nil {
		return nil, err
	}
	return &Task{Plans: plans, Dataset: d, Fingerprint: text["dataset_fingerprint.json"]}, nil
}
