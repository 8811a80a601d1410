package phantom

import (
	"math"
	"math/rand/v2"

	"github.com/libflare/libflare/segment/volume"
)

// Size is the grid of a phantom.
type Size int

// The sizes. The same (seed, index) is the same patient in the same field of
// view in both.
const (
	Small    Size = iota // 3 mm isotropic, about 130 x 130 x 115 voxels
	Clinical             // 512 x 512 x 130 to 180, pixels of 0.68 to 0.85 mm, slices of 2 to 2.5 mm
)

// Sample draws phantom number index of the series seed. The same arguments
// always give the same parameters.
func Sample(seed uint64, index int, size Size) Params {
	d := &draw{r: rand.New(rand.NewPCG(seed, mix(uint64(index)+golden)))}
	var p Params
	p.Seed = d.r.Uint64()

	// The patient: from slim to obese. Fat fills the cavity as well as the wall.
	build := d.uniform(0, 1)
	build *= build
	p.Scale = [3]float64{
		d.uniform(0.88, 1.02) + 0.12*build,
		d.uniform(0.88, 1.02) + 0.18*build,
		d.uniform(0.90, 1.12),
	}
	p.Roll = d.normal(0, 0.05)
	p.Body = d.body(build)
	p.Waves = d.waves(14, 0.011)
	p.NoiseSD = d.uniform(8, 25)
	p.TextureSD = d.uniform(3, 7)
	p.Objects = d.anatomy(&p.Body, build)

	p.Geometry = d.geometry(&p)
	if size == Small {
		g := &p.Geometry
		for i := range 3 {
			extent := float64(g.Size[i]) * g.Spacing[i]
			g.Size[i] = int(math.Round(extent / 3))
			g.Origin[i] += 1.5 - g.Spacing[i]/2 // the corner of the image stays
			g.Spacing[i] = 3
		}
	}
	return p
}

// geometry chooses the field of view around the patient and the patient's
// place in it.
func (d *draw) geometry(p *Params) volume.Geometry {
	b := &p.Body
	width := 2 * (b.Cavity[0] + b.Wall + b.Fat) * p.Scale[0]
	pixel := math.Min(math.Max((width+d.uniform(8, 60))/512, 0.68), 0.85)
	g := volume.Geometry{
		Size:      [3]int{512, 512, 130 + d.r.IntN(51)},
		Spacing:   [3]float64{pixel, pixel, 2 + 0.125*float64(d.r.IntN(5))},
		Direction: volume.Identity,
	}
	length := float64(g.Size[2]) * g.Spacing[2]
	// Usually the whole abdomen; sometimes its top or its bottom is cut off.
	middle := d.normal(5, 12)
	switch c := d.uniform(0, 1); {
	case c < 0.08: // starts in the liver
		middle = d.uniform(60, 95) - length/2
	case c < 0.16: // ends at the kidneys
		middle = length/2 - d.uniform(20, 60)
	}
	// Scanner coordinates: z counts from anywhere, x and y from the isocentre.
	p.Centre = [3]float64{d.normal(0, 6), d.normal(0, 8) + (b.Front-b.Back)/4, d.uniform(-900, 300)}
	for i := range 2 {
		g.Origin[i] = -pixel * 511 / 2
	}
	g.Origin[2] = p.Centre[2] + middle*p.Scale[2] - length/2
	for i := range 3 { // files keep such numbers with few digits
		g.Origin[i] = math.Round(g.Origin[i]*100) / 100
	}
	g.Spacing[0] = math.Round(pixel*1e4) / 1e4
	g.Spacing[1] = g.Spacing[0]
	return g
}

func (d *draw) body(build float64) Body {
	fat := d.uniform(3, 10) + 28*build
	b := Body{
		Cavity:  [2]float64{128, 90},
		Wall:    d.uniform(10, 15),
		Fat:     fat,
		Front:   fat * d.uniform(0.7, 1.3),
		Back:    fat*d.uniform(0.6, 1) + 8,
		Couch:   d.uniform(0, 10),
		Curve:   d.uniform(0, 0.0012),
		FatHU:   d.normal(-105, 6),
		Visc:    d.normal(-100, 6) + 25*(1-build)*d.uniform(0, 1),
		Muscle:  d.normal(58, 6),
		LungHU:  d.normal(-850, 30),
		CouchHU: d.uniform(-300, 100),
	}
	breath := d.normal(0, 6)
	b.Domes = [3]Dome{
		{-60 + d.normal(0, 4), -8 + d.normal(0, 5), 62, 78, 116 + breath + d.normal(0, 4), 70},
		{60 + d.normal(0, 4), -5 + d.normal(0, 5), 60, 78, 106 + breath + d.normal(0, 5), 70},
		{5, -20, 60, 80, 98 + breath, 70},
	}
	return b
}

