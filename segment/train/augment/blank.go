package augment

import "github.com/libflare/libflare/segment/train/random"

// Blank replaces, with probability PChannel, 1 to 4 boxes of a channel, one after the
// other, by their means. A box is from a tenth to less than a third as long as the sample
// along each axis. Parameters: for each channel the number of boxes, then for each box the
// first voxel z, y, x and the size.
type Blank struct{ PChannel float64 }

func (t Blank) Draw(p []float64, r *random.Rand, channels int, shape [3]int) []float64 {
	for range channels {
		count := 0
		if r.Chance(t.PChannel) {
			count = r.Integer(1, 5)
		}
		p = append(p, float64(count))
		for range count {
			var at, size [3]float64
			for i, n := range shape {
				least := max(1, n/10)
				length := 1 // of the z axis in 2-D
				if n > 1 {
					length = r.Integer(least, max(least+1, n/3))
				}
				at[i], size[i] = float64(r.Integer(0, n-length+1)), float64(length)
			}
			p = append(append(p, at[:]...), size[:]...)
		}
	}
	return p
}

func (t Blank) Apply(s *Sample, p []float64, _ *Scratch) {
	for c := 0; len(p) > 0; c++ {
		count := int(p[0])
		p = p[1:]
		for range count {
			blank(s.channel(c), s.Shape, p)
			p = p[6:]
		}
	}
}

// blank replaces one box by its mean.
func blank(x []float32, shape [3]int, p []float64) {
	row := func(z, y int) []float32 {
		return x[((int(p[0])+z)*shape[1]+int(p[1])+y)*shape[2]+int(p[2]):][:int(p[5])]
	}
	sum := 0.0
	for z := range int(p[3]) {
		for y := range int(p[4]) {
			for _, v := range row(z, y) {
				sum += float64(v)
			}
		}
	}
	mean := float32(sum / (p[3] * p[4] * p[5]))
	for z := range int(p[3]) {
		for y := range int(p[4]) {
			r := row(z, y)
			for i := range r {
				r[i] = mean
			}
		}
	}
}
