package augment

import (
	"math"
	"slices"
)

// cut is one Cut under way.
type cut struct {
	spatial *Spatial
	src     Source
	corner  [3]int // of the box in the case
	first   [3]int // without interpolation: of the patch in the case
	lo, hi  [3]int // with: the part of box and case that is needed; empty if hi <= lo
	grid    grid
	w       *Scratch
}

// outside is the label of what is outside of the box or the case.
const outside = -1

// copy fills the sample with the voxels from first on.
func (c *cut) copy(s *Sample) error {
	var lo, hi, at [3]int // of the part inside the case; of its first voxel in the sample
	whole, some := true, true
	for i, n := range c.src.Shape() {
		lo[i], hi[i] = max(c.first[i], 0), min(c.first[i]+s.Shape[i], n)
		at[i] = lo[i] - c.first[i]
		whole = whole && hi[i]-lo[i] == s.Shape[i]
		some = some && lo[i] < hi[i]
	}
	n, stride := s.voxels(), [2]int{s.Shape[1] * s.Shape[2], s.Shape[2]}
	from := at[0]*stride[0] + at[1]*stride[1] + at[2]
	if !whole {
		clear(s.Image)
		clear(s.Targets)
		fill(s.Labels, outside)
	}
	if !some {
		return nil
	}
	for i := range s.channels() {
		if err := c.src.Image(i, s.Image[i*n+from:(i+1)*n], stride, lo, hi); err != nil {
			return err
		}
	}
	for i := range len(s.Targets) / n {
		if err := c.src.Targets(i, s.Targets[i*n+from:(i+1)*n], stride, lo, hi); err != nil {
			return err
		}
	}
	for i := range len(s.Labels) / n {
		if err := c.src.Labels(i, s.Labels[i*n+from:(i+1)*n], stride, lo, hi); err != nil {
			return err
		}
	}
	return nil
}

func fill[T any](v []T, with T) {
	for i := range v {
		v[i] = with
	}
}

// place finds which voxels are needed and where the patch's lie among them.
func (c *cut) place(m [3][3]float64) {
	t := c.spatial
	var origin [3]float64
	for i, n := range c.src.Shape() {
		middle, reach := float64(t.Box[i]-1)/2, 0.0
		origin[i] = middle
		for j := range 3 {
			half := float64(t.Patch[j]-1) / 2
			reach += math.Abs(m[i][j]) * half
			origin[i] -= m[i][j] * half
		}
		// A little more, against rounding.
		first, last := int(math.Floor(middle-reach-1e-3)), int(math.Floor(middle+reach+1e-3))+1
		c.lo[i] = max(first, 0, -c.corner[i])
		c.hi[i] = min(last+1, t.Box[i], n-c.corner[i])
		origin[i] -= float64(c.lo[i])
		c.grid.first[i] = fixed(c.lo[i])
		c.lo[i], c.hi[i] = c.lo[i]+c.corner[i], c.hi[i]+c.corner[i]
	}
	c.grid.set(m, origin, t.Patch, [3]int{c.hi[0] - c.lo[0], c.hi[1] - c.lo[1], c.hi[2] - c.lo[2]})
}

// interpolate fills the sample through the grid.
func (c *cut) interpolate(s *Sample) error {
	size := c.grid.size
	if slices.Min(size[:]) <= 0 {
		clear(s.Image)
		clear(s.Targets)
		fill(s.Labels, outside)
		return nil
	}
	n, stride := s.voxels(), [2]int{size[1] * size[2], size[2]}
	voxels := c.w.source[:size[0]*stride[0]]
	linear := c.grid.linear3
	if c.spatial.Planar {
		linear = c.grid.linear2
	}
	for i := range s.channels() {
		if err := c.src.Image(i, voxels, stride, c.lo, c.hi); err != nil {
			return err
		}
		linear(s.Image[i*n:(i+1)*n], voxels)
	}
	for i := range len(s.Targets) / n {
		if err := c.src.Targets(i, voxels, stride, c.lo, c.hi); err != nil {
			return err
		}
		linear(s.Targets[i*n:(i+1)*n], voxels)
	}
	labels := c.w.sourceLabels[:len(voxels)]
	for i := range len(s.Labels) / n {
		if err := c.src.Labels(i, labels, stride, c.lo, c.hi); err != nil {
			return err
		}
		c.grid.labels(s.Labels[i*n:(i+1)*n], labels, c.spatial.Planar)
	}
	return nil
}
