package resample

import (
	"github.com/libflare/libflare/segment/internal/cmem"
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

// plane returns slice i of the view's slowest axis.
func (s *Source) plane(i int) kernel.Plane {
	v := s.View
	return kernel.Plane{
		Data: s.Data, DType: int32(s.DType), Offset: v.Offset + i*v.Stride[0],
		Stride: [2]int{v.Stride[1], v.Stride[2]}, Shape: [2]int{v.Shape[1], v.Shape[2]},
	}
}

// Image writes the source, its intensities mapped, to dst (shape out, row-major),
// interpolated by a cubic spline and clipped to the extremes lo and hi of the mapped
// source. separate is the axis that is resampled apart (slices by cubic spline,
// clipped slice by slice, then the nearest slice), or -1. It does what nnU-Net's
// resample_data_or_seg does with order 3 and order_z 0. Where a shape is unchanged
// nothing is interpolated. The source is read once, slice by slice; the only
// intermediate array is the stack of resampled slices.
func Image(dst []float32, out [3]int, src Source, separate int, lo, hi float32, threads int) error {
	if separate > 0 { // make the separate axis the slowest, resample, and turn back
		perm := [3]int{1, 0, 2}
		if separate == 2 {
			perm = [3]int{2, 0, 1}
		}
		turned := [3]int{out[perm[0]], out[perm[1]], out[perm[2]]}
		tmp, err := cmem.Alloc[float32](out[0] * out[1] * out[2])
		if err != nil {
			return err
		}
		defer cmem.Free(tmp)
		src.View = src.View.Transpose(perm)
		if err := Image(tmp, turned, src, 0, lo, hi, threads); err != nil {
			return err
		}
		back := volume.View{Shape: turned, Stride: [3]int{turned[1] * turned[2], turned[2], 1}}
		inverse := [3]int{}
		for i, p := range perm {
			inverse[p] = i
		}
		return Image(dst, out, Source{Data: cmem.Bytes(tmp), DType: volume.Float32, View: back.Transpose(inverse), Affine: kernel.Identity},
			-1, lo, hi, threads)
	}
	in := src.View.Shape
	n := out[1] * out[2]
	stack := dst
	if in[0] != out[0] {
		var err error
		if stack, err = cmem.Alloc[float32](in[0] * n); err != nil {
			return err
		}
		defer cmem.Free(stack)
	}
	if err := slices(stack, in, out, src, separate == 0, threads); err != nil {
		return err
	}
	switch {
	case in == out:
		return nil
	case separate == 0:
		index, _ := nearestTable(in[0], out[0])
		if in[0] == out[0] {
			return nil
		}
		return parallel.For(out[0], threads, func(_, z int) error {
			copy(dst[z*n:(z+1)*n], stack[int(index[z])*n:])
			return nil
		})
	case in[0] == out[0]:
		return parallel.For(out[0], threads, func(_, z int) error {
			clip(dst[z*n:(z+1)*n], lo, hi)
			return nil
		})
	}
	start, weights := cubicTable(in[0], out[0])
	scratch := newScratch(threads, (in[0]+6)*kernel.Lanes)
	return parallel.For(out[1], threads, func(worker, y int) error {
		row := y * out[2]
		kernel.Cubic(dst[row:], n, stack[row:], n, in[0], out[0], start, weights, out[2], scratch(worker))
		for z := range out[0] {
			clip(dst[z*n+row:z*n+row+out[2]], lo, hi)
		}
		return nil
	})
}

// slices resamples every slice of the source's slowest axis to out[1] x out[2].
func slices(stack []float32, in, out [3]int, src Source, clipEach bool, threads int) error {
	p, q, p2, q2 := in[1], in[2], out[1], out[2]
	if p == p2 && q == q2 {
		return parallel.For(in[0], threads, func(_, i int) error {
			kernel.Load(stack[i*p*q:(i+1)*p*q], src.plane(i), src.Affine)
			return nil
		})
	}
	startP, weightsP := cubicTable(p, p2)
	startQ, weightsQ := cubicTable(q, q2)
	size := max(p*q, p2*q, p*q2, p2*q2)
	lines := (max(p, q) + 6) * kernel.Lanes
	scratch := newScratch(threads, 2*size+lines)
	return parallel.For(in[0], threads, func(worker, i int) error {
		s := scratch(worker)
		a, b, line := s[:size], s[size:2*size], s[2*size:]
		plane := src.plane(i)
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
		lo, hi := extremes(b[:p*q], clipEach)
		if q != q2 {
			kernel.Cubic(a, p, b, p, q, q2, startQ, weightsQ, p, line)
			a, b = b, a
		}
		target := stack[i*p2*q2 : (i+1)*p2*q2]
		if p == p2 {
			kernel.Transpose(target, q2, b, p, q2, p)
		} else {
			kernel.Transpose(a, q2, b, p, q2, p)
			kernel.Cubic(target, q2, a, q2, p, p2, startP, weightsP, q2, line)
		}
		if clipEach {
			clip(target, lo, hi)
		}
		return nil
	})
}

// newScratch returns a lender of one scratch array per worker, made at first use.
func newScratch(threads, n int) func(worker int) []float32 {
	arrays := make([][]float32, max(1, threads))
	return func(worker int) []float32 {
		if arrays[worker] == nil {
			arrays[worker] = make([]float32, n)
		}
		return arrays[worker]
	}
}

func extremes(s []float32, wanted bool) (lo, hi float32) {
	if !wanted {
		return 0, 0
	}
	lo, hi = s[0], s[0]
	for _, v := range s {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

func clip(s []float32, lo, hi float32) {
	for i, v := range s {
		s[i] = min(max(v, lo), hi)
	}
}

func abs(i int) int { return max(i, -i) }
