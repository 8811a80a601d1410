package augment

import "github.com/libflare/libflare/segment/train/random"

// Gradient adds, with probability PChannel, to a channel a local brightness, at its
// strongest from [-5, -1) or [1, 5). Parameters: for each channel that strength, 0 where
// nothing changes, and the weight's.
type Gradient struct{ PChannel float64 }

func (t Gradient) Draw(p []float64, r *random.Rand, channels int, shape [3]int) []float64 {
	return drawLocal(p, r, channels, shape, t.PChannel, func(r *random.Rand) float64 {
		strength := r.Uniform(1, 5)
		if r.Chance(0.5) {
			return -strength
		}
		return strength
	})
}

func (t Gradient) Apply(s *Sample, p []float64, w *Scratch) {
	weight := w.row[:s.Shape[2]]
	for c := 0; len(p) > 0; c, p = c+1, p[1+blobNumbers:] {
		if p[0] == 0 {
			continue
		}
		x, strength := s.channel(c), float32(p[0])
		b := w.setBlob(p[1:], s.Shape)
		for z := range s.Shape[0] {
			for y := range s.Shape[1] {
				b.row(weight, z, y)
				for i, v := range weight {
					x[i] += strength * v
				}
				x = x[len(weight):]
			}
		}
	}
}
