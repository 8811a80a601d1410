package nnunet

import (
	"math"
	"slices"
)

func roundEven(x float64) int { return int(math.RoundToEven(x)) }

// column returns element axis of every entry.
func column[T int | float64](entries [][3]T, axis int) []float64 {
	out := make([]float64, len(entries))
	for i, e := range entries {
		out[i] = float64(e[axis])
	}
	return out
}

// Median is numpy.median of values, which it sorts; there must be at least one.
func Median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}

// percentile is numpy.percentile (linear interpolation) for q from 0 to 1; it sorts values.
func percentile(values []float64, q float64) float64 {
	slices.Sort(values)
	at := float64(len(values)-1) * q
	low := int(at)
	t := at - float64(low)
	a, b := values[low], values[min(low+1, len(values)-1)]
	if t >= 0.5 {
		return b - float64((b-a)*(1-t)) // no fused multiply-add
	}
	return a + float64((b-a)*t)
}
