package views

import (
	"image"
	"image/color"
	"math"
)

// alpha is how much of an organ's colour lies over its inside.
const alpha = 0.38

// slice draws one plane at index k, scale mm per pixel.
func (d *data) slice(p plane, k int, scale float64, o Options) *image.RGBA {
	w := max(1, int(math.Round(d.mm(p.column)/scale)))
	h := max(1, int(math.Round(d.mm(p.row)/scale)))
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	label := make([]int, w*h)
	grey := make([]float64, w*h) // 0 to 1
	for y := range h {
		for x := range w {
			grey[y*w+x], label[y*w+x] = d.sample(p, k, (float64(y)+0.5)*scale, (float64(x)+0.5)*scale, o)
		}
	}
	for y := range h {
		for x := range w {
			i := y*w + x
			l, g := label[i], grey[i]
			r, gr, b := g, g, g
			if l > 0 {
				a := alpha
				if x > 0 && label[i-1] != l || x+1 < w && label[i+1] != l ||
					y > 0 && label[i-w] != l || y+1 < h && label[i+w] != l {
					a = 0.95 // the contour
				}
				c := colour(l)
				mix := func(g float64, c uint8) float64 { return g + a*(float64(c)/255-g) }
				r, gr, b = mix(g, c.R), mix(g, c.G), mix(g, c.B)
			}
			out.SetRGBA(x, y, color.RGBA{uint8(255 * r), uint8(255 * gr), uint8(255 * b), 255})
		}
	}
	return out
}

// sample interpolates between the four voxels around a point (mm from the
// picture's corner): the windowed HU linearly, and the label with the largest
// weight, which keeps contours smooth where slices are thick.
func (d *data) sample(p plane, k int, row, column float64, o Options) (grey float64, label int) {
	r := row/d.spacing[p.row] - 0.5
	if p.up {
		r = float64(d.view.Shape[p.row]-1) - r
	}
	c := column/d.spacing[p.column] - 0.5
	r = math.Min(math.Max(r, 0), float64(d.view.Shape[p.row]-1))
	c = math.Min(math.Max(c, 0), float64(d.view.Shape[p.column]-1))
	r0, c0 := int(r), int(c)
	fr, fc := r-float64(r0), c-float64(c0)
	var labels [4]int
	var weights [4]float64
	hu := 0.0
	for i := range 4 {
		w := (1 - fr)
		at := [3]int{}
		at[p.through] = k
		at[p.row], at[p.column] = r0, c0
		if i&1 == 1 {
			w = fr
			at[p.row] = min(r0+1, d.view.Shape[p.row]-1)
		}
		if i&2 == 2 {
			w *= fc
			at[p.column] = min(c0+1, d.view.Shape[p.column]-1)
		} else {
			w *= 1 - fc
		}
		n := d.index(at)
		hu += w * d.hu(n)
		labels[i], weights[i] = d.label(n), w
	}
	most := -1.0
	for i := range 4 {
		sum := 0.0
		for j := range 4 {
			if labels[j] == labels[i] {
				sum += weights[j]
			}
		}
		if sum > most {
			most, label = sum, labels[i]
		}
	}
	grey = (hu-o.Level)/o.Window + 0.5
	return math.Min(math.Max(grey, 0), 1), label
}

// palette holds colours that neighbouring organs of the FLARE labels do not
// share, all bright enough for a dark background. Label 1 is the first.
var palette = []color.RGBA{
	{205, 92, 72, 255}, {240, 140, 50, 255}, {166, 118, 226, 255}, {255, 235, 90, 255},
	{255, 62, 62, 255}, {74, 136, 255, 255}, {140, 255, 102, 255}, {60, 220, 160, 255},
	{44, 178, 72, 255}, {214, 170, 130, 255}, {94, 205, 235, 255}, {255, 140, 200, 255},
	{255, 175, 95, 255}, {190, 190, 255, 255}, {200, 220, 60, 255}, {220, 80, 220, 255},
}

// colour is the colour of a label; beyond the palette hues go round by the
// golden angle.
func colour(label int) color.RGBA {
	if label <= len(palette) {
		return palette[label-1]
	}
	h := math.Mod(float64(label)*137.508, 360) / 60
	channel := func(n float64) uint8 {
		k := math.Mod(n+h, 6)
		return uint8(255 * (1 - 0.65*math.Max(0, math.Min(math.Min(k, 4-k), 1))))
	}
	return color.RGBA{channel(5), channel(3), channel(1), 255}
}
