package augment

import "github.com/libflare/libflare/segment/train/random"

// Multiply multiplies each channel with a factor around 1. Parameters: the channels'
// factors.
type Multiply struct{ Lo, Hi float64 }

func (t Multiply) Draw(p []float64, r *random.Rand, channels int, _ [3]int) []float64 {
	for range channels {
		p = append(p, around(r, t.Lo, t.Hi))
	}
	return p
}

func (t Multiply) Apply(s *Sample, p []float64, _ *Scratch) {
	for c, factor := range p {
		affine(s.channel(c), float32(factor), 0)
	}
}

// affine replaces each x by x*factor + shift.
func affine(x []float32, factor, shift float32) {
	for i := range x {
		x[i] = x[i]*factor + shift
	}
}
