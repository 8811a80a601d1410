package augment

import "github.com/libflare/libflare/segment/train/random"

// Noise adds Gaussian noise to all channels, of a standard deviation from [0, Sigma)
// (nnU-Net's option says variance and takes it as this). Parameters: the deviation and
// the key of the noise.
type Noise struct{ Sigma float64 }

func (t Noise) Draw(p []float64, r *random.Rand, _ int, _ [3]int) []float64 {
	return append(p, r.Uniform(0, t.Sigma), float64(r.Uint64N(1<<53))) // a float64 holds 53 bits
}

func (t Noise) Apply(s *Sample, p []float64, w *Scratch) {
	w.random.Key(uint64(p[1]))
	sigma := float32(p[0])
	for i := range s.Image {
		s.Image[i] += sigma * float32(w.random.NormFloat64())
	}
}
