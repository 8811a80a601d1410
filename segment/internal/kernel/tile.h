/* Loops over the tiles of a network's output. */

static int64_t SET(accumulate)(float *restrict dst, int64_t dst_stride, const float *restrict src, int64_t src_stride,
                               int64_t ny, int64_t nx, float weight, const float *restrict wy, const float *restrict wx,
                               int32_t reverse_x) {
    int64_t bad = 0;
    for (int64_t y = 0; y < ny; y++) {
        float *d = dst + y * dst_stride;
        const float *s = src + y * src_stride;
        float w = weight * wy[y];
        uint32_t most = 0; /* the bits of the largest magnitude */
        for (int64_t x = 0; x < nx; x++) {
            union { float value; uint32_t bits; } v = {s[reverse_x ? nx - 1 - x : x]};
            uint32_t magnitude = v.bits & 0x7fffffff;
            most = magnitude > most ? magnitude : most;
            d[x] += w * wx[x] * v.value;
        }
        if (most < 0x7f800000) continue; /* infinity, and above it NaN */
        for (int64_t x = 0; x < nx; x++) bad += !(s[x] - s[x] == 0);
    }
    return bad;
}

/* The value of a float16, IEEE 754 binary16: 5 bits of exponent, 10 of mantissa. */
static inline float SET(widened)(uint16_t half) {
    union { uint32_t bits; float value; } small, wide;
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13, exponent = magnitude & 0x0f800000;
    small.bits = magnitude + 0x38800000; /* 2^-14 and the mantissa, for those below 2^-14 */
    small.value -= 0x1p-14f;
    wide.bits = magnitude + 0x38000000;                                      /* biases: 127 - 15 */
    wide.bits = exponent == 0x0f800000 ? wide.bits + 0x38000000 : wide.bits; /* infinity, NaN */
    wide.bits = exponent == 0 ? small.bits : wide.bits;
    wide.bits |= (uint32_t)(half & 0x8000) << 16;
    return wide.value;
}

/* The one place with instructions by name: in plain C this takes three times as long. */
static inline void SET(widen)(float *restrict dst, const uint16_t *restrict src, int64_t n) {
    int64_t i = 0;
#if VECTOR == 64
    for (; i + 16 <= n; i += 16) _mm512_storeu_ps(dst + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(src + i))));
#elif VECTOR == 32
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + i))));
#endif
    for (; i < n; i++) dst[i] = SET(widened)(src[i]);
}

static int64_t SET(accumulate_half)(float *restrict dst, int64_t dst_stride, const uint16_t *restrict src, int64_t src_stride,
                                    int64_t ny, int64_t nx, float weight, const float *restrict wy, const float *restrict wx,
                                    int32_t reverse_x) {
    int64_t bad = 0;
    float row[512] __attribute__((aligned(64))); /* a piece of one, in the first-level cache */
    for (int64_t y = 0; y < ny; y++)
        for (int64_t x = 0; x < nx; x += 512) {
            int64_t n = nx - x < 512 ? nx - x : 512;
            SET(widen)(row, src + y * src_stride + (reverse_x ? nx - x - n : x), n);
            bad += SET(accumulate)(dst + y * dst_stride + x, 0, row, 0, 1, n, weight, wy + y, wx + x, reverse_x);
        }
    return bad;
}
