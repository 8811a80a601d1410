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
	rows    [2]int    // that are wanted, the first and the one behind the last
	next    int       // the next output plane
	whole   []float32 // of methods that do not stream, all output planes; nil until Next

	slicer *slicer // nil for methods that do not stream
	block  int     // output planes that are made at a time
	// The slices that are needed again, to before end, resampled in their plane, rows x depth x out[2]: what a
	// row of output planes is made of lies together; nil until Next. depth is 0 where there is
	// nothing to do along the slowest axis.
	window  []float32
	depth   int
	end     int
	states  []float32 // of a cubic spline, by row
	clipAll bool
	lent    []*streamScratch
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
// that resampled apart, need the whole: it is made at the first Next. Memory is allocated
// by Next. The caller calls Close.
func (m Method) Stream(out [3]int, src Source, from, to [3]float64, lo, hi float32, threads int) (*Stream, error) {
	p, err := m.plan(src.View.Shape, out, from, to)
	if err != nil {
		return nil, err
	}
	if !p.streams() {
		return &Stream{plan: p, src: src, lo: lo, hi: hi, threads: threads, rows: [2]int{0, out[1]}}, nil
	}
	return p.stream(src, lo, hi, threads), nil
}

// streams reports whether planes can be made one after the other.
func (p *plan) streams() bool { return p.separate <= 0 && !p.pass[0].whole() }

// stream is Stream for plans whose separate axis is the slowest, if any. Splines that do not
// stream have all planes in one block.
func (p *plan) stream(src Source, lo, hi float32, threads int) *Stream {
	threads = max(1, threads)
	s := &Stream{plan: p, lo: lo, hi: hi, threads: threads, rows: [2]int{0, p.out[1]}, slicer: newSlicer(p, src, threads),
		block: p.block(), depth: p.depth(), lent: make([]*streamScratch, threads)}
	s.clipAll = p.clip && p.separate < 0 && p.in != p.out
	if p.clip && p.separate == 0 && !(p.pass[1].none() && p.pass[2].none()) {
		s.slicer.clip = clipEach
	}
	if s.depth == 0 && s.clipAll {
		s.slicer.clip, s.slicer.lo, s.slicer.hi = clipAll, lo, hi
	}
	return s
}

// block is how many output planes are made at a time.
func (p *plan) block() int {
	if p.pass[0].whole() {
		return p.out[0]
	}
	return min(streamBlock, p.out[0])
}

// depth is how many slices a block needs at most, wherever in it one begins; 0 where slices
// are planes.
func (p *plan) depth() (n int) {
	z, block := p.pass[0], p.block()
	for a := 0; a < p.out[0] && !z.none(); a++ {
		first, end := z.window(a, min(a-a%block+block, p.out[0]))
		n = max(n, end-first)
	}
	return n
}

// Rows begins anew with the first plane; planes hold the rows from to before to alone from
// now on, with the values that they have among all rows.
func (s *Stream) Rows(from, to int) {
	s.free()
	s.rows, s.next, s.end = [2]int{from, to}, 0, 0
	if s.slicer != nil {
		s.slicer.only(from, to)
	}
}

// Close frees the stream's memory.
func (s *Stream) Close() {
	s.free()
	cmem.Free(s.whole)
	s.whole = nil
}

// free frees what depends on the rows.
func (s *Stream) free() {
	cmem.Free(s.window)
	cmem.Free(s.states)
	s.window, s.states = nil, nil
}

// Next writes the next len(dst) planes: of each all rows, or those that Rows named, of
// out[2] voxels. Errors, after which only Rows and Close are left: Cancelled, Memory.
func (s *Stream) Next(ctx context.Context, dst [][]float32) (err error) {
	if s.slicer == nil {
		return s.copyOf(dst)
	}
	rows, columns := s.rows[1]-s.rows[0], s.plan.out[2]
	if s.depth > 0 && s.window == nil {
		if s.window, err = cmem.Alloc[float32](rows * s.depth * columns); err == nil && s.plan.pass[0].order == 3 {
			s.states, err = cmem.Alloc[float32](rows * kernel.StateSize(columns))
		}
		if err != nil {
			return err
		}
	}
	for len(dst) > 0 {
		count := min(s.block-s.next%s.block, len(dst))
		if err := s.planes(ctx, dst[:count]); err != nil {
			return err
		}
		dst = dst[count:]
		s.next += count
	}
	return nil
}

// copyOf is Next where there is a whole.
func (s *Stream) copyOf(dst [][]float32) (err error) {
	columns := s.plan.out[2]
	plane := s.plan.out[1] * columns
	if s.whole == nil {
		if s.whole, err = cmem.Alloc[float32](s.plan.out[0] * plane); err != nil {
			return err
		}
		if err := s.plan.run(s.whole, s.src, s.lo, s.hi, s.threads); err != nil {
			return err
		}
	}
	for _, d := range dst {
		at := s.next * plane
		copy(d, s.whole[at+s.rows[0]*columns:at+s.rows[1]*columns])
		s.next++
	}
	return nil
}

// planes writes planes of a block.
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
	s.end = max(end, ahead)
	return parallel.For(s.rows[1]-s.rows[0], s.threads, func(worker, y int) error {
		w := s.lend(worker)
		slices := s.window[y*row : (y+1)*row]
		if z.order == 3 {
			size := kernel.StateSize(columns)
			w.carry = carry{cubic: z.outer, state: s.states[y*size : (y+1)*size]}
		}
		z.rows(w.lines, columns, slices, columns, first, columns, a, b, a == 0, w.carry)
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
