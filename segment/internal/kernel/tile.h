/* Loops over the tiles of a network's output. */

static int64_t SET(accumulate)(float *restrict dst, int64_t dst_stride, const float *restrict src, int64_t src_stride,
                               int64_t ny, int64_t nx, float weight, const float *restrict wy, const float *restrict wx,
                               int32_t reverse_x) {
    int64_t bad = 0;
    for (int64_t y = 0; y < ny; y++) {
        float *d = dst + y * dst_stride;
        const float *s = src + y * src_stride;
        float w = weight * wy[y];
        int32_t row = 0;
        for (int64_t x = 0; x < nx; x++) {
            float v = s[reverse_x ? nx - 1 - x : x];
            row += !(v - v == 0);
            d[x] += w * wx[x] * v;
        }
        bad += row;
    }
    return bad;
}
