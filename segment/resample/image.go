package resample

import (
	"context"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// Source is one channel of an image as a view of its voxels and an intensity map.
type Source struct {
	Data   []byte // the channel's voxels
	DType  volume.DType
	View   volume.View
	Affine kernel.Affine // applied to every voxel as it is read
}

// Plane returns slice i of the view's slowest axis.
func (s *Source) Plane(i int) kernel.Plane {
	v := s.View
	return kernel.Plane{
		Data: s.Data, DType: int32(s.DType), Offset: v.Offset + i*v.Stride[0],
		Stride: [2]int{v.Stride[1], v.Stride[2]}, Shape: [2]int{v.Shape[1], v.Shape[2]},
	}
}

// Image writes the source, its intensities mapped, to dst (shape out, row-major),
// resampled as nnU-Net does it with is_seg False; from and to are the spacings in mm of
// the source's and the destination's axes. lo and hi are the extremes of the mapped
// source, to which splines above order 1 are clipped; other methods and equal shapes
// ignore them. The source is read once, slice by slice; the only intermediate array
// is the stack of resampled slices (two arrays where an axis other than the first is
// resampled apart with clipping). Errors: Unsupported (a function, mode or order that
// is not known), Model (NoResampling between different shapes), Memory.
func (m Method) Image(dst []float32, out [3]int, src Source, from, to [3]float64, lo, hi float32, threads int) error {
	p, err := m.plan(src.View.Shape, out, from, to)
	if err != nil {
		return err
	}
	return p.run(dst, src, lo, hi, threads)
}

// run is Image with the tables made.
func (p *plan) run(dst []float32, src Source, lo, hi float32, threads int) error {
	if p.separate > 0 { // make the separate axis the slowest, resample, and turn back
		perm, inverse := [3]int{1, 0, 2}, [3]int{1, 0, 2}
		if p.separate == 2 {
			perm, inverse = [3]int{2, 0, 1}, [3]int{1, 2, 0}
		}
		turned := p.turn(perm)
		tmp, err := cmem.Alloc[float32](len(dst))
		if err != nil {
			return err
		}
		defer cmem.Free(tmp)
		src.View = src.View.Transpose(perm)
		if err := turned.run(tmp, src, lo, hi, threads); err != nil {
			return err
		}
		shape := turned.out
		back := volume.View{Shape: shape, Stride: [3]int{shape[1] * shape[2], shape[2], 1}}.Transpose(inverse)
		return Method{Function: NoResampling}.planAlong(p.out, p.out, -1).run(dst,
			Source{Data: cmem.Bytes(tmp), DType: volume.Float32, View: back, Affine: kernel.Identity}, lo, hi, threads)
	}
	in, out, z := p.in, p.out, p.pass[0]
	n := out[1] * out[2]
	stack := dst
	if in[0] != out[0] {
		var err error
		if stack, err = cmem.Alloc[float32](in[0] * n); err != nil {
			return err
		}
		defer cmem.Free(stack)
	}
	if err := p.slices(context.Background(), stack, src, 0, in[0], threads); err != nil {
		return err
	}
	clipAll := p.clip && p.separate < 0 && in != out
	switch {
	case in[0] == out[0] && !clipAll:
		return nil
	case in[0] == out[0]:
		return parallel.For(out[0], threads, func(_, z int) error {
			kernel.Clip(dst[z*n:(z+1)*n], lo, hi)
			return nil
		})
	case z.order == 0:
		return parallel.For(out[0], threads, func(_, i int) error {
			copy(dst[i*n:(i+1)*n], stack[int(z.start[i])*n:])
			return nil
		})
	}
	lend := newScratch(threads, 0, z)
	return parallel.For(out[1], threads, func(worker, y int) error {
		row := y * out[2]
		z.rows(dst[row:], n, stack[row:], n, out[2], lend(worker))
		for z := 0; clipAll && z < out[0]; z++ {
			kernel.Clip(dst[z*n+row:z*n+row+out[2]], lo, hi)
		}
		return nil
	})
}

// slices resamples slices from first to before end of the source's slowest axis to out[1]
// x out[2].
func (plan *plan) slices(ctx context.Context, stack []float32, src Source, first, end, threads int) error {
	p, q, p2, q2 := plan.in[1], plan.in[2], plan.out[1], plan.out[2]
	passP, passQ := plan.pass[1], plan.pass[2]
	if passP.same && passQ.same {
		return parallel.For(end-first, threads, func(_, i int) error {
			kernel.Load(stack[i*p*q:(i+1)*p*q], src.Plane(first+i), src.Affine)
			return nil
		})
	}
	clipEach := plan.clip && plan.separate == 0
	lend := newScratch(threads, max(p*q, p2*q, p*q2, p2*q2), passP, passQ)
	return parallel.For(end-first, threads, func(worker, i int) error {
		if ctx.Err() != nil {
			return fault.New(fault.Cancelled, "cancelled")
		}
		s := lend(worker)
		a, b := s.slices[0], s.slices[1]
		plane := src.Plane(first + i)
		// Both passes interpolate from row to row, over contiguous columns: first with
		// the slice lying on its side (q x p), then upright.
		if abs(plane.Stride[1]) > abs(plane.Stride[0]) {
			side := plane
			side.Stride, side.Shape = [2]int{plane.Stride[1], plane.Stride[0]}, [2]int{q, p}
			kernel.Load(b, side, src.Affine)
		} else {
			kernel.Load(a, plane, src.Affine)
			kernel.Transpose(b, p, a, q, p, q)
		}
		var lo, hi float32
		if clipEach {
			lo, hi = Extremes(b[:p*q])
		}
		if !passQ.same {
			passQ.rows(a, p, b, p, p, s)
			a, b = b, a
		}
		target := stack[i*p2*q2 : (i+1)*p2*q2]
		if passP.same {
			kernel.Transpose(target, q2, b, p, q2, p)
		} else {
			kernel.Transpose(a, q2, b, p, q2, p)
			passP.rows(target, q2, a, q2, q2, s)
		}
		if clipEach {
			kernel.Clip(target, lo, hi)
		}
		return nil
	})
}

// Extremes returns the smallest and the largest of some values.
func Extremes(s []float32) (lo, hi float32) { return kernel.Extremes(s) }

func abs(i int) int { return max(i, -i) }
