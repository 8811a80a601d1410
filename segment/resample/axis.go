// Package resample moves images and label maps to the network's grid and logits
// back, by each of the functions in nnunetv2/preprocessing/resampling (version
// 2.8.1): with the coordinates and boundaries of skimage.transform.resize and
// scipy.ndimage (grid_mode, mode "nearest"), or with those of
// torch.nn.functional.interpolate (align_corners=False). Arrays are row-major, the
// slowest axis first.
package resample

import (
	"math"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/volume"
)

// newShape returns the shape of a grid after a change of spacing (same order of axes),
// as nnU-Net's compute_new_shape: rounded half to even.
func newShape(old [3]int, from, to [3]float64) ([3]int, error) {
	var shape [3]int
	voxels := 1.0
	for i := range old {
		n := math.RoundToEven(from[i] / to[i] * float64(old[i]))
		if !(n >= 1 && n <= 1<<20) {
			return shape, fault.New(fault.Argument, "%d voxels of %g mm along axis %d make %g voxels of the network's %g mm: must be 1 to 2^20",
				old[i], from[i], i, n, to[i])
		}
		shape[i] = int(n)
		voxels *= n
	}
	if voxels > volume.MaxVoxels {
		return shape, fault.New(fault.Memory, "%v voxels of %v mm make a grid of %v voxels of the network's %v mm: more than 2^40", old, from, shape, to)
	}
	return shape, nil
}

// separateAxis returns the axis that is resampled apart from the others, or -1, as
// nnU-Net's determine_do_sep_z_and_axis: where the current or else the new spacing
// is anisotropic by more than threshold (or force says so), its one coarsest axis.
func separateAxis(from, to [3]float64, force *bool, threshold float64) int {
	anisotropic := func(s [3]float64) bool { return max(s[0], s[1], s[2])/min(s[0], s[1], s[2]) > threshold }
	spacing := from
	switch {
	case force != nil && !*force:
		return -1
	case force != nil || anisotropic(from):
	case anisotropic(to):
		spacing = to
	default:
		return -1
	}
	axis, count := -1, 0
	coarsest := max(spacing[0], spacing[1], spacing[2])
	for i, s := range spacing {
		if coarsest/s == 1 {
			axis, count = i, count+1
		}
	}
	if count != 1 {
		return -1
	}
	return axis
}

// position returns where output voxel j lies on the input's axis.
func position(j, in, out int) float64 {
	return (float64(j)+0.5)*(float64(in)/float64(out)) - 0.5
}

// cubicTable returns for every output voxel the first of its four spline
// coefficients (from -2 on: the signal continues beyond its ends) and their weights,
// the cubic B-spline's values times kernel.Gain.
func cubicTable(in, out int) (start []int32, weights []float32) {
	start, weights = make([]int32, out), make([]float32, 0, 4*out)
	for j := range out {
		c := position(j, in, out)
		f := math.Floor(c)
		t := c - f
		u, gain := 1-t, kernel.Gain/6
		start[j] = int32(f) - 1
		weights = append(weights, float32(gain*u*u*u), float32(gain*(4-6*t*t+3*t*t*t)), float32(gain*(4-6*u*u+3*u*u*u)), float32(gain*t*t*t))
	}
	return start, weights
}

// linearTable returns for every output voxel its left neighbour and the weight of
// its right one. At the last voxel the weight is 0.
func linearTable(in, out int) (left []int32, weight []float32) {
	left, weight = make([]int32, out), make([]float32, out)
	for j := range out {
		c := min(max(position(j, in, out), 0), float64(in-1))
		f := math.Floor(c)
		left[j], weight[j] = int32(f), float32(c-f)
	}
	return left, weight
}

// nearestTable returns for every output voxel the nearest input voxel, halves
// rounded up, as scipy.ndimage with order 0. It has the form of linearTable.
func nearestTable(in, out int) (index []int32, zero []float32) {
	index, zero = make([]int32, out), make([]float32, out)
	for j := range out {
		c := min(max(position(j, in, out), 0), float64(in-1))
		index[j] = int32(math.Floor(c + 0.5))
	}
	return index, zero
}

// torchLinearTable is linearTable with torch's arithmetic: coordinates in float32
// (ATen/native/UpSample.h, area_pixel_compute_source_index and guard_index_and_lambda).
func torchLinearTable(in, out int, fused bool) (left []int32, weight []float32) {
	left, weight = make([]int32, out), make([]float32, out)
	for j := range out {
		c := torchPosition(j, in, out, fused)
		l := min(int(c), in-1)
		left[j], weight[j] = int32(l), min(max(c-float32(l), 0), 1)
		if l == in-1 {
			weight[j] = 0 // its right neighbour is itself
		}
	}
	return left, weight
}

// torchPosition is position in float32, 0 at least. fused says that scale*(j+0.5)-0.5
// is rounded once instead of twice.
func torchPosition(j, in, out int, fused bool) float32 {
	if in == out {
		return float32(j)
	}
	scale, center := float32(in)/float32(out), float32(j)+0.5
	if fused {
		return max(float32(float64(scale)*float64(center)-0.5), 0)
	}
	product := scale * center
	return max(product-0.5, 0)
}

// torchNearestTable is nearestTable for torch's modes nearest (floor of j*scale) and,
// with exact set, nearest-exact (ATen/native/UpSample.h and cpu/UpSampleKernel.cpp).
func torchNearestTable(in, out int, exact bool) (index []int32, zero []float32) {
	index, zero = make([]int32, out), make([]float32, out)
	scale := float32(in) / float32(out)
	for j := range out {
		c := float32(j) * scale
		if exact {
			c = torchPosition(j, in, out, true) + 0.5
		}
		if in == out {
			c = float32(j)
		}
		index[j] = min(int32(c), int32(in-1))
	}
	return index, zero
}

// torchFused reports whether torch's linear interpolation fuses the arithmetic of its
// coordinates: PyTorch 2's CPU kernels do for planes whose new sides add up to 128 at
// most (_use_vectorized_kernel_cond_2d in ATen/native/cpu/UpSampleKernel.cpp chooses
// another kernel then), and not for volumes. (Larger planes of exactly three channels
// are fused as well; that unit in the last place is given up.)
func torchFused(out [3]int, across int) bool {
	return across >= 0 && out[0]+out[1]+out[2]-out[across] <= 128
}
