// Package peak measures what a core can do at most, for benchmarks to compare with.
package peak

/*
#cgo CFLAGS: -O3 -std=gnu11
#include <stdint.h>
int peak_run(int64_t n, int one, float *out);
*/
import "C"

import (
	"math"
	"time"
)

// GFLOPs returns the billions of float32 operations (a fused multiply-add counts two)
// that one core does in a second, the best of five loops that touch no memory; 0 where
// it is not known how to ask the processor for its widest instructions.
func GFLOPs() float64 {
	width, seconds := run(0)
	return 2 * float64(width) / seconds * 1e-9
}

// Chain returns the nanoseconds that a fused multiply-add takes which waits for the one
// before, measured as GFLOPs.
func Chain() float64 {
	_, seconds := run(1)
	return seconds * 1e9
}

// run returns the floats per vector and the seconds of a multiply-add, in 16 chains or in one.
func run(one int) (width int, seconds float64) {
	const rounds = 5_000_000
	seconds = math.Inf(1)
	for range 5 {
		var sink C.float
		start := time.Now()
		width = int(C.peak_run(rounds, C.int(one), &sink))
		seconds = min(seconds, time.Since(start).Seconds()/(16*rounds))
	}
	return width, seconds
}
