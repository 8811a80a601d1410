package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/filelock"
	"github.com/libflare/libflare/segment/train/dataset"
	"github.com/libflare/libflare/segment/train/record"
)

// RunOptions is a whole training.
type RunOptions struct {
	Options
	Settings Settings
	Cache    *dataset.Cache
	Fold     string          // "0" to "4", or "all"
	Splits   []dataset.Split // nil: nnU-Net's
	Folder   string          // of the run; made if need be
	Resume   bool            // go on from the folder's checkpoint, if there is one
	Init     string          // bundle or results folder whose weights the training begins with, or ""

	Progress func(Progress) // nil, or told of every step, 20 times a second at most
}

// Run trains a network and leaves in the folder: plans.json, dataset.json,
// dataset_fingerprint.json, split.json, checkpoint.flare (from which Resume goes on) and
// checkpoint_best.flare, progress.csv, progress.png and TensorBoard events, in the end
// model.onnx (a bundle) and validation/ with the validation cases' labels and
// summary.json. Cancelling ctx saves a checkpoint and returns an error of kind Cancelled.
// Errors besides: NotFound (a validation case's image or labels are gone: before the first
// step), IO (another process has the folder; a full disk), Model (a loss or
// gradients that are not finite, with step and cases: the last checkpoint stays; an
// interrupted training of other settings).
func Run(ctx context.Context, o RunOptions) (*Summary, error) {
	split, err := dataset.SplitOf(o.Fold, o.Cache.Cases, o.Splits)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Folder, 0o777); err != nil {
		return nil, fault.File(o.Folder, err)
	}
	held, err := filelock.Lock(filepath.Join(o.Folder, lockFile), busy)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	last := filepath.Join(o.Folder, checkpointFile)
	_, err = os.Stat(last)
	there := err == nil
	if there && !o.Resume {
		return nil, fault.New(fault.Argument, "%s: there is a training already: resume it, or choose another folder", o.Folder)
	}
	if err := o.Cache.Sourced(split.Val); err != nil { // found out now, not after days of training
		return nil, fault.New(fault.KindOf(err), "validation: %w", err)
	}
	task := Task{Plans: o.Cache.Plans, Dataset: o.Cache.Dataset, Fingerprint: o.Cache.Fingerprint, Configuration: o.Cache.Configuration.Name, Fold: o.Fold}
	t, err := New(task, o.Settings, o.Options)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	t.state.Digest = t.digest(o.Cache.Digest(), split)
	switch {
	case there:
		err = t.Load(last)
	case o.Init != "":
		err = t.Init(o.Init)
	}
	if err != nil {
		return nil, err
	}
	if err := writeFiles(o.Folder, task, split); err != nil {
		return nil, err
	}
	d, err := t.newData(o.Cache, split)
	if err != nil {
		return nil, err
	}
	if err := t.learn(ctx, d, o.Folder, o.Progress); err != nil {
		return nil, err
	}
	bundle := filepath.Join(o.Folder, bundleFile)
	return Validate(ctx, bundle, o.Cache, split.Val, filepath.Join(o.Folder, "validation"), o.Options, o.Progress)
}

// learn trains from the state on to the last epoch and leaves in folder checkpoints, what
// package record writes, and a bundle; nothing where folder is "". Errors as of Run.
func (t *Trainer) learn(ctx context.Context, d *data, folder string, progress func(Progress)) error {
	last := filepath.Join(folder, checkpointFile)
	nothing := func() error { return nil }
	l := &loop{Trainer: t, data: d, progress: progress, best: nothing, epochEnd: nothing}
	if folder != "" {
		l.best = func() error { return writeCheckpoint(filepath.Join(folder, bestFile), &t.state, t.named()) }
		l.epochEnd = func() error { return errors.Join(t.Save(last), record.Write(folder, t.state.Epochs)) }
	}
	err := l.run(ctx)
	switch {
	case folder == "":
		return err
	case err == nil:
		return t.Export(filepath.Join(folder, bundleFile))
	case fault.KindOf(err) == fault.Cancelled:
		if save := t.Save(last); save != nil {
			return save
		}
		return fault.New(fault.Cancelled, "cancelled in epoch %d after %d of its steps; saved: resume goes on there", t.state.Epoch, t.state.Iteration)
	}
	if _, missing := os.Stat(last); missing == nil {
		return fault.New(fault.KindOf(err), "%w; the last good checkpoint is %s", err, last)
	}
	return err
}

const (
	lockFile = "lock"
	busy     = "another process trains here: wait for it, or choose another folder"
)

// digest identifies what a training's numbers depend on besides the engine.
func (t *Trainer) digest(more ...any) string {
	text, err := json.Marshal([]any{t.Settings, string(t.Plans.Raw), string(t.Dataset.Raw), t.Configuration, t.Fold, more})
	if err != nil {
		panic(err) // settings are finite
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// writeFiles writes what exporting and reading a run needs.
func writeFiles(folder string, t Task, split dataset.Split) error {
	text, err := json.MarshalIndent(split, "", "    ")
	if err != nil {
		return fault.New(fault.Internal, "%w", err)
	}
	files := t.files()
	files["split.json"] = text
	var b imageio.Batch
	defer b.Discard()
	for name, text := range files {
		if err := b.AddText(filepath.Join(folder, name), text); err != nil {
			return err
		}
	}
	return b.Commit()
}

// Evaluate is Validate with the network as it is now.
func (t *Trainer) Evaluate(ctx context.Context, cache *dataset.Cache, cases []string, folder string, progress func(Progress)) (*Summary, error) {
	work, err := os.MkdirTemp("", "flare-")
	if err != nil {
		return nil, fault.File(os.TempDir(), err)
	}
	defer os.RemoveAll(work)
	bundle := filepath.Join(work, bundleFile)
	if err := t.Export(bundle); err != nil {
		return nil, err
	}
	return Validate(ctx, bundle, cache, cases, folder, t.options, progress)
}

// Validate segments whole cases of a cache with a model, from their image files and with
// mirroring, and compares the labels with the references: nnU-Net's final validation.
// folder gets the label files and summary.json.
func Validate(ctx context.Context, model string, cache *dataset.Cache, cases []string, folder string, o Options, progress func(Progress)) (*Summary, error) {
	m, err := segment.Open(ctx, model, segment.OpenOptions{Device: o.Device, Threads: o.Threads, Runtime: o.Runtime})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, fault.File(folder, err)
	}
	s := &Summary{}
	ending := cache.Dataset.FileEnding
	if imageio.Ending("x"+ending) == "" {
		ending = ".nii.gz"
	}
	mirror := len(m.Describe().MirrorAxes) > 0
	for i, name := range cases {
		k, err := cache.Case(name)
		if err != nil {
			return nil, err
		}
		out := filepath.Join(folder, name+ending)
		if _, err := m.SegmentFile(ctx, k.Sources[0].Path, out, segment.Options{Mirror: mirror}); err != nil {
			return nil, fault.New(fault.KindOf(err), "validation of case %s: %w", name, err)
		}
		if err := s.compare(ctx, cache.Dataset, name, out, cache.Reference(name)); err != nil {
			return nil, err
		}
		if progress != nil {
			nan := math.NaN()
			progress(Progress{Phase: "evaluate", Done: i + 1, Total: len(cases), Loss: nan, LearningRate: nan, Dice: nan, EMA: nan, Left: nan})
		}
	}
	s.average()
	return s, imageio.WriteFileAtomic(filepath.Join(folder, "summary.json"), s.write)
}
