package augment

import (
	"slices"

	"github.com/libflare/libflare/segment/train/random"
)

// Mirror mirrors the sample along each of Axes with probability 1/2. Parameters: the
// mirrored axes.
type Mirror struct{ Axes []int }

func (t Mirror) Draw(p []float64, r *random.Rand, _ int, _ [3]int) []float64 {
	for _, axis := range t.Axes {
		if r.Chance(0.5) {
			p = append(p, float64(axis))
		}
	}
	return p
}

func (t Mirror) Apply(s *Sample, p []float64, _ *Scratch) {
	for _, axis := range p {
		s.mirror(int(axis))
	}
}

func (s *Sample) mirror(axis int) {
	mirror(s.Image, s.Shape, axis)
	mirror(s.Labels, s.Shape, axis)
	mirror(s.Targets, s.Shape, axis)
}

// mirror reverses the order along an axis of arrays of D x H x W values.
func mirror[T any](v []T, shape [3]int, axis int) {
	inner := 1 // values side by side along the later axes
	for _, n := range shape[axis+1:] {
		inner *= n
	}
	for line := shape[axis] * inner; len(v) > 0; v = v[line:] {
		if inner == 1 {
			slices.Reverse(v[:line])
			continue
		}
		for a, b := 0, line-inner; a < b; a, b = a+inner, b-inner {
			x, y := v[a:a+inner], v[b:b+inner]
			for i := range x {
				x[i], y[i] = y[i], x[i]
			}
		}
	}
}
