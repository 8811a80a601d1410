package resample

import (
	"context"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// Stream is Image, plane by plane along the slowest axis: neither the destination nor the
// stack of resampled slices exists as a whole.
type Stream struct {
	all     *plan
	plan    *plan // of the rows that are wanted
	src     Source
	lo, hi  float32
	threads int
	row     int // the first row that is wanted
	next    int // the next output plane

	stack      []float32 // slices first to before end, resampled in their plane; nil until Next
	first, end int
	whole      []float32 // of methods that do not stream, all output planes
	clipAll    bool
	scratch    func(worker int) *scratch
	lines      [][]float32 // of each worker: a row of every plane of a block
}

// streamBlock is how many output planes are made at a time: enough for all threads, and
// so many that the halo around them is no more than the work on them.
const streamBlock = 16

// halo is how many slices further than its support the cubic spline's prefilter is run:
// what lies beyond has a weight of (sqrt(3)-2)^16 = 7e-10.
const halo = 16

// Stream prepares a stream of the planes that Image would write; arguments and errors are
// Image's. Splines of the orders 2, 4 and 5 along the slowest axis, and an axis other than
// that resampled apart, need the whole: it is made at the first Next. Memory is allocated
// by Next. The caller calls Close.
func (m Method) Stream(out [3]int, src Source, from, to [3]float64, lo, hi float32, threads int) (*Stream, error) {
	p, err := m.plan(src.View.Shape, out, from, to)
	if err != nil {
		return nil, err
	}
	s := &Stream{all: p, plan: p, src: src, lo: lo, hi: hi, threads: max(1, threads)}
	s.clipAll = p.clip && p.separate < 0 && p.in != p.out
	s.scratch = newScratch(s.threads, 0, &pass{in: p.deepest(), out: streamBlock, order: p.pass[0].order})
	s.lines = make([][]float32, s.threads)
	return s, nil
}

// Rows begins anew with the first plane; planes hold the rows from to before to alone from
// now on, with the values that they have among all rows.
func (s *Stream) Rows(from, to int) {
	cmem.Free(s.stack)
	s.stack, s.first, s.end = nil, 0, 0
	s.plan, s.row, s.next = s.all.rows(from, to, 0, s.all.in[1]), from, 0
}

// Close frees the stream's memory.
func (s *Stream) Close() {
	cmem.Free(s.stack)
	cmem.Free(s.whole)
	s.stack, s.whole = nil, nil
}

// streams reports whether planes can be made one after the other.
func (p *plan) streams() bool {
	z := p.pass[0]
	return p.separate <= 0 && (z.order <= 1 || z.order == 3)
}

// deepest returns how many slices a block of planes needs at most, wherever it begins.
func (p *plan) deepest() (n int) {
	for j := 0; j < p.out[0] && p.streams(); j++ {
		first, end := p.window(j, min(j+streamBlock, p.out[0]))
		n = max(n, end-first)
	}
	return n
}

// window returns the slices that output planes from a to before b need.
func (p *plan) window(a, b int) (first, end int) {
	z := p.pass[0]
	lowest, highest := int(z.start[a]), int(z.start[b-1])
	switch z.order {
	case 0:
		return lowest, highest + 1
	case 1:
		return lowest, min(highest+2, z.in)
	}
	return max(0, lowest-halo), min(highest+4+halo, z.in)
}

// Next writes the next len(dst) planes: of each all rows, or those that Rows named, of
// out[2] voxels. Errors: Cancelled, Memory.
func (s *Stream) Next(ctx context.Context, dst [][]float32) (err error) {
	n := s.plan.out[1] * s.plan.out[2]
	if !s.plan.streams() {
		columns := s.all.out[2]
		plane := s.all.out[1] * columns
		if s.whole == nil {
			if s.whole, err = cmem.Alloc[float32](s.all.out[0] * plane); err != nil {
				return err
			}
			if err := s.all.run(s.whole, s.src, s.lo, s.hi, s.threads); err != nil {
				return err
			}
		}
		for _, d := range dst {
			copy(d[:n], s.whole[s.next*plane+s.row*columns:])
			s.next++
		}
		return nil
	}
	if s.stack == nil {
		if s.stack, err = cmem.Alloc[float32](s.plan.deepest() * n); err != nil {
			return err
		}
	}
	for len(dst) > 0 {
		count := min(streamBlock, len(dst))
		if err := s.block(ctx, dst[:count]); err != nil {
			return err
		}
		dst = dst[count:]
		s.next += count
	}
	return nil
}

// block writes up to streamBlock planes.
func (s *Stream) block(ctx context.Context, dst [][]float32) error {
	a, b := s.next, s.next+len(dst)
	n, columns := s.plan.out[1]*s.plan.out[2], s.plan.out[2]
	first, end := s.plan.window(a, b)
	if first < s.end && first > s.first { // keep the slices that are there
		copy(s.stack, s.stack[(first-s.first)*n:(s.end-s.first)*n])
	}
	from := max(first, s.end)
	s.first, s.end = first, from // in case of an error
	if err := s.plan.slices(ctx, s.stack[(from-first)*n:], s.src, from, end, s.threads); err != nil {
		return err
	}
	s.end = max(end, from)

	part := s.plan.pass[0].part(a, b, first, end)
	return parallel.For(s.plan.out[1], s.threads, func(worker, y int) error {
		if s.lines[worker] == nil {
			s.lines[worker] = make([]float32, streamBlock*columns)
		}
		lines, row := s.lines[worker], y*columns
		part.rows(lines, columns, s.stack[row:], n, columns, s.scratch(worker))
		for j, plane := range dst {
			line := lines[j*columns : (j+1)*columns]
			if s.clipAll {
				kernel.Clip(line, s.lo, s.hi)
			}
			copy(plane[row:], line)
		}
		return nil
	})
}
