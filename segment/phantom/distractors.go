package phantom

import "math"

// What carries no label: bones, muscles, the heart, the bowel.

// bones are vertebrae, ribs and the wings of the pelvis.
func (d *draw) bones(b *Body) []Object {
	cancellous, cortical := d.normal(170, 25), d.normal(420, 50)
	bone := Material{HU: cortical, Rim: 1.8, Core: cancellous, Texture: 6}
	upright := rotation([3]float64{})
	var body, rear []Solid
	const pitch = 33.0 // of the vertebrae
	first := d.uniform(-pitch, 0)
	for z := first - 8*pitch; z < 280; z += pitch {
		body = append(body, Solid{Kind: Box, A: [3]float64{0, 53, z}, Radii: [3]float64{12, 7, 4}, RadiusA: 9, Axes: upright})
		rear = append(rear,
			Solid{Kind: Box, A: [3]float64{0, 93, z - 6}, Radii: [3]float64{1, 11, 7}, RadiusA: 2, Axes: upright},
			Solid{Kind: Box, A: [3]float64{-12, 82, z}, Radii: [3]float64{1.5, 6, 9}, RadiusA: 3, Axes: rotation([3]float64{0, 0, 0.8})},
			Solid{Kind: Box, A: [3]float64{12, 82, z}, Radii: [3]float64{1.5, 6, 9}, RadiusA: 3, Axes: rotation([3]float64{0, 0, -0.8})},
			Solid{Kind: Capsule, A: [3]float64{-16, 74, z + 4}, B: [3]float64{-36, 82, z + 4}, RadiusA: 4.5, RadiusB: 3.5, Radii: [3]float64{1, 1, 1}},
			Solid{Kind: Capsule, A: [3]float64{16, 74, z + 4}, B: [3]float64{36, 82, z + 4}, RadiusA: 4.5, RadiusB: 3.5, Radii: [3]float64{1, 1, 1}})
	}
	column := Solid{Kind: Capsule, A: [3]float64{0, 54, -400}, B: [3]float64{0, 54, 400}, RadiusA: 18, RadiusB: 18, Radii: [3]float64{1, 1, 1}}
	canal := Solid{Kind: Capsule, A: [3]float64{0, 77, -400}, B: [3]float64{0, 77, 400}, RadiusA: 7.5, RadiusB: 7.5, Radii: [3]float64{1, 1, 1}}
	wings := []Solid{
		d.ball([3]float64{-84, 40, -205}, [3]float64{9, 48, 62}, [3]float64{0, -18, 25}),
		d.ball([3]float64{84, 40, -205}, [3]float64{9, 48, 62}, [3]float64{0, 18, -25}),
	}
	return []Object{
		{Name: "discs", Solids: []Solid{column}, Material: Material{HU: 85, Texture: 1}},
		{Name: "vertebrae", Solids: body, Material: bone},
		{Name: "arches", Solids: rear, Material: Material{HU: cortical, Rim: 2.5, Core: cancellous, Texture: 4}},
		{Name: "spinal canal", Solids: []Solid{canal}, Material: Material{HU: 25}},
		{Name: "pelvis", Solids: wings, Material: bone},
		{Name: "ribs", Solids: d.ribs(b), Material: Material{HU: cortical, Rim: 1.8, Core: cancellous, Texture: 4}},
	}
}

// ribs run in the wall from the spine around the trunk, sloping down to the
// front; the lowest ones are short.
func (d *draw) ribs(b *Body) []Solid {
	var out []Solid
	shift := d.normal(0, 8)
	for n := range 10 {
		z := 32 + shift + 25*float64(n)
		last := math.Min(1.1+0.35*float64(n), 2.5) // angle from the spine at which the rib ends
		for _, side := range []float64{-1, 1} {
			var points [][3]float64
			var radii []float64
			for a := 0.3; a < last; a += 0.22 {
				sin, cos := math.Sincos(a)
				h := z - 75*a/2.5
				w := taper(h)
				u, v := sin/(b.Cavity[0]*w+5), math.Abs(cos)/(b.Cavity[1]*w+5)
				r := math.Pow(math.Pow(u, exponent)+math.Pow(v, exponent), -1/exponent)
				points = append(points, [3]float64{side * r * sin, r * cos, h})
				radii = append(radii, 5)
			}
			out = append(out, d.tube(points, radii, 0.3)...)
		}
	}
	return out
}

