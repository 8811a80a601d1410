package augment

import "github.com/libflare/libflare/segment/train/random"

// OneHot moves the previous stage's labels, the second map, to channels at the end of the
// image: one of zeros and ones for each of Labels. The image needs the capacity. There is nothing
// to draw.
type OneHot struct{ Labels []int16 }

func (t OneHot) Draw(p []float64, _ *random.Rand, _ int, _ [3]int) []float64 { return append(p, 1) }

func (t OneHot) Apply(s *Sample, _ []float64, _ *Scratch) {
	n, c := s.voxels(), s.channels()
	previous := s.Labels[n : 2*n]
	s.Image = s.Image[:(c+len(t.Labels))*n]
	for i, label := range t.Labels {
		x := s.channel(c + i)
		for j, l := range previous {
			x[j] = 0
			if l == label {
				x[j] = 1
			}
		}
	}
	s.Labels = s.Labels[:n]
}
