package phantom

// anatomy draws all objects, in the order in which they are painted: bones and
// muscles, what only distracts, then the organs, the small ones last.
func (d *draw) anatomy(b *Body, build float64) []Object {
	c := d.contrast()
	var o []Object
	o = append(o, d.muscles(b)...)
	o = append(o, d.bones(b)...)
	o = append(o, d.heart(c))
	o = append(o, d.bowel(build)...)

	// Neighbours move together: what lies around the head of the pancreas, and
	// what follows the breath.
	root := d.vector(4)
	upper := [3]float64{0, 0, d.normal(0, 6)}
	o = append(o, d.stomach(c, root, upper))
	o = append(o, d.liver(c, upper)...)
	if !d.chance(0.04) {
		o = append(o, d.spleen(c, upper)...)
	}
	right, left := add(d.vector(4), upper), add(d.vector(4), upper)
	one := d.uniform(0, 1) // sometimes a kidney is missing, rarely shrunken
	if one > 0.04 {
		o = append(o, d.kidney(c, RightKidney, right)...)
	}
	if one < 0.96 {
		o = append(o, d.kidney(c, LeftKidney, left)...)
	}
	o = append(o, d.portal(c, root)...)
	o = append(o, d.pancreas(c, root)...)
	o = append(o, d.duodenum(c, root))
	if !d.chance(0.12) {
		o = append(o, d.gallbladder(upper))
	}
	o = append(o, d.esophagus(root))
	o = append(o, d.vessels(c)...)
	o = append(o, d.adrenals(c, right, left)...)
	return o
}

// contrast holds the HU of this patient's organs.
type contrast struct {
	liver, spleen, cortex, medulla, pancreas, aorta, cava, portal, adrenal, bowel, heart float64
}

// contrast draws the moment after injection: late arterial to delayed portal
// venous, rarely no contrast at all.
func (d *draw) contrast() contrast {
	//                      liver spleen cortex medulla pancreas aorta cava portal adrenal bowel heart
	native := [11]float64{58, 48, 34, 30, 40, 40, 40, 40, 28, 35, 42}
	arterial := [11]float64{78, 125, 195, 110, 118, 260, 105, 130, 80, 80, 230}
	venous := [11]float64{112, 120, 190, 175, 98, 150, 145, 165, 72, 70, 145}
	late := [11]float64{98, 105, 170, 180, 85, 125, 125, 130, 60, 65, 120}
	from, to, t := venous, venous, 0.0
	switch c := d.uniform(0, 1); {
	case c < 0.05:
		from, to = native, native
	case c < 0.35:
		from, to, t = arterial, venous, d.uniform(0, 1)
	case c < 0.7:
		from, to, t = venous, late, d.uniform(0, 0.4)
	default:
		from, to, t = venous, late, d.uniform(0.2, 1)
	}
	dose := d.normal(1, 0.06)
	var h [11]float64
	for i := range h {
		h[i] = (from[i]+t*(to[i]-from[i]))*dose + d.normal(0, 5)
	}
	if d.chance(0.12) { // fatty liver
		h[0] -= d.uniform(10, 45)
	}
	return contrast{h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8], h[9], h[10]}
}

func (d *draw) liver(c contrast, upper [3]float64) []Object {
	f := d.normal(1.14, 0.08)
	left := d.uniform(0.75, 1.25) // the left lobe ends at the midline or reaches the spleen
	at := func(x, y, z float64) [3]float64 { return add([3]float64{x, y, z}, upper) }
	liver := Object{
		Name: "liver", Label: Liver, Blend: 22, InCavity: true, UnderDiaphragm: true,
		Solids: []Solid{
			d.ball(at(-66, -2, 48), [3]float64{66 * f, 82 * f, 88 * f * d.uniform(0.85, 1.1)}, [3]float64{0, 8, 0}),
			d.ball(at(-28, -30, 74), [3]float64{62 * f, 52 * f, 38 * f}, [3]float64{0, 10, -10}),
			d.ball(at(28*left, -42, 78), [3]float64{52 * f * left, 34 * f, 24 * f}, [3]float64{0, 12, 12}),
		},
		// The visceral face: bowel, stomach and the right kidney press from below and left.
		Carve: []Solid{
			d.ball(at(0, -28, -2), [3]float64{64, 62, 58}, [3]float64{0, 35, 0}),
			d.ball(at(0, 42, 40), [3]float64{44, 38, 95}, [3]float64{0, 0, 0}),
		},
		Material: Material{HU: c.liver, Texture: 1},
	}
	out := []Object{liver}
	// Hepatic and portal veins.
	var veins []Solid
	hilum := at(-32, -8, 38)
	for range 5 {
		end := at(d.uniform(-105, -10), d.uniform(-60, 45), d.uniform(20, 100))
		mid := [3]float64{(hilum[0] + end[0]) / 2, (hilum[1] + end[1]) / 2, (hilum[2] + end[2]) / 2}
		veins = append(veins, d.tube([][3]float64{hilum, mid, end}, []float64{5, 3.5, 2}, 6)...)
	}
	out = append(out, Object{Name: "liver veins", Label: Liver, Within: Liver, Solids: veins,
		Material: Material{HU: c.portal + 8}})
	if d.chance(0.35) {
		out = append(out, d.lesions("liver lesions", Liver, at(-65, -5, 55), 40, d.uniform(5, 80), 3, 16)...)
	}
	return out
}

