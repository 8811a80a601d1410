/* The arithmetic loops that cost. Every function works on the caller's memory, allocates
 * nothing and has a plain Go reference in the tests. The loops stand in
 * loops.h, compiled once per instruction set; kernel.c picks the set at run time. */
#ifndef FLARE_KERNEL_H
#define FLARE_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* Columns are filtered this many at a time: so many chains of multiply-adds hide their
 * latency, and what is filtered of them stays in the first-level cache. */
#define KERNEL_LANES 64

typedef struct {
    double min, max, sum, sum2; /* of x - shift for the sums */
    int64_t bad;                /* voxels that are NaN or infinite in float32 */
} scan_result;

/* A run of output voxels of one row: [from, to), with its label, or KERNEL_UNSURE where the
 * corners do not agree. */
typedef struct {
    int32_t from, to;
    uint16_t label;
} kernel_run;

#define KERNEL_UNSURE 0xffff

/* An output row: where it lies among the rows of two low-resolution planes, how it is
 * interpolated, and what becomes of it. */
typedef struct {
    int64_t at;           /* where its labels go */
    int64_t offset[2];    /* of the rows below and above it within a plane; they may be the same */
    int32_t plane[2];     /* the planes below and above it, 0 or 1; likewise */
    float weight[4];      /* of the lower plane's two rows and of the higher one's */
    int32_t runs, count;  /* its runs */
    int32_t unsure;       /* how many of its voxels lie in unsure ones */
    int32_t place;        /* where those stand among such of several rows */
} kernel_row;

/* Two planes of low-resolution logits, and what top finds of them. */
typedef struct {
    const float *logits[2];
    const uint16_t *labels[2];
    const float *second[2];
} kernel_planes;

/* Below every logit; sums of it with weights do not overflow. */
#define KERNEL_LOWEST -1e30f

/* cubic reads so many rows from the start of a window's last output row on, ... */
#define KERNEL_REACH 16

/* ... and these are the most rows from the start of its first one on, and of its output rows. */
#define KERNEL_ROWS 128
#define KERNEL_OUTPUTS 64

/* sample reads and writes up to so many elements past the end of a row, across reads them. */
#define KERNEL_SLACK 16

/* The most columns that product computes together. */
#define KERNEL_COLUMNS 64

