package kernel

// From low-resolution logits to rows of labels. Logits interpolates every voxel. But linear
// interpolation's weights are not negative and sum to 1, so where one class wins at all
// corners of a cell it wins everywhere inside; and so does the last of the positive regions.
// So Winner (or Last) finds the labels of the low-resolution voxels, Settle what follows from
// them, Sample interpolates the others, Winner labels those, and Paint writes the rows. With
// logits in memory Top and Decide stand for Winner and for Sample and Winner: a class that wins
// at no corner of a cell exceeds the second largest logit at none, so nowhere inside what
// those interpolate to, and only the classes that win somewhere need to be interpolated where
// one of them is larger than that. Rounding keeps this order, as it is monotone and the sums
// are the same. All ways compute the same sums, so that labels differ only where rounding makes
// a tie. Settle, Sample, Decide and Paint take several rows, as a call from Go costs as much
// as some of their work, and the rows of a cell share it.

/*
#include "kernel.h"

// Pointers come one by one: cgo allows no Go array of C pointers' addresses to be kept.
static void k_logits(float *out, float *low, const float *r0, const float *r1, const float *r2, const float *r3,
                     float w0, float w1, float w2, float w3, int64_t n_low, int64_t n_out, const int32_t *x0, const float *wx) {
	const float *rows[4] = {r0, r1, r2, r3};
	const float w[4] = {w0, w1, w2, w3};
	kernel_now.logits(out, low, rows, w, n_low, n_out, x0, wx);
}
static void k_winner(uint16_t *labels, const float *x, int64_t cs, int64_t classes, int64_t n) { kernel_now.winner(labels, x, cs, classes, n); }
static void k_last(uint16_t *labels, const float *x, int64_t cs, int64_t classes, int64_t n) { kernel_now.last(labels, x, cs, classes, n); }
static void k_settle(void *rows, int64_t count, void *runs, uint16_t *cell, const uint16_t *low, const uint16_t *high, int64_t n,
                     int32_t between, const int32_t *first) {
	const uint16_t *labels[2] = {low, high};
	kernel_now.settle(rows, count, runs, cell, labels, n, between, first);
}
static void k_sample(float *panel, int64_t panel_stride, const float *low, const float *high, int64_t class_stride, int64_t classes,
                     const void *rows, int64_t count, const void *runs, const int32_t *x0, const float *wx, int32_t dense) {
	const float *planes[2] = {low, high};
	kernel_now.sample(panel, panel_stride, planes, class_stride, classes, rows, count, runs, x0, wx, dense);
}
static void k_top(uint16_t *labels, float *second, const float *x, int64_t cs, int64_t classes, int64_t n) {
	kernel_now.top(labels, second, x, cs, classes, n);
}
static void k_decide(uint16_t *settled, const float *low, const float *high, const uint16_t *low_labels, const uint16_t *high_labels,
                     const float *low_second, const float *high_second, int64_t class_stride, int64_t classes, const void *rows,
                     int64_t count, const void *runs, int64_t n_low, const int32_t *x0, const float *wx, int32_t dense) {
	const kernel_planes planes = {{low, high}, {low_labels, high_labels}, {low_second, high_second}};
	kernel_now.decide(settled, &planes, class_stride, classes, rows, count, runs, n_low, x0, wx, dense);
}
static void k_paint(void *dst, int32_t size, int64_t step, const void *rows, int64_t count, const void *runs,
                    const uint16_t *settled, const uint16_t *values) {
	kernel_now.paint(dst, size, step, rows, count, runs, settled, values);
}
*/
import "C"

import "unsafe"

// Planes are two planes of low-resolution logits, and what their voxels would be labelled.
type Planes struct {
	Logits   [2][]float32 // of Channels, Stride apart, with Slack finite values after the last
	Labels   [2][]uint16
	Second   [2][]float32 // for Decide: the second largest logits, with Slack finite values after the last
	Stride   int
	Channels int
}

