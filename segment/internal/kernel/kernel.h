/* The arithmetic loops that cost. Every function works on the caller's memory, allocates
 * nothing and has a plain Go reference in reference_test.go. The loops stand in
 * loops.inc, compiled once per instruction set; kernel.c picks the set at run time. */
#ifndef FLARE_KERNEL_H
#define FLARE_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* Columns are filtered this many at a time, so that a block stays in the first-level cache. */
#define KERNEL_LANES 32

typedef struct {
    double min, max, sum, sum2; /* of x - shift for the sums */
    int64_t bad;                /* voxels that are NaN or infinite in float32 */
} scan_result;

typedef struct {
    /* dst[i][j] = (clip(src[offset + i*stride0 + j*stride1]) - sub) / div, row-major n0 x n1;
     * strides in voxels; dtype as in flare.h. */
    void (*load)(float *dst, const void *src, int32_t dtype, int64_t offset, int64_t stride0, int64_t stride1,
                 int64_t n0, int64_t n1, float lo, float hi, float sub, float div);
    void (*scan)(scan_result *out, const void *src, int32_t dtype, int64_t offset, int64_t stride0, int64_t stride1,
                 int64_t n0, int64_t n1, double shift);
    /* Cubic B-spline along the rows of `lanes` columns, the signal continued by its end
     * values: dst[j][l] = sum_k weights[4*j+k] * c[start[j]+k][l], c the spline coefficients
     * of src. scratch: (n_in+6) x KERNEL_LANES floats. */
    void (*cubic)(float *dst, int64_t dst_stride, const float *src, int64_t src_stride, int64_t n_in, int64_t n_out,
                  const int32_t *start, const float *weights, int64_t lanes, float *scratch);
    /* dst (n1 x n0) = transpose of src (n0 x n1), both with row strides. */
    void (*transpose)(float *dst, int64_t dst_stride, const float *src, int64_t src_stride, int64_t n0, int64_t n1);
    /* dst[y][x] += weight * wy[y] * wx[x] * src[y][x]; a negative src_stride and reverse_x
     * read the source mirrored (src then points at its first row in reading order). */
    void (*accumulate)(float *dst, int64_t dst_stride, const float *src, int64_t src_stride, int64_t ny, int64_t nx,
                       float weight, const float *wy, const float *wx, int32_t reverse_x);
    /* dst[y][x] = acc[y][x] * wy[y] * wx[x]; acc = 0. Returns the number of values that
     * are not finite. */
    int64_t (*finish)(float *dst, float *acc, int64_t ny, int64_t nx, const float *wy, const float *wx);
    /* One output row of linearly resampled logits: the four rows around it, combined with
     * the weights w, then interpolated along x. rows[k] + c*class_stride is row k of class c;
     * low: n_low+1 floats of scratch. best: n_out floats of scratch. */
    void (*argmax)(uint16_t *labels, float *best, float *low, const float *const rows[4], const float w[4],
                   int64_t class_stride, int64_t classes, int64_t n_low, int64_t n_out, const int32_t *x0, const float *wx);
    /* The same for region-based heads: region i with a logit above 0 (sigmoid above 0.5)
     * overwrites the label with values[i]. */
    void (*regions)(uint16_t *labels, float *low, const float *const rows[4], const float w[4],
                    int64_t class_stride, int64_t classes, int64_t n_low, int64_t n_out, const int32_t *x0, const float *wx,
                    const uint16_t *values);
    /* The resampled row of one class itself. */
    void (*logits)(float *out, float *low, const float *const rows[4], const float w[4],
                   int64_t n_low, int64_t n_out, const int32_t *x0, const float *wx);
} kernels;

/* The kernels of an instruction set: 0 plain C, 1 AVX2+FMA, 2 AVX-512, or NULL where the
 * processor or the compiler lacks it. */
const kernels *kernels_for(int set);

/* How many sets kernels_for knows. */
#define KERNEL_SETS 3

#endif
