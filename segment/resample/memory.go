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
	lines := threads * streamBlock * out[2]
	return float*int64(p.deepest()*rows*out[2]+lines) + p.sliceMemory(rows, threads), nil
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

// runMemory returns the bytes that run takes.
func (p *plan) runMemory(threads int) int64 {
	axis, turned := max(p.separate, 0), int64(0)
	if p.separate > 0 {
		turned = voxels(p.out)
	}
	stack := voxels(p.out) / int64(p.out[axis]) * int64(p.in[axis])
	if p.in[axis] == p.out[axis] {
		stack = 0
	}
	return float*(turned+stack) + p.sliceMemory(p.out[1], threads)
}

// sliceMemory returns the bytes of the scratch that slices uses, on the Go heap, for so
// many rows of output: that of one call, and of the last one, which may not have been
// collected.
func (p *plan) sliceMemory(rows, threads int) int64 {
	slice := max(p.in[1], rows) * max(p.in[2], p.out[2])
	line := (max(p.in[1], p.in[2]) + 2*splinePad) * kernel.Lanes * 2 // of float64
	return 2 * float * int64(threads*(2*slice+line))
}

func voxels(shape [3]int) int64 { return int64(shape[0]) * int64(shape[1]) * int64(shape[2]) }
