/* Loops over images: reading, statistics, cubic splines. */

/* A vector of four floats anywhere in an array, and one made of elements of two. */
typedef float SET(four) __attribute__((vector_size(16), aligned(4), may_alias));
#ifdef __clang__
#define OF_TWO(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t SET(places) __attribute__((vector_size(16)));
#define OF_TWO(a, b, ...) __builtin_shuffle(a, b, (SET(places)){__VA_ARGS__})
#endif

/* dst (n1 x n0) = transpose of src (n0 x n1), n0 and n1 up to 16. */
static inline void SET(transpose_block)(float *restrict dst, int64_t dst_stride, const float *restrict src,
                                        int64_t src_stride, int64_t n0, int64_t n1) {
    if (n0 < 16 || n1 < 16) {
        for (int64_t j = 0; j < n1; j++)
            for (int64_t i = 0; i < n0; i++) dst[j * dst_stride + i] = src[i * src_stride + j];
        return;
    }
#define ROW(p, stride, k) (*(SET(four) *)((p) + (k) * (stride)))
    for (int64_t j = 0; j < 16; j += 4)
        for (int64_t i = 0; i < 16; i += 4) {
            const float *s = src + i * src_stride + j;
            float *d = dst + j * dst_stride + i;
            SET(four) a = ROW(s, src_stride, 0), b = ROW(s, src_stride, 1), c = ROW(s, src_stride, 2), e = ROW(s, src_stride, 3);
            SET(four) ab = OF_TWO(a, b, 0, 4, 1, 5), ce = OF_TWO(c, e, 0, 4, 1, 5);
            ROW(d, dst_stride, 0) = OF_TWO(ab, ce, 0, 1, 4, 5), ROW(d, dst_stride, 1) = OF_TWO(ab, ce, 2, 3, 6, 7);
            ab = OF_TWO(a, b, 2, 6, 3, 7), ce = OF_TWO(c, e, 2, 6, 3, 7);
            ROW(d, dst_stride, 2) = OF_TWO(ab, ce, 0, 1, 4, 5), ROW(d, dst_stride, 3) = OF_TWO(ab, ce, 2, 3, 6, 7);
        }
#undef ROW
}
#undef OF_TWO

/* n voxels that lie stride apart, a constant where the compiler is to vectorise it. */
#define LOAD_ROW(d, s, stride, n)               \
    for (int64_t j = 0; j < (n); j++) {         \
        float v = (float)(s)[j * (stride)];     \
        v = v < lo ? lo : v;                    \
        v = v > hi ? hi : v;                    \
        (d)[j] = (v - sub) / div;               \
    }

/* Where rows lie closer together than columns, blocks are read along the columns and
 * transposed. */
#define LOAD_AS(T)                                                                                       \
    do {                                                                                                 \
        const T *p = (const T *)src + offset;                                                            \
        if (llabs(stride0) < llabs(stride1) && n0 >= 4) {                                                \
            float block[16 * 64];                                                                        \
            for (int64_t i0 = 0; i0 < n0; i0 += 64)                                                      \
                for (int64_t j0 = 0; j0 < n1; j0 += 16) {                                                \
                    int64_t ni = n0 - i0 < 64 ? n0 - i0 : 64, nj = n1 - j0 < 16 ? n1 - j0 : 16;          \
                    for (int64_t k = 0; k < nj; k++) {                                                   \
                        const T *row = p + i0 * stride0 + (j0 + k) * stride1;                            \
                        if (stride0 == 1) {                                                              \
                            LOAD_ROW(block + 64 * k, row, 1, ni)                                         \
                        } else {                                                                         \
                            LOAD_ROW(block + 64 * k, row, stride0, ni)                                   \
                        }                                                                                \
                    }                                                                                    \
                    for (int64_t i = 0; i < ni; i += 16)                                                 \
                        SET(transpose_block)(dst + (i0 + i) * n1 + j0, n1, block + i, 64, nj,            \
                                             ni - i < 16 ? ni - i : 16);                                 \
                }                                                                                        \
            break;                                                                                       \
        }                                                                                                \
        for (int64_t i = 0; i < n0; i++) {                                                               \
            const T *row = p + i * stride0;                                                              \
            float *d = dst + i * n1;                                                                     \
            if (stride1 == 1) {                                                                          \
                LOAD_ROW(d, row, 1, n1)                                                                  \
            } else if (stride1 == -1) {                                                                  \
                LOAD_ROW(d, row, -1, n1)                                                                 \
            } else {                                                                                     \
                LOAD_ROW(d, row, stride1, n1)                                                            \
            }                                                                                            \
        }                                                                                                \
    } while (0)

