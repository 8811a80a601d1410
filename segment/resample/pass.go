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
	weight  []float32 // orders 0 and 1: of the right neighbour; 3: four per output voxel, with kernel.Gain
	taps    []float64 // orders 2, 4 and 5: order+1 per output voxel
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
		p.start, p.weight = cubicTable(in, out)
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

// local reports whether an output voxel depends on no more than two input voxels.
func (p *pass) local() bool { return p.order <= 1 }

// whole reports whether all output voxels have to be computed at a time.
func (p *pass) whole() bool { return !p.local() && p.order != 3 }

// window returns which input voxels output voxels from a to before b need, where all before
// a have been computed.
func (p *pass) window(a, b int) (first, end int) {
	last := int(p.start[b-1])
	switch {
	case p.whole():
		return 0, p.in
	case p.order == 0:
		return int(p.start[a]), last + 1
	case p.order == 1:
		return int(p.start[a]), min(last+2, p.in)
	}
	if a > 0 {
		first = max(0, int(p.start[a]))
	}
	if end = last + kernel.Reach; b < p.out {
		end = max(end, int(p.start[b])) // the filter runs on to there
	}
	return first, min(end, p.in)
}

// cubic returns a pass of order 3 as its kernel wants it, its weights divided.
func (p *pass) cubic(by float32) *kernel.Cubic {
	c := &kernel.Cubic{In: p.in, Start: p.start, Weights: p.weight}
	if by != 1 {
		c.Weights = make([]float32, len(p.weight))
		for i, w := range p.weight {
			c.Weights[i] = w / by
		}
	}
	return c
}

// carry is what a pass needs besides rows: memory of one worker, save that the state of a
// cubic spline belongs to its columns if these are not interpolated in one go.
type carry struct {
	state  []float32 // order 3: kernel.StateSize(columns)
	filter []float64 // orders 2, 4 and 5
}

func (p *pass) carry(columns int) carry {
	switch {
	case p.order == 3:
		return carry{state: make([]float32, kernel.StateSize(columns))}
	case p.whole():
		return carry{filter: make([]float64, (p.in+2*splinePad)*kernel.Lanes)}
	}
	return carry{}
}

// rows interpolates from row to row, output rows from a to before b. src holds so many
// columns of the input's rows from base on, as window says.
func (p *pass) rows(dst []float32, dstStride int, src []float32, srcStride, base, columns, a, b int, c carry) {
	switch {
	case p.local():
		kernel.Linear(dst, dstStride, src, srcStride, base, p.start[a:b], p.weight[a:b], columns)
	case p.order == 3:
		plane := kernel.Plane{Data: cmem.Bytes(src), DType: int32(volume.Float32), Stride: [2]int{srcStride, 1}, Shape: [2]int{0, columns}}
		p.cubic(1).Rows(dst, dstStride, plane, base, kernel.Identity, a, b, c.state)
	default:
		p.spline(dst, dstStride, src, srcStride, columns, c.filter)
	}
}
