package volume

import (
	"math"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// View is a window on one channel's grid with its axes in any order and
// direction: voxel (i,j,k) of the view lies at element
// Offset + i*Stride[0] + j*Stride[1] + k*Stride[2] of the channel. Orientation,
// nnU-Net's transpose and crop are steps from view to view, so no voxel is
// copied for them, and writing labels through the same view undoes them.
type View struct {
	Shape  [3]int // slowest axis first
	Stride [3]int // in voxels; negative where the axis is flipped
	Offset int
}

// Full returns the view of the whole grid in storage order: z, y, x.
func (g *Geometry) Full() View {
	x, y, z := g.Size[0], g.Size[1], g.Size[2]
	return View{Shape: [3]int{z, y, x}, Stride: [3]int{x * y, x, 1}}
}

// Transpose returns the view with its axes reordered: axis i of the result is
// axis perm[i] of v, as numpy's transpose.
func (v View) Transpose(perm [3]int) View {
	w := v
	for i, p := range perm {
		w.Shape[i], w.Stride[i] = v.Shape[p], v.Stride[p]
	}
	return w
}

// Crop returns the part of the view from lo (inclusive) to hi (exclusive).
func (v View) Crop(lo, hi [3]int) View {
	for i := range lo {
		v.Offset += lo[i] * v.Stride[i]
		v.Shape[i] = hi[i] - lo[i]
	}
	return v
}

// flip reverses one axis of the view.
func (v View) flip(axis int) View {
	v.Offset += (v.Shape[axis] - 1) * v.Stride[axis]
	v.Stride[axis] = -v.Stride[axis]
	return v
}

// Voxels returns the number of voxels of the view.
func (v View) Voxels() int { return v.Shape[0] * v.Shape[1] * v.Shape[2] }

// letters holds for each LPS axis the letters of its positive and negative
// direction.
var letters = [3][2]byte{{'L', 'R'}, {'P', 'A'}, {'S', 'I'}}

// Orientation returns the three letters of the directions in which the x, y and
// z indices grow, such as "LPS" for the identity direction (DICOM's and
// SimpleITK's convention). An oblique volume gets the nearest axes.
func (g *Geometry) Orientation() string {
	code := make([]byte, 3)
	for voxelAxis, p := range g.nearestAxes() {
		sign := 0
		if g.Direction[3*p+voxelAxis] < 0 {
			sign = 1
		}
		code[voxelAxis] = letters[p][sign]
	}
	return string(code)
}

// nearestAxes assigns to each voxel axis the patient axis it follows, each
// patient axis once, largest cosines first (as ITK's SpatialOrientationAdapter).
func (g *Geometry) nearestAxes() [3]int {
	axes, usedV, usedP := [3]int{}, [3]bool{}, [3]bool{}
	for range 3 {
		best, bv, bp := -1.0, 0, 0
		for v := range 3 {
			for p := range 3 {
				if c := math.Abs(g.Direction[3*p+v]); !usedV[v] && !usedP[p] && c > best {
					best, bv, bp = c, v, p
				}
			}
		}
		axes[bv], usedV[bv], usedP[bp] = bp, true, true
	}
	return axes
}

// Reorient returns the whole grid seen in the orientation that code names, such
// as "LPS" or "RAS", and the spacing of the view's axes (slowest first: the
// reverse of code's order). Axes are permuted and flipped, never resampled.
func (g *Geometry) Reorient(code string) (View, [3]float64, error) {
	want := strings.ToUpper(code)
	if err := CheckOrientation(want); err != nil {
		return View{}, [3]float64{}, err
	}
	have := g.Orientation()
	full := g.Full()
	var view View
	view.Offset = full.Offset
	var spacing [3]float64
	for i := range 3 { // i: x, y, z of the wanted order
		for j := range 3 { // j: x, y, z as stored
			if axisOf(have[j]) != axisOf(want[i]) {
				continue
			}
			view.Shape[2-i], view.Stride[2-i] = full.Shape[2-j], full.Stride[2-j]
			spacing[2-i] = g.Spacing[j]
			if have[j] != want[i] {
				view = view.flip(2 - i)
			}
		}
	}
	return view, spacing, nil
}

// CheckOrientation reports whether code is three letters, one of each pair L/R,
// P/A, S/I.
func CheckOrientation(code string) error {
	seen := [3]bool{}
	for i := 0; i < len(code); i++ {
		if a := axisOf(code[i]); a >= 0 {
			seen[a] = true
		}
	}
	if len(code) != 3 || seen != [3]bool{true, true, true} {
		return fault.New(fault.Argument, "orientation %q is not three letters, one each of L/R, P/A, S/I, such as LPS", code)
	}
	return nil
}

func axisOf(letter byte) int {
	for p, l := range letters {
		if letter == l[0] || letter == l[1] {
			return p
		}
	}
	return -1
}
