#include "kernel.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

kernels kernel_now;

extern const kernels kernels_plain;
#if defined(__x86_64__)
extern const kernels kernels_avx2, kernels_avx512;

/* Conversions of float16, which compilers' __builtin_cpu_supports does not always know. */
static int f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

const kernels *kernels_for(int set) {
    if (set == 0) return &kernels_plain; /* NEON on arm64: part of its base set */
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!f16c()) return 0;
    if (set == 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &kernels_avx2;
    if (set == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &kernels_avx512;
#endif
    return 0;
}
