package augment

import "github.com/libflare/libflare/segment/train/random"

// Rot90 rotates the sample by 0 to 3 right angles, each as likely, in a plane of two
// of Axes, which are equally long. Parameters: how often, and the two axes: from the
// first to the second.
type Rot90 struct{ Axes []int }

func (t Rot90) Draw(p []float64, r *random.Rand, _ int, _ [3]int) []float64 {
	times := r.IntN(4)
	a, b := r.IntN(len(t.Axes)), r.IntN(len(t.Axes)-1)
	if b >= a {
		b++
	}
	return append(p, float64(times), float64(t.Axes[min(a, b)]), float64(t.Axes[max(a, b)]))
}

func (t Rot90) Apply(s *Sample, p []float64, w *Scratch) {
	a, b := int(p[1]), int(p[2])
	order, from := [3]int{0, 1, 2}, [3]bool{}
	switch int(p[0]) {
	case 0:
		return
	case 1: // out[i][j] = in[j][n-1-i]
		order[a], order[b], from[b] = b, a, true
	case 2:
		from[a], from[b] = true, true
	case 3:
		order[a], order[b], from[a] = b, a, true
	}
	w.reorder(s, order, from)
}
