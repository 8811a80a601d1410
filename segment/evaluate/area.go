package evaluate

import (
	"math"
	"math/bits"
)

// areas returns, for each of the 256 ways in which the 2x2x2 voxels around a corner of the
// grid can belong to an organ, the area in mm^2 of the organ's surface between them; bit
// 4*dz+2*dy+dx of a code is voxel (dx, dy, dz). spacing is in mm, x, y, z.
//
// The surface is that of marching cubes (Lorensen and Cline, 1987): it cuts every edge between
// a voxel inside and one outside in the middle. Either the voxels inside or those outside are
// four at most; each group of them that hangs together by edges has a surface of its own, and
// there are six shapes of such groups. The triangles are those of DeepMind's surface-distance,
// so that areas agree where the surface is not flat.
func areas(spacing [3]float64) [256]float64 {
	face := [3]float64{spacing[1] * spacing[2], spacing[0] * spacing[2], spacing[0] * spacing[1]} // mm^2, normal to x, y, z
	var out [256]float64
	for code := range out {
		inside := uint8(code)
		if bits.OnesCount8(inside) > 4 {
			inside = ^inside
		}
		for inside != 0 {
			group := connected(inside)
			out[code] += groupArea(group, face)
			inside &^= group
		}
	}
	return out
}

// connected returns the voxels that hang together with the first one of a code.
func connected(code uint8) uint8 {
	group := code & -code
	for {
		grown := group
		for v := range 8 {
			if group>>v&1 == 1 {
				for axis := range 3 {
					grown |= 1 << (v ^ 1<<axis) & code
				}
			}
		}
		if grown == group {
			return group
		}
		group = grown
	}
}

// groupArea is the area around a group of one to four voxels that hang together. face
// holds the areas of a voxel's faces.
func groupArea(group uint8, face [3]float64) float64 {
	// How many neighbours lie within the group along each axis, and of one voxel.
	var along [3]int
	var ends [3]int // for a row of voxels: how often an end has its neighbour along the axis
	most := 0
	for v := range 8 {
		if group>>v&1 == 0 {
			continue
		}
		neighbours, last := 0, 0
		for axis := range 3 {
			if group>>(v^1<<axis)&1 == 1 {
				neighbours, last = neighbours+1, axis
				along[axis]++
			}
		}
		if most = max(most, neighbours); neighbours == 1 {
			ends[last]++
		}
	}
	slope := norm(face[0], face[1], face[2])
	normal, middle := 0, 0 // the axis along which the group has no neighbours; of a twisted row, that of its middle
	for axis := range 3 {
		if along[axis] == 0 {
			normal = axis
		}
		if ends[axis] == 0 {
			middle = axis
		}
	}
	switch n := bits.OnesCount8(group); {
	case n == 1: // a triangle across the corner
		return slope / 8
	case n == 2: // a rectangle along the edge
		area := 0.0
		for axis := range 3 {
			if along[axis] == 0 {
				area = norm(area, face[axis], 0)
			}
		}
		return area / 2
	case n == 3: // half a face, and a trapezoid over the fourth voxel
		return face[normal]/2 + slope*3/8
	case most == 3: // a hexagon across the middle
		return slope * 3 / 4
	case along[0] == 0 || along[1] == 0 || along[2] == 0: // half of the voxels
		return face[normal]
	default: // a twisted row: a trapezoid, and a triangle at each end of its middle
		area := slope / 2
		for axis := range 3 {
			if axis != middle {
				area += norm(face[axis], face[middle], 0) / 4
			}
		}
		return area
	}
}

func norm(x, y, z float64) float64 { return math.Sqrt(x*x + y*y + z*z) }
