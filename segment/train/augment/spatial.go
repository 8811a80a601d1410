package augment

import (
	"math"

	"github.com/libflare/libflare/segment/train/random"
)

// Spatial cuts a sample out of a case: the middle of a larger box, rotated with
// probability PRotate and scaled with probability PScale. Image and targets are
// interpolated linearly, and are 0 outside of the box or the case; labels are the
// label that has the largest part in a linear interpolation, and -1 outside. Without
// rotation and scaling voxels are copied. Parameters: none then, else the angles about the
// axes z, y, x in radians and the factors of z, y, x (above 1: objects shrink).
type Spatial struct {
	Box, Patch [3]int
	Planar     bool       // in the planes y, x only
	PRotate    float64    //
	Angle      float64    // angles are from [-Angle, Angle)
	PAngle     float64    // with this probability; else 0
	PScale     float64    //
	Scale      [2]float64 // factors are from [Scale[0], Scale[1])
	Together   bool       // one factor for all axes
}

// spatialNumbers is how many parameters there are.
const spatialNumbers = 6

// Draw appends parameters to p.
func (t *Spatial) Draw(p []float64, r *random.Rand) []float64 {
	rotate, scale := r.Chance(t.PRotate), r.Chance(t.PScale)
	if !rotate && !scale {
		return p
	}
	angle, factor := [3]float64{}, [3]float64{1, 1, 1}
	for i := range 3 {
		// In the planes there is one angle: about z.
		if rotate && (i == 0 || !t.Planar) {
			if angle[i] = r.Uniform(-t.Angle, t.Angle); !r.Chance(t.PAngle) {
				angle[i] = 0
			}
		}
	}
	together := r.Uniform(t.Scale[0], t.Scale[1])
	for i := range 3 {
		switch {
		case !scale || i == 0 && t.Planar:
		case t.Together:
			factor[i] = together
		default:
			factor[i] = r.Uniform(t.Scale[0], t.Scale[1])
		}
	}
	return append(append(p, angle[:]...), factor[:]...)
}

// matrix returns R(x) R(y) R(z) S: from places relative to the patch's middle to such
// relative to the box's. The angles are those of batchgeneratorsv2's create_affine_matrix_3d
// (whose axes 0, 1, 2 are z, y, x here), and in the planes those of its 2-D sister.
func matrix(p []float64) [3][3]float64 {
	sin0, cos0 := math.Sincos(p[0])
	sin1, cos1 := math.Sincos(p[1])
	sin2, cos2 := math.Sincos(p[2])
	m := [3][3]float64{
		{cos2 * cos1, cos2*sin1*sin0 - sin2*cos0, cos2*sin1*cos0 + sin2*sin0},
		{sin2 * cos1, sin2*sin1*sin0 + cos2*cos0, sin2*sin1*cos0 - cos2*sin0},
		{-sin1, cos1 * sin0, cos1 * cos0},
	}
	for i := range m {
		for j := range m[i] {
			m[i][j] *= p[3+j]
		}
	}
	return m
}

// Cut fills s, whose shape is Patch, with voxels of src. corner is the box's first voxel in
// the case and may lie outside. Channels and maps are as many as s has.
func (t *Spatial) Cut(s *Sample, src Source, corner [3]int, p []float64, w *Scratch) error {
	c := cut{spatial: t, src: src, corner: corner, w: w}
	if len(p) == 0 {
		for i := range 3 {
			c.first[i] = corner[i] + t.Box[i]/2 - t.Patch[i]/2
		}
		return c.copy(s)
	}
	c.place(matrix(p))
	return c.interpolate(s)
}
