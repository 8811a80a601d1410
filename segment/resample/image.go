package resample

import (
	"context"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel"
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
// ignore them. Memory is that of a Stream, or a second dst where an axis other than the
// first is resampled apart with clipping. Errors: Unsupported (a function, mode or order
// that is not known), Model (NoResampling between different shapes), Memory.
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
		turned, perm, inverse := p.upright()
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
		return Method{Function: NoResampling}.planAlong(p.out, p.out, -1).run(dst, floats(tmp, back), lo, hi, threads)
	}
	s := p.stream(src, lo, hi, threads)
	defer s.Close()
	n := p.out[1] * p.out[2]
	planes := make([][]float32, p.out[0])
	for i := range planes {
		planes[i] = dst[i*n : (i+1)*n]
	}
	return s.Next(context.Background(), planes)
}

// upright returns the plan with its separate axis as the slowest: its axis i is p's perm[i],
// whose axis i is its inverse[i].
func (p *plan) upright() (turned *plan, perm, inverse [3]int) {
	perm, inverse = [3]int{1, 0, 2}, [3]int{1, 0, 2}
	if p.separate == 2 {
		perm, inverse = [3]int{2, 0, 1}, [3]int{1, 2, 0}
	}
	return p.turn(perm), perm, inverse
}
