package augment

import "github.com/libflare/libflare/segment/train/random"

// Gamma raises each channel, its range taken as 0 to 1, to a power around 1 and gives it
// back its range, then its mean and standard deviation; Invert does so to the negative
// image. Parameters: the channels' powers.
type Gamma struct {
	Lo, Hi float64
	Invert bool
}

func (t Gamma) Draw(p []float64, r *random.Rand, channels int, _ [3]int) []float64 {
	for range channels {
		p = append(p, around(r, t.Lo, t.Hi))
	}
	return p
}

// epsilon is the least that nnU-Net divides by here.
const epsilon = 1e-7

func (t Gamma) Apply(s *Sample, p []float64, w *Scratch) {
	for c, gamma := range p {
		x := s.channel(c)
		before := statistics(x)
		low, size := before.lo, before.hi-before.lo
		scale := 1 / max(size, epsilon)
		if t.Invert {
			low, scale = before.hi, -scale
		}
		w.power.set(gamma)
		var sum, sum2 float64
		for i, v := range x {
			y := w.power.of((v - low) * scale)
			x[i] = y
			sum += float64(y)
			sum2 += float64(y * y)
		}
		after := moments(sum, sum2, len(x))
		factor := float64(size) * before.deviation / max(float64(size)*after.deviation, epsilon)
		if t.Invert {
			factor = -factor
		}
		affine(x, float32(factor), float32(before.mean-after.mean*factor))
	}
}
