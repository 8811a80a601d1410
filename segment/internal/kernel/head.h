/* The network's last layer: a matrix times the columns of a plane. */

/* Rows of the matrix and vectors of columns that are computed together: their sums, a
 * row of columns and one weight fill the registers. */
#define PRODUCT_ROWS 6
#if VECTOR == 64
#define PRODUCT_VECTORS 4
#else
#define PRODUCT_VECTORS 2
#endif
#define PRODUCT_COLUMNS (PRODUCT_VECTORS * VECTOR / 4)

static inline __attribute__((always_inline)) void SET(product_block)(
    float *restrict out, int64_t out_stride, const float *restrict in, const float *restrict weight,
    const float *restrict bias, int64_t channels, const int rows) {
    SET(floats) sum[PRODUCT_ROWS][PRODUCT_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < PRODUCT_VECTORS; v++) sum[r][v] = bias[r] + (SET(floats)){0};
    for (int64_t k = 0; k < channels; k++) {
        const SET(floats) *x = (const SET(floats) *)(in + k * PRODUCT_COLUMNS);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            float w = weight[r * channels + k];
#pragma GCC unroll 4
            for (int v = 0; v < PRODUCT_VECTORS; v++) sum[r][v] += w * x[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < PRODUCT_VECTORS; v++) ((SET(floats) *)(out + r * out_stride))[v] = sum[r][v];
}

/* All rows of one block of columns. */
static inline __attribute__((always_inline)) void SET(product_rows)(
    float *restrict out, int64_t out_stride, const float *restrict in, const float *restrict weight,
    const float *restrict bias, int64_t rows, int64_t channels) {
    int64_t r = 0;
    for (; r + 6 <= rows; r += 6)
        SET(product_block)(out + r * out_stride, out_stride, in, weight + r * channels, bias + r, channels, 6);
    for (; r + 2 <= rows; r += 2)
        SET(product_block)(out + r * out_stride, out_stride, in, weight + r * channels, bias + r, channels, 2);
    if (r < rows) SET(product_block)(out + r * out_stride, out_stride, in, weight + r * channels, bias + r, channels, 1);
}

static void SET(product)(float *restrict out, int64_t out_stride, const float *restrict in, int64_t in_stride, int64_t n,
                         const float *restrict weight, const float *restrict bias, int64_t rows, int64_t channels,
                         float *restrict scratch) {
    /* The columns are copied together first: planes are often a multiple of 4096 bytes
     * apart, and the rows of such a block would evict each other from the cache. */
    for (int64_t x = 0; x < n; x += PRODUCT_COLUMNS) {
        int64_t m = n - x < PRODUCT_COLUMNS ? n - x : PRODUCT_COLUMNS;
        for (int64_t k = 0; k < channels; k++) {
            float *d = scratch + k * PRODUCT_COLUMNS;
            const float *s = in + k * in_stride + x;
            if (m == PRODUCT_COLUMNS)
                memcpy(d, s, PRODUCT_COLUMNS * sizeof(float));
            else
                for (int64_t i = 0; i < PRODUCT_COLUMNS; i++) d[i] = i < m ? s[i] : 0;
        }
        if (m == PRODUCT_COLUMNS) {
            SET(product_rows)(out + x, out_stride, scratch, weight, bias, rows, channels);
            continue;
        }
        float *last = scratch + channels * PRODUCT_COLUMNS;
        SET(product_rows)(last, PRODUCT_COLUMNS, scratch, weight, bias, rows, channels);
        for (int64_t r = 0; r < rows; r++) memcpy(out + r * out_stride + x, last + r * PRODUCT_COLUMNS, m * sizeof(float));
    }
}

#undef PRODUCT_ROWS
#undef PRODUCT_VECTORS
#undef PRODUCT_COLUMNS
