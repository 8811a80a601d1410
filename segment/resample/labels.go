package resample

import (
	"math"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// Target is where labels go: a label map, seen through the view in which the
// network saw the image, so that writing undoes crop, transpose and orientation.
type Target struct {
	Labels        *volume.Volume // Uint8 or Uint16, one channel
	View          volume.View
	Probabilities []float32 // nil, or classes x the whole grid of Labels
	Regions       []uint16  // nil, or the label of each region in the order of writing
}

// Labels turns low-resolution logits into labels, plane by plane as they come. Where
// the interpolation needs no more than two planes at a time (linear, nearest or none
// along every axis), output planes are written as soon as they can be, and the
// logits of all classes never exist at full resolution. For splines above order 1 the
// low-resolution logits are collected and exported class by class at the last plane
// (collect.go).
type Labels struct {
	classes, threads int
	low, out         [3]int
	z0, y0           []int32 // lower neighbour of each output plane and row
	wz, wy           []float32
	target           Target
	planes           [2][]float32 // the last two planes of logits, classes x low[1] x low[2]
	workers          []worker
	next             int       // the next output plane
	collected        []float32 // nil where planes suffice; classes x low
	plan             *plan
}

type worker struct {
	line   *kernel.Line
	labels []uint16
	logits []float32 // classes x out[2], for probabilities
}

// Labels prepares the way from logits of shape low, of so many classes, to the
// target's view; from and to are the spacings in mm of the axes of the logits and of
// the target's view. Resampling is nnU-Net's with is_seg False, followed by the
// largest logit (the first of equals) or the regions above 0. Errors are those of
// Image. The caller calls Close.
func (m Method) Labels(low [3]int, classes int, from, to [3]float64, t Target, threads int) (*Labels, error) {
	p, err := m.plan(low, t.View.Shape, from, to)
	if err != nil {
		return nil, err
	}
	l := &Labels{classes: classes, threads: max(1, threads), low: p.in, out: p.out, target: t, plan: p}
	planes := len(l.planes)
	if p.local() {
		l.z0, l.wz, l.y0, l.wy = p.pass[0].start, p.pass[0].weight, p.pass[1].start, p.pass[1].weight
	} else {
		if l.collected, err = cmem.Alloc[float32](classes * l.low[0] * l.low[1] * l.low[2]); err != nil {
			return nil, err
		}
		planes = 1
	}
	for i := range planes {
		if l.planes[i], err = cmem.Alloc[float32](classes * l.low[1] * l.low[2]); err != nil {
			l.Close()
			return nil, err
		}
	}
	for range l.threads {
		w := worker{}
		if l.collected == nil {
			w.line, w.labels = kernel.NewLine(l.low[2], p.pass[2].start, p.pass[2].weight), make([]uint16, l.out[2])
		}
		if t.Probabilities != nil {
			w.logits = make([]float32, classes*l.out[2])
		}
		l.workers = append(l.workers, w)
	}
	return l, nil
}

// Close frees the planes.
func (l *Labels) Close() {
	cmem.Free(l.collected)
	l.collected = nil
	for i := range l.planes {
		cmem.Free(l.planes[i])
		l.planes[i] = nil
	}
}

// Plane takes the low-resolution planes in order, z = 0, 1, ...: fill writes the
// logits of plane z (classes x low[1] x low[2]). All output planes that need no
// further plane are written.
func (l *Labels) Plane(z int, fill func(dst []float32) error) error {
	if l.collected != nil {
		return l.collect(z, fill)
	}
	low, high := l.planes[(z+1)%2], l.planes[z%2]
	if err := fill(high); err != nil {
		return err
	}
	first := l.next
	for l.next < l.out[0] && l.upper(l.next) <= z {
		l.next++
	}
	rows := (l.next - first) * l.out[1]
	return parallel.For(rows, l.threads, func(worker, i int) error {
		zo, yo := first+i/l.out[1], i%l.out[1]
		a, b := low, high
		if int(l.z0[zo]) == z {
			a = high
		} else if l.wz[zo] == 0 {
			b = low
		}
		l.row(&l.workers[worker], a, b, zo, yo)
		return nil
	})
}

// upper returns the last low-resolution plane that output plane z needs.
func (l *Labels) upper(z int) int {
	if l.wz[z] == 0 {
		return int(l.z0[z])
	}
	return int(l.z0[z]) + 1
}

// row writes output row (z, y) from the planes below and above it.
func (l *Labels) row(w *worker, low, high []float32, z, y int) {
	wz, wy := l.wz[z], l.wy[y]
	y0 := int(l.y0[y])
	c := &kernel.Corner{
		Low: low, High: high, Row: [2]int{y0 * l.low[2], min(y0+1, l.low[1]-1) * l.low[2]},
		Weight: [4]float32{(1 - wz) * (1 - wy), (1 - wz) * wy, wz * (1 - wy), wz * wy},
		Stride: l.low[1] * l.low[2], Classes: l.classes,
	}
	if l.target.Regions != nil {
		w.line.Regions(w.labels, c, l.target.Regions)
	} else {
		w.line.Argmax(w.labels, c)
	}
	v := l.target.View
	at, step := v.Offset+z*v.Stride[0]+y*v.Stride[1], v.Stride[2]
	l.write(w.labels, at, step)
	if l.target.Probabilities != nil {
		for class := range l.classes {
			w.line.Logits(w.logits[class*l.out[2]:(class+1)*l.out[2]], c, class)
		}
		l.probabilities(w, at, step)
	}
}

// write writes a row of labels to the target, the first at element at.
func (l *Labels) write(row []uint16, at, step int) {
	if l.target.Labels.DType == volume.Uint16 {
		scatter(volume.As[uint16](l.target.Labels), row, at, step)
	} else {
		scatter(l.target.Labels.Data, row, at, step)
	}
}

func scatter[T uint8 | uint16](dst []T, row []uint16, at, step int) {
	for _, label := range row {
		dst[at] = T(label)
		at += step
	}
}

// probabilities writes the softmax over the classes of one row of logits, or the
// sigmoid of each region.
func (l *Labels) probabilities(w *worker, at, step int) {
	n := l.out[2]
	grid := len(l.target.Probabilities) / l.classes
	for x := range n {
		if l.target.Regions != nil {
			for class := range l.classes {
				v := float64(w.logits[class*n+x])
				l.target.Probabilities[class*grid+at+x*step] = float32(1 / (1 + math.Exp(-v)))
			}
			continue
		}
		highest, sum := w.logits[x], 0.0
		for class := 1; class < l.classes; class++ {
			highest = max(highest, w.logits[class*n+x])
		}
		for class := range l.classes {
			e := math.Exp(float64(w.logits[class*n+x] - highest))
			w.logits[class*n+x] = float32(e)
			sum += e
		}
		for class := range l.classes {
			l.target.Probabilities[class*grid+at+x*step] = w.logits[class*n+x] / float32(sum)
		}
	}
}
