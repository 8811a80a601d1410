package phantom

// The hollow and tubular organs, the adrenal glands and the veins around them.

func (d *draw) stomach(c contrast, root, upper [3]float64) Object {
	f := d.uniform(0.75, 1.2)
	half := [3]float64{root[0] / 2, root[1] / 2, root[2] / 2}
	points := [][3]float64{{58, 12, 92}, {62, -8, 70}, {60, -32, 42}, {44, -52, 16}, {14, -56, 2}, {-12, -46, 4}, {-24, -38, 4}}
	for i := range points {
		if i < 3 {
			points[i] = add(points[i], upper)
		} else {
			points[i] = add(points[i], half)
		}
	}
	content := d.uniform(0, 60)
	if d.chance(0.12) {
		content = d.uniform(120, 300) // oral contrast
	}
	return Object{Name: "stomach", Label: Stomach, Blend: 4, InCavity: true, UnderDiaphragm: true,
		Solids: d.tube(points, []float64{26 * f, 30 * f, 27 * f, 23 * f, 17 * f, 12, 9}, 4),
		Material: Material{HU: c.bowel, Rim: d.uniform(3, 5), Core: content, Texture: d.uniform(1, 4),
			Gas: d.chance(0.7), GasTop: d.uniform(-60, -15)}}
}

func (d *draw) duodenum(c contrast, root [3]float64) Object {
	f := d.normal(1, 0.08)
	points := [][3]float64{{-26, -36, 4}, {-44, -24, 2}, {-50, -8, -18}, {-48, 0, -42}, {-32, 0, -58}, {-4, -6, -60}, {18, -6, -50}, {28, -12, -32}}
	for i := range points {
		points[i] = add(points[i], root)
	}
	return Object{Name: "duodenum", Label: Duodenum, Blend: 2, InCavity: true,
		Solids: d.tube(points, scaled([]float64{9, 11.5, 11.5, 11.5, 11, 9.5, 10, 9.5}, f), 2.5),
		Material: Material{HU: c.bowel, Rim: d.uniform(2.5, 4), Core: d.uniform(5, 55), Texture: 2,
			Gas: d.chance(0.3), GasTop: root[1] + d.uniform(-34, -24)}}
}

// vessels are the aorta and the inferior vena cava, from the heart to where
// they divide.
func (d *draw) vessels(c contrast) []Object {
	bend := d.normal(0, 5)
	fa, fc := d.normal(1, 0.1), d.normal(1, 0.12)
	aorta := d.tube([][3]float64{{14, 30, 260}, {13, 28, 180}, {10, 24, 110}, {7 + bend/2, 21, 50}, {6 + bend, 20, -10}, {6 + bend, 20, -60}, {4, 20, -112}},
		scaled([]float64{13.5, 13, 12.5, 11.5, 10.5, 9.5, 9}, fa), 1.5)
	cava := d.tube([][3]float64{{-14, -2, 140}, {-20, 8, 108}, {-26, 14, 70}, {-24, 17, 20}, {-22, 19, -40}, {-20, 21, -118}},
		scaled([]float64{13, 12, 11, 10.5, 10, 9.5}, fc), 2)
	iliac := append(d.tube([][3]float64{{4, 20, -110}, {22, 28, -145}, {48, 40, -200}, {60, 30, -280}}, []float64{6.5, 6, 5.5, 5}, 2),
		d.tube([][3]float64{{2, 20, -110}, {-22, 28, -145}, {-48, 40, -200}, {-60, 30, -280}}, []float64{6.5, 6, 5.5, 5}, 2)...)
	return []Object{
		{Name: "iliac arteries", Solids: iliac, Material: Material{HU: c.aorta}},
		{Name: "inferior vena cava", Label: InferiorVenaCava, Solids: cava, Blend: 2, Material: Material{HU: c.cava, Texture: 1}},
		{Name: "aorta", Label: Aorta, Solids: aorta, Blend: 2, Material: Material{HU: c.aorta, Texture: 0.5}},
	}
}

