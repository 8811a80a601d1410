package onnx

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// widen returns the value of a float16.
func widen(h uint16) float64 {
	sign, exponent, mantissa := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	switch exponent {
	case 0:
		return sign * math.Ldexp(mantissa, -24)
	case 31:
		if mantissa != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(1024+mantissa, exponent-25)
}

// Every float16 is its own nearest; what lies between two neighbours goes to the
// nearer one, and to the even one from the middle.
func TestFloat16(t *testing.T) {
	for h := range uint16(0x7c00) {
		v, next := widen(h), widen(h+1)
		if h+1 == 0x7c00 {
			next = 65536
		}
		middle := float32((v + next) / 2) // exact: float32 has 13 more bits
		even := h + h&1
		require.Equal(t, h, float16(float32(v)))
		require.Equal(t, even, float16(middle))
		require.Equal(t, h, float16(math.Nextafter32(middle, 0)))
		require.Equal(t, h+1, float16(math.Nextafter32(middle, math.MaxFloat32)))
		require.Equal(t, h|0x8000, float16(float32(-v)))
	}
	require.EqualValues(t, 0x7c00, float16(float32(math.Inf(1))))
	require.EqualValues(t, 0xfc00, float16(-math.MaxFloat32))
	require.EqualValues(t, 0x7e00, float16(float32(math.NaN())))
	require.EqualValues(t, 0, float16(math.SmallestNonzeroFloat32))
}