typedef struct {
    /* dst[i][j] = (clip(src[offset + i*stride0 + j*stride1]) - sub) / div, row-major n0 x n1;
     * strides in voxels; dtype as in flare.h. */
    void (*load)(float *dst, const void *src, int32_t dtype, int64_t offset, int64_t stride0, int64_t stride1,
                 int64_t n0, int64_t n1, float lo, float hi, float sub, float div);
    void (*scan)(scan_result *out, const void *src, int32_t dtype, int64_t offset, int64_t stride0, int64_t stride1,
                 int64_t n0, int64_t n1, double shift);
    /* The smallest and the largest of n values, 1 at least; and clipping n0 x n1 values to
     * such. */
    void (*extremes)(const float *x, int64_t n, float *least, float *most);
    void (*clip)(float *x, int64_t stride, int64_t n0, int64_t n1, float lo, float hi);
    /* dst[j] = (1-weight[j]) * src[start[j]-base] + weight[j] * src[start[j]-base+1], rows. */
    void (*linear)(float *dst, int64_t dst_stride, const float *src, int64_t src_stride, int64_t base, int64_t n_out,
                   const int32_t *start, const float *weight, int64_t columns);
    /* Cubic B-spline along the first axis of an image of n rows, continued by its outermost
     * rows: dst[j][l] = sum_k weights[4*j+k] * c[start[j]+k][l], c the spline coefficients of
     * the voxels clipped to [lo, hi], less sub, divided by CUBIC_GAIN. Voxel l of row base is
     * element offset of src. Output rows from to before to of n_out are written to dst. state,
     * columns rounded up to KERNEL_LANES floats, is carried from call to call where they follow
     * on one another; the first one begins. start does not decrease. A window is window output
     * rows, the first at a multiple of that. Read are the rows from start[from] on, all before
     * if the call begins, to KERNEL_REACH behind the last start of the window. */
    void (*cubic)(float *dst, int64_t dst_stride, const void *src, int32_t dtype, int64_t offset, int64_t src_stride,
                  int64_t base, int64_t n, int64_t from, int64_t to, int64_t n_out, const int32_t *start,
                  const float *weights, int64_t window, int64_t columns, float lo, float hi, float sub, float *state,
                  int32_t begins);
    /* The same within the rows of an array of floats, which begin there: dst (rows x n_out) of
     * src (rows x n). Up to KERNEL_SLACK rows, and floats of a row, more are read. */
    void (*across)(float *dst, int64_t dst_stride, const float *src, int64_t src_stride, int64_t rows, int64_t n,
                   int64_t n_out, const int32_t *start, const float *weights, int64_t window);
    /* dst (n1 x n0) = transpose of src (n0 x n1), both with row strides. */
    void (*transpose)(float *dst, int64_t dst_stride, const float *src, int64_t src_stride, int64_t n0, int64_t n1);
    /* dst[y][x] += weight * wy[y] * wx[x] * src[y][x]; a negative src_stride and reverse_x
     * read the source mirrored (src then points at its first row in reading order). Returns
     * the number of values of src that are not finite. */
    int64_t (*accumulate)(float *dst, int64_t dst_stride, const float *src, int64_t src_stride, int64_t ny, int64_t nx,
                          float weight, const float *wy, const float *wx, int32_t reverse_x);
    /* The same of float16, IEEE 754 binary16. */
    int64_t (*accumulate_half)(float *dst, int64_t dst_stride, const uint16_t *src, int64_t src_stride, int64_t ny, int64_t nx,
                               float weight, const float *wy, const float *wx, int32_t reverse_x);
    /* One output row of linearly resampled logits of one class: the four rows around it,
     * combined with the weights w, then interpolated along x. low: n_low+1 floats of scratch. */
    void (*logits)(float *out, float *low, const float *const rows[4], const float w[4],
                   int64_t n_low, int64_t n_out, const int32_t *x0, const float *wx);
    /* labels[i] = the class of the largest of x[c*class_stride + i], the first of equals. */
    void (*winner)(uint16_t *labels, const float *x, int64_t class_stride, int64_t classes, int64_t n);
    /* The same, and the second largest logit: what all other classes do not exceed. */
    void (*top)(uint16_t *labels, float *second, const float *x, int64_t class_stride, int64_t classes, int64_t n);
    /* labels[i] = 1 + the last class whose x[c*class_stride + i] is above 0, or 0. */
    void (*last)(uint16_t *labels, const float *x, int64_t class_stride, int64_t classes, int64_t n);
    /* Splits output rows into runs, in order and without gaps, by the labels of the voxels
     * around them, n a row, and fills in the rows' runs, count and unsure. Cell x lies at
     * column x, or (between) from column x to x+1; first[x] is the first output voxel of cell
     * x, first[n] the number of output voxels. A row has n runs at most, and shares them with
     * the row before where both lie in the same cells. cell: n elements of scratch. */
    void (*settle)(kernel_row *rows, int64_t count, kernel_run *runs, uint16_t *cell, const uint16_t *const labels[2],
                   int64_t n, int32_t between, const int32_t *first);
    /* What logits computes, for the voxels of the rows' unsure runs only and for all classes:
     * those of a row, one after the other, at panel[c*panel_stride + place]. The planes are
     * followed by KERNEL_SLACK finite floats, x0 and wx by elements, and the place of a row's
     * voxels by room. dense: x0 grows by 1 at most from voxel to voxel. */
    void (*sample)(float *panel, int64_t panel_stride, const float *const planes[2], int64_t class_stride, int64_t classes,
                   const kernel_row *rows, int64_t count, const kernel_run *runs, const int32_t *x0, const float *wx, int32_t dense);
    /* The labels that winner finds for what sample computes, at settled[place]: among the labels
     * around a voxel, where the interpolated second logits show that no other class can be
     * larger, as is the rule; else among all classes. The planes' second is followed by
     * KERNEL_SLACK finite floats, and so are their logits. */
    void (*decide)(uint16_t *settled, const kernel_planes *planes, int64_t class_stride, int64_t classes, const kernel_row *rows,
                   int64_t count, const kernel_run *runs, int64_t n_low, const int32_t *x0, const float *wx, int32_t dense);
    /* Writes rows of labels of 1 or 2 bytes, voxel x at element at + x*step: those of the
     * runs, where unsure the next of settled from the row's place on, each through values
     * unless that is NULL. */
    void (*paint)(void *dst, int32_t size, int64_t step, const kernel_row *rows, int64_t count, const kernel_run *runs,
                  const uint16_t *settled, const uint16_t *values);
    /* out[r*out_stride + i] = bias[r] + sum_k weight[r*channels + k] * in[k*in_stride + i],
     * i below n. scratch: KERNEL_COLUMNS x (rows + channels) floats. */
    void (*product)(float *out, int64_t out_stride, const float *in, int64_t in_stride, int64_t n, const float *weight,
                    const float *bias, int64_t rows, int64_t channels, float *scratch);
} kernels;

/* The kernels in use. */
extern kernels kernel_now;

/* The kernels of an instruction set: 0 plain C, 1 AVX2+FMA+F16C, 2 AVX-512, or NULL where the
 * processor or the compiler lacks it. */
const kernels *kernels_for(int set);

/* How many sets kernels_for knows. */
#define KERNEL_SETS 3

#endif
