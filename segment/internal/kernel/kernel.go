// Package kernel holds the arithmetic loops that cost: C, compiled for several
// instruction sets, chosen by the processor at run time. Each has a plain Go
// reference in the tests. Array shapes are those of kernel.h.
package kernel

/*
#cgo CFLAGS: -O3 -std=gnu11
#include "kernel.h"

static kernels k;
static int k_set = -1;

static int choose(int set) {
	const kernels *found = kernels_for(set);
	if (!found) return 0;
	k = *found, k_set = set;
	return 1;
}

static void k_load(float *dst, const void *src, int32_t dtype, int64_t offset, int64_t s0, int64_t s1, int64_t n0, int64_t n1,
                   float lo, float hi, float sub, float div) { k.load(dst, src, dtype, offset, s0, s1, n0, n1, lo, hi, sub, div); }
static void k_scan(scan_result *out, const void *src, int32_t dtype, int64_t offset, int64_t s0, int64_t s1, int64_t n0,
                   int64_t n1, double shift) { k.scan(out, src, dtype, offset, s0, s1, n0, n1, shift); }
static void k_cubic(float *dst, int64_t ds, const float *src, int64_t ss, int64_t n_in, int64_t n_out, const int32_t *start,
                    const float *w, int64_t lanes, float *scratch) { k.cubic(dst, ds, src, ss, n_in, n_out, start, w, lanes, scratch); }
static void k_transpose(float *dst, int64_t ds, const float *src, int64_t ss, int64_t n0, int64_t n1) { k.transpose(dst, ds, src, ss, n0, n1); }
static void k_accumulate(float *dst, int64_t ds, const float *src, int64_t ss, int64_t ny, int64_t nx, float weight,
                         const float *wy, const float *wx, int32_t rev) { k.accumulate(dst, ds, src, ss, ny, nx, weight, wy, wx, rev); }
static int64_t k_finish(float *dst, float *acc, int64_t ny, int64_t nx, const float *wy, const float *wx) { return k.finish(dst, acc, ny, nx, wy, wx); }
// The four row pointers come separately: cgo allows no Go array of C pointers' addresses to be kept.
static void k_argmax(uint16_t *labels, float *best, float *low, const float *r0, const float *r1, const float *r2, const float *r3,
                     float w0, float w1, float w2, float w3, int64_t class_stride, int64_t classes, int64_t n_low, int64_t n_out,
                     const int32_t *x0, const float *wx) {
	const float *rows[4] = {r0, r1, r2, r3};
	const float w[4] = {w0, w1, w2, w3};
	k.argmax(labels, best, low, rows, w, class_stride, classes, n_low, n_out, x0, wx);
}
static void k_regions(uint16_t *labels, float *low, const float *r0, const float *r1, const float *r2, const float *r3,
                      float w0, float w1, float w2, float w3, int64_t class_stride, int64_t classes, int64_t n_low, int64_t n_out,
                      const int32_t *x0, const float *wx, const uint16_t *values) {
	const float *rows[4] = {r0, r1, r2, r3};
	const float w[4] = {w0, w1, w2, w3};
	k.regions(labels, low, rows, w, class_stride, classes, n_low, n_out, x0, wx, values);
}
static void k_logits(float *out, float *low, const float *r0, const float *r1, const float *r2, const float *r3,
                     float w0, float w1, float w2, float w3, int64_t n_low, int64_t n_out, const int32_t *x0, const float *wx) {
	const float *rows[4] = {r0, r1, r2, r3};
	const float w[4] = {w0, w1, w2, w3};
	k.logits(out, low, rows, w, n_low, n_out, x0, wx);
}
*/
import "C"

import (
	"math"
	"unsafe"
)

// Lanes is how many columns Cubic filters at a time; its scratch is sized by it.
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

// Cubic interpolates along the rows of an nIn x lanes array with a cubic B-spline:
// row j of dst takes the spline at the position that start[j] and weights[4j:4j+4]
// describe. The signal is continued by its end values. scratch holds at least
// (nIn+6)*Lanes elements.
func Cubic(dst []float32, dstStride int, src []float32, srcStride, nIn, nOut int, start []int32, weights []float32, lanes int, scratch []float32) {
	_, _, _ = dst[(nOut-1)*dstStride+lanes-1], src[(nIn-1)*srcStride+lanes-1], scratch[(nIn+6)*Lanes-1]
	_, _ = start[nOut-1], weights[4*nOut-1]
	C.k_cubic(ptr(dst), C.int64_t(dstStride), ptr(src), C.int64_t(srcStride), C.int64_t(nIn), C.int64_t(nOut),
		(*C.int32_t)(unsafe.Pointer(&start[0])), ptr(weights), C.int64_t(lanes), ptr(scratch))
}

// Transpose writes the transpose of the n0 x n1 array src to dst.
func Transpose(dst []float32, dstStride int, src []float32, srcStride, n0, n1 int) {
	_, _ = dst[(n1-1)*dstStride+n0-1], src[(n0-1)*srcStride+n1-1]
	C.k_transpose(ptr(dst), C.int64_t(dstStride), ptr(src), C.int64_t(srcStride), C.int64_t(n0), C.int64_t(n1))
}