// Row is an output row: where it lies among the rows of two planes, how it is interpolated,
// and what becomes of it.
type Row struct {
	At     int64      // where its labels go
	Offset [2]int64   // of the rows below and above it within a plane; they may be the same
	Plane  [2]int32   // the planes below and above it, 0 or 1; likewise
	Weight [4]float32 // of the lower plane's two rows and of the higher one's
	Runs   int32      // the first of its runs
	Count  int32      // and how many they are
	Unsure int32      // how many of its voxels lie in unsure ones
	Place  int32      // where those stand among such of several rows
}

// Run is the output voxels [From, To) of a row and their common label.
type Run struct {
	From, To int32
	Label    uint16
}

// Unsure is the label of a run whose corners have different labels.
const Unsure = C.KERNEL_UNSURE

// Slack is by how many elements Sample reads logits, and writes its panel, past the end
// of what it needs.
const Slack = C.KERNEL_SLACK

// Rows and runs are handed to C as they are.
var _, _ = [1]struct{}{}[unsafe.Sizeof(Run{})-C.sizeof_kernel_run], [1]struct{}{}[unsafe.Sizeof(Row{})-C.sizeof_kernel_row]

// Line holds the table along x: low-resolution voxel and weight of its right
// neighbour for each output voxel, and scratch.
type Line struct {
	In  int
	X0  []int32
	W   []float32
	low []float32

	first   []int32  // the first output voxel of each low-resolution voxel, and their number
	between bool     // there are weights other than 0
	dense   bool     // X0 grows by 1 at most
	cell    []uint16 // for Settle
}

