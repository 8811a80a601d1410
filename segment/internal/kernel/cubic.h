/* Cubic B-splines: interpolation along an axis of an image.
 *
 * Prefilter after Unser, Aldroubi, Eden, "B-spline signal processing", IEEE TSP 1993: a
 * causal pass y[i] = s[i] + z*y[i-1] and an anticausal one c[i] = y[i] + z*c[i+1], with the
 * pole z = sqrt(3)-2. The gain of -6z is left to the weights, so that a step of either pass
 * is one multiply-add. The signal is continued by its first and last value for ever, which
 * scipy.ndimage (mode "nearest") does for 12 values; that agrees to 1e-14.
 *
 * Columns are taken KERNEL_LANES at a time, and along the axis as many rows as the
 * first-level cache holds: the causal pass runs on from one window to the next, the
 * anticausal one begins 12 rows behind the window, where it is taken for that of a constant:
 * that is forgotten to z^12 = 1.4e-7. Windows have their place on the axis, so that an output
 * row is the same to the last bit whichever are asked for in one call. */
#define CUBIC_POLE (-0.26794919243112270647f)

/* Vectors of columns that are evaluated together: four rows of them fill the registers. */
#if VECTOR == 64
#define CUBIC_VECTORS 4
#else
#define CUBIC_VECTORS 2
#endif

/* The signal: row i lies at src + (i - base)*stride, or, where columns are an image's rows,
 * column l of it at src + l*stride + i - base. Rows before 0 and from n on repeat the
 * outermost. Voxels are clipped to [lo, hi], and sub is subtracted. */
typedef struct {
    const void *src;
    int64_t stride, base, n, lanes, ahead; /* ahead: by how many rows to fetch */
    float lo, hi, sub;
} cubic_signal;

static inline int64_t SET(cubic_row)(const cubic_signal *s, int64_t i) {
    return (i < 0 ? 0 : i < s->n ? i : s->n - 1) - s->base;
}

/* The causal pass over rows from to before to, of which the first follows on state. They
 * are written step floats apart. */
typedef void SET(causal_pass)(float *restrict y, int64_t step, const cubic_signal *s, int64_t from, int64_t to,
                              const float *state);

#define CAUSAL_ROWS(NAME, T, VOXEL)                                                                              \
    static void SET(NAME)(float *restrict y, int64_t step, const cubic_signal *signal, int64_t from, int64_t to, \
                          const float *state) {                                                                  \
        const float lo = signal->lo, hi = signal->hi, sub = signal->sub;                                         \
        const int64_t stride = signal->stride, lanes = signal->lanes;                                            \
        float last[KERNEL_LANES];                                                                                \
        (void)lo, (void)hi, (void)sub;                                                                           \
        memcpy(last, state, sizeof last);                                                                        \
        for (int64_t i = from; lanes == KERNEL_LANES && i < to; i++, y += step) {                                \
            const T *s = (const T *)signal->src + SET(cubic_row)(signal, i) * stride;                            \
            const uintptr_t later = (uintptr_t)s + signal->ahead * stride * sizeof(T);                           \
            for (size_t l = 0; l < KERNEL_LANES * sizeof(T); l += 64) __builtin_prefetch((void *)(later + l));   \
            for (int64_t l = 0; l < KERNEL_LANES; l++) y[l] = last[l] = VOXEL(s[l]) + CUBIC_POLE * last[l];      \
        }                                                                                                        \
        for (int64_t i = from; lanes != KERNEL_LANES && i < to; i++, y += step) {                                \
            const T *s = (const T *)signal->src + SET(cubic_row)(signal, i) * stride;                            \
            for (int64_t l = 0; l < lanes; l++) y[l] = last[l] = VOXEL(s[l]) + CUBIC_POLE * last[l];             \
        }                                                                                                        \
    }
#define AS_IT_IS(v) (v)
static inline float SET(clipped)(float v, float lo, float hi) {
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
}
#define MAPPED(v) (SET(clipped)((float)(v), lo, hi) - sub)
CAUSAL_ROWS(causal_floats, float, AS_IT_IS)
CAUSAL_ROWS(causal_uint8, uint8_t, MAPPED)
CAUSAL_ROWS(causal_int16, int16_t, MAPPED)
CAUSAL_ROWS(causal_uint16, uint16_t, MAPPED)
CAUSAL_ROWS(causal_int32, int32_t, MAPPED)
CAUSAL_ROWS(causal_float, float, MAPPED)
CAUSAL_ROWS(causal_double, double, MAPPED)
#undef AS_IT_IS
#undef MAPPED

