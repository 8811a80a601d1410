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
	plan    *plan
	src     Source
	lo, hi  float32
	threads int
	next    int // the next output plane

	stack      []float32 // slices first to before end, resampled in their plane
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
// that resampled apart, need the whole: it is made at the first Next. The caller calls
// Close.
func (m Method) Stream(out [3]int, src Source, from, to [3]float64, lo, hi float32, threads int) (*Stream, error) {
	p, err := m.plan(src.View.Shape, out, from, to)
	if err != nil {
		return nil, err
	}
	s := &Stream{plan: p, src: src, lo: lo, hi: hi, threads: max(1, threads)}
	s.clipAll = p.clip && p.separate < 0 && p.in != p.out
	if !s.streams() {
		return s, nil
	}
	deepest := 0
	for j := 0; j < out[0]; j++ { // blocks may begin anywhere
		first, end := s.window(j, min(j+streamBlock, out[0]))
		deepest = max(deepest, end-first)
	}
	if s.stack, err = cmem.Alloc[float32](deepest * out[1] * out[2]); err != nil {
		return nil, err
	}
	z := p.pass[0]
	s.scratch = newScratch(s.threads, 0, &pass{in: deepest, out: streamBlock, order: z.order})
	s.lines = make([][]float32, s.threads)
	return s, nil
}

// Close frees the stream's memory.
func (s *Stream) Close() {
	cmem.Free(s.stack)
	cmem.Free(s.whole)
	s.stack, s.whole = nil, nil
}

func (s *Stream) streams() bool {
	z := s.plan.pass[0]
	return s.plan.separate <= 0 && (z.order <= 1 || z.order == 3)
}

// window returns the slices that output planes from a to before b need.
func (s *Stream) window(a, b int) (first, end int) {
	z := s.plan.pass[0]
	lowest, highest := int(z.start[a]), int(z.start[b-1])
	switch z.order {
	case 0:
		return lowest, highest + 1
	case 1:
		return lowest, min(highest+2, z.in)
	}
	return max(0, lowest-halo), min(highest+4+halo, z.in)
}

// Next writes the next len(dst) planes, out[1] x out[2] each. Errors: Cancelled, Memory.
func (s *Stream) Next(ctx context.Context, dst [][]float32) error {
	n := s.plan.out[1] * s.plan.out[2]
	if !s.streams() {
		if s.whole == nil {
			var err error
			if s.whole, err = cmem.Alloc[float32](s.plan.out[0] * n); err != nil {
				return err
			}
			if err := s.plan.run(s.whole, s.src, s.lo, s.hi, s.threads); err != nil {
				return err
			}
		}
		for _, plane := range dst {
			copy(plane[:n], s.whole[s.next*n:])
			s.next++
		}
		return nil
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
	first, end := s.window(a, b)
	if first < s.end && first > s.first { // keep the slices that are there
		copy(s.stack, s.stack[(first-s.first)*n:(s.end-s.first)*n])
	}
	from := max(first, s.end)
	s.first, s.end = first, from // in case of an error
	if err := s.plan.slices(ctx, s.stack[(from-first)*n:], s.src, from, end, s.threads); err != nil {
		return err
	}
	s.end = max(end, from)

	z := s.plan.pass[0]
	part := &pass{in: end - first, out: b - a, order: z.order, start: make([]int32, b-a)}
	for j := range part.start {
		part.start[j] = z.start[a+j] - int32(first)
	}
	weights := len(z.weight) / z.out
	part.weight = z.weight[a*weights : b*weights]
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
