package engine

/*
// AVX512-BF16, in the processor and used by the operating system. All processors with
// AMX have it.
static int bf16_units(void) {
#if defined(__x86_64__)
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx512bf16") != 0;
#else
	return 0;
#endif
}
*/
import "C"

// bfloat16 reports whether the processor computes with bfloat16. OpenVINO takes a
// wish for it as a hint, and elsewhere computes in float32.
func bfloat16() bool { return C.bf16_units() == 1 }
