package kernel

/*
#include "kernel.h"

static void k_product(float *out, int64_t os, const float *in, int64_t is, int64_t n, const float *weight, const float *bias,
                      int64_t rows, int64_t channels, float *scratch) {
	kernel_now.product(out, os, in, is, n, weight, bias, rows, channels, scratch);
}
*/
import "C"

// Matrix is a linear map from channels to rows, of many voxels at a time.
type Matrix struct {
	Weight []float32 // rows x channels, row-major
	Bias   []float32 // rows
}

// Channels returns how many values of a voxel the map takes.
func (m *Matrix) Channels() int { return len(m.Weight) / len(m.Bias) }

// ProductScratch returns how many elements Product needs.
func (m *Matrix) ProductScratch() int {
	return C.KERNEL_COLUMNS * (m.Channels() + len(m.Bias))
}

// Product writes Weight * in + Bias to out for n voxels: voxel i of row r is
// out[r*outStride+i], of channel k in[k*inStride+i]. scratch holds ProductScratch elements.
func (m *Matrix) Product(out []float32, outStride int, in []float32, inStride, n int, scratch []float32) {
	rows, channels := len(m.Bias), m.Channels()
	_, _, _, _ = out[(rows-1)*outStride+n-1], in[(channels-1)*inStride+n-1], scratch[m.ProductScratch()-1], m.Weight[rows*channels-1]
	C.k_product(ptr(out), C.int64_t(outStride), ptr(in), C.int64_t(inStride), C.int64_t(n), ptr(m.Weight), ptr(m.Bias),
		C.int64_t(rows), C.int64_t(channels), ptr(scratch))
}
