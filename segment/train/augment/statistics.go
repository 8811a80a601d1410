package augment

import "math"

// facts are what some transforms need to know of a channel.
type facts struct {
	lo, hi          float32
	mean, deviation float64 // the unbiased standard deviation
}

// statistics returns the facts of one value at least.
func statistics(x []float32) facts {
	lo, hi := x[0], x[0]
	var sum, sum2 float64
	for _, v := range x {
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
		d := float64(v)
		sum += d
		sum2 += d * d
	}
	f := moments(sum, sum2, len(x))
	f.lo, f.hi = lo, hi
	return f
}

// moments returns mean and deviation of n values of that sum and sum of squares.
func moments(sum, sum2 float64, n int) facts {
	mean := sum / float64(n)
	return facts{mean: mean, deviation: math.Sqrt(max(0, (sum2-sum*mean)/float64(max(1, n-1))))}
}
