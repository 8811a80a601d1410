package resample

import (
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// Splines above order 1 reach over the whole grid, so their labels need all
// low-resolution logits first. Memory beside those: one class at full resolution, the
// largest logit so far and its label.

// collect is Plane for such splines.
func (l *Labels) collect(z int, plane []float32, stride int) error {
	n := l.low[1] * l.low[2]
	l.blocks(func(w *worker, at, count int) {
		dst := l.collected[z*n+at:]
		if l.head != nil {
			l.head.Product(dst, l.low[0]*n, plane[at:], stride, count, w.scratch)
			return
		}
		for class := range l.classes {
			copy(dst[class*l.low[0]*n:][:count], plane[class*stride+at:])
		}
	})
	if z < l.low[0]-1 {
		return nil
	}
	return l.export()
}

// export resamples class by class and writes labels and probabilities.
func (l *Labels) export() error {
	n, out := l.low[0]*l.low[1]*l.low[2], l.out[0]*l.out[1]*l.out[2]
	logits, err := cmem.Alloc[float32](out)
	if err != nil {
		return err
	}
	defer cmem.Free(logits)
	labels, err := cmem.AllocZero[uint16](out)
	if err != nil {
		return err
	}
	defer cmem.Free(labels)
	var best []float32
	if l.target.Regions == nil {
		if best, err = cmem.Alloc[float32](out); err != nil {
			return err
		}
		defer cmem.Free(best)
	}
	step := l.target.View.Stride[2]
	for class := range l.classes {
		if err := l.cancelled(); err != nil {
			return err
		}
		low := l.collected[class*n : (class+1)*n]
		lo, hi := kernel.Extremes(low)
		source := Source{Data: cmem.Bytes(low), DType: volume.Float32, Affine: kernel.Identity,
			View: volume.View{Shape: l.low, Stride: [3]int{l.low[1] * l.low[2], l.low[2], 1}}}
		if err := l.plan.run(logits, source, lo, hi, l.threads); err != nil {
			return err
		}
		l.eachRow(func(_ *worker, i, at int) {
			row := logits[i : i+l.out[2]]
			l.vote(labels[i:], best, i, row, class)
			if l.target.Probabilities != nil {
				grid := l.target.Probabilities[class*len(l.target.Probabilities)/l.classes:]
				for x, v := range row {
					grid[at+x*step] = v
				}
			}
		})
	}
	l.eachRow(func(w *worker, i, at int) {
		l.paintWhole(w, at, labels[i:i+l.out[2]])
		if l.target.Probabilities == nil {
			return
		}
		grid := len(l.target.Probabilities) / l.classes
		for class := range l.classes {
			for x := range l.out[2] {
				w.logits[class*l.out[2]+x] = l.target.Probabilities[class*grid+at+x*step]
			}
		}
		l.probabilities(w, at)
	})
	return nil
}

// eachRow calls body for every output row: its first voxel as index i of a row-major
// array, and as element at of the target.
func (l *Labels) eachRow(body func(w *worker, i, at int)) {
	v := l.target.View
	_ = parallel.For(l.out[0]*l.out[1], l.threads, func(worker, row int) error {
		z, y := row/l.out[1], row%l.out[1]
		body(&l.workers[worker], row*l.out[2], v.Offset+z*v.Stride[0]+y*v.Stride[1])
		return nil
	})
}

// vote lets one class's logits of the row at voxel i compete.
func (l *Labels) vote(labels []uint16, best []float32, i int, logits []float32, class int) {
	if l.target.Regions != nil {
		for x, v := range logits {
			if v > 0 {
				labels[x] = uint16(class) + 1
			}
		}
		return
	}
	best = best[i : i+len(logits)]
	if class == 0 {
		copy(best, logits)
		return
	}
	for x, v := range logits {
		if v > best[x] {
			best[x], labels[x] = v, uint16(class)
		}
	}
}
