package imageio

import "math"

// svd returns the left singular vectors (columns of u) and the singular values
// (descending) of the 3x3 part of a regular matrix. It is LINPACK's SSVDC in
// single precision (Dongarra et al., LINPACK Users' Guide, 1979; the version
// corrected in 1984, in its order of operations), which ITK runs through
// vnl_svd<float>: the signs and order of the vectors are a matter of the
// algorithm, and verySimilar has to see ITK's. The branches of SSVDC for
// vanishing singular values are left out; callers have none.
func svd(m affine) (u [3][3]float32, s [3]float32) {
	var x [3][3]float32
	for i := range 3 {
		for j := range 3 {
			x[i][j] = float32(m[i][j])
		}
	}
	var e [3]float32
	// Bidiagonal form: a Householder reflection for columns 0 and 1, and one for
	// the row beside the first diagonal element. Column l of u keeps reflection l.
	for l := range 2 {
		column := [3]float32{x[0][l], x[1][l], x[2][l]}
		if s[l] = norm(column[l:]); s[l] != 0 {
			if x[l][l] != 0 {
				s[l] = float32(math.Copysign(float64(s[l]), float64(x[l][l])))
			}
			for i := l; i < 3; i++ {
				x[i][l] *= 1 / s[l]
			}
			x[l][l]++
		}
		s[l] = -s[l]
		for j := l + 1; j < 3; j++ {
			if s[l] != 0 {
				reflect(&x, l, j, x[l][l])
			}
			e[j] = x[l][j]
		}
		for i := l; i < 3; i++ {
			u[i][l] = x[i][l]
		}
		if l > 0 {
			continue
		}
		if e[0] = norm(e[1:]); e[0] != 0 {
			if e[1] != 0 {
				e[0] = float32(math.Copysign(float64(e[0]), float64(e[1])))
			}
			e[1], e[2] = e[1]*(1/e[0])+1, e[2]*(1/e[0])
		}
		e[0] = -e[0]
		if e[0] != 0 {
			for i := 1; i < 3; i++ {
				work := e[1]*x[i][1] + e[2]*x[i][2]
				x[i][1] += -e[1] / e[1] * work
				x[i][2] += -e[2] / e[1] * work
			}
		}
	}
	s[2], e[1], e[2] = x[2][2], x[1][2], 0

	// Multiply the reflections to u.
	u[0][2], u[1][2], u[2][2] = 0, 0, 1
	for l := 1; l >= 0; l-- {
		if s[l] == 0 {
			u[0][l], u[1][l], u[2][l] = 0, 0, 0
			u[l][l] = 1
			continue
		}
		for j := l + 1; j < 3; j++ {
			reflect(&u, l, j, u[l][l])
		}
		for i := l; i < 3; i++ {
			u[i][l] = -u[i][l]
		}
		u[l][l]++
		for i := range l {
			u[i][l] = 0
		}
	}

	// QR steps until the elements above the diagonal vanish; 30 are SSVDC's limit.
	for m, steps := 2, 0; m >= 0 && steps < 30; {
		l := m - 1
		for ; l >= 0; l-- {
			if size := abs(s[l]) + abs(s[l+1]); size+abs(e[l]) == size {
				e[l] = 0
				break
			}
		}
		if l++; l < m {
			qrStep(&u, &s, &e, l, m)
			steps++
			continue
		}
		s[m] = abs(s[m]) // the sign goes to the right singular vector
		for k := m; k < 2 && s[k] < s[k+1]; k++ {
			s[k], s[k+1] = s[k+1], s[k]
			for i := range 3 {
				u[i][k], u[i][k+1] = u[i][k+1], u[i][k]
			}
		}
		m, steps = m-1, 0
	}
	return u, s
}

// norm is BLAS's SNRM2, with its rounding: where singular values coincide, the
// last bit decides about the vectors.
func norm(x []float32) float32 {
	scale, sum := float32(0), float32(1)
	for _, v := range x {
		switch v = abs(v); {
		case v == 0:
		case scale < v:
			sum = sum*((scale/v)*(scale/v)) + 1
			scale = v
		default:
			sum += (v / scale) * (v / scale)
		}
	}
	return scale * float32(math.Sqrt(float64(sum)))
}

// reflect applies the reflection in column l of a, from row l on, to column j;
// pivot is its first element.
func reflect(a *[3][3]float32, l, j int, pivot float32) {
	var dot float32
	for i := l; i < 3; i++ {
		dot += a[i][l] * a[i][j]
	}
	t := -dot / pivot
	for i := l; i < 3; i++ {
		a[i][j] += t * a[i][l]
	}
}

// qrStep makes one shifted QR step on the bidiagonal block l..m.
func qrStep(u *[3][3]float32, s, e *[3]float32, l, m int) {
	scale := max(abs(s[m]), abs(s[m-1]), abs(e[m-1]), abs(s[l]), abs(e[l]))
	sm, smm1, emm1 := s[m]/scale, s[m-1]/scale, e[m-1]/scale
	sl, el := s[l]/scale, e[l]/scale
	b := ((smm1+sm)*(smm1-sm) + emm1*emm1) / 2
	c := (sm * emm1) * (sm * emm1)
	var shift float32
	if b != 0 || c != 0 {
		shift = float32(math.Sqrt(float64(b*b + c)))
		if b < 0 {
			shift = -shift
		}
		shift = c / (b + shift)
	}
	f, g := (sl+sm)*(sl-sm)+shift, sl*el // + since the correction of February 1984
	for k := l; k < m; k++ {
		r, cs, sn := rotation(f, g)
		if k != l {
			e[k-1] = r
		}
		f = cs*s[k] + sn*e[k]
		e[k] = cs*e[k] - sn*s[k]
		g = sn * s[k+1]
		s[k+1] = cs * s[k+1]
		s[k], cs, sn = rotation(f, g)
		f = cs*e[k] + sn*s[k+1]
		s[k+1] = -sn*e[k] + cs*s[k+1]
		g = sn * e[k+1]
		e[k+1] = cs * e[k+1]
		for i := range 3 {
			u[i][k], u[i][k+1] = cs*u[i][k]+sn*u[i][k+1], cs*u[i][k+1]-sn*u[i][k]
		}
	}
	e[m-1] = f
}

// rotation is BLAS's SROTG: c a + s b = r, c b - s a = 0, r with the sign of the
// larger of a and b.
func rotation(a, b float32) (r, c, s float32) {
	scale := abs(a) + abs(b)
	if scale == 0 {
		return 0, 1, 0
	}
	larger := b
	if abs(a) > abs(b) {
		larger = a
	}
	r = scale * float32(math.Sqrt(float64((a/scale)*(a/scale)+(b/scale)*(b/scale))))
	if larger < 0 {
		r = -r
	}
	return r, a / r, b / r
}

func abs(v float32) float32 { return max(v, -v) }
