// Package student is the noisy student: a teacher labels images that nobody labelled, and
// what it agrees on with itself trains one small network.
package student

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/volume"
)

// LabelOptions is what Label works on and with.
type LabelOptions struct {
	Teacher  []string // bundles and results folders, whose folds work together
	Images   string   // folder of images, with nnU-Net's _0000, _0001, ... where they have several channels
	Out      string   // folder for labels and scores, made if need be
	Previous string   // folder with the labels of an earlier round to compare with where it has the case, or ""

	NoMirror    bool    // leave out the mirror flips that the teacher was trained with
	IgnoreBelow float64 // voxels where a smaller share of the folds agrees with all get the dataset's ignore label; 0: none
	Weights     bool    // voxels get weights for training: the share of the folds, and of Previous as one more, that agree with all
	SoftBelow   float64 // probabilities are kept of voxels whose largest is smaller; 0: none

	Shard, Shards int // this is part Shard (from 1) of Shards, which divide the cases between them; 0, 0: all

	Open     segment.OpenOptions
	Progress func(p LabelProgress)           // nil, or told at most 20 times a second
	Case     func(name string, c CaseResult) // nil, or told of every case in the end
}

// LabelProgress is how far Label is.
type LabelProgress struct {
	Case        string
	Done, Total int     // cases, of this shard
	Phase       string  // of the case
	Fraction    float64 // of the case
}

// CaseResult is what became of a case: Scores, or why it was skipped.
type CaseResult struct {
	Scores *Scores
	Kept   bool // there from before
	Err    error
}

// Labels is what Label did.
type Labels struct {
	Scores  []Scores  `json:"scores"` // of each case, by name
	Skipped []Skipped `json:"skipped"`
}

// Skipped is a case that could not be read.
type Skipped struct {
	Case   string     `json:"case"`
	Reason string     `json:"reason"`
	Kind   fault.Kind `json:"kind"` // of the error, as the exit code
}

const (
	joinedFile    = "teacher.onnx"
	weightsFolder = "weights"
)

// Label segments every image of a folder with a teacher, opened once, and leaves in Out for
// each
//
//	CASE.nii.gz  (or another ending, as the image) the labels, on the image's grid
//	CASE.json    Scores
//	CASE.npz     with SoftBelow: the probabilities of uncertain voxels (soft.go)
//	weights/CASE.nii.gz  with Weights: uint8, 255 where all agree
//
// and teacher.onnx, where the teacher is not one bundle but several folds that were joined.
// CASE.json appears last: a case with it is finished, and is kept by later calls with the
// same teacher, image and options. A case that cannot be read is skipped. Errors: those of
// segment.Open and JoinFolds, Argument, IO (a full disk: what is finished stays, the case
// under way leaves nothing), Cancelled.
func Label(ctx context.Context, o LabelOptions) (*Labels, error) {
	l, err := OpenLabeller(ctx, o)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	all := NewLabels()
	for _, name := range l.Cases {
		if ctx.Err() != nil {
			return nil, fault.New(fault.Cancelled, "cancelled after %d of %d cases, which stay", l.done, len(l.Cases))
		}
		r, err := l.Label(ctx, name)
		if err != nil {
			return nil, err
		}
		all.Add(name, r)
		if o.Case != nil {
			o.Case(name, r)
		}
	}
	return all, nil
}

// NewLabels returns what a call did that has not begun.
func NewLabels() *Labels { return &Labels{Scores: []Scores{}, Skipped: []Skipped{}} }

// Add puts down what became of a case.
func (l *Labels) Add(name string, r CaseResult) {
	if r.Err != nil {
		l.Skipped = append(l.Skipped, Skipped{name, r.Err.Error(), fault.KindOf(r.Err)})
	} else {
		l.Scores = append(l.Scores, *r.Scores)
	}
}

