package augment

import "github.com/libflare/libflare/segment/train/random"

// Shift adds to each channel, with probability PChannel, a number of mean 0 and standard
// deviation Sigma. Parameters: the channels' numbers.
type Shift struct{ Sigma, PChannel float64 }

func (t Shift) Draw(p []float64, r *random.Rand, channels int, _ [3]int) []float64 {
	return perChannel(p, r, channels, t.PChannel, 0, func() float64 { return t.Sigma * r.NormFloat64() })
}

func (t Shift) Apply(s *Sample, p []float64, _ *Scratch) {
	for c, shift := range p {
		if shift != 0 {
			affine(s.channel(c), 1, float32(shift))
		}
	}
}
