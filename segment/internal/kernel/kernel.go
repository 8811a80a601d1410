// Package kernel holds the arithmetic loops that cost: C, compiled for several
// instruction sets, chosen by the processor at run time. Each has a plain Go
// reference in the tests. Array shapes are those of kernel.h.
package kernel

/*
#cgo CFLAGS: -O3 -std=gnu11
#include "kernel.h"

static int choose(int set) {
	const kernels *found = kernels_for(set);
	if (found) kernel_now = *found;
	return found != 0;
}

static void k_load(float *dst, const void *src, int32_t dtype, int64_t offset, int64_t s0, int64_t s1, int64_t n0, int64_t n1,
                   float lo, float hi, float sub, float div) { kernel_now.load(dst, src, dtype, offset, s0, s1, n0, n1, lo, hi, sub, div); }
static void k_scan(scan_result *out, const void *src, int32_t dtype, int64_t offset, int64_t s0, int64_t s1, int64_t n0,
                   int64_t n1, double shift) { kernel_now.scan(out, src, dtype, offset, s0, s1, n0, n1, shift); }
static void k_cubic(float *dst, int64_t ds, const void *src, int32_t dtype, int64_t offset, int64_t ss, int64_t base, int64_t n,
                    int64_t from, int64_t to, int64_t n_out, const int32_t *start, const float *w, int64_t window, int64_t columns,
                    float lo, float hi, float sub, float *state, int32_t begins) {
	kernel_now.cubic(dst, ds, src, dtype, offset, ss, base, n, from, to, n_out, start, w, window, columns, lo, hi, sub, state, begins);
}
static void k_across(float *dst, int64_t ds, const float *src, int64_t ss, int64_t rows, int64_t n, int64_t n_out, const int32_t *start,
                     const float *w, int64_t window) { kernel_now.across(dst, ds, src, ss, rows, n, n_out, start, w, window); }
static void k_transpose(float *dst, int64_t ds, const float *src, int64_t ss, int64_t n0, int64_t n1) { kernel_now.transpose(dst, ds, src, ss, n0, n1); }
static void k_extremes(const float *x, int64_t n, float *least, float *most) { kernel_now.extremes(x, n, least, most); }
static void k_clip(float *x, int64_t s, int64_t n0, int64_t n1, float lo, float hi) { kernel_now.clip(x, s, n0, n1, lo, hi); }
static void k_linear(float *dst, int64_t ds, const float *src, int64_t ss, int64_t base, int64_t n_out, const int32_t *start, const float *w,
                     int64_t columns) { kernel_now.linear(dst, ds, src, ss, base, n_out, start, w, columns); }
*/
import "C"

import (
	"math"
	"unsafe"
)

// Lanes is how many columns Cubic filters at a time.
const Lanes = C.KERNEL_LANES

func init() { Choose(Best()) }

// Best returns the highest instruction set that works here: 0 plain C, 1
// AVX2+FMA, 2 AVX-512.
func Best() int {
	for set := C.KERNEL_SETS - 1; set > 0; set-- {
		if C.kernels_for(C.int(set)) != nil {
			return set
		}
	}
	return 0
}

// Choose makes all later calls use an instruction set and reports whether it
// exists here. For tests and benchmarks; the library uses Best.
func Choose(set int) bool { return C.choose(C.int(set)) == 1 }

// Plane is a two-dimensional window of voxels of a type of package volume:
// voxel (i,j) is element Offset + i*Stride[0] + j*Stride[1] of Data.
type Plane struct {
	Data   []byte
	DType  int32
	Offset int
	Stride [2]int
	Shape  [2]int
}

// Affine is an intensity map: clip to [Lo, Hi], subtract Sub, divide by Div.
type Affine struct{ Lo, Hi, Sub, Div float32 }

// Apply maps one voxel.
func (a Affine) Apply(v float64) float32 { return (min(max(float32(v), a.Lo), a.Hi) - a.Sub) / a.Div }

