package augment

import "github.com/libflare/libflare/segment/train/random"

// Permute permutes Axes, which are equally long; all orders are as likely. Parameters: the
// old axis of each new one.
type Permute struct{ Axes []int }

func (t Permute) Draw(p []float64, r *random.Rand, _ int, _ [3]int) []float64 {
	n := len(p)
	p = append(p, 0, 1, 2)
	order := p[n:]
	for i, axis := range t.Axes { // Fisher and Yates
		j := t.Axes[i+r.IntN(len(t.Axes)-i)]
		order[axis], order[j] = order[j], order[axis]
	}
	return p
}

func (t Permute) Apply(s *Sample, p []float64, w *Scratch) {
	w.reorder(s, [3]int{int(p[0]), int(p[1]), int(p[2])}, [3]bool{})
}
