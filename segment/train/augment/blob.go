package augment

import (
	"math"

	"github.com/libflare/libflare/segment/train/random"
)

// A local change is weighted with a Gaussian somewhere in or around the sample, from 0
// where it is least to 1 where it is most. Its parameters are, for each axis, the centre as
// a part of the axis' length, from [-0.5, 1.5), and the standard deviation in voxels,
// log-uniform from a sixth to the whole of the length.

// blobNumbers is how many parameters a Gaussian has.
const blobNumbers = 6

// drawLocal draws for each channel, with a probability, a number and its weight's
// parameters; zeros where nothing changes.
func drawLocal(p []float64, r *random.Rand, channels int, shape [3]int, probability float64, number func(*random.Rand) float64) []float64 {
	for range channels {
		if !r.Chance(probability) {
			p = append(p, make([]float64, 1+blobNumbers)...)
			continue
		}
		at := len(p)
		p = drawBlob(append(p, 0), r, shape)
		p[at] = number(r)
	}
	return p
}

func drawBlob(p []float64, r *random.Rand, shape [3]int) []float64 {
	for i, n := range shape {
		if i == 0 && n == 1 {
			p = append(p, 0, 1) // unused
			continue
		}
		p = append(p, r.Uniform(-0.5, 1.5), math.Exp(r.Uniform(math.Log(float64(max(1, n/6))), math.Log(float64(n)))))
	}
	return p
}

// blob is such a Gaussian: at z,y,x it is z[z]*y[y]*x[x]*scale - offset.
type blob struct {
	axis          [3][]float32
	scale, offset float32
}

// blob sets w's one.
func (w *Scratch) setBlob(p []float64, shape [3]int) *blob {
	b := &w.blob
	least, most := float32(1), float32(1)
	for i, n := range shape {
		axis := b.axis[i][:n]
		if i == 0 && n == 1 {
			axis[0] = 1
			continue
		}
		center, sigma := p[2*i]*float64(n), p[2*i+1]
		below := normal((-0.5 - center) / sigma)
		lo, hi := float32(math.Inf(1)), float32(0)
		for j := range axis {
			above := normal((float64(j) + 0.5 - center) / sigma)
			axis[j] = float32(above - below)
			below = above
			lo, hi = min(lo, axis[j]), max(hi, axis[j])
		}
		least, most = least*lo, most*hi
	}
	b.scale, b.offset = 1, least
	if most > least {
		b.scale = 1 / (most - least)
		b.offset = least * b.scale
	}
	return b
}

// row writes the Gaussian's values of a row.
func (b *blob) row(dst []float32, z, y int) {
	k := b.axis[0][z] * b.axis[1][y] * b.scale
	for i, v := range b.axis[2][:len(dst)] {
		dst[i] = k*v - b.offset
	}
}

// normal is the cumulative distribution of the normal distribution.
func normal(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }
