package kernel

/*
#include "kernel.h"

static int64_t k_accumulate(float *dst, int64_t ds, const float *src, int64_t ss, int64_t ny, int64_t nx, float weight,
                            const float *wy, const float *wx, int32_t rev) { return kernel_now.accumulate(dst, ds, src, ss, ny, nx, weight, wy, wx, rev); }
static int64_t k_accumulate_half(float *dst, int64_t ds, const uint16_t *src, int64_t ss, int64_t ny, int64_t nx, float weight,
                                 const float *wy, const float *wx, int32_t rev) { return kernel_now.accumulate_half(dst, ds, src, ss, ny, nx, weight, wy, wx, rev); }
*/
import "C"

// Window is a part of a tile whose rows or columns may be stored mirrored: it
// starts at (Y, X) in the unmirrored tile of TileY x TileX.
type Window struct {
	Y, X, TileY, TileX int
	FlipY, FlipX       bool
}

// Accumulate adds weight * wy[y] * wx[x] * src[w.Y+y][w.X+x] to dst[y][x], where src
// is the unmirrored tile, and returns how many values of src are not finite.
func Accumulate(dst []float32, dstStride int, src []float32, w Window, weight float32, wy, wx []float32) int {
	_, _ = dst[(len(wy)-1)*dstStride+len(wx)-1], src[w.TileY*w.TileX-1]
	first, stride, reverse := w.reading(len(wx))
	return int(C.k_accumulate(ptr(dst), C.int64_t(dstStride), ptr(src[first:]), stride, C.int64_t(len(wy)), C.int64_t(len(wx)),
		C.float(weight), ptr(wy), ptr(wx), reverse))
}

// AccumulateHalf is Accumulate of a tile in float16, given as its bits.
func AccumulateHalf(dst []float32, dstStride int, src []uint16, w Window, weight float32, wy, wx []float32) int {
	_, _ = dst[(len(wy)-1)*dstStride+len(wx)-1], src[w.TileY*w.TileX-1]
	first, stride, reverse := w.reading(len(wx))
	return int(C.k_accumulate_half(ptr(dst), C.int64_t(dstStride), words(src[first:]), stride, C.int64_t(len(wy)), C.int64_t(len(wx)),
		C.float(weight), ptr(wy), ptr(wx), reverse))
}

// reading returns where in the tile the kernels start to read nx columns, and how they go on.
func (w *Window) reading(nx int) (first int, stride C.int64_t, reverse C.int32_t) {
	row, down, column := w.Y, w.TileX, w.X
	if w.FlipY {
		row, down = w.TileY-1-w.Y, -w.TileX
	}
	if w.FlipX {
		column, reverse = w.TileX-w.X-nx, 1
	}
	return row*w.TileX + column, C.int64_t(down), reverse
}