/* The same where columns are the rows of an array of floats: squares of it are transposed. */
static void SET(causal_across)(float *restrict y, int64_t step, const cubic_signal *s, int64_t from, int64_t to,
                               const float *state) {
    float last[KERNEL_LANES];
    memcpy(last, state, sizeof last);
    for (int64_t i = from, count; i < to; i += count) {
        const int inside = i >= 0 && i < s->n;
        count = (inside ? s->n : i < 0 ? 0 : to) - i;
        if (count > to - i) count = to - i;
        if (inside && count > FLOATS) count = FLOATS;
        for (int64_t l = 0; l < s->lanes; l += FLOATS) { /* their chains overlap */
            SET(floats) t[FLOATS], *v = (SET(floats) *)(last + l);
            float *d = y + (i - from) * step + l;
            SET(transposed)(t, (const float *)s->src + l * s->stride + SET(cubic_row)(s, i), s->stride);
            if (inside && count == FLOATS)
#pragma GCC unroll 16
                for (int k = 0; k < FLOATS; k++, d += step) *(SET(floats) *)d = *v = t[k] + CUBIC_POLE * *v;
            else
                for (int64_t k = 0; k < count; k++, d += step) *(SET(floats) *)d = *v = t[inside ? k : 0] + CUBIC_POLE * *v;
        }
    }
}

/* The anticausal pass down from row end-1 of y, whose first is row first, and output rows
 * from to-1 to from as their four coefficients a to d come into being. */
static inline __attribute__((always_inline)) void SET(evaluate_block)(
    float *restrict dst, int64_t stride, const float *restrict y, int64_t first, int64_t end, const int32_t *restrict start,
    const float *restrict weights, int64_t from, int64_t to) {
    SET(floats) a[CUBIC_VECTORS], b[CUBIC_VECTORS], c[CUBIC_VECTORS], d[CUBIC_VECTORS];
    const SET(floats) *row = (const SET(floats) *)(y + (end - 1 - first) * KERNEL_LANES);
#pragma GCC unroll 4
    for (int v = 0; v < CUBIC_VECTORS; v++) a[v] = b[v] = c[v] = d[v] = row[v] / (1 - CUBIC_POLE);
    int64_t i = end - 1;
    for (int64_t j = to - 1; j >= from; j--) {
        for (; i > start[j]; i--) {
            row -= KERNEL_LANES / FLOATS;
#pragma GCC unroll 4
            for (int v = 0; v < CUBIC_VECTORS; v++) {
                d[v] = c[v], c[v] = b[v], b[v] = a[v];
                a[v] = row[v] + CUBIC_POLE * a[v];
            }
        }
        const float *w = weights + 4 * j;
        SET(floats) *out = (SET(floats) *)(dst + (j - from) * stride);
#pragma GCC unroll 4
        for (int v = 0; v < CUBIC_VECTORS; v++) out[v] = w[0] * a[v] + w[1] * b[v] + w[2] * c[v] + w[3] * d[v];
    }
}

static void SET(evaluate)(float *restrict dst, int64_t stride, const float *restrict y, int64_t first, int64_t end,
                          const int32_t *restrict start, const float *restrict weights, int64_t from, int64_t to) {
    for (int64_t l = 0; l < KERNEL_LANES; l += CUBIC_VECTORS * FLOATS)
        SET(evaluate_block)(dst + l, stride, y + l, first, end, start, weights, from, to);
}

/* Up to KERNEL_LANES columns, output rows from to before to. across: output row j becomes
 * column j of dst. state: of row start[from]-1, unless begins, in; of row start[to]-1, out. */