// check refuses options that make no sense and returns the cases of the shard.
func (o *LabelOptions) check() ([]string, error) {
	if len(o.Teacher) == 0 {
		return nil, fault.New(fault.Argument, "no teacher: name a bundle or results folder, or several")
	}
	for _, share := range []struct {
		what  string
		value float64
	}{{"the share of folds below which a voxel is ignored", o.IgnoreBelow}, {"the probability below which probabilities are kept", o.SoftBelow}} {
		if !(share.value >= 0 && share.value <= 1) {
			return nil, fault.New(fault.Argument, "%s is %g, expected 0 (none) to 1", share.what, share.value)
		}
	}
	if (o.Shard != 0 || o.Shards != 0) && (o.Shard < 1 || o.Shard > o.Shards) {
		return nil, fault.New(fault.Argument, "shard %d of %d: expected 1 of 1, or 1 to n of n", o.Shard, o.Shards)
	}
	if imageio.Same(o.Images, o.Out) {
		return nil, fault.New(fault.Argument, "%s: labels would overwrite the images: choose another folder", o.Out)
	}
	if o.Previous != "" && imageio.Same(o.Previous, o.Out) {
		return nil, fault.New(fault.Argument, "%s: labels would overwrite those of the previous round: choose another folder", o.Out)
	}
	cases, err := imageio.Cases(o.Images)
	if err != nil {
		return nil, err
	}
	from := map[string]string{}
	var mine []string
	for i, path := range cases {
		name := imageio.CaseName(path)
		if other, taken := from[name]; taken {
			return nil, fault.New(fault.Argument, "%s and %s are the same case, %s", other, path, name)
		}
		from[name] = path
		if o.Shards == 0 || i%o.Shards == o.Shard-1 {
			mine = append(mine, path)
		}
	}
	return mine, nil
}

// Label labels one of the Cases, unless it is finished. An error says that others will not go
// better; what is wrong with the case alone is in the result. Errors: NotFound for a name that
// is none of the Cases, else as Label's.
func (l *Labeller) Label(ctx context.Context, name string) (r CaseResult, err error) {
	path, there := l.images[name]
	if !there {
		return r, fault.New(fault.NotFound, "%s holds no case %q, or it is another shard's", l.Images, name)
	}
	defer func() {
		if err == nil {
			l.done++
		}
	}()
	s := &Scores{Format: scoresFormat, Case: name, Options: l.options()}
	if s.Images, err = imageFiles(path); err != nil {
		return CaseResult{Err: err}, nil
	}
	if l.Previous != "" {
		if file, missing := labelsOf(l.Previous, name); missing == nil { // else there is nothing to compare with
			if s.Options.Previous, err = fileDigest(file); err != nil {
				return CaseResult{Err: err}, nil
			}
		}
	}
	labels := filepath.Join(l.Out, name+imageio.Ending(path))
	kept, err := l.finished(s, labels)
	if err != nil {
		return CaseResult{Err: err}, nil
	}
	if kept != nil {
		if !slices.Equal(kept.Images, s.Images) { // the same, but elsewhere or of another time
			kept.Images = s.Images
			err = imageio.WriteFileAtomic(filepath.Join(l.Out, name+".json"), func(w io.Writer) error { _, err := w.Write(marshal(kept)); return err })
		}
		return CaseResult{Scores: kept, Kept: true}, err
	}
	if l.opened == nil {
		if l.opened, err = segment.Open(ctx, l.model, l.Open); err != nil {
			return r, err
		}
	}
	err = l.label(ctx, path, labels, s)
	var skip unreadable
	if errors.As(err, &skip) {
		return CaseResult{Err: skip.error}, nil
	}
	return CaseResult{Scores: s}, err
}

// unreadable is an error of one case that leaves the others alone.
type unreadable struct{ error }

// readable marks errors that come from the case itself rather than from the machine.
func readable(err error) error {
	if err == nil {
		return nil
	}
	switch fault.KindOf(err) {
	case fault.NotFound, fault.IO, fault.Format, fault.Unsupported, fault.Model, fault.Argument:
		return unreadable{err}
	}
	return err
}

// options returns what decides, besides the image, how a case comes out.
func (l *Labeller) options() ScoresOptions {
	return ScoresOptions{Teacher: l.digest, Mirror: !l.NoMirror, Fast: l.Open.Mode == "fast", Folds: l.Open.Folds, IgnoreBelow: l.IgnoreBelow, SoftBelow: l.SoftBelow, Weights: l.Weights}
}