// portal are the veins and the artery around the pancreas: as bright as organs,
// and none of them.
func (d *draw) portal(c contrast, root [3]float64) []Object {
	at := func(x, y, z float64) [3]float64 { return add([3]float64{x, y, z}, root) }
	vein := d.tube([][3]float64{at(-2, -22, -110), at(-6, -20, -40), at(-10, -12, 2), at(-24, -10, 26), at(-38, -8, 46)},
		[]float64{5, 5.5, 6, 6.5, 5}, 2)
	splenic := d.tube([][3]float64{at(-10, -12, 4), at(12, -10, 16), at(42, 4, 28), at(78, 24, 44)}, []float64{5, 4.5, 4, 4}, 2)
	artery := d.tube([][3]float64{{7, 14, 22}, {6, -2, 12}, at(6, -16, -20), at(8, -24, -110)}, []float64{4, 4, 3.5, 3}, 1.5)
	renal := d.tube([][3]float64{{-22, 18, -8}, {8, 8, -4}, {44, 30, -2}}, []float64{4.5, 4.5, 4.5}, 1.5)
	return []Object{
		{Name: "portal vein", Solids: append(append(vein, splenic...), renal...), Material: Material{HU: c.portal}},
		{Name: "mesenteric artery", Solids: artery, Material: Material{HU: c.aorta}},
	}
}

func (d *draw) esophagus(root [3]float64) Object {
	hu := d.normal(58, 8)
	f := d.normal(1, 0.1)
	return Object{Name: "esophagus", Label: Esophagus, Blend: 2,
		Solids: d.tube([][3]float64{{-4, 14, 260}, {-4, 10, 190}, {2, 3, 135}, {11, -1, 108}, {26, -4, 92}, {40, 2, 84}},
			scaled([]float64{8.5, 8.5, 8.5, 9, 9.5, 9.5}, f), 2),
		Material: Material{HU: hu, Rim: 5.5, Core: d.uniform(-250, hu), Texture: 1}}
}

// adrenals are two or three thin sheets each, above and medial to the kidneys.
// They follow the kidneys half the way, and stay where they are without one.
func (d *draw) adrenals(c contrast, right, left [3]float64) []Object {
	var out []Object
	for i, label := range []uint8{RightAdrenal, LeftAdrenal} {
		if d.chance(0.02) {
			continue
		}
		side, name, at, kidney := -1.0, "right adrenal gland", [3]float64{-36, 30, 42}, right
		if i == 1 {
			side, name, at, kidney = 1, "left adrenal gland", [3]float64{34, 24, 36}, left
		}
		at = add(at, [3]float64{kidney[0] / 2, kidney[1] / 2, kidney[2] / 2})
		at = add(at, d.vector(2))
		thick := d.uniform(2.2, 3.4) // half thickness of a limb
		length, height := d.uniform(9, 12), d.uniform(12, 17)
		// A limb runs from the ridge at the front to the back, opening by its angle.
		limb := func(angle, dx, dy, long float64) Solid {
			h := height * d.uniform(0.75, 1)
			s := d.ball(add(at, [3]float64{side * dx, dy, d.normal(0, 2)}), [3]float64{1, 1, 1}, [3]float64{d.normal(0, 8), 0, angle})
			s.Kind, s.RadiusA = Box, thick*0.9
			s.Radii = [3]float64{thick * 0.1, long, h - thick}
			return s
		}
		out = append(out, Object{Name: name, Label: label, Blend: 3,
			Solids: []Solid{
				limb(side*-32, 6, 6, length),
				limb(side*12, -3, 6, length*0.9),
				limb(0, 0, -6, 5), // the body, where the limbs meet
			},
			Material: Material{HU: c.adrenal, Texture: 1}})
	}
	return out
}
