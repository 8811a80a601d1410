package augment

import (
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/train/random"
)

// Scratch is what one goroutine works with: the memory for samples of one pipeline.
type Scratch struct {
	random       *random.Rand // of the noise
	source       []float32    // voxels of the box: one channel
	sourceLabels []int16      // voxels of the box: one map
	spare        []float32    // D x H x W
	spareLabels  []int16      // D x H x W
	plane        []float32    // H x W
	row          []float32    // W, and the reflections of a filter
	nearest      [3][]int32   // of each axis, its length
	between      [3][]between
	power        power
	blob         blob
	median       median
	queue        []int32 // D x H x W, for cascades
	runs         []run   // D x H x W / 2, and one for each row
	firstRun     []int32 // D x H, and one
}

// NewScratch returns scratch memory for the pipeline, which Free gives back. The error is
// of kind Memory.
func (t *Pipeline) NewScratch() (*Scratch, error) {
	w := &Scratch{random: random.New()}
	box, patch := t.Spatial.Box, t.Spatial.Patch
	n := patch[0] * patch[1] * patch[2]
	w.plane = make([]float32, patch[1]*patch[2])
	w.row = make([]float32, patch[2]+2*maxHalf)
	for i := range 3 {
		w.nearest[i] = make([]int32, patch[i])
		w.between[i] = make([]between, patch[i])
		w.blob.axis[i] = make([]float32, patch[i])
	}
	var err error
	take := func(e error) {
		if err == nil {
			err = e
		}
	}
	take(allocate(&w.source, box[0]*box[1]*box[2]))
	take(allocate(&w.sourceLabels, box[0]*box[1]*box[2]))
	take(allocate(&w.spare, n))
	take(allocate(&w.spareLabels, n))
	if uses[Median](t.Transforms...) {
		m := padded(patch)
		take(allocate(&w.median.sorted, m))
		take(allocate(&w.median.other, m))
		take(allocate(&w.median.rank, m))
		w.median.in = make([]uint64, m/64+1)
		w.median.some = make([]uint64, m/4096+1)
	}
	if uses[Operator](t.Transforms...) || uses[Component](t.Transforms...) {
		take(allocate(&w.queue, n))
		w.runs = make([]run, (n+patch[0]*patch[1])/2+1)
		w.firstRun = make([]int32, patch[0]*patch[1]+1)
	}
	if err != nil {
		w.Free()
		return nil, err
	}
	return w, nil
}

// uses reports whether a transform of type T is among some or within one of them.
func uses[T Transform](among ...Transform) bool {
	for _, t := range among {
		found := false
		switch t := t.(type) {
		case T:
			found = true
		case Random:
			found = uses[T](t.Transform)
		case OneOf:
			found = uses[T](t...)
		}
		if found {
			return true
		}
	}
	return false
}

func allocate[T any](s *[]T, n int) (err error) {
	*s, err = cmem.Alloc[T](n)
	return err
}

// bytes views the spare channel as 4 bytes for each voxel.
func (w *Scratch) bytes() []byte { return cmem.Bytes(w.spare) }

// Free gives the memory back.
func (w *Scratch) Free() {
	cmem.Free(w.source)
	cmem.Free(w.sourceLabels)
	cmem.Free(w.spare)
	cmem.Free(w.spareLabels)
	cmem.Free(w.median.sorted)
	cmem.Free(w.median.other)
	cmem.Free(w.median.rank)
	cmem.Free(w.queue)
}