// NewLine returns a line for in columns; x0 (not decreasing) and w have one entry per
// output voxel.
func NewLine(in int, x0 []int32, w []float32) *Line {
	n := len(x0)
	l := &Line{In: in, X0: make([]int32, n, n+Slack), W: make([]float32, n, n+Slack), low: make([]float32, in+1),
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

// Logits writes the resampled logits of one class.
func (l *Line) Logits(out []float32, p *Planes, r *Row, class int) {
	_ = out[len(l.X0)-1]
	low, high, o := p.Logits[r.Plane[0]], p.Logits[r.Plane[1]], int64(class*p.Stride)
	C.k_logits(ptr(out), ptr(l.low), ptr(low[o+r.Offset[0]:]), ptr(low[o+r.Offset[1]:]), ptr(high[o+r.Offset[0]:]), ptr(high[o+r.Offset[1]:]),
		C.float(r.Weight[0]), C.float(r.Weight[1]), C.float(r.Weight[2]), C.float(r.Weight[3]),
		C.int64_t(l.In), C.int64_t(len(l.X0)), (*C.int32_t)(unsafe.Pointer(&l.X0[0])), ptr(l.W))
}

// Winner writes, for n voxels, the class of the largest logit, the first of equals;
// logits of a class lie stride after those of the class before.
func Winner(labels []uint16, logits []float32, stride, classes, n int) {
	_, _ = labels[n-1], logits[(classes-1)*stride+n-1]
	C.k_winner(words(labels), ptr(logits), C.int64_t(stride), C.int64_t(classes), C.int64_t(n))
}

// Top writes what Winner does, and the second largest logit.
func Top(labels []uint16, second, logits []float32, stride, classes, n int) {
	_, _, _ = labels[n-1], second[n-1], logits[(classes-1)*stride+n-1]
	C.k_top(words(labels), ptr(second), ptr(logits), C.int64_t(stride), C.int64_t(classes), C.int64_t(n))
}

// Last writes, for n voxels, 1 + the last region whose logit is positive, or 0.
func Last(labels []uint16, logits []float32, stride, regions, n int) {
	_, _ = labels[n-1], logits[(regions-1)*stride+n-1]
	C.k_last(words(labels), ptr(logits), C.int64_t(stride), C.int64_t(regions), C.int64_t(n))
}

// Settle splits rows into runs, in order and without gaps, by the labels of the
// low-resolution voxels around them, and fills in the rows' Runs, Count and Unsure. Rows
// of a cell that follow each other share their runs; there are In at most in each.
func (l *Line) Settle(rows []Row, runs []Run, p *Planes) {
	need := 0
	for i := range rows {
		r := &rows[i]
		end := int(max(r.Offset[0], r.Offset[1])) + l.In - 1
		_, _ = p.Labels[r.Plane[0]][end], p.Labels[r.Plane[1]][end]
		if i == 0 || r.Plane != rows[i-1].Plane || r.Offset != rows[i-1].Offset {
			need += l.In
		}
	}
	_ = runs[need-1]
	C.k_settle(unsafe.Pointer(&rows[0]), C.int64_t(len(rows)), unsafe.Pointer(&runs[0]), words(l.cell), words(p.Labels[0]), words(p.Labels[1]),
		C.int64_t(l.In), flag(l.between), (*C.int32_t)(unsafe.Pointer(&l.first[0])))
}

// Sample writes what Logits does, for all channels but only for the voxels of the rows' runs
// that are Unsure, one after the other: those of a row of channel c from panel[c*stride +
// Place] on, where it writes Slack elements past the end as well.
func (l *Line) Sample(panel []float32, stride int, p *Planes, rows []Row, runs []Run) {
	for i := range rows {
		r := &rows[i]
		last := (p.Channels - 1) * p.Stride
		end := last + int(max(r.Offset[0], r.Offset[1])) + l.In + Slack - 1
		_, _ = p.Logits[r.Plane[0]][end], p.Logits[r.Plane[1]][end]
		_ = panel[(p.Channels-1)*stride+int(r.Place+r.Unsure)+Slack-1]
	}
	C.k_sample(ptr(panel), C.int64_t(stride), start(p.Logits[0]), start(p.Logits[1]), C.int64_t(p.Stride), C.int64_t(p.Channels),
		unsafe.Pointer(&rows[0]), C.int64_t(len(rows)), unsafe.Pointer(&runs[0]), (*C.int32_t)(unsafe.Pointer(&l.X0[0])), ptr(l.W), flag(l.dense))
}

// Decide writes the labels that Winner finds for what Sample writes: those of a row from
// settled[Place] on, where it writes Slack elements past the end as well. It interpolates the
// logits of the labels around a voxel and the second largest logits, which no other class
// exceeds; only where one of those could be the largest, it interpolates all.
func (l *Line) Decide(settled []uint16, p *Planes, rows []Row, runs []Run) {
	for i := range rows {
		r := &rows[i]
		at := int(max(r.Offset[0], r.Offset[1])) + l.In - 1
		for _, plane := range r.Plane {
			_, _, _ = p.Logits[plane][(p.Channels-1)*p.Stride+at+Slack], p.Second[plane][at+Slack], p.Labels[plane][at]
		}
		_ = settled[int(r.Place+r.Unsure)+Slack-1]
	}
	C.k_decide(words(settled), start(p.Logits[0]), start(p.Logits[1]), words(p.Labels[0]), words(p.Labels[1]), start(p.Second[0]), start(p.Second[1]),
		C.int64_t(p.Stride), C.int64_t(p.Channels), unsafe.Pointer(&rows[0]), C.int64_t(len(rows)), unsafe.Pointer(&runs[0]), C.int64_t(l.In),
		(*C.int32_t)(unsafe.Pointer(&l.X0[0])), ptr(l.W), flag(l.dense))
}

// Paint writes rows of labels, voxel x of one at element At + x*step of dst: those of its
// runs and, where they are Unsure, of settled, in order, from Place on. values, if not nil,
// holds what to write for each label.
func Paint[T uint8 | uint16](dst []T, step int, rows []Row, runs []Run, settled, values []uint16) {
	for i := range rows {
		r := &rows[i]
		_, _ = dst[r.At], dst[int(r.At)+(int(runs[r.Runs+r.Count-1].To)-1)*step]
	}
	C.k_paint(unsafe.Pointer(&dst[0]), C.int32_t(unsafe.Sizeof(dst[0])), C.int64_t(step), unsafe.Pointer(&rows[0]), C.int64_t(len(rows)),
		unsafe.Pointer(&runs[0]), words(settled), words(values))
}

// words and start return where s starts, NULL for nil.
func words(s []uint16) *C.uint16_t { return (*C.uint16_t)(unsafe.Pointer(unsafe.SliceData(s))) }

func start(s []float32) *C.float { return (*C.float)(unsafe.Pointer(unsafe.SliceData(s))) }

func flag(b bool) C.int32_t {
	if b {
		return 1
	}
	return 0
}