// muscles are those beside the spine, before and behind, and the two legs of
// the diaphragm.
func (d *draw) muscles(b *Body) []Object {
	f := d.normal(1, 0.1)
	var back, psoas, crura []Solid
	for _, s := range []float64{-1, 1} {
		back = append(back,
			Solid{Kind: Capsule, A: [3]float64{s * 26, 92, -400}, B: [3]float64{s * 24, 94, 400}, RadiusA: 20 * f, RadiusB: 17 * f, Radii: [3]float64{1, 1, 1}},
			Solid{Kind: Capsule, A: [3]float64{s * 48, 90, -400}, B: [3]float64{s * 44, 92, 400}, RadiusA: 17 * f, RadiusB: 13 * f, Radii: [3]float64{1, 1, 1}})
		psoas = append(psoas, d.tube([][3]float64{{s * 22, 50, 30}, {s * 32, 52, -20}, {s * 42, 50, -90}, {s * 52, 40, -180}, {s * 62, 25, -300}},
			scaled([]float64{5, 11, 18, 22, 22}, f), 1.5)...)
		crura = append(crura, d.tube([][3]float64{{s*6 + 4, 34, -30}, {s*14 + 6, 30, 30}, {s*18 + 7, 20, 75}, {s*14 + 8, 2, 98}}, []float64{3.5, 4.5, 5, 4}, 1)...)
	}
	m := Material{HU: b.Muscle, Texture: 1.5}
	return []Object{
		{Name: "back muscles", Solids: back, Blend: 6, Material: m},
		{Name: "psoas muscles", Solids: psoas, Blend: 2, InCavity: true, Material: m},
		{Name: "crura", Solids: crura, Blend: 2, Material: m},
	}
}

func (d *draw) heart(c contrast) Object {
	f := d.normal(1, 0.06)
	return Object{Name: "heart", Blend: 12, InCavity: true,
		Solids: []Solid{
			d.ball([3]float64{26, -34, 146}, [3]float64{56 * f, 40 * f, 40 * f}, [3]float64{0, 15, -25}),
			d.ball([3]float64{-8, -20, 168}, [3]float64{40 * f, 36 * f, 46 * f}, [3]float64{}),
		},
		Material: Material{HU: 95, Rim: 9, Core: c.heart, Texture: 1}}
}

// bowel are the colon as a frame and loops of small bowel inside it, with HU
// like those of organs, fluid, stool or gas. Slim patients' loops lie closer.
func (d *draw) bowel(build float64) []Object {
	hollow := func(name string, points [][3]float64, r float64) Object {
		radii := make([]float64, len(points))
		for i := range radii {
			radii[i] = r * d.uniform(0.8, 1.25)
		}
		hu := d.uniform(0, 70)
		if d.chance(0.15) {
			hu = d.uniform(150, 350) // oral contrast
		}
		top := points[len(points)/2][1] + d.uniform(-r, r)
		return Object{Name: name, Solids: d.tube(points, radii, 5), Blend: 3, InCavity: true,
			Material: Material{HU: d.uniform(55, 100), Rim: d.uniform(2, 3.5), Core: hu, Texture: d.uniform(1, 8),
				Gas: d.chance(0.5), GasTop: top}}
	}
	out := []Object{
		hollow("ascending colon", [][3]float64{{-88, 10, -190}, {-95, 12, -130}, {-96, 8, -80}, {-88, -10, -45}}, 21),
		hollow("transverse colon", [][3]float64{{-90, -20, -48}, {-60, -62, -50}, {0, -72, -60}, {55, -66, -30}, {92, -30, 8}}, 18),
		hollow("descending colon", [][3]float64{{98, 0, 12}, {104, 18, -40}, {102, 20, -110}, {90, 15, -190}}, 16),
	}
	for range 18 + int(12*(1-build)) {
		c := [3]float64{d.uniform(-68, 78), d.uniform(-66, -14), d.uniform(-230, -50)}
		if d.chance(0.25) { // the jejunum, upper left
			c = [3]float64{d.uniform(35, 88), d.uniform(-55, -5), d.uniform(-60, 5)}
		}
		out = append(out, hollow("small bowel", [][3]float64{
			add(c, d.vector(16)), c, add(c, d.vector(16)), add(c, d.vector(22)),
		}, d.uniform(9, 14)))
	}
	return out
}