// waves draws n plane waves of 60 to 200 mm; steep is the root mean square of
// each one's slope, which keeps the sum from folding space.
func (d *draw) waves(n int, steep float64) []Wave {
	w := make([]Wave, n)
	for i := range w {
		length := d.uniform(60, 200)
		a, c := d.uniform(0, 2*math.Pi), d.uniform(-1, 1)
		s := math.Sqrt(1 - c*c)
		k := 2 * math.Pi / length
		w[i] = Wave{
			Vector:    [3]float64{k * s * math.Cos(a), k * s * math.Sin(a), k * c},
			Phase:     d.uniform(0, 2*math.Pi),
			Amplitude: [3]float64{d.normal(0, steep*length), d.normal(0, steep*length), d.normal(0, steep*length)},
		}
	}
	return w
}

// draw is a source of random numbers with the distributions used here.
type draw struct{ r *rand.Rand }

func (d *draw) uniform(lo, hi float64) float64 { return lo + (hi-lo)*d.r.Float64() }

func (d *draw) chance(p float64) bool { return d.r.Float64() < p }

// normal is cut at 2.5 standard deviations: no monsters.
func (d *draw) normal(mean, sd float64) float64 {
	return mean + sd*math.Min(math.Max(d.r.NormFloat64(), -2.5), 2.5)
}

// vector is a normal displacement with standard deviation sd along each axis.
func (d *draw) vector(sd float64) [3]float64 {
	return [3]float64{d.normal(0, sd), d.normal(0, sd), d.normal(0, sd)}
}

// ball is an ellipsoid at c, turned by Euler angles (degrees, about x, y, z)
// with some variation of everything.
func (d *draw) ball(c, radii, turn [3]float64) Solid {
	for i := range 3 {
		radii[i] *= d.normal(1, 0.05)
		turn[i] = (turn[i] + d.normal(0, 5)) * math.Pi / 180
	}
	return Solid{Kind: Ball, A: c, Radii: radii, Axes: rotation(turn)}
}

// tube is a smooth tube through points with the given radii, as capsules along
// a Catmull-Rom spline. Each point moves by a normal displacement of sd mm.
func (d *draw) tube(points [][3]float64, radii []float64, sd float64) []Solid {
	pts := make([][3]float64, len(points))
	for i := range points {
		pts[i] = add(points[i], d.vector(sd))
	}
	at := func(i int) [3]float64 { return pts[min(max(i, 0), len(pts)-1)] }
	const steps = 4
	var out []Solid
	prev, prevR := pts[0], radii[0]
	for i := 0; i+1 < len(pts); i++ {
		p0, p1, p2, p3 := at(i-1), at(i), at(i+1), at(i+2)
		for s := 1; s <= steps; s++ {
			t := float64(s) / steps
			var q [3]float64
			for a := range 3 {
				q[a] = 0.5 * (2*p1[a] + (p2[a]-p0[a])*t + (2*p0[a]-5*p1[a]+4*p2[a]-p3[a])*t*t +
					(3*p1[a]-p0[a]-3*p2[a]+p3[a])*t*t*t)
			}
			r := radii[i] + (radii[i+1]-radii[i])*t
			out = append(out, Solid{Kind: Capsule, A: prev, B: q, RadiusA: prevR, RadiusB: r, Radii: [3]float64{1, 1, 1}})
			prev, prevR = q, r
		}
	}
	return out
}

// rotation is the matrix of turns by angles (radians) about x, then y, then z,
// transposed: its rows are the turned axes.
func rotation(a [3]float64) [9]float64 {
	sx, cx := math.Sincos(a[0])
	sy, cy := math.Sincos(a[1])
	sz, cz := math.Sincos(a[2])
	return [9]float64{
		cz * cy, sz * cy, -sy,
		cz*sy*sx - sz*cx, sz*sy*sx + cz*cx, cy * sx,
		cz*sy*cx + sz*sx, sz*sy*cx - cz*sx, cy * cx,
	}
}

func add(a, b [3]float64) [3]float64 { return [3]float64{a[0] + b[0], a[1] + b[1], a[2] + b[2]} }

// scaled multiplies lengths by f.
func scaled(v []float64, f float64) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = v[i] * f
	}
	return out
}