// label does a case and writes its files, CASE.json last.
func (l *Labeller) label(ctx context.Context, path, out string, s *Scores) error {
	start := time.Now()
	d := l.opened.Describe()
	image, err := imageio.ReadCase(ctx, path, len(d.Channels))
	if err != nil {
		return readable(err)
	}
	defer image.Free()
	if image.Dims == 2 && len(d.PatchSize) == 3 {
		return unreadable{fault.New(fault.Model, "%s: a 2-D image, but the teacher's configuration %s is three-dimensional", path, d.Configuration)}
	}
	ignore := ignoreLabel(l.opened.Dataset())
	dtype := volume.Uint8
	if ignore > 255 {
		dtype = volume.Uint16
	}
	labels, err := volume.New(image.Geometry, 1, dtype)
	if err != nil {
		return err
	}
	defer labels.Free()
	agreement := &segment.Agreement{}
	o := segment.Options{Mirror: !l.NoMirror, Agreement: agreement, Progress: func(phase string, fraction float64) {
		if l.Progress != nil {
			l.Progress(LabelProgress{Case: s.Case, Done: l.done, Total: len(l.Cases), Phase: phase, Fraction: fraction})
		}
	}}
	if l.IgnoreBelow > 0 || l.Weights {
		if agreement.Voxels, err = cmem.Alloc[uint8](image.Voxels()); err != nil {
			return err
		}
		defer cmem.Free(agreement.Voxels)
	}
	if l.SoftBelow > 0 {
		if o.Probabilities, err = cmem.Alloc[float32](d.Heads * image.Voxels()); err != nil {
			return err
		}
		defer cmem.Free(o.Probabilities)
	}
	if _, err := l.opened.Segment(ctx, image.Volume, labels, o); err != nil {
		return readable(fault.New(fault.KindOf(err), "%s: %w", path, err))
	}
	s.fill(d, agreement, labels)
	var weights *volume.Volume
	if l.Weights {
		if weights, err = volume.New(image.Geometry, 1, volume.Uint8); err != nil {
			return err
		}
		defer weights.Free()
	}
	if err := l.compare(ctx, s, labels, ignore, weights, agreement.Voxels); err != nil {
		return readable(err)
	}
	if l.IgnoreBelow > 0 {
		s.Ignored = ignoreUncertain(labels, agreement.Voxels, l.IgnoreBelow, len(d.Folds), ignore)
	}
	s.Seconds = time.Since(start).Seconds()

	// From here on errors are of the disk, and end the call.
	scores := filepath.Join(l.Out, s.Case+".json")
	if err := os.Remove(scores); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.File(scores, err) // it must not stand beside labels of another teacher
	}
	var files imageio.Batch
	defer files.Discard()
	if err := files.WriteLabels(ctx, out, image, labels); err != nil {
		return err
	}
	if l.Weights {
		if err := files.WriteLabels(ctx, l.weightsOf(out), image, weights); err != nil {
			return err
		}
	}
	if l.SoftBelow > 0 {
		if err := files.Add(filepath.Join(l.Out, s.Case+".npz"), softWriter(o.Probabilities, labels.Geometry, l.opened.Dataset().HasRegions(), l.SoftBelow)); err != nil {
			return err
		}
	}
	if err := files.AddText(scores, marshal(s)); err != nil {
		return err
	}
	return files.Commit()
}

// ignoreLabel returns the value of a dataset's ignored voxels, or the one that such would
// have: the next after all labels.
func ignoreLabel(d *nnunet.Dataset) int {
	if d.IgnoreLabel >= 0 {
		return d.IgnoreLabel
	}
	return slices.Max(d.Values()) + 1
}

// ignoreUncertain gives the ignore label to voxels that a smaller share of the folds than
// least agrees on, and returns how many they are.
func ignoreUncertain(labels *volume.Volume, agreeing []uint8, least float64, folds, ignore int) (n int) {
	for i, k := range agreeing {
		if float64(k) < least*float64(folds)-1e-9 {
			n++
			if labels.DType == volume.Uint16 {
				volume.As[uint16](labels)[i] = uint16(ignore)
			} else {
				labels.Data[i] = uint8(ignore)
			}
		}
	}
	return n
}

// labelsOf returns the file with the labels of a case.
func labelsOf(folder, name string) (string, error) {
	for _, ending := range imageio.Endings {
		file := filepath.Join(folder, name+ending)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fault.New(fault.NotFound, "%s holds no labels of case %s (%s with one of %s)", folder, name, name, strings.Join(imageio.Endings, ", "))
}

// Err returns an error that lists the skipped cases, of the kind of the first; nil if there
// are none.
func (l *Labels) Err() error { return skippedError(l.Skipped, len(l.Skipped)+len(l.Scores)) }

func skippedError(skipped []Skipped, of int) error {
	if len(skipped) == 0 {
		return nil
	}
	var list []string
	for _, s := range skipped {
		list = append(list, s.Case+" ("+s.Reason+")")
	}
	return fault.New(skipped[0].Kind, "%d of %d cases could not be read and were left out: %s", len(list), of, strings.Join(list, "; "))
}
