package phantom

import "math"

// scene is a phantom prepared for rendering; slices of it are rendered by many
// goroutines, which only read it.
type scene struct {
	p       *Params
	objects []object
	warp    [3]*lattice // displacement along x, y, z, mm
	texture *lattice    // HU
	slack   float64     // mm: the largest displacement
	sin     float64     // of the roll
	cos     float64
	edge    float32 // canonical mm over which two tissues blend at an edge

	domes     [3][6]float32 // X, Y, 1/RX, 1/RY, Top, Drop
	lungFloor float64       // canonical z below which no lung can be
	reach     [2]float32    // canonical |x|, |y| beyond which there is no body
	noiseC    float32       // noise kernel, see noiseSlice
}

type object struct {
	*Object
	solids, carve []compiled
}

func newScene(p *Params) *scene {
	sc := &scene{p: p, sin: math.Sin(p.Roll), cos: math.Cos(p.Roll), edge: 1.6}
	g := &p.Geometry
	var lo, hi [3]float64 // of the image, mm from Centre
	for i := range 3 {
		lo[i] = g.Origin[i] - p.Centre[i]
		hi[i] = lo[i] + float64(g.Size[i]-1)*g.Spacing[i]
	}
	// The waves are longer than 60 mm, so that straight lines over 10 mm will do.
	for axis := range 3 {
		sc.warp[axis] = newLattice(lo, hi, 10)
	}
	n := 0
	l := sc.warp[0]
	for k := range l.n[2] {
		for j := range l.n[1] {
			for i := range l.n[0] {
				x, y, z := lo[0]+l.pitch*float64(i), lo[1]+l.pitch*float64(j), lo[2]+l.pitch*float64(k)
				var v [3]float64
				for _, w := range p.Waves {
					s := math.Sin(w.Vector[0]*x + w.Vector[1]*y + w.Vector[2]*z + w.Phase)
					for axis := range 3 {
						v[axis] += w.Amplitude[axis] * s
					}
				}
				for axis := range 3 {
					sc.slack = math.Max(sc.slack, math.Abs(v[axis]))
					sc.warp[axis].values[n] = float32(v[axis])
				}
				n++
			}
		}
	}

	sc.texture = newLattice(lo, hi, 4)
	for i := range sc.texture.values {
		sc.texture.values[i] = gauss(mix(p.Seed ^ 0x7e87 + golden*uint64(i)))
	}
	sc.texture.smooth(float32(p.TextureSD / math.Pow(0.375, 1.5))) // (1 2 1)/4 leaves 0.375 of the variance per axis

	for i := range p.Objects {
		o := object{Object: &p.Objects[i]}
		for _, list := range []struct {
			from []Solid
			to   *[]compiled
		}{{o.Solids, &o.solids}, {o.Carve, &o.carve}} {
			for _, s := range list.from {
				c := compile(s)
				sc.place(&c, o.Blend+1)
				*list.to = append(*list.to, c)
			}
		}
		sc.objects = append(sc.objects, o)
	}
	b := &p.Body
	sc.lungFloor = math.Inf(1)
	for i, d := range b.Domes {
		sc.domes[i] = [6]float32{float32(d.X), float32(d.Y), float32(1 / d.RX), float32(1 / d.RY), float32(d.Top), float32(d.Drop)}
	}
	// The diaphragm is lowest at the edge of the cavity.
	for a := 0.0; a < 2*math.Pi; a += 0.1 {
		h := sc.diaphragm(float32(b.Cavity[0]*1.1*math.Cos(a)), float32(b.Cavity[1]*1.1*math.Sin(a)))
		sc.lungFloor = math.Min(sc.lungFloor, float64(h)-10-sc.slack)
	}
	sc.reach = [2]float32{float32(b.Cavity[0] + b.Wall + b.Fat + 4), float32(b.Cavity[1] + b.Wall + math.Max(b.Front, b.Back) + 4)}
	// Noise of a scanner is correlated over about a millimetre.
	px := g.Spacing[0] / 1.1
	sc.noiseC = float32(math.Exp(-px * px))
	return sc
}

// slice holds one worker's buffers, each of (ny, nx).
type slice struct {
	sc      *scene
	nx, ny  int
	x, y, z []float32 // canonical position of every voxel
	tex     []float32 // texture, HU
	hu      []float32
	cavity  []float32 // mm outside the cavity's wall
	field   []float32 // mm outside the object being painted
	planes  [4][]float32
	lines   [4][]float32
	row     []float32
}

