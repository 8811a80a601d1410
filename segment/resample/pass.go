package resample

import "github.com/libflare/libflare/segment/internal/kernel"

// pass is the interpolation along one axis, tabulated for its output voxels.
type pass struct {
	in, out int
	order   int       // 0 nearest, 1 linear, 2 to 5 spline
	same    bool      // every voxel stays as it is
	start   []int32   // first input voxel (orders 0 and 1) or spline coefficient
	weight  []float32 // orders 0 and 1: of the right neighbour; 3: four per output voxel
	taps    []float64 // orders 2, 4 and 5: order+1 per output voxel
}

// splinePass is scipy's interpolation of an order from 0 to 5.
func splinePass(in, out, order int) *pass {
	p := &pass{in: in, out: out, order: order}
	if in == out {
		p.order, p.same = 0, true // every order leaves the voxels as they are
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
	p := &pass{in: in, out: out, same: in == out}
	if mode == Linear && in != out {
		p.order = 1
		p.start, p.weight = torchLinearTable(in, out, fused)
	} else {
		p.start, p.weight = torchNearestTable(in, out, mode == NearestExact)
	}
	return p
}

// part returns the pass to the output voxels from to before to alone, out of the input
// voxels from first to before end, which must hold all that those need.
func (p *pass) part(from, to, first, end int) *pass {
	part := &pass{in: end - first, out: to - from, order: p.order, start: make([]int32, to-from)}
	for j := range part.start {
		part.start[j] = p.start[from+j] - int32(first)
	}
	weights, taps := len(p.weight)/p.out, len(p.taps)/p.out
	part.weight, part.taps = p.weight[from*weights:to*weights], p.taps[from*taps:to*taps]
	return part
}

// local reports whether an output voxel depends on no more than two input voxels.
func (p *pass) local() bool { return p.order <= 1 }

// scratch is one worker's memory.
type scratch struct {
	slices [2][]float32
	line   []float32 // for kernel.Cubic
	filter []float64 // for spline
}

// newScratch returns a lender of one scratch per worker, made at first use: for the
// passes, and two slices of so many voxels.
func newScratch(threads, slice int, passes ...*pass) func(worker int) *scratch {
	line, filter := 0, 0
	for _, p := range passes {
		switch p.order {
		case 0, 1:
		case 3:
			line = max(line, (p.in+6)*kernel.Lanes)
		default:
			filter = max(filter, (p.in+2*splinePad)*kernel.Lanes)
		}
	}
	lent := make([]*scratch, max(1, threads))
	return func(worker int) *scratch {
		if lent[worker] == nil {
			lent[worker] = &scratch{
				slices: [2][]float32{make([]float32, slice), make([]float32, slice)},
				line:   make([]float32, line), filter: make([]float64, filter),
			}
		}
		return lent[worker]
	}
}

// rows interpolates from row to row: src holds p.in rows of so many columns, dst gets
// p.out rows.
func (p *pass) rows(dst []float32, dstStride int, src []float32, srcStride, columns int, s *scratch) {
	switch p.order {
	case 0, 1:
		for j := range p.out {
			d := dst[j*dstStride:][:columns]
			at := int(p.start[j]) * srcStride
			a, w := src[at:][:columns], p.weight[j]
			if w == 0 {
				copy(d, a)
				continue
			}
			b, u := src[at+srcStride:][:columns], 1-w
			for l := range d {
				d[l] = u*a[l] + w*b[l]
			}
		}
	case 3:
		kernel.Cubic(dst, dstStride, src, srcStride, p.in, p.out, p.start, p.weight, columns, s.line)
	default:
		p.spline(dst, dstStride, src, srcStride, columns, s.filter)
	}
}
