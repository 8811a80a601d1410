package augment

import "github.com/libflare/libflare/segment/train/random"

// Contrast multiplies, with probability PChannel, the differences from a channel's mean
// with a factor around 1; Clip keeps the result within the channel's range. Parameters:
// the channels' factors, 1 where nothing changes.
type Contrast struct {
	Lo, Hi, PChannel float64
	Clip             bool
}

func (t Contrast) Draw(p []float64, r *random.Rand, channels int, _ [3]int) []float64 {
	return perChannel(p, r, channels, t.PChannel, 1, func() float64 { return around(r, t.Lo, t.Hi) })
}

func (t Contrast) Apply(s *Sample, p []float64, _ *Scratch) {
	for c, factor := range p {
		if factor == 1 {
			continue
		}
		x := s.channel(c)
		f := statistics(x)
		factor, mean := float32(factor), float32(f.mean)
		if !t.Clip {
			affine(x, factor, mean-mean*factor)
			continue
		}
		for i, v := range x {
			v = (v-mean)*factor + mean
			if v < f.lo {
				v = f.lo
			}
			if v > f.hi {
				v = f.hi
			}
			x[i] = v
		}
	}
}