// Identity leaves intensities as they are.
var Identity = Affine{float32(math.Inf(-1)), float32(math.Inf(1)), 0, 1}

// Load writes the plane's voxels as float32, mapped by a, to dst (row-major).
func Load(dst []float32, p Plane, a Affine) {
	_ = dst[p.Shape[0]*p.Shape[1]-1]
	C.k_load(ptr(dst), unsafe.Pointer(&p.Data[0]), C.int32_t(p.DType), C.int64_t(p.Offset), C.int64_t(p.Stride[0]), C.int64_t(p.Stride[1]),
		C.int64_t(p.Shape[0]), C.int64_t(p.Shape[1]), C.float(a.Lo), C.float(a.Hi), C.float(a.Sub), C.float(a.Div))
}

// ScanResult is what Scan finds in a plane.
type ScanResult struct {
	Min, Max  float64
	Sum, Sum2 float64 // of voxel - shift
	Bad       int     // voxels that are NaN or infinite as float32
}

// Scan returns the extremes and sums of the plane's voxels.
func Scan(p Plane, shift float64) ScanResult {
	var r C.scan_result
	C.k_scan(&r, unsafe.Pointer(&p.Data[0]), C.int32_t(p.DType), C.int64_t(p.Offset), C.int64_t(p.Stride[0]), C.int64_t(p.Stride[1]),
		C.int64_t(p.Shape[0]), C.int64_t(p.Shape[1]), C.double(shift))
	return ScanResult{float64(r.min), float64(r.max), float64(r.sum), float64(r.sum2), int(r.bad)}
}

// Extremes returns the smallest and the largest of some values, one at least, none NaN.
func Extremes(s []float32) (lo, hi float32) {
	var least, most C.float
	C.k_extremes(ptr(s), C.int64_t(len(s)), &least, &most)
	return float32(least), float32(most)
}

// Clip sets values of an n0 x n1 array below lo to lo and those above hi to hi.
func Clip(s []float32, stride, n0, n1 int, lo, hi float32) {
	_ = s[(n0-1)*stride+n1-1]
	C.k_clip(ptr(s), C.int64_t(stride), C.int64_t(n0), C.int64_t(n1), C.float(lo), C.float(hi))
}

// Linear writes len(start) rows, each a mean of two rows of src, whose first is row base: row
// start[j] and the one behind it, which weighs weight[j]. Where that is 0 it is not read.
func Linear(dst []float32, dstStride int, src []float32, srcStride, base int, start []int32, weight []float32, columns int) {
	n := len(start)
	_, _, _ = dst[(n-1)*dstStride+columns-1], src[(int(start[n-1])-base)*srcStride+columns-1], weight[n-1]
	C.k_linear(ptr(dst), C.int64_t(dstStride), ptr(src), C.int64_t(srcStride), C.int64_t(base), C.int64_t(n),
		(*C.int32_t)(unsafe.Pointer(&start[0])), ptr(weight), C.int64_t(columns))
}

// Cubic is an interpolation along an axis of In voxels with a cubic B-spline, the signal
// continued by its end values: output voxel j is the sum of the four spline coefficients from
// Start[j] (-2 to In-2) on, times Weights[4j:4j+4], which include Gain. Start does not
// decrease. Window, as NewCubic finds it, is how many output voxels are made together.
type Cubic struct {
	In      int
	Start   []int32
	Weights []float32
	Window  int
}

// Gain is the gain of the spline's prefilter that is left to the weights.
const Gain = 1.6076951545867362 // 6(2-sqrt(3))

// NewCubic returns an interpolation with the largest window, a power of two no larger than
// most, that the kernel's scratch can hold.
func NewCubic(in int, start []int32, weights []float32, most int) *Cubic {
	window, out := C.KERNEL_OUTPUTS, len(start)
	fits := func() bool {
		for j := 0; j < out; j += window {
			if start[min(j+window, out)-1]+C.KERNEL_REACH-start[j] > C.KERNEL_ROWS {
				return false
			}
		}
		return window <= most
	}
	for window > 1 && !fits() {
		window /= 2
	}
	return &Cubic{in, start, weights, window}
}

