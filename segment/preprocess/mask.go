package preprocess

import (
	"math"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// nonzeroMask returns, in the order of the view, 1 where any channel is nonzero or
// where zeros are enclosed by such voxels (holes), else 0: nnU-Net's
// create_nonzero_mask with scipy's binary_fill_holes. In C memory, freed by the
// caller. The view is the crop to nonzero: beyond it all is zero, so zeros at its
// faces are no holes.
func nonzeroMask(image *volume.Volume, view volume.View, threads int) ([]byte, error) {
	const unknown, outside, inside = 0, 2, 1
	mask, err := cmem.AllocZero[byte](view.Voxels())
	if err != nil {
		return nil, err
	}
	n1, n2 := view.Shape[1], view.Shape[2]
	bytes := len(image.Data) / image.Channels
	scratch := make([][]float32, max(1, threads))
	_ = parallel.For(view.Shape[0], threads, func(worker, i int) error {
		if scratch[worker] == nil {
			scratch[worker] = make([]float32, n1*n2)
		}
		slice := mask[i*n1*n2 : (i+1)*n1*n2]
		for channel := range image.Channels {
			from := resample.Source{Data: image.Data[channel*bytes : (channel+1)*bytes], DType: image.DType, View: view}
			kernel.Load(scratch[worker], from.Plane(i), kernel.Identity)
			for j, v := range scratch[worker] {
				if v != 0 {
					slice[j] = inside
				}
			}
		}
		return nil
	})
	// Zeros that reach a face through zeros are outside; a stack of rows to look at
	// instead of voxels keeps it short.
	shape := view.Shape
	var stack []int32
	at := func(z, y, x int) int { return (z*n1+y)*n2 + x }
	flood := func(z, y, x int) { // marks the run of unknown voxels around (z,y,x) and remembers it
		i := at(z, y, x)
		if mask[i] != unknown {
			return
		}
		lo, hi := x, x
		for lo > 0 && mask[i-(x-lo)-1] == unknown {
			lo--
		}
		for hi < n2-1 && mask[i+(hi-x)+1] == unknown {
			hi++
		}
		for j := i - (x - lo); j <= i+(hi-x); j++ {
			mask[j] = outside
		}
		stack = append(stack, int32(z), int32(y), int32(lo), int32(hi))
	}
	drain := func() {
		for len(stack) > 0 {
			z, y, lo, hi := int(stack[len(stack)-4]), int(stack[len(stack)-3]), int(stack[len(stack)-2]), int(stack[len(stack)-1])
			stack = stack[:len(stack)-4]
			for x := lo; x <= hi; x++ {
				if z > 0 {
					flood(z-1, y, x)
				}
				if z < shape[0]-1 {
					flood(z+1, y, x)
				}
				if y > 0 {
					flood(z, y-1, x)
				}
				if y < n1-1 {
					flood(z, y+1, x)
				}
			}
		}
	}
	for z := range shape[0] {
		for y := range n1 {
			if z == 0 || z == shape[0]-1 || y == 0 || y == n1-1 {
				for x := range n2 {
					flood(z, y, x)
				}
			} else {
				flood(z, y, 0)
				flood(z, y, n2-1)
			}
			drain()
		}
	}
	for i, v := range mask {
		mask[i] = 1 - v/2 // unknown zeros that were not reached are holes: inside
	}
	return mask, nil
}

// maskedZScore normalises the voxels of a source inside the mask by their own mean
// and standard deviation and leaves the others, which are zero, as they are
// (ZScoreNormalization with use_mask_for_norm). The result, row-major in the order
// of the view and in C memory, replaces the source.
func maskedZScore(s resample.Source, mask []byte, threads int) (resample.Source, []float32, error) {
	view := s.View
	data, err := cmem.Alloc[float32](view.Voxels())
	if err != nil {
		return s, nil, err
	}
	n := view.Shape[1] * view.Shape[2]
	pass := func(body func(i int, data []float32, mask []byte)) {
		_ = parallel.For(view.Shape[0], threads, func(_, i int) error {
			body(i, data[i*n:(i+1)*n], mask[i*n:(i+1)*n])
			return nil
		})
	}
	sums, counts := make([]float64, view.Shape[0]), make([]float64, view.Shape[0])
	pass(func(i int, data []float32, mask []byte) {
		kernel.Load(data, s.Plane(i), kernel.Identity)
		for j, v := range data {
			sums[i] += float64(v) * float64(mask[j])
			counts[i] += float64(mask[j])
		}
	})
	count := sum(counts)
	mean := sum(sums) / count
	pass(func(i int, data []float32, mask []byte) {
		sums[i] = 0
		for j, v := range data {
			d := (float64(v) - mean) * float64(mask[j])
			sums[i] += d * d
		}
	})
	std := math.Sqrt(sum(sums) / count)
	sub, div := float32(mean), float32(max(std, epsilon))
	pass(func(i int, data []float32, mask []byte) {
		for j, v := range data {
			if mask[j] != 0 {
				data[j] = (v - sub) / div
			}
		}
	})
	return resample.Source{Data: cmem.Bytes(data), DType: volume.Float32, Affine: kernel.Identity,
		View: volume.View{Shape: view.Shape, Stride: [3]int{n, view.Shape[2], 1}}}, data, nil
}

func sum(s []float64) (total float64) {
	for _, v := range s {
		total += v
	}
	return total
}
