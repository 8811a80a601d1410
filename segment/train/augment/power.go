package augment

import "math"

// power computes x^g for one g and many x from 0 to 1, with a relative error of some
// 1e-7: as 2^(e*g) of x's exponent times the first three terms of the Taylor series of
// m^g about the middle of its mantissa's 256th part.
type power struct {
	exponent [256]float32
	part     [256][3]float32
}

// set chooses g, above 0.
func (t *power) set(g float64) {
	for e := 1; e < len(t.exponent); e++ { // exponent 0 means numbers below 1e-38: 0
		t.exponent[e] = float32(math.Exp2(g * float64(e-127)))
	}
	for i := range t.part {
		m := 1 + (float64(i)+0.5)/256
		y := math.Pow(m, g)
		t.part[i] = [3]float32{float32(y), float32(g * y / m), float32(g * (g - 1) / 2 * y / (m * m))}
	}
}

func (t *power) of(x float32) float32 {
	bits := math.Float32bits(x)
	part := &t.part[bits>>15&255]
	d := float32(int32(bits&0x7fff)-0x4000) * (1. / (1 << 23))
	return t.exponent[bits>>23&255] * (part[0] + d*(part[1]+d*part[2]))
}
