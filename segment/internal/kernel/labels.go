package kernel

// Two ways lead from low-resolution logits to a row of labels. Argmax, Regions and Logits
// interpolate every voxel. But linear interpolation's weights are not negative and sum to
// 1, so where one class wins at all corners of a cell it wins everywhere inside; and so
// does the last of the positive regions. So Winner (or Last) finds the labels of the
// low-resolution voxels, Settle what follows from them, Sample interpolates the rest,
// Winner labels that, and Paint writes the row. Both ways compute the same sums, so that
// labels differ only where rounding makes a tie.

/*
#include "kernel.h"

// The four row pointers come separately: cgo allows no Go array of C pointers' addresses to be kept.
static void k_argmax(uint16_t *labels, float *best, float *low, const float *r0, const float *r1, const float *r2, const float *r3,
                     float w0, float w1, float w2, float w3, int64_t class_stride, int64_t classes, int64_t n_low, int64_t n_out,
                     const int32_t *x0, const float *wx) {
	const float *rows[4] = {r0, r1, r2, r3};
	const float w[4] = {w0, w1, w2, w3};
	kernel_now.argmax(labels, best, low, rows, w, class_stride, classes, n_low, n_out, x0, wx);
}
static void k_regions(uint16_t *labels, float *low, const float *r0, const float *r1, const float *r2, const float *r3,
                      float w0, float w1, float w2, float w3, int64_t class_stride, int64_t classes, int64_t n_low, int64_t n_out,
                      const int32_t *x0, const float *wx, const uint16_t *values) {
	const float *rows[4] = {r0, r1, r2, r3};
	const float w[4] = {w0, w1, w2, w3};
	kernel_now.regions(labels, low, rows, w, class_stride, classes, n_low, n_out, x0, wx, values);
}
static void k_logits(float *out, float *low, const float *r0, const float *r1, const float *r2, const float *r3,
                     float w0, float w1, float w2, float w3, int64_t n_low, int64_t n_out, const int32_t *x0, const float *wx) {
	const float *rows[4] = {r0, r1, r2, r3};
	const float w[4] = {w0, w1, w2, w3};
	kernel_now.logits(out, low, rows, w, n_low, n_out, x0, wx);
}
static void k_winner(uint16_t *labels, const float *x, int64_t cs, int64_t classes, int64_t n) { kernel_now.winner(labels, x, cs, classes, n); }
static void k_last(uint16_t *labels, const float *x, int64_t cs, int64_t classes, int64_t n) { kernel_now.last(labels, x, cs, classes, n); }
static int64_t k_settle(void *runs, uint16_t *cell, const uint16_t *a, const uint16_t *b, const uint16_t *c, const uint16_t *d,
                        int64_t n, int32_t between, const int32_t *first, int64_t *unsure) {
	return kernel_now.settle(runs, cell, a, b, c, d, n, between, first, unsure);
}
static void k_sample(float *panel, int64_t panel_stride, const float *r0, const float *r1, const float *r2, const float *r3,
                     float w0, float w1, float w2, float w3, int64_t class_stride, int64_t classes, const void *runs,
                     int64_t count, const int32_t *x0, const float *wx, int32_t dense) {
	const float *rows[4] = {r0, r1, r2, r3};
	const float w[4] = {w0, w1, w2, w3};
	kernel_now.sample(panel, panel_stride, rows, w, class_stride, classes, runs, count, x0, wx, dense);
}
static void k_paint(void *dst, int32_t size, int64_t offset, int64_t step, const void *runs, int64_t count,
                    const uint16_t *settled, const uint16_t *values) {
	kernel_now.paint(dst, size, offset, step, runs, count, settled, values);
}
*/
import "C"

import "unsafe"

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

	first   []int32  // the first output voxel of each low-resolution voxel, and their number
	between bool     // there are weights other than 0
	dense   bool     // X0 grows by 1 at most
	cell    []uint16 // for Settle
}

// NewLine returns a line for in columns; x0 (not decreasing) and w have one entry per
// output voxel.
func NewLine(in int, x0 []int32, w []float32) *Line {
	n := len(x0)
	l := &Line{In: in, X0: make([]int32, n, n+Slack), W: make([]float32, n, n+Slack), low: make([]float32, in+1), best: make([]float32, n),
		first: make([]int32, in+1), dense: true, cell: make([]uint16, in)}
	copy(l.X0, x0)
	copy(l.W, w)
	at := 0
	for x := range n {
		for ; at <= int(x0[x]); at++ {
			l.first[at] = int32(x)
		}
		l.between = l.between || w[x] != 0
		l.dense = l.dense && (x == 0 || x0[x]-x0[x-1] <= 1)
	}
	for ; at <= in; at++ {
		l.first[at] = int32(n)
	}
	return l
}

// Argmax writes the class of the highest resampled logit of each output voxel.
func (l *Line) Argmax(labels []uint16, c *Corner) {
	_ = labels[len(l.X0)-1]
	C.k_argmax(words(labels), ptr(l.best), ptr(l.low),
		ptr(c.Low[c.Row[0]:]), ptr(c.Low[c.Row[1]:]), ptr(c.High[c.Row[0]:]), ptr(c.High[c.Row[1]:]),
		C.float(c.Weight[0]), C.float(c.Weight[1]), C.float(c.Weight[2]), C.float(c.Weight[3]),
		C.int64_t(c.Stride), C.int64_t(c.Classes), C.int64_t(l.In), C.int64_t(len(l.X0)), (*C.int32_t)(unsafe.Pointer(&l.X0[0])), ptr(l.W))
}