// Divided returns the interpolation with its weights divided by a number.
func (c *Cubic) Divided(by float32) *Cubic {
	d := *c
	d.Weights = make([]float32, len(c.Weights))
	for i, w := range c.Weights {
		d.Weights[i] = w / by
	}
	return &d
}

// Needs returns the rows that Rows reads for output rows from a to before b, if it goes on
// there; all before end if it begins.
func (c *Cubic) Needs(a, b int) (first, end int) {
	if a > 0 {
		first = max(0, int(c.Start[a]))
	}
	last := min((b+c.Window-1)/c.Window*c.Window, len(c.Start)) - 1
	if end = int(c.Start[last]) + C.KERNEL_REACH; b < len(c.Start) {
		end = max(end, int(c.Start[b])) // the filter runs on to there
	}
	return first, min(end, c.In)
}

// Rows writes output rows from a to before b. Row i of src, whose voxels lie one behind the
// other, is row base+i of the input; Needs says which are read. Voxels are clipped and shifted
// by m; dividing is left to the weights. The first call for some columns begins, the others
// go on where the last one ended; state, StateSize(columns) floats, is carried from one to the
// next. An output row is the same to the last bit, whichever rows are asked for with it.
func (c *Cubic) Rows(dst []float32, dstStride int, src Plane, base int, m Affine, a, b int, state []float32, begins bool) {
	columns, begin := src.Shape[1], C.int32_t(0)
	if begins {
		begin = 1
	}
	_, _, _ = dst[(b-a-1)*dstStride+columns-1], state[StateSize(columns)-1], c.Weights[4*b-1]
	C.k_cubic(ptr(dst), C.int64_t(dstStride), unsafe.Pointer(&src.Data[0]), C.int32_t(src.DType), C.int64_t(src.Offset), C.int64_t(src.Stride[0]),
		C.int64_t(base), C.int64_t(c.In), C.int64_t(a), C.int64_t(b), C.int64_t(len(c.Start)), (*C.int32_t)(unsafe.Pointer(&c.Start[0])),
		ptr(c.Weights), C.int64_t(c.Window), C.int64_t(columns), C.float(m.Lo), C.float(m.Hi), C.float(m.Sub), ptr(state), begin)
}

// StateSize returns the size of Rows' state.
func StateSize(columns int) int { return (columns + Lanes - 1) / Lanes * Lanes }

// Across writes dst, rows x len(Start), the output of every row of src, rows x In. Slack more
// rows, and Slack more floats, can be read of src.
func (c *Cubic) Across(dst []float32, dstStride int, src []float32, srcStride, rows int) {
	n := len(c.Start)
	_, _, _ = dst[(rows-1)*dstStride+n-1], src[(rows-1+Slack)*srcStride+c.In+Slack-1], c.Weights[4*n-1]
	C.k_across(ptr(dst), C.int64_t(dstStride), ptr(src), C.int64_t(srcStride), C.int64_t(rows), C.int64_t(c.In), C.int64_t(n),
		(*C.int32_t)(unsafe.Pointer(&c.Start[0])), ptr(c.Weights), C.int64_t(c.Window))
}

// Transpose writes the transpose of the n0 x n1 array src to dst.
func Transpose(dst []float32, dstStride int, src []float32, srcStride, n0, n1 int) {
	_, _ = dst[(n1-1)*dstStride+n0-1], src[(n0-1)*srcStride+n1-1]
	C.k_transpose(ptr(dst), C.int64_t(dstStride), ptr(src), C.int64_t(srcStride), C.int64_t(n0), C.int64_t(n1))
}

func ptr(s []float32) *C.float { return (*C.float)(unsafe.Pointer(&s[0])) }
