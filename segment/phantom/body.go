package phantom

import "math"

// Body is the trunk: a cavity, around it a wall of muscle, around that fat and
// skin; the diaphragm with the lungs above it; and the couch below. All lengths
// are canonical mm except where stated.
type Body struct {
	Cavity  [2]float64 // half width and half depth of the cavity
	Wall    float64    // thickness of the muscle wall
	Fat     float64    // thickness of the fat at the sides
	Front   float64    // thickness of the fat in front
	Back    float64    // thickness of the fat behind
	Domes   [3]Dome    // right, left and middle part of the diaphragm
	Couch   float64    // mm, gap between the back and the couch's top at the middle
	Curve   float64    // 1/mm: the couch's top rises by Curve*x^2 towards its sides
	FatHU   float64
	Visc    float64 // HU of the fat in the cavity
	Muscle  float64 // HU
	LungHU  float64
	CouchHU float64
}

// Dome is a paraboloid of the diaphragm: height at (x,y) is
// Top - Drop*(((x-X)/RX)^2 + ((y-Y)/RY)^2).
type Dome struct{ X, Y, RX, RY, Top, Drop float64 }

// exponent of the superellipse |x/a|^2.5 + |y/b|^2.5 = 1, the trunk's outline:
// between an ellipse and a box.
const exponent = 2.5

// taper is the factor of the trunk's width and depth at canonical height z: a
// waist below the ribs, a chest that narrows upwards.
func taper(z float64) float64 {
	waist := (z + 70) / 60
	t := math.Min(math.Max((z-110)/160, 0), 1)
	return 1 - 0.05*math.Exp(-waist*waist) - 0.12*t*t*(3-2*t)
}

// outline is about the distance to a superellipse with half axes a, b around
// (0, y0), negative inside: its level function over the length of the gradient,
// which is right near the outline, where it is used.
type outline struct{ ia, ib, y0 float32 }

func newOutline(a, b, y0 float64) outline {
	return outline{float32(1 / a), float32(1 / b), float32(y0)}
}

func (o outline) distance(x, y float32) float32 {
	u, v := abs(x)*o.ia, abs(y-o.y0)*o.ib
	su, sv := u*sqrt(u), v*sqrt(v) // u^1.5, v^1.5
	gu, gv := su*o.ia, sv*o.ib
	return (u*su + v*sv - 1) / (exponent*sqrt(gu*gu+gv*gv) + 1e-6)
}

// diaphragm returns the canonical height of the diaphragm at (x,y).
func (sc *scene) diaphragm(x, y float32) float32 {
	h := float32(-1e9)
	for i := range sc.domes {
		d := &sc.domes[i]
		u, v := (x-d[0])*d[2], (y-d[1])*d[3]
		// The smooth maximum, 15 mm wide.
		h = -smoothMin(-h, d[5]*(u*u+v*v)-d[4], 15)
	}
	return h
}

// trunk paints air, couch, skin, fat, muscle, the fat of the cavity and the
// lungs, and fills the slice's clip fields.
func (s *slice) trunk(k int) {
	sc, b := s.sc, &s.sc.p.Body
	g := &sc.p.Geometry
	z := (g.Origin[2] + float64(k)*g.Spacing[2] - sc.p.Centre[2]) / sc.p.Scale[2]
	w := taper(z)
	ca, cb := b.Cavity[0]*w, b.Cavity[1]*w
	cavity := newOutline(ca, cb, 0)
	outA := ca + b.Wall + b.Fat
	outB := cb + b.Wall + (b.Front+b.Back)/2
	skin := newOutline(outA, outB, (b.Back-b.Front)/2)

	couchTop := (b.Cavity[1]+b.Wall+b.Back)*sc.p.Scale[1] + sc.p.Centre[1] + b.Couch // mm, LPS
	lungs := z > sc.lungFloor
	edge := 1 / sc.edge
	for j := range s.ny {
		py := g.Origin[1] + float64(j)*g.Spacing[1]
		for i := range s.nx {
			n := j*s.nx + i
			x, y := s.x[n], s.y[n]
			hu := float32(-1000)
			s.cavity[n] = 1e3
			if abs(x) > sc.reach[0] || abs(y) > sc.reach[1] {
				s.hu[n] = couch(hu, g.Origin[0]+float64(i)*g.Spacing[0]-sc.p.Centre[0], py-couchTop, b)
				continue
			}
			d := skin.distance(x, y)
			if d > -0.5/edge {
				hu = couch(hu, g.Origin[0]+float64(i)*g.Spacing[0]-sc.p.Centre[0], py-couchTop, b)
			}
			if d < 0.5/edge {
				hu = mixHU(hu, 10, 0.5-d*edge)
				hu = mixHU(hu, float32(b.FatHU)+s.tex[n], 0.5-(d+2.2)*edge)
				c := cavity.distance(x, y)
				hu = mixHU(hu, float32(b.Muscle)+s.tex[n], 0.5-(c-float32(b.Wall))*edge)
				hu = mixHU(hu, float32(b.Visc)+1.5*s.tex[n], 0.5-c*edge)
				s.cavity[n] = c
				if lungs && c < 0 {
					hu = s.lung(n, hu, c)
				}
			}
			s.hu[n] = hu
		}
	}
}

// lung paints what is above the diaphragm: lung, or the mediastinum between the
// lungs, with a sheet of muscle below. c is the distance to the body wall.
func (s *slice) lung(n int, hu, c float32) float32 {
	sc := s.sc
	x, y, z := s.x[n], s.y[n], s.z[n]
	above := z - sc.diaphragm(x, y)
	if above < -6 {
		return hu
	}
	edge := 1 / sc.edge
	muscle := float32(sc.p.Body.Muscle)
	hu = mixHU(hu, muscle, 0.5+(above+3)*edge)
	// The mediastinum: an ellipse from breastbone to spine.
	u, v := (x-4)/36, (y-10)/72
	q := u*u + v*v
	med := (q - 1) * 18 // about mm outside it
	hu = mixHU(hu, float32(sc.p.Body.Visc)+40+2*s.tex[n], min(0.5+above*edge, 0.5-(med-2)*edge))
	in := min(above, -c-3, med)
	return mixHU(hu, float32(sc.p.Body.LungHU)+6*s.tex[n], 0.5+in*edge)
}

// couch is the HU of the couch: two thin shells with foam between them, x mm
// from its middle and y mm below its top.
func couch(hu float32, x, y float64, b *Body) float32 {
	if x < -215 || x > 215 {
		return hu
	}
	y += b.Curve * x * x
	switch {
	case y < 0 || y > 45:
		return hu
	case y < 3 || y > 42:
		return float32(b.CouchHU)
	}
	return -940
}

// mixHU goes from a to b as t goes from 0 to 1.
func mixHU(a, b, t float32) float32 {
	if t <= 0 {
		return a
	}
	return a + (b-a)*min(t, 1)
}
