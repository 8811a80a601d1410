package segment

import (
	"math"
	"slices"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// area is the part of an image in which labels are wanted, in voxels of a view. A tile
// runs if it has a say in any of them, so that inside the area the labels are those of
// the whole image; outside they are background.
type area struct {
	lo, hi [3]int // half-open box
	masks  []*preprocess.Mask
	values []uint16 // the labels wanted; nil: all
}

func wholeArea(view volume.View) *area { return &area{hi: view.Shape} }

// whole reports whether the area is all of the view and nothing is to be cleared.
func (a *area) whole(view volume.View) bool {
	return len(a.masks) == 0 && a.values == nil && a.lo == [3]int{} && a.hi == view.Shape
}

// rows returns the rows of the view, along its middle axis, that the area has voxels in.
func (a *area) rows() [2]int { return [2]int{a.lo[1], a.hi[1]} }

// within returns the part of the area in some rows.
func (a *area) within(rows [2]int) *area {
	part := *a
	part.lo[1], part.hi[1] = max(a.lo[1], rows[0]), min(a.hi[1], rows[1])
	return &part
}

// intersect narrows the area to a box of the image's voxels (x, y, z).
func (a *area) intersect(box Box, view volume.View, size [3]int) error {
	if box == (Box{}) {
		return nil
	}
	for i := range 3 {
		if box.Lo[i] < 0 || box.Lo[i] >= box.Hi[i] || box.Hi[i] > size[i] {
			return fault.New(fault.Argument, "box from %v to %v (x, y, z, before the second): expected a part of the image's %v voxels", box.Lo, box.Hi, size)
		}
	}
	lo, hi := boxIn(view, size, box)
	for i := range 3 {
		a.lo[i], a.hi[i] = max(a.lo[i], lo[i]), min(a.hi[i], hi[i])
		if a.lo[i] >= a.hi[i] {
			a.hi = a.lo // nothing of the box is in the view, which leaves out zero borders
			return nil
		}
	}
	return nil
}

// boxIn turns a box of an image's voxels (x, y, z) into one of a view's axes; it may
// reach beyond the view.
func boxIn(view volume.View, size [3]int, box Box) (lo, hi [3]int) {
	strides := [3]int{1, size[0], size[0] * size[1]}
	first := [3]int{view.Offset % size[0], view.Offset / size[0] % size[1], view.Offset / strides[2]}
	taken := [3]bool{}
	for _, i := range descending(view.Shape) { // axes of one voxel have the stride of the next: the long ones first
		stride, axis := view.Stride[i], -1
		for j := range 3 {
			if !taken[j] && strides[j] == max(stride, -stride) && size[j] >= view.Shape[i] && (axis < 0 || size[j] > size[axis]) {
				axis = j
			}
		}
		taken[axis] = true
		if stride > 0 {
			lo[i], hi[i] = box.Lo[axis]-first[axis], box.Hi[axis]-first[axis]
		} else {
			lo[i], hi[i] = first[axis]+1-box.Hi[axis], first[axis]+1-box.Lo[axis]
		}
	}
	return lo, hi
}

// descending returns the axes of a shape, the longest first.
func descending(shape [3]int) []int {
	axes := []int{0, 1, 2}
	slices.SortStableFunc(axes, func(a, b int) int { return shape[b] - shape[a] })
	return axes
}

// touches reports whether the area has voxels in a half-open box of the view.
func (a *area) touches(lo, hi [3]int) bool {
	for i := range 3 {
		if lo[i], hi[i] = max(lo[i], a.lo[i]), min(hi[i], a.hi[i]); lo[i] >= hi[i] {
			return false
		}
	}
	for _, m := range a.masks {
		if !m.Any(lo, hi) {
			return false
		}
	}
	return true
}

// wanted returns the sliding window's question about tiles of a grid on the view. A
// voxel's logits are interpolated between those next to it, within reach of the grid.
func (a *area) wanted(view volume.View, grid [3]int, reach int) func(lo, hi [3]int) bool {
	return func(lo, hi [3]int) bool {
		var from, to [3]int
		for i := range 3 {
			scale := float64(view.Shape[i]) / float64(grid[i])
			from[i] = max(0, int(math.Floor(float64(lo[i]-reach)*scale))-1)
			to[i] = min(view.Shape[i], int(math.Ceil(float64(hi[i]+reach)*scale))+1)
		}
		return a.touches(from, to)
	}
}

// clear makes everything outside the area, and labels that are not wanted, background:
// in the labels and, of so many heads, in the probabilities.
func (a *area) clear(t resample.Target, heads, threads int) {
	view := t.View
	if a.whole(view) {
		return
	}
	keep := make([]bool, 1<<16)
	for v := range keep {
		keep[v] = a.values == nil || slices.Contains(a.values, uint16(v))
	}
	grid := len(t.Probabilities) / heads
	_ = parallel.For(view.Shape[0], threads, func(_, z int) error {
		for y := range view.Shape[1] {
			inside := z >= a.lo[0] && z < a.hi[0] && y >= a.lo[1] && y < a.hi[1]
			for x := range view.Shape[2] {
				i := view.Offset + z*view.Stride[0] + y*view.Stride[1] + x*view.Stride[2]
				label := label(t.Labels, i)
				if label == 0 && grid == 0 || inside && x >= a.lo[2] && x < a.hi[2] && keep[label] && a.covered(z, y, x) {
					continue
				}
				setLabel(t.Labels, i, 0)
				for head := range heads * min(grid, 1) {
					t.Probabilities[head*grid+i] = 0
					if head == 0 && t.Regions == nil {
						t.Probabilities[i] = 1
					}
				}
			}
		}
		return nil
	})
}

func (a *area) covered(z, y, x int) bool {
	for _, m := range a.masks {
		if !m.At(z, y, x) {
			return false
		}
	}
	return true
}

func label(v *volume.Volume, i int) uint16 {
	if v.DType == volume.Uint16 {
		return volume.As[uint16](v)[i]
	}
	return uint16(v.Data[i])
}
