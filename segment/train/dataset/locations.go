package dataset

import (
	"github.com/libflare/libflare/segment/internal/numpyrand"
	"github.com/libflare/libflare/segment/nnunet"
)

// outside is the label of background beyond the image's nonzero mask.
const outside = -1

// classes returns the labels, or the regions of several, whose voxels patches are
// centred on: the foreground's, and with an ignore label all that is annotated.
func classes(d *nnunet.Dataset) (out [][]int) {
	if d.HasRegions() {
		for _, r := range d.Regions() {
			out = append(out, r.Values)
		}
	} else {
		for _, v := range d.Values() {
			if v > 0 {
				out = append(out, []int{v})
			}
		}
	}
	if d.IgnoreLabel >= 0 {
		out = append(out, append([]int{outside}, d.Values()...))
	}
	return out
}

// locate draws voxels of each class at random, without repetition: all of them up to
// 10000, else 10000 or a hundredth, whichever is more (nnU-Net's
// DefaultPreprocessor._sample_foreground_locations, whose draws these are). labels has
// the given shape (z,y,x); an entry of the result holds z,y,x of one voxel after the
// other, in random order.
func locate(labels []int16, shape [3]int, classes [][]int) [][]int32 {
	const seed, least, share = 1234, 10000, 0.01
	wanted := map[int16]bool{}
	for _, c := range classes {
		for _, v := range c {
			wanted[int16(v)] = true
		}
	}
	voxels := map[int16][]int{} // indices, rising
	for i, v := range labels {
		if wanted[v] {
			voxels[v] = append(voxels[v], i)
		}
	}
	random := numpyrand.New(seed)
	out := make([][]int32, len(classes))
	for i, c := range classes {
		total := 0
		for _, v := range c {
			total += len(voxels[int16(v)])
		}
		if total == 0 {
			continue
		}
		n := max(min(least, total), ceilShare(total, share))
		out[i] = make([]int32, 0, 3*n)
		for _, k := range random.Permutation(total)[:n] {
			for _, v := range c {
				if k < len(voxels[int16(v)]) {
					at := voxels[int16(v)][k]
					out[i] = append(out[i], int32(at/(shape[1]*shape[2])), int32(at/shape[2]%shape[1]), int32(at%shape[2]))
					break
				}
				k -= len(voxels[int16(v)])
			}
		}
	}
	return out
}

// ceilShare is ceil(total*share) in float64, as numpy has it.
func ceilShare(total int, share float64) int {
	f := float64(total) * share
	n := int(f)
	if float64(n) < f {
		n++
	}
	return n
}