// lesions are round spots of another HU within an organ.
func (d *draw) lesions(name string, label uint8, c [3]float64, spread, hu, rmin, rmax float64) []Object {
	var s []Solid
	for range 1 + d.r.IntN(4) {
		r := d.uniform(rmin, rmax)
		s = append(s, d.ball(add(c, d.vector(spread/2)), [3]float64{r, r, r}, [3]float64{}))
	}
	return []Object{{Name: name, Label: label, Within: label, Solids: s, Material: Material{HU: hu, Texture: 1}}}
}

func (d *draw) spleen(c contrast, upper [3]float64) []Object {
	f := d.normal(1, 0.12)
	at := add(add([3]float64{92, 28, 52}, upper), d.vector(4))
	return []Object{{
		Name: "spleen", Label: Spleen, Blend: 10, InCavity: true, UnderDiaphragm: true,
		Solids:   []Solid{d.ball(at, [3]float64{30 * f, 44 * f, 52 * f}, [3]float64{-20, 12, -25})},
		Carve:    []Solid{d.ball(add(at, [3]float64{-40, -18, -4}), [3]float64{30, 34, 46}, [3]float64{})},
		Material: Material{HU: c.spleen, Texture: 1},
	}}
}

func (d *draw) kidney(c contrast, label uint8, shift [3]float64) []Object {
	side, name, z := -1.0, "right kidney", -18.0
	if label == LeftKidney {
		side, name, z = 1, "left kidney", -4
	}
	f := d.normal(1, 0.08)
	if d.chance(0.04) {
		f *= 0.75
	}
	at := add([3]float64{side * 64, 38, z}, shift)
	turn := [3]float64{14, -side * 12, side * 20} // upper pole towards the spine and to the back
	whole := d.ball(at, [3]float64{27 * f, 25 * f, 54 * f}, turn)
	hilum := d.ball(add(at, [3]float64{-side * 22 * f, -7 * f, 0}), [3]float64{13 * f, 9 * f, 17 * f}, turn)
	o := []Object{
		// Fat fills the hilum, not the organ that the kidney presses into.
		{Name: "renal sinus", Solids: []Solid{whole}, InCavity: true, Material: Material{HU: -95, Texture: 1}},
		{Name: name, Label: label, Blend: 6, InCavity: true, Solids: []Solid{whole}, Carve: []Solid{hilum},
			Material: Material{HU: c.cortex, Rim: 7, Core: c.medulla, Texture: 1}},
	}
	if d.chance(0.25) {
		s := d.ball(add(at, [3]float64{side * d.uniform(0, 15), d.normal(0, 8), d.normal(0, 28)}), [3]float64{9, 9, 9}, [3]float64{})
		o = append(o, Object{Name: name + " cyst", Label: label, Within: label, Solids: []Solid{s},
			Material: Material{HU: d.uniform(0, 20), Texture: 0.5}})
	}
	return o
}

func (d *draw) pancreas(c contrast, root [3]float64) []Object {
	f := d.normal(1, 0.1)
	points := [][3]float64{{-26, -2, -30}, {-28, -8, -12}, {-14, -20, 2}, {8, -26, 12}, {34, -16, 22}, {58, 4, 32}, {78, 16, 40}}
	for i := range points {
		points[i] = add(points[i], root)
	}
	return []Object{{Name: "pancreas", Label: Pancreas, Blend: 2, InCavity: true,
		Solids:   d.tube(points, scaled([]float64{8, 14.5, 11, 10, 11, 10.5, 8.5}, f), 2.5),
		Material: Material{HU: c.pancreas, Texture: 1.5}}}
}

func (d *draw) gallbladder(upper [3]float64) Object {
	f := d.uniform(0.75, 1.2)
	neck := add(add([3]float64{-38, -30, 18}, upper), d.vector(3))
	fundus := add(neck, [3]float64{-14 + d.normal(0, 4), -24 * f, -34 * f})
	hu := d.normal(10, 6)
	if d.chance(0.1) { // sludge or vicarious contrast
		hu += d.uniform(20, 60)
	}
	return Object{Name: "gallbladder", Label: Gallbladder, InCavity: true,
		Solids: d.tube([][3]float64{neck, add(neck, [3]float64{-5, -11 * f, -15 * f}), fundus},
			scaled([]float64{5, 12, 14}, f), 1.5),
		Material: Material{HU: hu + 35, Rim: 1.5, Core: hu, Texture: 0.5}}
}
