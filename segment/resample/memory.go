package resample

import "github.com/libflare/libflare/segment/internal/kernel"

// How much memory the ways of this package take, for whoever must stay within a bound.

const float = 4 // bytes

// StreamMemory returns the bytes that a Stream with these arguments holds at most while
// planes have so many rows. Arguments and errors are those of Method.Stream.
func (m Method) StreamMemory(in, out [3]int, from, to [3]float64, rows, threads int) (int64, error) {
	p, err := m.plan(in, out, from, to)
	if err != nil {
		return 0, err
	}
	threads = max(1, threads)
	if !p.streams() {
		return float*voxels(out) + p.runMemory(threads), nil
	}
	return p.streamMemory(rows, threads), nil
}

// LabelsMemory returns the bytes that a Labels with these arguments holds at most for
// so many rows of low-resolution logits.
func (m Method) LabelsMemory(low [3]int, classes int, from, to [3]float64, t Target, rows, threads int) (int64, error) {
	out := t.View.Shape
	p, err := m.plan(low, out, from, to)
	if err != nil {
		return 0, err
	}
	channels := classes
	if t.Head != nil {
		channels = len(t.Head.Weight) / classes
	}
	row := int64(max(out[2], 512)+kernel.Slack) * float
	workers := int64(max(1, threads)) * (int64(classes+channels)*(row+headBlock*float) + int64(low[2])*2*maxBand*12)
	plane := int64(rows * low[2])
	if p.local() {
		return workers + 2*(plane*(2+float)+kernel.Slack*float), nil
	}
	// All logits; of the target one class, the best so far, and labels.
	return workers + float*int64(classes)*voxels(low) + voxels(out)*(float+float+2) + p.runMemory(max(1, threads)), nil
}

// SegMemory returns the bytes that Seg takes at most. Arguments and errors are Seg's.
func (m Method) SegMemory(in, out [3]int, from, to [3]float64, threads int) (int64, error) {
	if err := m.check(in, out); err != nil || in == out {
		return 0, err
	}
	axis := m.separate(from, to)
	between := out // of the two stages
	if axis >= 0 {
		between[axis] = in[axis]
	}
	memory := int64(0)
	if axis >= 0 && between != in && between != out {
		memory = 2 * voxels(between)
	}
	if m.Function != Spline || max(m.Order, m.OrderZ) < 2 {
		return memory, nil
	}
	// One label's zeros and ones and shares, the largest share so far, the nearest label.
	most := max(voxels(in), voxels(out), voxels(between))
	p := Method{Function: Spline, Order: max(m.Order, m.OrderZ)}.planAlong(in, out, axis)
	return memory + most*(1+float+float+2) + p.runMemory(max(1, threads)), nil
}

// runMemory returns the bytes that run takes, and the Go heap of the last one, which may not
// have been collected.
func (p *plan) runMemory(threads int) int64 {
	if p.separate > 0 {
		turned, _, _ := p.upright()
		return float*voxels(p.out) + turned.runMemory(threads)
	}
	return p.streamMemory(p.out[1], threads) + int64(threads)*p.workerMemory()
}

// streamMemory returns the bytes that stream's Stream takes for so many rows.
func (p *plan) streamMemory(rows, threads int) int64 {
	row := p.depth() * p.out[2]
	if p.pass[0].order == 3 {
		row += kernel.StateSize(p.out[2])
	}
	return float*int64(rows)*int64(row) + int64(threads)*p.workerMemory()
}

// workerMemory returns the bytes of one worker's scratch, streamScratch and the larger one of
// sliceScratch's two kinds, on the Go heap.
func (p *plan) workerMemory() int64 {
	slice, filter := 0, 0
	for _, s := range []slicer{{across: p.pass[1], along: p.pass[2]}, {across: p.pass[2], along: p.pass[1]}} {
		n, m, group := s.across.in, s.along.in, s.group()
		slice = max(slice, n*m+(group+kernel.Slack)*s.stride()+(m+s.along.out)*group)
	}
	for _, z := range p.pass {
		if z.order > 1 { // of float64, or states, which are smaller
			filter += 2 * (max(z.in, z.out) + 2*splinePad) * kernel.Lanes
		}
	}
	return float * int64(slice+filter+p.block()*p.out[2])
}

func voxels(shape [3]int) int64 { return int64(shape[0]) * int64(shape[1]) * int64(shape[2]) }