// Regions writes, for each output voxel, values[i] of the last region i whose
// resampled logit is positive, or 0.
func (l *Line) Regions(labels []uint16, c *Corner, values []uint16) {
	_, _ = labels[len(l.X0)-1], values[c.Classes-1]
	C.k_regions(words(labels), ptr(l.low),
		ptr(c.Low[c.Row[0]:]), ptr(c.Low[c.Row[1]:]), ptr(c.High[c.Row[0]:]), ptr(c.High[c.Row[1]:]),
		C.float(c.Weight[0]), C.float(c.Weight[1]), C.float(c.Weight[2]), C.float(c.Weight[3]),
		C.int64_t(c.Stride), C.int64_t(c.Classes), C.int64_t(l.In), C.int64_t(len(l.X0)), (*C.int32_t)(unsafe.Pointer(&l.X0[0])), ptr(l.W),
		words(values))
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

// Slack is by how many elements Sample reads logits, and writes its panel, past the end
// of what it needs.
const Slack = C.KERNEL_SLACK

// Unsure is the label of a run whose corners have different labels.
const Unsure = C.KERNEL_UNSURE

// Run is the output voxels [From, To) of a row and their common label.
type Run struct {
	From, To int32
	Label    uint16
}

// Run is handed to C as it is.
var _ = [1]struct{}{}[unsafe.Sizeof(Run{})-C.sizeof_kernel_run]

// Winner writes, for n voxels, the class of the largest logit, the first of equals;
// logits of a class lie stride after those of the class before.
func Winner(labels []uint16, logits []float32, stride, classes, n int) {
	_, _ = labels[n-1], logits[(classes-1)*stride+n-1]
	C.k_winner(words(labels), ptr(logits), C.int64_t(stride), C.int64_t(classes), C.int64_t(n))
}

// Last writes, for n voxels, 1 + the last region whose logit is positive, or 0.
func Last(labels []uint16, logits []float32, stride, regions, n int) {
	_, _ = labels[n-1], logits[(regions-1)*stride+n-1]
	C.k_last(words(labels), ptr(logits), C.int64_t(stride), C.int64_t(regions), C.int64_t(n))
}

// Settle splits an output row into runs, in order and without gaps, by the labels of the
// low-resolution voxels: rows of the plane below and above it, as in Corner (where a
// weight is 0, a row may stand for the one that does not count). It returns how many
// runs there are, In at most, and how many voxels lie in those that are Unsure.
func (l *Line) Settle(runs []Run, low, high []uint16, row [2]int) (n, unsure int) {
	_, _, _ = runs[l.In-1], low[max(row[0], row[1])+l.In-1], high[max(row[0], row[1])+l.In-1]
	var count C.int64_t
	between := C.int32_t(0)
	if l.between {
		between = 1
	}
	n = int(C.k_settle(unsafe.Pointer(&runs[0]), words(l.cell), words(low[row[0]:]), words(low[row[1]:]), words(high[row[0]:]), words(high[row[1]:]),
		C.int64_t(l.In), between, (*C.int32_t)(unsafe.Pointer(&l.first[0])), &count))
	return n, int(count)
}

// Sample writes what Logits does, for all classes but only for the voxels of the runs
// that are Unsure, one after the other: voxel i of class c to panel[c*stride+i]. The
// arrays of the corner hold Slack more elements, finite ones, and so do the panel's rows.
func (l *Line) Sample(panel []float32, stride int, c *Corner, runs []Run) {
	end := (c.Classes-1)*c.Stride + max(c.Row[0], c.Row[1]) + l.In + Slack - 1
	_, _, _ = panel[(c.Classes-1)*stride+Slack], c.Low[end], c.High[end]
	dense := C.int32_t(0)
	if l.dense {
		dense = 1
	}
	C.k_sample(ptr(panel), C.int64_t(stride),
		ptr(c.Low[c.Row[0]:]), ptr(c.Low[c.Row[1]:]), ptr(c.High[c.Row[0]:]), ptr(c.High[c.Row[1]:]),
		C.float(c.Weight[0]), C.float(c.Weight[1]), C.float(c.Weight[2]), C.float(c.Weight[3]),
		C.int64_t(c.Stride), C.int64_t(c.Classes), unsafe.Pointer(&runs[0]), C.int64_t(len(runs)),
		(*C.int32_t)(unsafe.Pointer(&l.X0[0])), ptr(l.W), dense)
}

// Paint writes a row of labels, voxel x at element at + x*step of dst: those of the runs
// and, where they are Unsure, of settled, in order. values, if not nil, holds what to write
// for each label.
func Paint[T uint8 | uint16](dst []T, at, step int, runs []Run, settled, values []uint16) {
	_, _ = dst[at], dst[at+(int(runs[len(runs)-1].To)-1)*step]
	C.k_paint(unsafe.Pointer(&dst[0]), C.int32_t(unsafe.Sizeof(dst[0])), C.int64_t(at), C.int64_t(step), unsafe.Pointer(&runs[0]), C.int64_t(len(runs)),
		words(settled), words(values))
}

// words returns where s starts, NULL for nil.
func words(s []uint16) *C.uint16_t { return (*C.uint16_t)(unsafe.Pointer(unsafe.SliceData(s))) }