static void SET(load)(float *restrict dst, const void *restrict src, int32_t dtype, int64_t offset, int64_t stride0,
                      int64_t stride1, int64_t n0, int64_t n1, float lo, float hi, float sub, float div) {
    switch (dtype) {
    case 1: LOAD_AS(uint8_t); break;
    case 2: LOAD_AS(int16_t); break;
    case 3: LOAD_AS(uint16_t); break;
    case 4: LOAD_AS(int32_t); break;
    case 5: LOAD_AS(float); break;
    case 6: LOAD_AS(double); break;
    }
}

/* So many partial results let the compiler vectorise without reordering a sum. */
#define SCAN_PARTS 64
#define SCAN_AS(T)                                                                                      \
    do {                                                                                                \
        const T *p = (const T *)src + offset;                                                           \
        for (int64_t i = 0; i < n0; i++)                                                                \
            for (int64_t j = 0; j < n1; j += SCAN_PARTS) {                                              \
                const T *row = p + i * stride0 + j * stride1;                                           \
                if (stride1 == 1 && n1 - j >= SCAN_PARTS)                                               \
                    for (int64_t k = 0; k < SCAN_PARTS; k++) SCAN_VOXEL(row[k]);                        \
                else                                                                                    \
                    for (int64_t k = 0; k < SCAN_PARTS && k < n1 - j; k++) SCAN_VOXEL(row[k * stride1]); \
            }                                                                                           \
    } while (0)
#define SCAN_VOXEL(voxel)                                                                   \
    do {                                                                                    \
        double v = (double)(voxel);                                                         \
        bad[k] += !(fabs(v) < 0x1.ffffffp127); /* else it is rounded to a finite float */   \
        lo[k] = v < lo[k] ? v : lo[k];                                                      \
        hi[k] = v > hi[k] ? v : hi[k];                                                      \
        v -= shift;                                                                         \
        s[k] += v;                                                                          \
        s2[k] += v * v;                                                                     \
    } while (0)

/* Integers of up to 16 bits are summed as such, exactly: sums of a row of 2^15 voxels fit
 * 32 bits, those of their squares 64. */
#define SCAN_SMALL(T)                                                                           \
    do {                                                                                        \
        const T *p = (const T *)src + offset;                                                   \
        T least = p[0], most = p[0];                                                            \
        int64_t sum = 0;                                                                        \
        uint64_t squares = 0;                                                                   \
        for (int64_t i = 0; i < n0; i++)                                                        \
            for (int64_t j0 = 0; j0 < n1; j0 += 1 << 15) {                                      \
                const T *row = p + i * stride0 + j0 * stride1;                                  \
                int64_t n = n1 - j0 < 1 << 15 ? n1 - j0 : 1 << 15;                              \
                if (stride1 == 1)                                                               \
                    SCAN_INTEGERS(row[j]);                                                      \
                else                                                                            \
                    SCAN_INTEGERS(row[j * stride1]);                                            \
            }                                                                                   \
        double n = (double)(n0 * n1), mean = (double)sum;                                       \
        lo[0] = least, hi[0] = most;                                                            \
        s[0] = mean - n * shift;                                                                \
        s2[0] = (double)squares - 2 * shift * mean + n * shift * shift;                         \
    } while (0)
