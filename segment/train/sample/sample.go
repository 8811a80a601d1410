// Package sample chooses the samples of training batches as nnU-Net 2.8.1 does
// (nnUNetDataLoader), and makes them: cases with equal chances, a box anywhere in the case,
// or, for a part of each batch, around a voxel of a class. What is chosen and how it is
// augmented is a function of (seed, step, index in the batch).
package sample

import (
	"math"

	"github.com/libflare/libflare/segment/train/augment"
	"github.com/libflare/libflare/segment/train/random"
)

// Case is a preprocessed case. Its methods may be called from several goroutines.
type Case interface {
	augment.Source
	// Locations are the case's voxels of each class; nil if it has no reference labels.
	Locations() *Locations
}

// Locations are voxels of a case: z, y, x.
type Locations struct {
	Classes   [][][3]int32 // of each foreground class or region, in their order: some of its voxels, or none
	Annotated [][3]int32   // with an ignore label: some of all other voxels
}

// Set is what batches are drawn from.
type Set struct {
	Cases      []Case
	Box        [3]int  // the size of what is cut out; depth 1 takes slices
	Patch      [3]int  // the size of what becomes of it: Box or less
	Batch      int     // samples in a batch
	Foreground float64 // the part of a batch that holds foreground for certain: nnU-Net's 0.33
	Ignore     bool    // the labels have an ignore label: every sample holds an annotated voxel
	Seed       uint64
}

// Choice is one sample's place.
type Choice struct {
	Case   int
	Corner [3]int // of the box in the case; it may lie outside, and the box reach outside
	Class  int    // whose voxel the box is around: an index of Locations.Classes, or
}

// Values of Choice.Class.
const (
	Anywhere  = -1
	Annotated = -2
)

// Forced reports whether a sample of a batch holds foreground for certain: the last ones
// do, so many as the rounded rest leaves (half to even; none in a batch of 1).
func (s *Set) Forced(index int) bool {
	return index >= int(math.RoundToEven(float64(s.Batch)*(1-s.Foreground)))
}

// Choose draws the sample index of a batch.
func (s *Set) Choose(r *random.Rand, index int) Choice {
	c := Choice{Case: r.IntN(len(s.Cases)), Class: Anywhere}
	shape, places := s.Cases[c.Case].Shape(), s.Cases[c.Case].Locations()
	first, last := s.corners(shape)
	var voxels [][3]int32
	switch {
	case places == nil:
	case s.Forced(index):
		c.Class, voxels = places.choose(r)
	case s.Ignore && len(places.Annotated) > 0:
		c.Class, voxels = Annotated, places.Annotated
	}
	if c.Class == Anywhere {
		for i := range 3 {
			c.Corner[i] = r.Integer(first[i], last[i]+1)
		}
		return c
	}
	voxel := voxels[r.IntN(len(voxels))]
	for i := range 3 {
		// As nnU-Net, without a limit on the far side.
		c.Corner[i] = max(first[i], int(voxel[i])-s.Box[i]/2)
	}
	return c
}

// choose draws one of the classes that have voxels; without any the annotated voxels, and
// without those nothing.
func (l *Locations) choose(r *random.Rand) (int, [][3]int32) {
	present := 0
	for _, voxels := range l.Classes {
		if len(voxels) > 0 {
			present++
		}
	}
	if present == 0 {
		if len(l.Annotated) > 0 {
			return Annotated, l.Annotated
		}
		return Anywhere, nil
	}
	nth := r.IntN(present)
	for class, voxels := range l.Classes {
		if len(voxels) > 0 {
			if nth == 0 {
				return class, voxels
			}
			nth--
		}
	}
	panic("unreachable")
}

// corners returns the first and the last place of a box in a case of a shape: it may reach
// outside by half of what Box has more than Patch, or as far as a box that is larger than
// the case must.
func (s *Set) corners(shape [3]int) (first, last [3]int) {
	for i := range 3 {
		outside := max(s.Box[i]-s.Patch[i], s.Box[i]-shape[i])
		first[i] = -(outside + 1) / 2
		last[i] = shape[i] + outside/2 + outside%2 - s.Box[i]
	}
	return first, last
}

// Loader makes samples: a Set's choices, augmented by a pipeline, whose box and patch are
// the set's. It does not change and may be used from several goroutines.
type Loader struct {
	Set
	Pipeline *augment.Pipeline
}

// NewLoader returns a loader; box and patch are set to the pipeline's.
func NewLoader(s Set, pipeline *augment.Pipeline) *Loader {
	s.Box, s.Patch = pipeline.Spatial.Box, pipeline.Spatial.Patch
	return &Loader{s, pipeline}
}

// Worker is what one goroutine needs to make samples.
type Worker struct {
	random     *random.Rand
	parameters augment.Parameters
	scratch    *augment.Scratch
}

// NewWorker returns a worker of a loader, to be freed. The error is of kind Memory.
func (l *Loader) NewWorker() (*Worker, error) {
	scratch, err := l.Pipeline.NewScratch()
	if err != nil {
		return nil, err
	}
	return &Worker{random: random.New(), scratch: scratch}, nil
}

// Free gives the worker's memory back.
func (w *Worker) Free() { w.scratch.Free() }

// Parameters are what was drawn for the last sample; they are valid until the next.
func (w *Worker) Parameters() *augment.Parameters { return &w.parameters }

// Make fills out (see augment.Pipeline.Make) with the sample index of the batch of a step.
// It allocates nothing. Errors are the case's.
func (l *Loader) Make(step uint64, index int, out *augment.Sample, w *Worker) (Choice, error) {
	w.random.Key(l.Seed, step, uint64(index))
	c := l.Choose(w.random, index)
	l.Pipeline.Draw(&w.parameters, w.random)
	return c, l.Pipeline.Make(out, l.Cases[c.Case], c.Corner, &w.parameters, w.scratch)
}
