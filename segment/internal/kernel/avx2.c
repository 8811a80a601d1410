#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernel.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define SET(name) name##_avx2
#define VECTOR 32
#include "loops.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