/* Loops of one width each, which the compiler vectorises. */
#define SCAN_INTEGERS(voxel)                                                            \
    do {                                                                                \
        int32_t part = 0;                                                               \
        for (int64_t j = 0; j < n; j++) {                                               \
            least = (voxel) < least ? (voxel) : least;                                  \
            most = (voxel) > most ? (voxel) : most;                                     \
        }                                                                               \
        for (int64_t j = 0; j < n; j++) part += (voxel);                                \
        for (int64_t j = 0; j < n; j++) {                                               \
            uint32_t v = (uint32_t)(int32_t)(voxel);                                    \
            squares += v * v;                                                           \
        }                                                                               \
        sum += part;                                                                    \
    } while (0)

static void SET(scan)(scan_result *out, const void *restrict src, int32_t dtype, int64_t offset, int64_t stride0,
                      int64_t stride1, int64_t n0, int64_t n1, double shift) {
    double lo[SCAN_PARTS], hi[SCAN_PARTS], s[SCAN_PARTS] = {0}, s2[SCAN_PARTS] = {0};
    int64_t bad[SCAN_PARTS] = {0};
    for (int k = 0; k < SCAN_PARTS; k++) lo[k] = INFINITY, hi[k] = -INFINITY;
    /* The order does not matter: along memory, forwards. */
    if (stride0 < 0) offset += (n0 - 1) * stride0, stride0 = -stride0;
    if (stride1 < 0) offset += (n1 - 1) * stride1, stride1 = -stride1;
    if (stride0 < stride1) {
        int64_t stride = stride0, n = n0;
        stride0 = stride1, n0 = n1, stride1 = stride, n1 = n;
    }
    switch (dtype) {
    case 1: SCAN_SMALL(uint8_t); break;
    case 2: SCAN_SMALL(int16_t); break;
    case 3: SCAN_SMALL(uint16_t); break;
    case 4: SCAN_AS(int32_t); break;
    case 5: SCAN_AS(float); break;
    case 6: SCAN_AS(double); break;
    }
    out->min = INFINITY, out->max = -INFINITY, out->sum = out->sum2 = 0, out->bad = 0;
    for (int k = 0; k < SCAN_PARTS; k++) {
        if (lo[k] < out->min) out->min = lo[k];
        if (hi[k] > out->max) out->max = hi[k];
        out->sum += s[k];
        out->sum2 += s2[k];
        out->bad += bad[k];
    }
}

static void SET(extremes)(const float *restrict x, int64_t n, float *least, float *most) {
    float lo[64], hi[64]; /* so many partial results, as in scan */
    for (int k = 0; k < 64; k++) lo[k] = hi[k] = x[0];
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)
        for (int k = 0; k < 64; k++) {
            lo[k] = x[i + k] < lo[k] ? x[i + k] : lo[k];
            hi[k] = x[i + k] > hi[k] ? x[i + k] : hi[k];
        }
    for (int k = 0; i < n; i++, k++) {
        lo[k] = x[i] < lo[k] ? x[i] : lo[k];
        hi[k] = x[i] > hi[k] ? x[i] : hi[k];
    }
    *least = lo[0], *most = hi[0];
    for (int k = 1; k < 64; k++) {
        if (lo[k] < *least) *least = lo[k];
        if (hi[k] > *most) *most = hi[k];
    }
}

static void SET(clip)(float *restrict x, int64_t n, float lo, float hi) {
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] < lo ? lo : x[i];
        x[i] = v > hi ? hi : v;
    }
}

/* Prefilter after Unser, Aldroubi, Eden, "B-spline signal processing", IEEE TSP 1993: one
 * causal and one anticausal pass with the pole z = sqrt(3)-2; its gain of 6 is left to the
 * weights. The ends are those of a signal continued by its first and last value for ever,
 * in closed form; scipy.ndimage pads 12 values and reflects (mode "nearest"), which agrees
 * to 1e-14. c has 3 rows more on each side, for the support of positions just outside the
 * grid. The causal pass stores -z times its result, so that the step of either pass is one
 * multiply-add: the passes take as long as their steps wait for each other. */