func newSlice(sc *scene, nx, ny int) *slice {
	s := &slice{sc: sc, nx: nx, ny: ny, row: make([]float32, nx)}
	for _, b := range []*[]float32{&s.x, &s.y, &s.z, &s.tex, &s.hu, &s.cavity, &s.field} {
		*b = make([]float32, nx*ny)
	}
	for i, l := range []*lattice{sc.warp[0], sc.warp[1], sc.warp[2], sc.texture} {
		s.planes[i] = make([]float32, l.n[0]*l.n[1])
		s.lines[i] = make([]float32, l.n[0])
	}
	return s
}

// render paints slice k into hu and label, both (ny, nx).
func (s *slice) render(k int, hu []int16, label []uint8) {
	s.locate(k)
	clear(label)
	s.trunk(k)
	for i := range s.sc.objects {
		s.paint(&s.sc.objects[i], k, label)
	}
	// field is free now: it takes the noise.
	noiseSlice(s.field, s.row, s.nx, s.ny, s.sc.noiseC, mix(s.sc.p.Seed+golden*uint64(k+1)))
	sd := float32(s.sc.p.NoiseSD)
	for i, v := range s.hu {
		v += sd * s.field[i]
		hu[i] = int16(math.Floor(float64(min(max(v, -1024), 3071)) + 0.5))
	}
}

// locate computes the canonical position and the texture of every voxel.
func (s *slice) locate(k int) {
	sc, g := s.sc, &s.sc.p.Geometry
	dz := g.Origin[2] + float64(k)*g.Spacing[2] - sc.p.Centre[2]
	lats := [4]*lattice{sc.warp[0], sc.warp[1], sc.warp[2], sc.texture}
	for c, l := range lats {
		l.plane(s.planes[c], dz)
	}
	ix, iy, iz := float32(1/sc.p.Scale[0]), float32(1/sc.p.Scale[1]), float32(1/sc.p.Scale[2])
	cos, sin := float32(sc.cos), float32(sc.sin)
	for j := range s.ny {
		dy := g.Origin[1] + float64(j)*g.Spacing[1] - sc.p.Centre[1]
		for c, l := range lats {
			l.line(s.lines[c], s.planes[c], dy)
		}
		x0, x1, x2, tx := s.lines[0], s.lines[1], s.lines[2], s.lines[3]
		step, tstep := float32(g.Spacing[0]/lats[0].pitch), float32(g.Spacing[0]/lats[3].pitch)
		for i := range s.nx {
			dx := float32(g.Origin[0] + float64(i)*g.Spacing[0] - sc.p.Centre[0])
			t := float32(i) * step
			q := min(int(t), len(x0)-2)
			f := t - float32(q)
			wx, wy, wz := x0[q]+f*(x0[q+1]-x0[q]), x1[q]+f*(x1[q+1]-x1[q]), x2[q]+f*(x2[q+1]-x2[q])
			t = float32(i) * tstep
			q = min(int(t), len(tx)-2)
			n := j*s.nx + i
			s.tex[n] = tx[q] + (t-float32(q))*(tx[q+1]-tx[q])
			s.x[n] = (cos*dx + sin*float32(dy) + wx) * ix
			s.y[n] = (cos*float32(dy) - sin*dx + wy) * iy
			s.z[n] = (float32(dz) + wz) * iz
		}
	}
}

// place finds the box in the image, mm from Centre, outside which a solid is
// farther away than margin (canonical mm).
func (sc *scene) place(c *compiled, margin float64) {
	p := sc.p
	// The solid's box in millimetres, rolled back around its middle.
	var middle, half [3]float64
	for i := range 3 {
		middle[i] = (c.lo[i] + c.hi[i]) / 2 * p.Scale[i]
		half[i] = ((c.hi[i]-c.lo[i])/2 + margin) * p.Scale[i]
	}
	a, b := math.Abs(sc.cos), math.Abs(sc.sin)
	middle[0], middle[1] = sc.cos*middle[0]-sc.sin*middle[1], sc.cos*middle[1]+sc.sin*middle[0]
	half[0], half[1] = a*half[0]+b*half[1], a*half[1]+b*half[0]
	// Displacement, as it is where the box may have come from: p + d(p) lies in it.
	var lo, hi [3]int
	l := sc.warp[0]
	for i := range 3 {
		lo[i], _ = l.cell(i, middle[i]-half[i]-sc.slack)
		hi[i], _ = l.cell(i, middle[i]+half[i]+sc.slack)
	}
	least, most := [3]float64{1e9, 1e9, 1e9}, [3]float64{-1e9, -1e9, -1e9}
	for z := lo[2]; z <= hi[2]+1; z++ {
		for y := lo[1]; y <= hi[1]+1; y++ {
			for n := (z*l.n[1]+y)*l.n[0] + lo[0]; n <= (z*l.n[1]+y)*l.n[0]+hi[0]+1; n++ {
				for i := range 3 {
					v := float64(sc.warp[i].values[n])
					least[i], most[i] = math.Min(least[i], v), math.Max(most[i], v)
				}
			}
		}
	}
	// The displacement is rolled no more than the positions are: add what little
	// the roll makes of it.
	roll := sc.slack * (b + 1 - a)
	for i := range 3 {
		c.from[i], c.to[i] = middle[i]-half[i]-most[i]-roll, middle[i]+half[i]-least[i]+roll
	}
}

