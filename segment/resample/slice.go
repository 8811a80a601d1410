package resample

import (
	"context"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// slicer resamples the slices of a source in their plane: first along the axis whose voxels
// lie further apart in memory, from row to row, a group of output rows at a time; then each
// group within its rows, while it lies in the cache.
type slicer struct {
	src           Source
	across, along *pass         // the first pass and the second
	side          bool          // the first is along the last axis
	first, second [2]int        // the output voxels of each that are wanted, the first and the one behind the last
	direct        *kernel.Cubic // the first pass where it takes voxels as they are stored, else nil
	clip          clip
	lo, hi        float32 // of clip all
	lent          []*sliceScratch
}

// clip says to what slices are clipped when resampled.
type clip int

const (
	clipNot  clip = iota
	clipEach      // to their own extremes
	clipAll       // to lo and hi
)

// sliceScratch is one worker's memory.
type sliceScratch struct {
	plane         []float32 // a slice as it was loaded
	rows          []float32 // a group of the first pass's output
	turned, other []float32 // the same, rows and columns exchanged, before and after the second pass
	first, second carry
}

func newSlicer(p *plan, src Source, threads int) *slicer {
	s := &slicer{src: src, across: p.pass[1], along: p.pass[2], lent: make([]*sliceScratch, threads)}
	stride := src.View.Stride
	if s.side = abs(stride[2]) > abs(stride[1]); s.side {
		s.across, s.along = s.along, s.across
		stride[2] = stride[1]
	}
	if s.across.order == 3 && stride[2] == 1 {
		s.direct = s.across.inner.Divided(src.Affine.Div)
	}
	s.only(0, p.out[1])
	return s
}

// only makes the slices' rows from to before to alone the wanted ones.
func (s *slicer) only(from, to int) {
	s.first, s.second = [2]int{from, to}, [2]int{0, s.along.out}
	if s.side {
		s.first, s.second = [2]int{0, s.across.out}, s.first
	}
}

// group is how many rows of the first pass's output are made at a time.
func (s *slicer) group() int {
	if s.across.whole() {
		return s.across.out
	}
	return min(kernel.Lanes, s.across.out)
}

// stride is from row to row of the first pass's output: rows a power of two apart would
// evict each other from the cache.
func (s *slicer) stride() int { return s.along.in + kernel.Slack }

func (s *slicer) lend(worker int) *sliceScratch {
	if s.lent[worker] == nil {
		n, m, group := s.across.in, s.along.in, s.group()
		w := &sliceScratch{first: s.across.carry(m), second: s.along.carry(group)}
		if s.direct == nil {
			w.plane = make([]float32, n*m)
		}
		w.rows = make([]float32, (group+kernel.Slack)*s.stride())
		if s.side || s.along.order != 3 {
			w.turned, w.other = make([]float32, m*group), make([]float32, s.along.out*group)
		}
		s.lent[worker] = w
	}
	return s.lent[worker]
}

// slices resamples slices from first to before end of the source's slowest axis: slice i
// goes to target(i), its rows stride apart. Errors: Cancelled.
func (s *slicer) slices(ctx context.Context, first, end int, target func(i int) []float32, stride int) error {
	return parallel.For(end-first, len(s.lent), func(worker, i int) error {
		if ctx.Err() != nil {
			return fault.New(fault.Cancelled, "cancelled")
		}
		s.slice(target(first+i), stride, s.src.Plane(first+i), s.lend(worker))
		return nil
	})
}

func (s *slicer) slice(dst []float32, stride int, plane kernel.Plane, w *sliceScratch) {
	if s.across.none() && s.along.none() && !s.side && stride == plane.Shape[1] {
		plane.Offset += s.first[0] * plane.Stride[0]
		plane.Shape[0] = s.first[1] - s.first[0]
		kernel.Load(dst, plane, s.src.Affine)
		return
	}
	rows, columns := s.first[1]-s.first[0], s.along.out
	if s.side {
		plane.Stride[0], plane.Stride[1] = plane.Stride[1], plane.Stride[0]
		plane.Shape[0], plane.Shape[1] = plane.Shape[1], plane.Shape[0]
		rows, columns = s.second[1]-s.second[0], s.across.out
	}
	lo, hi := s.lo, s.hi
	if s.clip == clipEach {
		r := kernel.Scan(plane, 0)
		lo, hi = s.src.Affine.Apply(r.Min), s.src.Affine.Apply(r.Max)
	}
	if s.direct == nil {
		kernel.Load(w.plane, plane, s.src.Affine)
	}
	for a, b := s.first[0], 0; a < s.first[1]; a = b {
		b = min(a-a%s.group()+s.group(), s.first[1])
		s.rows(dst, stride, plane, a, b, w)
	}
	if s.clip != clipNot {
		kernel.Clip(dst, stride, rows, columns, lo, hi)
	}
}

// rows makes a group: the first pass's output rows from a to before b.
func (s *slicer) rows(dst []float32, stride int, plane kernel.Plane, a, b int, w *sliceScratch) {
	n, m, at, begins := b-a, s.along.in, a-s.first[0], a == s.first[0]
	if !s.side {
		dst = dst[at*stride:]
	}
	group, groupStride := w.rows, s.stride()
	if s.along.none() && !s.side {
		group, groupStride = dst, stride
	}
	if s.direct != nil {
		s.direct.Rows(group, groupStride, plane, 0, s.src.Affine, a, b, w.first.state, begins)
	} else {
		s.across.rows(group, groupStride, w.plane, m, 0, m, a, b, begins, w.first)
	}
	switch from, to := s.second[0], s.second[1]; {
	case s.side:
		kernel.Transpose(w.turned, n, group, groupStride, n, m)
		s.along.rows(dst[at:], stride, w.turned, n, 0, n, from, to, true, w.second)
	case s.along.none():
	case s.along.order == 3:
		w.second.cubic.Across(dst, stride, group, groupStride, n)
	default:
		kernel.Transpose(w.turned, n, group, groupStride, n, m)
		s.along.rows(w.other, n, w.turned, n, 0, n, from, to, true, w.second)
		kernel.Transpose(dst, stride, w.other, n, to-from, n)
	}
}

// Extremes returns the smallest and the largest of some values.
func Extremes(s []float32) (lo, hi float32) { return kernel.Extremes(s) }

func abs(i int) int { return max(i, -i) }

// floats is an array as a source.
func floats(data []float32, view volume.View) Source {
	return Source{Data: cmem.Bytes(data), DType: volume.Float32, View: view, Affine: kernel.Identity}
}
