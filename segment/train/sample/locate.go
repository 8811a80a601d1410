package sample

import (
	"math"

	"github.com/libflare/libflare/segment/train/random"
)

// How many voxels of a class are kept (nnU-Net's DefaultPreprocessor): all up to the
// first number, then that many, but this part at least.
const (
	keptVoxels = 10000
	keptPart   = 0.01
	seed       = 1234
)

// Locate samples the locations of the classes in a label map of a shape, each of its
// voxels as likely. A class is a set of labels: one for a label, several for a region.
// annotated are all labels but the ignore label, -1 included; nil without one. nnU-Net's
// rule and seed, but not its generator: other voxels.
func Locate[T ~int8 | ~uint8 | ~int16](labels []T, shape [3]int, classes [][]int16, annotated []int16) *Locations {
	sets := append(append([][]int16{}, classes...), annotated)
	in := make([][]int, 1<<16) // of each label as uint16: its sets
	for i, set := range sets {
		for _, label := range set {
			in[uint16(label)] = append(in[uint16(label)], i)
		}
	}
	left, wanted := make([]int, len(sets)), make([]int, len(sets))
	for _, label := range labels {
		for _, i := range in[uint16(int16(label))] {
			left[i]++
		}
	}
	voxels := make([][][3]int32, len(sets))
	for i, n := range left {
		wanted[i] = max(min(n, keptVoxels), int(math.Ceil(float64(n)*keptPart)))
		voxels[i] = make([][3]int32, 0, wanted[i])
	}
	r := random.New(seed)
	for at, label := range labels {
		for _, i := range in[uint16(int16(label))] {
			// Each voxel in turn, with the chance that leaves the right number (Knuth's
			// algorithm S: The Art of Computer Programming 2, 3.4.2).
			if wanted[i] > 0 && r.IntN(left[i]) < wanted[i] {
				wanted[i]--
				z, rest := at/(shape[1]*shape[2]), at%(shape[1]*shape[2])
				voxels[i] = append(voxels[i], [3]int32{int32(z), int32(rest / shape[2]), int32(rest % shape[2])})
			}
			left[i]--
		}
	}
	return &Locations{Classes: voxels[:len(classes)], Annotated: voxels[len(classes)]}
}
