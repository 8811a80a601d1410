#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>

/* Rounds of 16 fused multiply-adds, in so many chains: 16 are more than the units' latency
 * times their number, of 1 each waits for the one before. */
#define CHAINS(T, FMA, CHAINED)                                                                             \
    do {                                                                                                    \
        T a[16];                                                                                            \
        for (int i = 0; i < 16; i++) a[i] = m;                                                              \
        for (int64_t k = 0; k < n; k++) {                                                                   \
            _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) a[i % CHAINED] = FMA(a[i % CHAINED], m, d); \
            __asm__ volatile("" : : "v"(a[0]));                                                             \
        }                                                                                                   \
        for (int i = 1; i < 16; i++) a[0] += a[i];                                                          \
        out[0] = a[0][0];                                                                                   \
    } while (0)

__attribute__((target("avx512f"))) static void peak_avx512(int64_t n, int one, float *out) {
    const __m512 m = _mm512_set1_ps(0.999f), d = _mm512_set1_ps(0.1f);
    if (one) CHAINS(__m512, _mm512_fmadd_ps, 1);
    else CHAINS(__m512, _mm512_fmadd_ps, 16);
}

__attribute__((target("avx2,fma"))) static void peak_avx2(int64_t n, int one, float *out) {
    const __m256 m = _mm256_set1_ps(0.999f), d = _mm256_set1_ps(0.1f);
    if (one) CHAINS(__m256, _mm256_fmadd_ps, 1);
    else CHAINS(__m256, _mm256_fmadd_ps, 16);
}

/* Runs n rounds of 16 fused multiply-adds, in 16 chains or in one, and returns the floats per
 * vector, 0 where the processor has no such instructions. */
int peak_run(int64_t n, int one, float *out) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return peak_avx512(n, one, out), 16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return peak_avx2(n, one, out), 8;
    return 0;
}
#else
int peak_run(int64_t n, int one, float *out) { return 0; }
#endif
