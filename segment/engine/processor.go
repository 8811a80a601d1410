package engine

/*
#if defined(__x86_64__)
#include <cpuid.h>
#endif

// AVX512-BF16 (leaf 7.1, EAX bit 5) or AMX-BF16 (leaf 7.0, EDX bit 22): Intel's Software
// Developer's Manual, volume 2, CPUID.
static int bf16_units(void) {
#if defined(__x86_64__)
	unsigned a, b, c, d;
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1)) return 1;
	if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1)) return 1;
#endif
	return 0;
}
*/
import "C"

// bfloat16 reports whether the processor computes with bfloat16; elsewhere it would be
// slower than float32.
func bfloat16() bool { return C.bf16_units() == 1 }
