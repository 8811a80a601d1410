package preprocess

import (
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// CropToNonzero returns the smallest part of the view outside which every channel
// is zero, as nnU-Net's crop_to_nonzero; the whole view where all is zero. (nnU-Net
// also fills holes in the nonzero mask: that does not move its bounding box.)
func CropToNonzero(image *volume.Volume, view volume.View, threads int) volume.View {
	lo, hi := view.Shape, [3]int{}
	for channel := range image.Channels {
		var l, h [3]int
		switch offset := channel * image.Voxels(); image.DType {
		case volume.Uint8:
			l, h = bounds(image.Data[offset:], view, threads)
		case volume.Int16:
			l, h = bounds(volume.As[int16](image)[offset:], view, threads)
		case volume.Uint16:
			l, h = bounds(volume.As[uint16](image)[offset:], view, threads)
		case volume.Int32:
			l, h = bounds(volume.As[int32](image)[offset:], view, threads)
		case volume.Float32:
			l, h = bounds(volume.As[float32](image)[offset:], view, threads)
		case volume.Float64:
			l, h = bounds(volume.As[float64](image)[offset:], view, threads)
		}
		for i := range 3 {
			lo[i], hi[i] = min(lo[i], l[i]), max(hi[i], h[i])
		}
	}
	if lo[0] >= hi[0] {
		return view
	}
	return view.Crop(lo, hi)
}

// bounds returns the half-open bounding box of the nonzero voxels. A slice is
// searched from its borders inwards, so that an image without zero borders costs
// next to nothing.
func bounds[T comparable](data []T, v volume.View, threads int) (lo, hi [3]int) {
	type box struct{ lo, hi [3]int }
	boxes := make([]box, v.Shape[0])
	_ = parallel.For(v.Shape[0], threads, func(_, z int) error {
		b := box{lo: [3]int{z, v.Shape[1], v.Shape[2]}}
		for y := range v.Shape[1] {
			left, right := nonzero(data, v.Offset+z*v.Stride[0]+y*v.Stride[1], v.Stride[2], v.Shape[2], b.hi[2])
			if left < right {
				b.lo[1], b.hi[1] = min(b.lo[1], y), y+1
				b.lo[2], b.hi[2] = min(b.lo[2], left), max(b.hi[2], right)
				b.hi[0] = z + 1
			}
		}
		boxes[z] = b
		return nil
	})
	lo = v.Shape
	for _, b := range boxes {
		if b.hi[0] > 0 {
			for i := range 3 {
				lo[i], hi[i] = min(lo[i], b.lo[i]), max(hi[i], b.hi[i])
			}
		}
	}
	return lo, hi
}

// nonzero returns the extent of the nonzero voxels of a row, left == right where
// there are none. An end below known need not be exact: it widens no box.
func nonzero[T comparable](data []T, at, step, n, known int) (left, right int) {
	var zero T
	for left = 0; left < n && data[at+left*step] == zero; left++ {
	}
	if left == n {
		return n, n
	}
	stop := max(left+1, known)
	for right = n; right > stop && data[at+(right-1)*step] == zero; right-- {
	}
	return left, right
}
