package augment

import (
	"math"
	"slices"
)

// Regions writes for each of some sets of labels a channel of zeros and ones to dst, as
// many voxels as labels has: nnU-Net's targets of region-based training, whose last set is
// the ignore label if there is one.
func Regions[T ~uint8 | ~int16 | ~float32](dst []T, labels []int16, regions [][]int16) {
	for i, region := range regions {
		channel := dst[i*len(labels):][:len(labels)]
		for j, label := range labels {
			channel[j] = 0
			if slices.Contains(region, label) {
				channel[j] = 1
			}
		}
	}
}

// Scales returns by what factors deep supervision shrinks the targets of each of a
// network's outputs, the full one first: those of all but the last of the network's stages
// of these strides.
func Scales(strides [][3]int) [][3]float64 {
	var scales [][3]float64
	product := [3]int{1, 1, 1}
	for _, stride := range strides[:len(strides)-1] {
		var scale [3]float64
		for i := range 3 {
			product[i] *= stride[i]
			scale[i] = 1 / float64(product[i])
		}
		scales = append(scales, scale)
	}
	return scales
}

// ScaledShape returns a shape times such factors.
func ScaledShape(shape [3]int, scale [3]float64) [3]int {
	for i := range shape {
		shape[i] = int(math.RoundToEven(float64(shape[i]) * scale[i]))
	}
	return shape
}

// Downsample writes arrays of another shape with the nearest values of arrays of a shape
// (torch's mode "nearest-exact", as nnU-Net's targets for deep supervision) to dst.
func Downsample[T any](dst, src []T, to, shape [3]int) {
	n := shape[0] * shape[1] * shape[2]
	index := func(axis, i int) int {
		return min(int((float32(i)+0.5)*(float32(shape[axis])/float32(to[axis]))), shape[axis]-1)
	}
	for ; len(src) > 0; src = src[n:] {
		for z := range to[0] {
			for y := range to[1] {
				row := src[(index(0, z)*shape[1]+index(1, y))*shape[2]:][:shape[2]]
				for x := range to[2] {
					dst[x] = row[index(2, x)]
				}
				dst = dst[to[2]:]
			}
		}
	}
}