// Window is a part of a tile whose rows or columns may be stored mirrored: it
// starts at (Y, X) in the unmirrored tile of TileY x TileX.
type Window struct {
	Y, X, TileY, TileX int
	FlipY, FlipX       bool
}

// Accumulate adds weight * wy[y] * wx[x] * src[w.Y+y][w.X+x] to dst[y][x], where src
// is the unmirrored tile.
func Accumulate(dst []float32, dstStride int, src []float32, w Window, weight float32, wy, wx []float32) {
	ny, nx := len(wy), len(wx)
	row, stride, column, reverse := w.Y, w.TileX, w.X, 0
	if w.FlipY {
		row, stride = w.TileY-1-w.Y, -w.TileX
	}
	if w.FlipX {
		column, reverse = w.TileX-w.X-nx, 1
	}
	_, _ = dst[(ny-1)*dstStride+nx-1], src[w.TileY*w.TileX-1]
	C.k_accumulate(ptr(dst), C.int64_t(dstStride), ptr(src[row*w.TileX+column:]), C.int64_t(stride), C.int64_t(ny), C.int64_t(nx),
		C.float(weight), ptr(wy), ptr(wx), C.int32_t(reverse))
}

// Finish writes acc[y][x] * wy[y] * wx[x] to dst, sets acc to zero, and returns how
// many values are not finite.
func Finish(dst, acc, wy, wx []float32) int {
	_, _ = dst[len(wy)*len(wx)-1], acc[len(wy)*len(wx)-1]
	return int(C.k_finish(ptr(dst), ptr(acc), C.int64_t(len(wy)), C.int64_t(len(wx)), ptr(wy), ptr(wx)))
}

// Corner is where an output row lies among the rows of the low-resolution logits:
// four rows (offsets of class 0 in the two planes' arrays) and their weights.
type Corner struct {
	Low, High []float32 // logits of the plane below and above, classes x rows x columns
	Row       [2]int    // offsets of the two rows within a plane
	Weight    [4]float32
	Stride    int // from class to class
	Classes   int
}

// Line holds the table along x: low-resolution voxel and weight of its right
// neighbour for each output voxel, and scratch.
type Line struct {
	In   int
	X0   []int32
	W    []float32
	low  []float32
	best []float32
}

// NewLine returns a line for in columns; x0 and w have one entry per output voxel.
func NewLine(in int, x0 []int32, w []float32) *Line {
	return &Line{In: in, X0: x0, W: w, low: make([]float32, in+1), best: make([]float32, len(x0))}
}

// Argmax writes the class of the highest resampled logit of each output voxel.
func (l *Line) Argmax(labels []uint16, c *Corner) {
	_ = labels[len(l.X0)-1]
	C.k_argmax((*C.uint16_t)(unsafe.Pointer(&labels[0])), ptr(l.best), ptr(l.low),
		ptr(c.Low[c.Row[0]:]), ptr(c.Low[c.Row[1]:]), ptr(c.High[c.Row[0]:]), ptr(c.High[c.Row[1]:]),
		C.float(c.Weight[0]), C.float(c.Weight[1]), C.float(c.Weight[2]), C.float(c.Weight[3]),
		C.int64_t(c.Stride), C.int64_t(c.Classes), C.int64_t(l.In), C.int64_t(len(l.X0)), (*C.int32_t)(unsafe.Pointer(&l.X0[0])), ptr(l.W))
}

// Regions writes, for each output voxel, values[i] of the last region i whose
// resampled logit is positive, or 0.
func (l *Line) Regions(labels []uint16, c *Corner, values []uint16) {
	_, _ = labels[len(l.X0)-1], values[c.Classes-1]
	C.k_regions((*C.uint16_t)(unsafe.Pointer(&labels[0])), ptr(l.low),
		ptr(c.Low[c.Row[0]:]), ptr(c.Low[c.Row[1]:]), ptr(c.High[c.Row[0]:]), ptr(c.High[c.Row[1]:]),
		C.float(c.Weight[0]), C.float(c.Weight[1]), C.float(c.Weight[2]), C.float(c.Weight[3]),
		C.int64_t(c.Stride), C.int64_t(c.Classes), C.int64_t(l.In), C.int64_t(len(l.X0)), (*C.int32_t)(unsafe.Pointer(&l.X0[0])), ptr(l.W),
		(*C.uint16_t)(unsafe.Pointer(&values[0])))
}

// Logits writes the resampled logits of one class.
func (l *Line) Logits(out []float32, c *Corner, class int) {
	_ = out[len(l.X0)-1]
	o := class * c.Stride
	C.k_logits(ptr(out), ptr(l.low),
		ptr(c.Low[o+c.Row[0]:]), ptr(c.Low[o+c.Row[1]:]), ptr(c.High[o+c.Row[0]:]), ptr(c.High[o+c.Row[1]:]),
		C.float(c.Weight[0]), C.float(c.Weight[1]), C.float(c.Weight[2]), C.float(c.Weight[3]),
		C.int64_t(l.In), C.int64_t(len(l.X0)), (*C.int32_t)(unsafe.Pointer(&l.X0[0])), ptr(l.W))
}

func ptr(s []float32) *C.float { return (*C.float)(unsafe.Pointer(&s[0])) }
