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
	next    int       // the next output plane
	whole   []float32 // of methods that do not stream, all output planes

	slicer *slicer
	block  int // output planes that are made at a time
	// The slices first to before end, resampled in their plane, out[1] x depth x out[2]: what
	// a row of output planes is made of lies together. depth is 0 where there is nothing to do
	// along the slowest axis.
	window     []float32
	depth      int
	first, end int
	states     []float32 // of a cubic spline, by row
	clipAll    bool
	lent       []*streamScratch
}

// streamScratch is one worker's memory.
type streamScratch struct {
	carry carry
	lines []float32 // a row of every plane of a block
}

// streamBlock is how many output planes are made at a time: enough for all threads, and
// as many as make the slices that are looked at ahead of them a small part.
const streamBlock = 16

// Stream prepares a stream of the planes that Image would write; arguments and errors are
// Image's. Splines of the orders 2, 4 and 5 along the slowest axis, and an axis other than
// that resampled apart, need the whole: it is made at the first Next. The caller calls
// Close.
func (m Method) Stream(out [3]int, src Source, from, to [3]float64, lo, hi float32, threads int) (*Stream, error) {
	p, err := m.plan(src.View.Shape, out, from, to)
	if err != nil {
		return nil, err
	}
	if p.separate > 0 || p.pass[0].whole() {
		return &Stream{plan: p, src: src, lo: lo, hi: hi, threads: threads}, nil
	}
	return p.stream(src, lo, hi, threads)
}

// stream is Stream for plans whose separate axis is the slowest, if any. Splines that do not
// stream have all planes in one block.
func (p *plan) stream(src Source, lo, hi float32, threads int) (*Stream, error) {
	threads = max(1, threads)
	s := &Stream{plan: p, lo: lo, hi: hi, threads: threads, slicer: newSlicer(p, src, threads), lent: make([]*streamScratch, threads)}
	s.clipAll = p.clip && p.separate < 0 && p.in != p.out
	z := p.pass[0]
	if p.clip && p.separate == 0 && !(p.pass[1].none() && p.pass[2].none()) {
		s.slicer.clip = clipEach
	}
	s.block = p.out[0]
	if !z.whole() {
		s.block = min(streamBlock, p.out[0])
	}
	if z.none() {
		if s.clipAll {
			s.slicer.clip, s.slicer.lo, s.slicer.hi = clipAll, lo, hi
		}
		return s, nil
	}
	for a := range p.out[0] { // blocks may begin anywhere
		first, end := z.window(a, min(a+s.block, p.out[0]))
		s.depth = max(s.depth, end-first)
	}
	var err error
	if s.window, err = cmem.Alloc[float32](p.out[1] * s.depth * p.out[2]); err == nil && z.order == 3 {
		s.states, err = cmem.Alloc[float32](p.out[1] * kernel.StateSize(p.out[2]))
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close frees the stream's memory.
func (s *Stream) Close() {
	cmem.Free(s.window)
	cmem.Free(s.states)
	cmem.Free(s.whole)
	s.window, s.states, s.whole = nil, nil, nil
}

// Next writes the next len(dst) planes, out[1] x out[2] each. Errors, after which the stream
// is of no more use: Cancelled, Memory.
func (s *Stream) Next(ctx context.Context, dst [][]float32) error {
	if s.slicer == nil {
		return s.copyOf(dst)
	}
	for len(dst) > 0 {
		count := min(s.block, len(dst))
		if err := s.planes(ctx, dst[:count]); err != nil {
			return err
		}
		dst = dst[count:]
		s.next += count
	}
	return nil
}

// copyOf is Next where there is a whole.
func (s *Stream) copyOf(dst [][]float32) error {
	n := s.plan.out[1] * s.plan.out[2]
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

// planes writes a block.
func (s *Stream) planes(ctx context.Context, dst [][]float32) error {
	z, columns := s.plan.pass[0], s.plan.out[2]
	a, b := s.next, s.next+len(dst)
	if s.depth == 0 {
		return s.slicer.slices(ctx, a, b, func(i int) []float32 { return dst[i-a] }, columns)
	}
	first, end := z.window(a, b)
	row := s.depth * columns
	slot := func(i int) []float32 { return s.window[(i-first)*columns:] }
	if err := s.slicer.slices(ctx, max(first, s.end), end, slot, row); err != nil {
		return err
	}
	ahead := end // the first slice that is needed again
	if b < s.plan.out[0] {
		ahead, _ = z.window(b, b+1)
	}
	s.first, s.end = ahead, max(end, ahead)
	return parallel.For(s.plan.out[1], s.threads, func(worker, y int) error {
		w := s.lend(worker)
		slices := s.window[y*row : (y+1)*row]
		if z.order == 3 {
			size := kernel.StateSize(columns)
			w.carry.state = s.states[y*size : (y+1)*size]
		}
		z.rows(w.lines, columns, slices, columns, first, columns, a, b, w.carry)
		if s.clipAll {
			kernel.Clip(w.lines, columns, len(dst), columns, s.lo, s.hi)
		}
		for j, plane := range dst {
			copy(plane[y*columns:(y+1)*columns], w.lines[j*columns:])
		}
		if ahead < end {
			copy(slices, slices[(ahead-first)*columns:(end-first)*columns])
		}
		return nil
	})
}

func (s *Stream) lend(worker int) *streamScratch {
	if s.lent[worker] == nil {
		w := &streamScratch{lines: make([]float32, s.block*s.plan.out[2])}
		if z := s.plan.pass[0]; z.whole() {
			w.carry = z.carry(s.plan.out[2])
		}
		s.lent[worker] = w
	}
	return s.lent[worker]
}
