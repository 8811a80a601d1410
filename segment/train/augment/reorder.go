package augment

import "slices"

// reorder makes old axis order[i] the new axis i, after those marked in from have been
// reversed (old axes). The shape must stay.
func (w *Scratch) reorder(s *Sample, order [3]int, reversed [3]bool) {
	if order == [3]int{0, 1, 2} {
		for axis, yes := range reversed {
			if yes {
				s.mirror(axis)
			}
		}
		return
	}
	reorder(s.Image, w.spare, s.Shape, order, reversed)
	reorder(s.Targets, w.spare, s.Shape, order, reversed)
	reorder(s.Labels, w.spareLabels, s.Shape, order, reversed)
}

// reorder is Scratch.reorder of one array, through a spare one of D x H x W values.
func reorder[T any](v, spare []T, shape, order [3]int, reversed [3]bool) {
	old := [3]int{shape[1] * shape[2], shape[2], 1}
	start, stride := 0, [3]int{}
	for i, axis := range order {
		stride[i] = old[axis]
		if reversed[axis] {
			start, stride[i] = start+(shape[axis]-1)*old[axis], -old[axis]
		}
	}
	for n := shape[0] * shape[1] * shape[2]; len(v) > 0; v = v[n:] {
		out := spare[:0]
		for z := range shape[0] {
			for y := range shape[1] {
				at := start + z*stride[0] + y*stride[1]
				for range shape[2] {
					out = append(out, v[at])
					at += stride[2]
				}
			}
		}
		copy(v[:n], out)
	}
}

// equalAxes returns the axes of the length that most axes have, or none where all differ
// (nnU-Net's choice for Rot90 and Permute).
func equalAxes(shape [3]int) []int {
	var axes []int
	for i := range shape {
		same := []int{i}
		for j := range shape {
			if j != i && shape[j] == shape[i] {
				same = append(same, j)
			}
		}
		if slices.Sort(same); len(same) > max(1, len(axes)) {
			axes = same
		}
	}
	return axes
}