static void SET(cubic_strip)(float *dst, int64_t dst_stride, int across, SET(causal_pass) *causal, cubic_signal *s,
                             int64_t from, int64_t to, int64_t n_out, const int32_t *start, const float *weights,
                             int64_t window, float *state, int begins) {
    float y[KERNEL_ROWS * KERNEL_LANES], tile[KERNEL_OUTPUTS * KERNEL_LANES];
    const int64_t next = to < n_out ? start[to] : start[to - 1];
    int64_t at = start[from], until; /* state is that of row at-1 */
    s->ahead = 0;
    if (s->lanes < KERNEL_LANES) memset(y, 0, sizeof y);
    if (begins) {
        at = start[0] < 0 ? start[0] : 0;
        memset(state, 0, KERNEL_LANES * sizeof(float));
        causal(y, 0, s, at, at + 1, state);
        for (int64_t l = 0; l < KERNEL_LANES; l++) state[l] = y[l] / (1 - CUBIC_POLE);
    }
    for (; from < to; from = until) {
        int64_t first = start[from], behind = from - from % window + window;
        if (behind > n_out) behind = n_out;
        until = behind < to ? behind : to;
        int64_t end = start[behind - 1] + KERNEL_REACH, then = until < to ? start[until] : next;
        if (at < first) {
            causal(y, 0, s, at, first, state);
            memcpy(state, y, KERNEL_LANES * sizeof(float));
        }
        s->ahead = then - first;
        causal(y, KERNEL_LANES, s, first, end, state);
        at = then < end ? then : end;
        if (at > first) memcpy(state, y + (at - 1 - first) * KERNEL_LANES, KERNEL_LANES * sizeof(float));
        float *out = dst;
        dst += (until - from) * (across ? 1 : dst_stride);
        if (!across && s->lanes == KERNEL_LANES) {
            SET(evaluate)(out, dst_stride, y, first, end, start, weights, from, until);
            continue;
        }
        SET(evaluate)(tile, KERNEL_LANES, y, first, end, start, weights, from, until);
        if (across)
            SET(transpose)(out, dst_stride, tile, KERNEL_LANES, until - from, s->lanes);
        else
            for (int64_t j = 0; j < until - from; j++)
                memcpy(out + j * dst_stride, tile + j * KERNEL_LANES, s->lanes * sizeof(float));
    }
    if (at < next) {
        causal(y, 0, s, at, next, state);
        memcpy(state, y, KERNEL_LANES * sizeof(float));
    }
}

static void SET(cubic)(float *dst, int64_t dst_stride, const void *src, int32_t dtype, int64_t offset, int64_t src_stride,
                       int64_t base, int64_t n, int64_t from, int64_t to, int64_t n_out, const int32_t *start,
                       const float *weights, int64_t window, int64_t columns, float lo, float hi, float sub, float *state,
                       int32_t begins) {
    static SET(causal_pass) *const passes[] = {0, SET(causal_uint8), SET(causal_int16), SET(causal_uint16),
                                               SET(causal_int32), SET(causal_float), SET(causal_double)};
    static const int8_t sizes[] = {0, 1, 2, 2, 4, 4, 8};
    SET(causal_pass) *causal = passes[dtype];
    if (dtype == 5 && lo == -INFINITY && hi == INFINITY && sub == 0) causal = SET(causal_floats);
    for (int64_t l = 0; l < columns; l += KERNEL_LANES, state += KERNEL_LANES) {
        /* The last columns are filtered twice rather than one by one. */
        int64_t at = l + KERNEL_LANES <= columns || columns < KERNEL_LANES ? l : columns - KERNEL_LANES;
        cubic_signal s = {(const char *)src + (offset + at) * sizes[dtype], src_stride, base, n,
                          columns < KERNEL_LANES ? columns : KERNEL_LANES, 0, lo, hi, sub};
        SET(cubic_strip)(dst + at, dst_stride, 0, causal, &s, from, to, n_out, start, weights, window, state, begins);
    }
}

static void SET(across)(float *dst, int64_t dst_stride, const float *src, int64_t src_stride, int64_t rows, int64_t n,
                        int64_t n_out, const int32_t *start, const float *weights, int64_t window) {
    for (int64_t l = 0; l < rows; l += KERNEL_LANES) {
        float state[KERNEL_LANES];
        cubic_signal s = {src + l * src_stride, src_stride, 0, n, rows - l < KERNEL_LANES ? rows - l : KERNEL_LANES, 0, 0, 0, 0};
        SET(cubic_strip)(dst + l * dst_stride, dst_stride, 1, SET(causal_across), &s, 0, n_out, n_out, start, weights, window,
                         state, 1);
    }
}

#undef CUBIC_POLE
#undef CUBIC_VECTORS
#undef CAUSAL_ROWS
