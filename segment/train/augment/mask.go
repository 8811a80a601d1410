package augment

import "github.com/libflare/libflare/segment/train/random"

// Mask sets the image to 0 outside of the case (labels below 0 in the first map) in some
// channels: those that nnU-Net normalised within a mask. There is nothing to draw.
type Mask struct{ Channels []int }

func (t Mask) Draw(p []float64, _ *random.Rand, _ int, _ [3]int) []float64 { return append(p, 1) }

func (t Mask) Apply(s *Sample, _ []float64, _ *Scratch) {
	for _, c := range t.Channels {
		x := s.channel(c)
		for i, label := range s.Labels[:len(x)] {
			if label < 0 {
				x[i] = 0
			}
		}
	}
}
