// Package peak measures what a core can do at most, for benchmarks to compare with.
package peak

/*
#cgo CFLAGS: -O3 -std=gnu11
#include <stdint.h>
int peak_run(int64_t n, float *out);
*/
import "C"

import "time"

// GFLOPs returns the billions of float32 operations (a fused multiply-add counts two)
// that one core does in a second, the best of five loops that touch no memory; 0 where
// it is not known how to ask the processor for its widest instructions.
func GFLOPs() float64 {
	const rounds = 10_000_000
	best := 0.0
	for range 5 {
		var sink C.float
		start := time.Now()
		width := int(C.peak_run(rounds, &sink))
		best = max(best, rounds*16*2*float64(width)/time.Since(start).Seconds()*1e-9)
	}
	return best
}
