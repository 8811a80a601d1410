package postprocess

import (
	"math"

	"github.com/libflare/libflare/segment/internal/component"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// Apply applies steps, in their order, to labels in place: one channel of uint8
// or uint16 of any size, C order z, y, x. Components are connected by faces,
// edges and corners (26 neighbours, 8 in a slice), as skimage.measure.label
// connects them for acvl_utils' remove_all_but_largest_component; of several
// largest ones all are kept, as there. Memory: 22 bytes for each run of voxels
// along x. threads below 1 counts as 1. Errors: Argument (other voxels, a label
// that the type cannot hold as Background), Memory.
func Apply(labels *volume.Volume, steps []Step, threads int) error {
	if err := labels.Validate(); err != nil {
		return err
	}
	highest := math.MaxUint8
	switch {
	case labels.Channels != 1 || labels.DType != volume.Uint8 && labels.DType != volume.Uint16:
		return fault.New(fault.Argument, "post-processing takes labels of one channel of uint8 or uint16, not %d of %s", labels.Channels, labels.DType)
	case labels.DType == volume.Uint16:
		highest = math.MaxUint16
	}
	for _, s := range steps {
		if err := s.check(); err != nil {
			return err
		}
		if s.Background > highest {
			return fault.New(fault.Argument, "post-processing writes label %d, which %s cannot hold", s.Background, labels.DType)
		}
	}
	if labels.DType == volume.Uint8 {
		return apply(volume.As[uint8](labels), labels.Size, steps, threads)
	}
	return apply(volume.As[uint16](labels), labels.Size, steps, threads)
}

// apply is Apply for one type; v has size[2] x size[1] x size[0] voxels.
func apply[T component.Voxel](v []T, size [3]int, steps []Step, threads int) error {
	if len(steps) == 0 {
		return nil
	}
	boxes := findBoxes(v, size, threads)
	for _, s := range steps {
		var chosen [1 << 16]uint16
		area := nothing
		for _, l := range s.Labels {
			if l < len(boxes) {
				chosen[l] = 1
				area = area.with(boxes[l])
			}
		}
		if area.empty() {
			continue
		}
		if err := keepLargestComponent(v, size, area, chosen[:len(boxes)], T(s.Background), threads); err != nil {
			return err
		}
		// What a step erases may lie anywhere in its area.
		boxes[s.Background] = boxes[s.Background].with(area)
	}
	return nil
}

// box is a range of voxels, x, y, z: from lo, below hi.
type box struct{ lo, hi [3]int32 }

var nothing = box{lo: [3]int32{math.MaxInt32, math.MaxInt32, math.MaxInt32}}

func (b box) empty() bool { return b.hi[0] <= b.lo[0] }

func (b box) with(o box) box {
	for i := range b.lo {
		b.lo[i], b.hi[i] = min(b.lo[i], o.lo[i]), max(b.hi[i], o.hi[i])
	}
	return b
}

// findBoxes returns the bounding box of each label that T can hold.
func findBoxes[T component.Voxel](v []T, size [3]int, threads int) []box {
	var zero T
	n := int(zero-1) + 1
	threads = max(1, min(threads, size[2]))
	parts := make([][]box, threads)
	parallel.For(threads, threads, func(_, part int) error { // returns nil always
		boxes := make([]box, n)
		for i := range boxes {
			boxes[i] = nothing
		}
		nx, ny := size[0], size[1]
		for z := part * size[2] / threads; z < (part+1)*size[2]/threads; z++ {
			for y := range ny {
				row := v[(z*ny+y)*nx:][:nx]
				for x := 0; x < nx; {
					start, l := x, row[x]
					for x++; x < nx && row[x] == l; x++ {
					}
					boxes[l] = boxes[l].with(box{[3]int32{int32(start), int32(y), int32(z)}, [3]int32{int32(x), int32(y) + 1, int32(z) + 1}})
				}
			}
		}
		parts[part] = boxes
		return nil
	})
	for _, other := range parts[1:] {
		for l := range other {
			parts[0][l] = parts[0][l].with(other[l])
		}
	}
	return parts[0]
}
