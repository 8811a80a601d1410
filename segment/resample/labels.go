package resample

import (
	"context"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// Target is where labels go: a label map, seen through the view in which the
// network saw the image, so that writing undoes crop, transpose and orientation.
type Target struct {
	Labels        *volume.Volume // Uint8 or Uint16, one channel
	View          volume.View
	Rows          [2]int    // of the view's middle axis, from to before: what is written where Needs says that it splits; zero: all
	Probabilities []float32 // nil, or classes x the whole grid of Labels
	Regions       []uint16  // nil, or the label of each region in the order of writing
	Head          *Head     // nil where planes hold logits
}

// Head is a network's last layer, a linear map of its features to logits. As everything
// between it and the labels is linear as well (means over tiles and folds, interpolation),
// it can be applied at the very end, once per voxel. Features of several folds may stand
// one after the other.
type Head struct {
	Weight []float32 // classes x channels, row-major
	Bias   []float32 // classes
}

// Labels turns low-resolution logits into labels, plane by plane as they come. Where
// the interpolation needs no more than two planes at a time (linear, nearest or none
// along every axis), output planes are written as soon as they can be (rows.go), and the
// logits of all classes never exist at full resolution. For splines above order 1 the
// low-resolution logits are collected and exported class by class at the last plane
// (collect.go).
type Labels struct {
	ctx               context.Context
	classes, channels int
	threads           int
	low, out          [3]int
	z0, y0            []int32 // lower neighbour of each output plane and row
	wz, wy            []float32
	target            Target
	head              *kernel.Matrix
	values            []uint16      // nil, or what to write for each label: 0 and the regions'
	planes            kernel.Planes // the last two, where the caller has them; their labels where those come first
	band              int           // how many output rows a worker takes at a time
	workers           []worker
	next              int       // the next output plane
	collected         []float32 // nil where planes suffice; classes x low
	plan              *plan
}

// Labels prepares the way from logits of shape low, of so many classes, to the
// target's view; from and to are the spacings in mm of the axes of the logits and of
// the target's view. Resampling is nnU-Net's with is_seg False, followed by the
// largest logit (the first of equals) or the regions above 0. Where the target names rows,
// planes hold the rows of logits that Needs names. Errors are those of
// Image, and Model for a head that does not fit the classes. Cancelling ctx ends Plane
// with an error of kind Cancelled. The caller calls Close.
func (m Method) Labels(ctx context.Context, low [3]int, classes int, from, to [3]float64, t Target, threads int) (*Labels, error) {
	p, err := m.plan(low, t.View.Shape, from, to)
	if err != nil {
		return nil, err
	}
	if t.Rows != [2]int{} && p.local() {
		need := p.needs(t.Rows)
		p = p.rows(t.Rows[0], t.Rows[1], need[0], need[1])
		t.View = t.View.Crop([3]int{0, t.Rows[0], 0}, [3]int{t.View.Shape[0], t.Rows[1], t.View.Shape[2]})
	}
	l := &Labels{ctx: ctx, classes: classes, channels: classes, threads: max(1, threads), low: p.in, out: p.out, target: t, plan: p}
	if h := t.Head; h != nil {
		if len(h.Bias) != classes || len(h.Weight) == 0 || len(h.Weight)%classes != 0 {
			return nil, fault.New(fault.Model, "a last layer of %d weights and %d biases does not fit %d classes", len(h.Weight), len(h.Bias), classes)
		}
		l.head, l.channels = &kernel.Matrix{Weight: h.Weight, Bias: h.Bias}, len(h.Weight)/classes
	}
	if t.Regions != nil {
		l.values = append([]uint16{0}, t.Regions...)
	}
	if err := l.allocate(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Needs returns a function that tells which rows (of the middle axis) of logits of shape
// low some rows of a target of shape out need; both from the first to before the last. splits
// is false where any need all logits, because splines above order 1 reach over the whole grid.
// Other arguments and errors are those of Labels.
func (m Method) Needs(low, out [3]int, from, to [3]float64) (needs func(rows [2]int) [2]int, splits bool, err error) {
	p, err := m.plan(low, out, from, to)
	if err != nil {
		return nil, false, err
	}
	if !p.local() {
		return func([2]int) [2]int { return [2]int{0, low[1]} }, false, nil
	}
	return p.needs, true, nil
}

// needs returns the input rows that some output rows of a local plan need; both from the
// first to before the last.
func (p *plan) needs(rows [2]int) [2]int {
	y, last := p.pass[1], rows[1]-1
	end := int(y.start[last]) + 1
	if y.weight[last] != 0 {
		end++
	}
	return [2]int{int(y.start[rows[0]]), end}
}

// allocate makes the buffers.
func (l *Labels) allocate() (err error) {
	p, n := l.plan, l.low[1]*l.low[2]
	if p.local() {
		l.z0, l.wz, l.y0, l.wy = p.pass[0].start, p.pass[0].weight, p.pass[1].start, p.pass[1].weight
	} else {
		if l.collected, err = cmem.Alloc[float32](l.classes * l.low[0] * n); err != nil {
			return err
		}
	}
	for i := range l.planes.Labels {
		if l.first() {
			if l.planes.Labels[i], err = cmem.Alloc[uint16](n); err != nil {
				return err
			}
		}
		if l.few() {
			if l.planes.Second[i], err = cmem.Alloc[float32](n + kernel.Slack); err != nil {
				return err
			}
			clear(l.planes.Second[i][n:])
		}
	}
	l.planes.Channels, l.band = l.channels, min(max(l.out[1]/(4*l.threads), 1), maxBand)
	for range l.threads {
		l.workers = append(l.workers, l.newWorker())
	}
	return nil
}

// maxBand is how many output rows a worker takes at a time at most.
const maxBand = 16

// first reports whether labels of low-resolution voxels come first and only what they
// leave open is interpolated.
func (l *Labels) first() bool { return l.collected == nil && l.target.Probabilities == nil }

// few reports whether what is left open is interpolated for a few classes only.
func (l *Labels) few() bool { return l.first() && l.head == nil && l.target.Regions == nil }

// Close frees the memory.
func (l *Labels) Close() {
	cmem.Free(l.collected)
	l.collected = nil
	p := &l.planes
	for i := range p.Labels {
		cmem.Free(p.Labels[i])
		cmem.Free(p.Second[i])
		p.Labels[i], p.Second[i] = nil, nil
	}
}

// Plane takes the low-resolution planes in order, z = 0, 1, ...: of the logits, or of the
// head's channels, which lie stride (always the same) apart and are followed by
// kernel.Slack finite values. The caller leaves a plane as it is until the call for the
// next has returned. All output planes that need no further plane are written.
func (l *Labels) Plane(z int, plane []float32, stride int) error {
	if err := l.cancelled(); err != nil {
		return err
	}
	if l.collected != nil {
		return l.collect(z, plane, stride)
	}
	l.planes.Logits[z%2], l.planes.Stride = plane, stride
	labels, second := l.planes.Labels[z%2], l.planes.Second[z%2]
	if l.few() {
		l.blocks(func(_ *worker, at, n int) { kernel.Top(labels[at:], second[at:], plane[at:], stride, l.classes, n) })
	} else if l.first() {
		l.blocks(func(w *worker, at, n int) { l.judge(w, labels[at:], plane[at:], stride, n) })
	}
	first := l.next
	for l.next < l.out[0] && l.upper(l.next) <= z {
		l.next++
	}
	if first == l.next {
		return nil
	}
	return parallel.For((l.out[1]+l.band-1)/l.band, l.threads, func(worker, i int) error {
		l.write(&l.workers[worker], first, l.next, i*l.band, min((i+1)*l.band, l.out[1]))
		return nil
	})
}

func (l *Labels) cancelled() error {
	if l.ctx.Err() != nil {
		return fault.New(fault.Cancelled, "cancelled")
	}
	return nil
}

// upper returns the last low-resolution plane that output plane z needs.
func (l *Labels) upper(z int) int {
	if l.wz[z] == 0 {
		return int(l.z0[z])
	}
	return int(l.z0[z]) + 1
}

// blocks calls body for parts of a low-resolution plane: their first voxel and how many
// they are.
func (l *Labels) blocks(body func(w *worker, at, n int)) {
	const block = 8192 // voxels
	plane := l.low[1] * l.low[2]
	_ = parallel.For((plane+block-1)/block, l.threads, func(worker, i int) error {
		body(&l.workers[worker], i*block, min(block, plane-i*block))
		return nil
	})
}

// judge labels n voxels of x, channels that lie stride apart, as if they were voxels of
// the target.
func (l *Labels) judge(w *worker, labels []uint16, x []float32, stride, n int) {
	if l.head == nil {
		l.pick(labels, x, stride, n)
		return
	}
	for at := 0; at < n; at += headBlock {
		m := min(headBlock, n-at)
		l.head.Product(w.product, headBlock, x[at:], stride, m, w.scratch)
		l.pick(labels[at:], w.product, headBlock, m)
	}
}

// headBlock is for how many voxels logits are computed before they are compared, so that
// those of all classes stay in the cache.
const headBlock = 128

// pick labels n voxels by their logits: the class of the largest, or 1 + the last region
// above 0.
func (l *Labels) pick(labels []uint16, logits []float32, stride, n int) {
	if l.target.Regions != nil {
		kernel.Last(labels, logits, stride, l.classes, n)
	} else {
		kernel.Winner(labels, logits, stride, l.classes, n)
	}
}
