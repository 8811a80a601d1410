package augment

import "github.com/libflare/libflare/segment/train/random"

// Operator changes each of the last Channels channels, which hold zeros and ones, with
// probability PChannel by a binary operator with a ball of a radius from [1, 8), in random
// order; what a channel gains its sisters lose. Parameters, for each change: the channel
// among the last, the operator and the radius.
type Operator struct {
	Channels int
	PChannel float64
}

// steps are the operators: dilations of the ones or the zeros. They are dilation, erosion,
// closing and opening.
var steps = [4][]uint8{{1}, {0}, {1, 0}, {0, 1}}

func (t Operator) Draw(p []float64, r *random.Rand, _ int, _ [3]int) []float64 {
	return inRandomOrder(p, r, t.Channels, t.PChannel, 3, func(p []float64) {
		p[1], p[2] = float64(r.IntN(len(steps))), r.Uniform(1, 8)
	})
}

func (t Operator) Apply(s *Sample, p []float64, w *Scratch) {
	n, first := s.voxels(), s.channels()-t.Channels
	a, b := w.bytes()[:n], w.bytes()[n:2*n]
	for ; len(p) > 0; p = p[3:] {
		chosen := int(p[0])
		x, ball := s.channel(first+chosen), newBall(p[2])
		for i, v := range x {
			a[i] = 0
			if v != 0 {
				a[i] = 1
			}
		}
		for _, value := range steps[int(p[1])] {
			w.dilate(b, a, s.Shape, &ball, value)
			a, b = b, a
		}
		for i, v := range a {
			if v == 1 && x[i] == 0 {
				for c := range t.Channels {
					s.Image[(first+c)*n+i] = 0
				}
			}
			x[i] = float32(v)
		}
	}
}
