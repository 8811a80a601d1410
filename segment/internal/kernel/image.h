/* Loops over images: transposing, reading, statistics. */

/* A vector made of elements of two, by their numbers: those of b follow those of a. */
#ifdef __clang__
#define OF_TWO(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t SET(places) __attribute__((vector_size(VECTOR)));
#define OF_TWO(a, b, ...) __builtin_shuffle(a, b, (SET(places)){__VA_ARGS__})
#endif
/* Quarter q of a vector, four floats; of two vectors alternating floats, or pairs of them. */
#define QUARTER(q) 4 * (q), 4 * (q) + 1, 4 * (q) + 2, 4 * (q) + 3
#define ZIP(q, i) 4 * (q) + (i), 4 * (q) + (i) + FLOATS, 4 * (q) + (i) + 1, 4 * (q) + (i) + 1 + FLOATS
#define JOIN(q, i) 4 * (q) + (i), 4 * (q) + (i) + 1, 4 * (q) + (i) + FLOATS, 4 * (q) + (i) + 1 + FLOATS
#if FLOATS == 4
#define QUARTERS(WHICH, i) WHICH(0, i)
#elif FLOATS == 8
#define QUARTERS(WHICH, i) WHICH(0, i), WHICH(1, i)
#define EVEN(a, b) OF_TWO(a, b, QUARTER(0), QUARTER(2))
#define ODD(a, b) OF_TWO(a, b, QUARTER(1), QUARTER(3))
#else
#define QUARTERS(WHICH, i) WHICH(0, i), WHICH(1, i), WHICH(2, i), WHICH(3, i)
#define EVEN(a, b) OF_TWO(a, b, QUARTER(0), QUARTER(2), QUARTER(4), QUARTER(6))
#define ODD(a, b) OF_TWO(a, b, QUARTER(1), QUARTER(3), QUARTER(5), QUARTER(7))
#endif
#define ZIPPED(a, b, i) OF_TWO(a, b, QUARTERS(ZIP, i))
#define JOINED(a, b, i) OF_TWO(a, b, QUARTERS(JOIN, i))

/* t = the transpose of a square of vectors: first squares of 4 x 4 in their quarters, then
 * these as wholes. */
static inline __attribute__((always_inline)) void SET(transposed)(SET(floats) *t, const float *src, int64_t stride) {
    SET(floats) s[FLOATS]; /* s[4*r+k], quarter q: column 4*q+k of rows 4*r to 4*r+3 */
#pragma GCC unroll 4
    for (int r = 0; r < FLOATS; r += 4) {
        const SET(floats) a = *(const SET(floats) *)(src + r * stride), b = *(const SET(floats) *)(src + (r + 1) * stride);
        const SET(floats) c = *(const SET(floats) *)(src + (r + 2) * stride), d = *(const SET(floats) *)(src + (r + 3) * stride);
        const SET(floats) ab = ZIPPED(a, b, 0), cd = ZIPPED(c, d, 0), ab2 = ZIPPED(a, b, 2), cd2 = ZIPPED(c, d, 2);
        s[r] = JOINED(ab, cd, 0), s[r + 1] = JOINED(ab, cd, 2), s[r + 2] = JOINED(ab2, cd2, 0), s[r + 3] = JOINED(ab2, cd2, 2);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
#if FLOATS == 4
        t[k] = s[k];
#elif FLOATS == 8
        t[k] = EVEN(s[k], s[4 + k]), t[4 + k] = ODD(s[k], s[4 + k]);
#else
        const SET(floats) e = EVEN(s[k], s[4 + k]), e2 = EVEN(s[8 + k], s[12 + k]);
        const SET(floats) o = ODD(s[k], s[4 + k]), o2 = ODD(s[8 + k], s[12 + k]);
        t[k] = EVEN(e, e2), t[8 + k] = ODD(e, e2), t[4 + k] = EVEN(o, o2), t[12 + k] = ODD(o, o2);
#endif
    }
}

/* dst (n1 x n0) = transpose of src (n0 x n1), n0 and n1 up to 16. */
static inline void SET(transpose_block)(float *restrict dst, int64_t dst_stride, const float *restrict src,
                                        int64_t src_stride, int64_t n0, int64_t n1) {
    if (n0 < 16 || n1 < 16) {
        for (int64_t j = 0; j < n1; j++)
            for (int64_t i = 0; i < n0; i++) dst[j * dst_stride + i] = src[i * src_stride + j];
        return;
    }
    for (int64_t j = 0; j < 16; j += FLOATS)
        for (int64_t i = 0; i < 16; i += FLOATS) {
            SET(floats) t[FLOATS];
            SET(transposed)(t, src + i * src_stride + j, src_stride);
#pragma GCC unroll 16
            for (int64_t k = 0; k < FLOATS; k++) *(SET(floats) *)(dst + (j + k) * dst_stride + i) = t[k];
        }
}
#undef OF_TWO
#undef QUARTER
#undef QUARTERS
#undef ZIP
#undef JOIN
#undef ZIPPED
#undef JOINED
#undef EVEN
#undef ODD

static void SET(transpose)(float *restrict dst, int64_t dst_stride, const float *restrict src, int64_t src_stride,
                           int64_t n0, int64_t n1) {
    /* A block is a cache line wide; down the columns, as whole lines are written then. */
    for (int64_t j = 0; j < n1; j += 16)
        for (int64_t i = 0; i < n0; i += 16)
            SET(transpose_block)(dst + j * dst_stride + i, dst_stride, src + i * src_stride + j, src_stride,
                                 n0 - i < 16 ? n0 - i : 16, n1 - j < 16 ? n1 - j : 16);
}

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

static void SET(clip)(float *restrict x, int64_t stride, int64_t n0, int64_t n1, float lo, float hi) {
    for (int64_t i = 0; i < n0; i++)
        for (int64_t j = 0; j < n1; j++) {
            float v = x[i * stride + j] < lo ? lo : x[i * stride + j];
            x[i * stride + j] = v > hi ? hi : v;
        }
}

static void SET(linear)(float *restrict dst, int64_t dst_stride, const float *restrict src, int64_t src_stride,
                        int64_t base, int64_t n_out, const int32_t *restrict start, const float *restrict weight,
                        int64_t columns) {
    for (int64_t j = 0; j < n_out; j++) {
        const float *a = src + (start[j] - base) * src_stride, *b = a + src_stride, w = weight[j];
        float *d = dst + j * dst_stride;
        if (w == 0)
            memcpy(d, a, columns * sizeof(float));
        else
            for (int64_t l = 0; l < columns; l++) d[l] = (1 - w) * a[l] + w * b[l];
    }
}

#undef LOAD_AS
#undef LOAD_ROW
#undef SCAN_AS
#undef SCAN_PARTS
#undef SCAN_VOXEL
#undef SCAN_SMALL
#undef SCAN_INTEGERS
