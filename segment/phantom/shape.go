package phantom

import "math"

// Kind is the kind of a solid.
type Kind uint8

// The kinds of solid.
const (
	Ball    Kind = iota // ellipsoid: Centre, Radii, Axes
	Capsule             // segment from A to B whose radius goes from RadiusA to RadiusB
	Box                 // box with half sides Radii, rounded by RadiusA: Centre, Axes
)

// Solid is a shape in canonical mm.
type Solid struct {
	Kind             Kind
	A                [3]float64 // centre, or a capsule's first end
	B                [3]float64 // a capsule's second end
	Radii            [3]float64
	RadiusA, RadiusB float64
	Axes             [9]float64 // row-major: rows are the solid's axes
}

// Material says which HU an object's inside has, by depth below its surface.
type Material struct {
	HU      float64 // of the outer layer, or of all where Rim is 0
	Rim     float64 // mm, thickness of the outer layer
	Core    float64 // HU below the outer layer
	Gas     bool    // the core is gas where y is less than GasTop (gas rises to anterior)
	GasTop  float64 // canonical y of the gas-fluid level
	Texture float64 // multiplies the texture of the soft tissue
}

// Object is a union of solids less the carved ones, with a material.
type Object struct {
	Name   string
	Label  uint8 // 0 for what is no organ
	Within uint8 // if not 0, only voxels with this label are painted (a vessel or lesion inside an organ)

	Solids []Solid
	Carve  []Solid
	Blend  float64 // mm over which united and carved solids flow into each other

	InCavity       bool // clipped to the inside of the body wall
	UnderDiaphragm bool // clipped to below the lungs
	Material       Material
}

// compiled is a Solid prepared for evaluation, in float32.
type compiled struct {
	kind           Kind
	c, dir         [3]float32 // centre or A; B - A
	inv            [3]float32 // 1 / radii
	half           [3]float32
	axes           [9]float32
	ra, dr, invLen float32    // radius at A, radius change towards B, 1 / |B-A|^2
	lo, hi         [3]float64 // the box around it, canonical
	from, to       [3]float64 // the box around it in the image, mm from Centre
}

func compile(s Solid) compiled {
	c := compiled{kind: s.Kind, ra: float32(s.RadiusA), dr: float32(s.RadiusB - s.RadiusA)}
	reach := math.Max(s.RadiusA, s.RadiusB)
	length := 0.0
	for i := range 3 {
		c.c[i] = float32(s.A[i])
		c.dir[i] = float32(s.B[i] - s.A[i])
		c.half[i] = float32(s.Radii[i])
		c.inv[i] = float32(1 / s.Radii[i])
		length += (s.B[i] - s.A[i]) * (s.B[i] - s.A[i])
	}
	c.invLen = float32(1 / math.Max(length, 1e-6))
	for i := range 9 {
		c.axes[i] = float32(s.Axes[i])
	}
	for i := range 3 {
		if s.Kind == Capsule {
			c.lo[i] = math.Min(s.A[i], s.B[i]) - reach
			c.hi[i] = math.Max(s.A[i], s.B[i]) + reach
			continue
		}
		// Half extent along axis i of a rotated ellipsoid, or of a rotated box.
		e2, e1 := 0.0, 0.0
		for j := range 3 {
			v := s.Radii[j] * s.Axes[3*j+i]
			e2 += v * v
			e1 += math.Abs(v)
		}
		e := math.Sqrt(e2)
		if s.Kind == Box {
			e = e1 + s.RadiusA
		}
		c.lo[i], c.hi[i] = s.A[i]-e, s.A[i]+e
	}
	return c
}

// distance is about the distance in mm from (x,y,z) to the surface, negative
// inside: exact for capsules and boxes, to first order for ellipsoids.
func (c *compiled) distance(x, y, z float32) float32 {
	x, y, z = x-c.c[0], y-c.c[1], z-c.c[2]
	switch c.kind {
	case Capsule:
		t := (x*c.dir[0] + y*c.dir[1] + z*c.dir[2]) * c.invLen
		t = min(max(t, 0), 1)
		x, y, z = x-t*c.dir[0], y-t*c.dir[1], z-t*c.dir[2]
		return sqrt(x*x+y*y+z*z) - c.ra - t*c.dr
	case Ball:
		u := (c.axes[0]*x + c.axes[1]*y + c.axes[2]*z) * c.inv[0]
		v := (c.axes[3]*x + c.axes[4]*y + c.axes[5]*z) * c.inv[1]
		w := (c.axes[6]*x + c.axes[7]*y + c.axes[8]*z) * c.inv[2]
		q := u*u + v*v + w*w
		u, v, w = u*c.inv[0], v*c.inv[1], w*c.inv[2]
		// (q-1) / |grad q| * 2/(1+1/sqrt q), which is exact for a sphere.
		k := sqrt(q)
		return k * (k - 1) / (sqrt(u*u+v*v+w*w) + 1e-9)
	default:
		u := abs(c.axes[0]*x+c.axes[1]*y+c.axes[2]*z) - c.half[0]
		v := abs(c.axes[3]*x+c.axes[4]*y+c.axes[5]*z) - c.half[1]
		w := abs(c.axes[6]*x+c.axes[7]*y+c.axes[8]*z) - c.half[2]
		inside := min(max(u, v, w), 0)
		u, v, w = max(u, 0), max(v, 0), max(w, 0)
		return sqrt(u*u+v*v+w*w) + inside - c.ra
	}
}

// smoothMin is the minimum of a and b with the crease rounded over about k mm
// (a quadratic where they differ by less than k).
func smoothMin(a, b, k float32) float32 {
	switch d := a - b; {
	case d >= k:
		return b
	case d <= -k:
		return a
	case d > 0:
		return b - (k-d)*(k-d)/(4*k)
	default:
		return a - (k+d)*(k+d)/(4*k)
	}
}

func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

func abs(x float32) float32 { return float32(math.Abs(float64(x))) }
