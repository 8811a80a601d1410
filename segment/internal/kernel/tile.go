package kernel

/*
#include "kernel.h"

static int64_t k_accumulate(float *dst, int64_t ds, const float *src, int64_t ss, int64_t ny, int64_t nx, float weight,
                            const float *wy, const float *wx, int32_t rev) { return kernel_now.accumulate(dst, ds, src, ss, ny, nx, weight, wy, wx, rev); }
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
	ny, nx := len(wy), len(wx)
	row, stride, column, reverse := w.Y, w.TileX, w.X, 0
	if w.FlipY {
		row, stride = w.TileY-1-w.Y, -w.TileX
	}
	if w.FlipX {
		column, reverse = w.TileX-w.X-nx, 1
	}
	_, _ = dst[(ny-1)*dstStride+nx-1], src[w.TileY*w.TileX-1]
	return int(C.k_accumulate(ptr(dst), C.int64_t(dstStride), ptr(src[row*w.TileX+column:]), C.int64_t(stride), C.int64_t(ny), C.int64_t(nx),
		C.float(weight), ptr(wy), ptr(wx), C.int32_t(reverse)))
}
