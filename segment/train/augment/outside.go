package augment

import "github.com/libflare/libflare/segment/train/random"

// Outside makes labels -1, outside of the case, background. There is nothing to draw.
type Outside struct{}

func (Outside) Draw(p []float64, _ *random.Rand, _ int, _ [3]int) []float64 { return append(p, 1) }

func (Outside) Apply(s *Sample, _ []float64, _ *Scratch) {
	for i, label := range s.Labels {
		if label == outside {
			s.Labels[i] = 0
		}
	}
}