static inline __attribute__((always_inline)) void SET(cubic_block)(
    float *restrict dst, int64_t dst_stride, const float *restrict src, int64_t src_stride, int64_t n_in, int64_t n_out,
    const int32_t *restrict start, const float *restrict weights, int64_t lanes, float *restrict scratch) {
    const float z = -0.26794919243112270647f, edge = 1 - z;
    float *c = scratch + 3 * KERNEL_LANES;
    float state[KERNEL_LANES], left[KERNEL_LANES];
    for (int64_t l = 0; l < lanes; l++) state[l] = left[l] = src[l] / edge;
    for (int64_t i = 0; i < n_in; i++) {
        const float *s = src + i * src_stride;
        float *d = c + i * KERNEL_LANES;
        for (int64_t l = 0; l < lanes; l++) {
            state[l] = s[l] + z * state[l];
            d[l] = -z * state[l];
        }
    }
    /* From the last row on the causal pass tends to a = s/(1-z) as a + z^k*b. */
    const float *last = src + (n_in - 1) * src_stride;
    float *end = c + (n_in - 1) * KERNEL_LANES;
    for (int64_t l = 0; l < lanes; l++) {
        float a = last[l] / edge, b = state[l] - a;
        float fixed = -z * a / edge, decay = -z * b / (1 - z * z);
        end[3 * KERNEL_LANES + l] = fixed + z * z * z * decay;
        end[2 * KERNEL_LANES + l] = fixed + z * z * decay;
        end[1 * KERNEL_LANES + l] = fixed + z * decay;
        end[l] = state[l] = fixed + decay;
    }
    for (int64_t i = n_in - 2; i >= 0; i--) {
        float *d = c + i * KERNEL_LANES;
        for (int64_t l = 0; l < lanes; l++) d[l] = state[l] = d[l] + z * state[l];
    }
    for (int64_t i = -1; i >= -3; i--) {
        float *d = c + i * KERNEL_LANES;
        for (int64_t l = 0; l < lanes; l++) d[l] = state[l] = z * (state[l] - left[l]);
    }
    for (int64_t j = 0; j < n_out; j++) {
        const float *p = c + (int64_t)start[j] * KERNEL_LANES, *w = weights + 4 * j;
        float *d = dst + j * dst_stride, w0 = 6 * w[0], w1 = 6 * w[1], w2 = 6 * w[2], w3 = 6 * w[3];
        for (int64_t l = 0; l < lanes; l++)
            d[l] = w0 * p[l] + w1 * p[KERNEL_LANES + l] + w2 * p[2 * KERNEL_LANES + l] + w3 * p[3 * KERNEL_LANES + l];
    }
}

static void SET(cubic)(float *dst, int64_t dst_stride, const float *src, int64_t src_stride, int64_t n_in, int64_t n_out,
                       const int32_t *start, const float *weights, int64_t lanes, float *scratch) {
    while (lanes >= KERNEL_LANES) { /* a constant count: full vectors, no remainder loop */
        SET(cubic_block)(dst, dst_stride, src, src_stride, n_in, n_out, start, weights, KERNEL_LANES, scratch);
        dst += KERNEL_LANES, src += KERNEL_LANES, lanes -= KERNEL_LANES;
    }
    if (lanes > 0) SET(cubic_block)(dst, dst_stride, src, src_stride, n_in, n_out, start, weights, lanes, scratch);
}

static void SET(transpose)(float *restrict dst, int64_t dst_stride, const float *restrict src, int64_t src_stride,
                           int64_t n0, int64_t n1) {
    /* A block is a cache line wide; down the columns, as whole lines are written then. */
    for (int64_t j = 0; j < n1; j += 16)
        for (int64_t i = 0; i < n0; i += 16)
            SET(transpose_block)(dst + j * dst_stride + i, dst_stride, src + i * src_stride + j, src_stride,
                                 n0 - i < 16 ? n0 - i : 16, n1 - j < 16 ? n1 - j : 16);
}

#undef LOAD_AS
#undef LOAD_ROW
#undef SCAN_AS
#undef SCAN_PARTS
#undef SCAN_VOXEL
#undef SCAN_SMALL
#undef SCAN_INTEGERS