// rect is the part of slice k, from (x0,y0) to below (x1,y1), that a solid may
// touch; false if none.
func (s *slice) rect(c *compiled, k int) (r [4]int, ok bool) {
	g, centre := &s.sc.p.Geometry, &s.sc.p.Centre
	z := g.Origin[2] + float64(k)*g.Spacing[2] - centre[2]
	if z < c.from[2] || z > c.to[2] {
		return r, false
	}
	bound := func(v float64, axis, n int) int {
		return min(max(int(math.Ceil((v+centre[axis]-g.Origin[axis])/g.Spacing[axis])), 0), n)
	}
	r = [4]int{bound(c.from[0], 0, s.nx), bound(c.from[1], 1, s.ny), bound(c.to[0], 0, s.nx), bound(c.to[1], 1, s.ny)}
	return r, r[0] < r[2] && r[1] < r[3]
}

// paint draws one object: its distance field first, then its material.
func (s *slice) paint(o *object, k int, label []uint8) {
	all := [4]int{s.nx, s.ny, 0, 0}
	rects := make([][4]int, len(o.solids))
	for i := range o.solids {
		r, ok := s.rect(&o.solids[i], k)
		if !ok {
			continue
		}
		rects[i] = r
		all = [4]int{min(all[0], r[0]), min(all[1], r[1]), max(all[2], r[2]), max(all[3], r[3])}
	}
	if all[0] >= all[2] {
		return
	}
	blend := max(float32(o.Blend), 1e-3)
	s.each(all, func(n int) { s.field[n] = 1e3 })
	for i := range o.solids {
		c := &o.solids[i]
		s.each(rects[i], func(n int) {
			s.field[n] = smoothMin(s.field[n], c.distance(s.x[n], s.y[n], s.z[n]), blend)
		})
	}
	for i := range o.carve {
		c := &o.carve[i]
		if r, ok := s.rect(c, k); ok {
			r = [4]int{max(r[0], all[0]), max(r[1], all[1]), min(r[2], all[2]), min(r[3], all[3])}
			s.each(r, func(n int) {
				s.field[n] = -smoothMin(-s.field[n], c.distance(s.x[n], s.y[n], s.z[n]), blend)
			})
		}
	}
	s.each(all, func(n int) { s.shade(o, n, label) })
}

// shade paints voxel n with the object's material.
func (s *slice) shade(o *object, n int, label []uint8) {
	d := s.field[n]
	half := s.sc.edge / 2
	if d >= half || (o.Within != 0 && label[n] != o.Within) {
		return
	}
	if o.InCavity {
		d = max(d, s.cavity[n]+1)
	}
	if o.UnderDiaphragm {
		d = max(d, s.z[n]-s.sc.diaphragm(s.x[n], s.y[n])+2)
	}
	if d >= half {
		return
	}
	m := &o.Material
	hu := float32(m.HU)
	if m.Rim > 0 {
		core := float32(m.Core)
		if m.Gas {
			core = mixHU(core, -960, 0.5+(float32(m.GasTop)-s.y[n])/s.sc.edge)
		}
		hu = mixHU(hu, core, 0.5-(d+float32(m.Rim))/s.sc.edge)
	}
	hu += float32(m.Texture) * s.tex[n]
	s.hu[n] = mixHU(s.hu[n], hu, 0.5-d/s.sc.edge)
	if d < 0 {
		label[n] = o.Label
	}
}

// each calls do for the voxels of a rectangle.
func (s *slice) each(r [4]int, do func(n int)) {
	for j := r[1]; j < r[3]; j++ {
		for n := j*s.nx + r[0]; n < j*s.nx+r[2]; n++ {
			do(n)
		}
	}
}
