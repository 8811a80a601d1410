package imageio

import (
	"math"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// affine is the upper three rows of a voxel-to-RAS matrix in the file's units.
type affine [3][4]float64

// geometry returns where the grid lies, by the rules of ITK 5.4
// (itkNiftiImageIO.cxx: ReadImageInformation, SetImageIOOrientationFromNIfTI;
// itkImageFileReader.hxx for negative voxel sizes):
//
//   - spacing is |pixdim|, never the length of sform columns;
//   - directions and origin are the sform's or the qform's (see orientation),
//     turned from RAS to LPS; with neither they are the identity and 0;
//   - a negative pixdim turns its axis round;
//   - metres and micrometres become millimetres, any other unit counts as one;
//   - a 2-D image keeps the upper left 2x2 of the matrix.
//
// ITK makes a voxel size of 0 or NaN 1 mm; here it is an error. Where it keeps axes that
// are not at right angles (a 2-D image that lies obliquely, a sform that alike accepts in
// units of metres), the directions are the nearest ones that are.
func (h *header) geometry(path string, size [3]int, dims int) (volume.Geometry, error) {
	g := volume.Geometry{Size: size, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	axes := min(dims, 3)
	for i := 1; i <= axes; i++ {
		if p := h.Pixdim[i]; p == 0 || math.IsNaN(p) || math.IsInf(p, 0) {
			return g, fault.New(fault.Format, "%s: pixdim[%d] (voxel size) is %g, expected a finite number other than 0", path, i, p)
		}
	}
	mm := 1.0
	switch h.XyztUnits & 7 {
	case 1: // NIFTI_UNITS_METER
		mm = 1e3
	case 3: // NIFTI_UNITS_MICRON
		mm = 1e-3
	}
	if h.QformCode > 0 || h.SformCode > 0 {
		m, err := h.orientation(path)
		if err != nil {
			return g, err
		}
		for row := range axes {
			sign := -1.0 // RAS to LPS
			if row == 2 {
				sign = 1
			}
			g.Origin[row] = sign * m[row][3] * mm
			for col := range axes {
				g.Direction[3*row+col] = sign * m[row][col]
			}
		}
	}
	for col := range axes {
		d := &g.Direction
		length := math.Sqrt(d[col]*d[col] + d[3+col]*d[3+col] + d[6+col]*d[6+col])
		if h.Pixdim[1+col] < 0 {
			length = -length
		}
		for row := range 3 {
			d[3*row+col] = d[3*row+col]/length + 0 // + 0: no -0 in the matrix
		}
		g.Spacing[col] = math.Abs(h.Pixdim[1+col]) * mm
	}
	if m := matrix(g.Direction); !orthogonal(m, 5e-4) && math.Abs(det(m)) > 1e-6 {
		m = nearestRotation(m)
		for i := range g.Direction {
			g.Direction[i] = m[i/3][i%3] + 0
		}
	}
	if err := g.Validate(); err != nil {
		return g, fault.New(fault.Format, "%s: unusable geometry: %w", path, err)
	}
	return g, nil
}

// matrix returns a direction as the 3x3 part of an affine.
func matrix(d [9]float64) affine {
	return affine{{d[0], d[1], d[2]}, {d[3], d[4], d[5]}, {d[6], d[7], d[8]}}
}

// orientation chooses between sform and qform as ITK does. A sform with
// orthogonal axes wins if there is no qform, if its code is 1 (scanner), or if
// ITK finds the two very similar; a sheared, singular or non-finite sform yields
// to the qform, and without one is refused.
func (h *header) orientation(path string) (affine, error) {
	s, q := affine(h.Srow), h.qform()
	useS := false
	if h.SformCode > 0 {
		switch {
		case !orthogonal(s, 1e-4):
			useS = h.QformCode > 0 && alike(s, q)
		case h.QformCode <= 0 || h.SformCode == 1:
			useS = true
		default:
			useS = verySimilar(s, q)
		}
	}
	switch {
	case useS:
		return s, nil
	case h.QformCode <= 0:
		if !finite(s) || det(s) == 0 {
			return s, fault.New(fault.Format, "%s: the sform %v is singular or not finite, and there is no qform", path, s)
		}
		return s, fault.New(fault.Unsupported, "%s: the axes of the sform %v are not at right angles (ITK refuses them too), and there is no qform: resample the image", path, s)
	}
	for i := range 3 {
		if v := h.Quatern[i]; math.IsNaN(v) || math.IsInf(v, 0) {
			return q, fault.New(fault.Format, "%s: the qform's quaternion %v is not finite", path, h.Quatern)
		}
	}
	return q, nil
}

// qform returns the matrix that quaternion, voxel sizes and offset describe:
// nifti_quatern_to_mat44 in nifti1_io.c.
func (h *header) qform() affine {
	b, c, d := number(h.Quatern[0]), number(h.Quatern[1]), number(h.Quatern[2])
	a := 1 - (b*b + c*c + d*d)
	if a < 1e-7 { // half a turn: the vector part alone, made a unit vector
		n := 1 / math.Sqrt(b*b+c*c+d*d)
		a, b, c, d = 0, b*n, c*n, d*n
	} else {
		a = math.Sqrt(a)
	}
	var size [3]float64
	for i := range size {
		if size[i] = h.Pixdim[1+i]; !(size[i] > 0) {
			size[i] = 1
		}
	}
	if h.Pixdim[0] < 0 { // qfac: left-handed axes
		size[2] = -size[2]
	}
	m := affine{
		{a*a + b*b - c*c - d*d, 2 * (b*c - a*d), 2 * (b*d + a*c), h.Qoffset[0]},
		{2 * (b*c + a*d), a*a + c*c - b*b - d*d, 2 * (c*d - a*b), h.Qoffset[1]},
		{2 * (b*d - a*c), 2 * (c*d + a*b), a*a + d*d - c*c - b*b, h.Qoffset[2]},
	}
	for row := range 3 {
		for col := range 3 {
			m[row][col] *= size[col]
		}
	}
	return m
}

// number is niftilib's FIXED_FLOAT: 0 for NaN and infinities.
func number(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

func finite(m affine) bool {
	for _, row := range m {
		for _, v := range row[:3] {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return false
			}
		}
	}
	return true
}

// det returns the determinant of the 3x3 part.
func det(m affine) float64 {
	return m[0][0]*(m[1][1]*m[2][2]-m[1][2]*m[2][1]) -
		m[0][1]*(m[1][0]*m[2][2]-m[1][2]*m[2][0]) +
		m[0][2]*(m[1][0]*m[2][1]-m[1][1]*m[2][0])
}

// orthogonal tells whether the columns, scaled to length 1, make a matrix R with
// R Rt = 1 within the tolerance per element; ITK's is 1e-4.
func orthogonal(m affine, tolerance float64) bool {
	if !finite(m) {
		return false
	}
	for col := range 3 {
		length := math.Sqrt(m[0][col]*m[0][col] + m[1][col]*m[1][col] + m[2][col]*m[2][col])
		if length == 0 {
			return false
		}
		for row := range 3 {
			m[row][col] /= length
		}
	}
	for i := range 3 {
		for j := range 3 {
			dot := m[i][0]*m[j][0] + m[i][1]*m[j][1] + m[i][2]*m[j][2]
			if i == j {
				dot--
			}
			if !(math.Abs(dot) <= tolerance) {
				return false
			}
		}
	}
	return true
}

// alike is ITK's first comparison: every element within 1e-5, offsets equal.
func alike(s, q affine) bool {
	offsets := 0.0
	for row := range 3 {
		for col := range 3 {
			if !(math.Abs(s[row][col]-q[row][col]) <= 1e-5) {
				return false
			}
		}
		offsets += math.Abs(s[row][3] - q[row][3])
	}
	return offsets <= 1e-7
}

// verySimilar is ITK's second comparison: offsets, singular values and left
// singular vectors agree within 1e-4. The right singular vectors are not
// compared, so a sform whose axes merely run the other way counts as similar.
func verySimilar(s, q affine) bool {
	us, ws := svd(s)
	uq, wq := svd(q)
	for i := range 3 {
		if !(math.Abs(s[i][3]-q[i][3]) <= 1e-4) || !(math.Abs(float64(ws[i]-wq[i])) <= 1e-4) {
			return false
		}
		for j := range 3 {
			dot := float64(us[i][0]*uq[j][0] + us[i][1]*uq[j][1] + us[i][2]*uq[j][2])
			if i == j {
				dot--
			}
			if !(math.Abs(dot) <= 1e-4) {
				return false
			}
		}
	}
	return true
}
