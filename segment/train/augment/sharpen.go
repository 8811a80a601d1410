package augment

import "github.com/libflare/libflare/segment/train/random"

// Sharpen adds to each channel, with probability PChannel, its negative discrete Laplacian
// (each voxel's differences from its neighbours along the axes) times a strength from
// [Lo, Hi). Parameters: the channels' strengths, 0 where nothing changes.
type Sharpen struct{ Lo, Hi, PChannel float64 }

func (t Sharpen) Draw(p []float64, r *random.Rand, channels int, _ [3]int) []float64 {
	return perChannel(p, r, channels, t.PChannel, 0, func() float64 { return r.Uniform(t.Lo, t.Hi) })
}

func (t Sharpen) Apply(s *Sample, p []float64, w *Scratch) {
	d, h, wide := s.Shape[0], s.Shape[1], s.Shape[2]
	for c, strength := range p {
		if strength == 0 {
			continue
		}
		x, out := s.channel(c), w.spare
		k := float32(strength)
		// Beyond the border the border repeats. So do planes along an axis of length 1.
		row := func(z, y int) []float32 {
			return x[(min(max(z, 0), d-1)*h+min(max(y, 0), h-1))*wide:][:wide]
		}
		for z := range d {
			for y := range h {
				middle, up, down, front, back := row(z, y), row(z, y-1), row(z, y+1), row(z-1, y), row(z+1, y)
				to := out[(z*h+y)*wide:][:wide]
				left := middle[0]
				for i, v := range middle {
					right := middle[min(i+1, wide-1)]
					to[i] = v + k*(6*v-left-right-up[i]-down[i]-front[i]-back[i])
					left = v
				}
			}
		}
		copy(x, out)
	}
}
