package resample

import (
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/volume"
)

// pass is the interpolation along one axis, tabulated for its output voxels.
type pass struct {
	in, out int
	order   int       // 0 nearest, 1 linear, 2 to 5 spline
	start   []int32   // first input voxel (orders 0 and 1) or spline coefficient
	weight  []float32 // orders 0 and 1: of the right neighbour
	taps    []float64 // orders 2, 4 and 5: order+1 per output voxel

	inner, outer *kernel.Cubic // order 3: within slices, and from slice to slice
}

// splinePass is scipy's interpolation of an order from 0 to 5.
func splinePass(in, out, order int) *pass {
	p := &pass{in: in, out: out, order: order}
	if in == out {
		p.order = 0 // every order leaves the voxels as they are
	}
	switch p.order {
	case 0:
		p.start, p.weight = nearestTable(in, out)
	case 1:
		p.start, p.weight = linearTable(in, out)
	case 3:
		start, weights := cubicTable(in, out)
		p.inner, p.outer = kernel.NewCubic(in, start, weights, kernel.Lanes), kernel.NewCubic(in, start, weights, streamBlock)
	default:
		p.start, p.taps = splineTable(in, out, order)
	}
	return p
}

// torchPass is torch's interpolation; fused as for torchPosition.
func torchPass(in, out int, mode Mode, fused bool) *pass {
	p := &pass{in: in, out: out}
	if mode == Linear && in != out {
		p.order = 1
		p.start, p.weight = torchLinearTable(in, out, fused)
	} else {
		p.start, p.weight = torchNearestTable(in, out, mode == NearestExact)
	}
	return p
}

// none reports whether the pass leaves the voxels as they are.
func (p *pass) none() bool { return p.in == p.out }

// part returns a local pass to the output voxels from to before to alone, out of the input
// voxels from first to before end, which must hold all that those need.
func (p *pass) part(from, to, first, end int) *pass {
	part := &pass{in: end - first, out: to - from, order: p.order, start: make([]int32, to-from), weight: p.weight[from:to]}
	for j := range part.start {
		part.start[j] = p.start[from+j] - int32(first)
	}
	return part
}

// local reports whether an output voxel depends on no more than two input voxels.
func (p *pass) local() bool { return p.order <= 1 }

// whole reports whether all output voxels have to be computed at a time.
func (p *pass) whole() bool { return !p.local() && p.order != 3 }

// window returns which slices output slices from a to before b need, where all before a have
// been computed.
func (p *pass) window(a, b int) (first, end int) {
	switch {
	case p.whole():
		return 0, p.in
	case p.order == 0:
		return int(p.start[a]), int(p.start[b-1]) + 1
	case p.order == 1:
		return int(p.start[a]), min(int(p.start[b-1])+2, p.in)
	}
	return p.outer.Needs(a, b)
}

// carry is what a pass needs besides rows: memory of one worker, save that the state of a
// cubic spline belongs to its columns if these are not interpolated in one go.
type carry struct {
	cubic  *kernel.Cubic
	state  []float32 // order 3: kernel.StateSize(columns)
	filter []float64 // orders 2, 4 and 5
}

// carry is for a pass within slices.
func (p *pass) carry(columns int) carry {
	switch {
	case p.order == 3:
		return carry{cubic: p.inner, state: make([]float32, kernel.StateSize(columns))}
	case p.whole():
		return carry{filter: make([]float64, (p.in+2*splinePad)*kernel.Lanes)}
	}
	return carry{}
}

// rows interpolates from row to row, output rows from a to before b; the first of them begins,
// or they go on where the last ones ended. src holds so many columns of the input's rows from
// base on.
func (p *pass) rows(dst []float32, dstStride int, src []float32, srcStride, base, columns, a, b int, begins bool, c carry) {
	switch {
	case p.local():
		kernel.Linear(dst, dstStride, src, srcStride, base, p.start[a:b], p.weight[a:b], columns)
	case p.order == 3:
		plane := kernel.Plane{Data: cmem.Bytes(src), DType: int32(volume.Float32), Stride: [2]int{srcStride, 1}, Shape: [2]int{0, columns}}
		c.cubic.Rows(dst, dstStride, plane, base, kernel.Identity, a, b, c.state, begins)
	default:
		p.spline(dst, dstStride, src, srcStride, columns, a, b, c.filter)
	}
}
