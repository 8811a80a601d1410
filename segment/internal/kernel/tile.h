/* Loops over the tiles of a network's output. */

static void SET(accumulate)(float *restrict dst, int64_t dst_stride, const float *restrict src, int64_t src_stride,
                            int64_t ny, int64_t nx, float weight, const float *restrict wy, const float *restrict wx,
                            int32_t reverse_x) {
    for (int64_t y = 0; y < ny; y++) {
        float *d = dst + y * dst_stride;
        const float *s = src + y * src_stride;
        float w = weight * wy[y];
        if (reverse_x)
            for (int64_t x = 0; x < nx; x++) d[x] += w * wx[x] * s[nx - 1 - x];
        else
            for (int64_t x = 0; x < nx; x++) d[x] += w * wx[x] * s[x];
    }
}

static int64_t SET(finish)(float *restrict dst, float *restrict acc, int64_t ny, int64_t nx, const float *restrict wy,
                           const float *restrict wx) {
    int64_t bad = 0;
    for (int64_t y = 0; y < ny; y++) {
        float w = wy[y];
        int32_t row = 0;
        for (int64_t x = 0; x < nx; x++) {
            float v = acc[y * nx + x] * (w * wx[x]);
            row += !(v - v == 0);
            dst[y * nx + x] = v;
            acc[y * nx + x] = 0;
        }
        bad += row;
    }
    return bad;
}
