package record

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"strings"
)

// Sizes of progress.png in pixels.
const (
	plotWidth  = 1120
	plotHeight = 340 // of each of the three panels
	left       = 90
	right      = 90
	top        = 60
	bottom     = 44
	glyph      = 2 // pixels for a dot of the font
)

var (
	black = color.RGBA{40, 40, 40, 255}
	grey  = color.RGBA{225, 225, 225, 255}
	blue  = color.RGBA{31, 89, 180, 255}
	red   = color.RGBA{205, 50, 40, 255}
	green = color.RGBA{30, 140, 60, 255}
	light = color.RGBA{140, 200, 150, 255}
)

// series is a line of a panel.
type series struct {
	name   string
	color  color.RGBA
	second bool // on the axis at the right
	of     func(e *Epoch) float64
}

// PNG draws what nnU-Net's progress.png shows: losses and pseudo Dice, the seconds of an
// epoch, the learning rate.
func PNG(w io.Writer, epochs []Epoch) error {
	img := image.NewRGBA(image.Rect(0, 0, plotWidth, 3*plotHeight))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	panels := []struct {
		label, second string
		series        []series
	}{
		{"loss", "pseudo Dice", []series{
			{"training loss", blue, false, func(e *Epoch) float64 { return e.Loss }},
			{"validation loss", red, false, func(e *Epoch) float64 { return e.ValidationLoss }},
			{"pseudo Dice", light, true, func(e *Epoch) float64 { return e.Dice }},
			{"moving average", green, true, func(e *Epoch) float64 { return e.EMA }},
		}},
		{"seconds", "", []series{{"epoch duration", blue, false, func(e *Epoch) float64 { return e.End - e.Start }}}},
		{"learning rate", "", []series{{"learning rate", blue, false, func(e *Epoch) float64 { return e.LearningRate }}}},
	}
	for i, p := range panels {
		c := &canvas{img, i * plotHeight}
		c.panel(epochs, p.label, p.second, p.series, i == 1)
	}
	return png.Encode(w, img)
}

// canvas is a part of the image that begins at a row.
type canvas struct {
	img *image.RGBA
	y0  int
}

// panel draws axes, ticks, lines and legend.
func (c *canvas) panel(epochs []Epoch, label, second string, lines []series, fromZero bool) {
	last := max(1, len(epochs)-1)
	x := func(i float64) int {
		return left + int(math.Round(i/float64(last)*float64(plotWidth-left-right)))
	}
	var scales [2]scale
	for k := range scales {
		lo, hi := math.Inf(1), math.Inf(-1)
		for _, l := range lines {
			for i := range epochs {
				if v := l.of(&epochs[i]); l.second == (k == 1) && !math.IsNaN(v) && !math.IsInf(v, 0) {
					lo, hi = min(lo, v), max(hi, v)
				}
			}
		}
		if k == 1 {
			lo, hi = min(lo, 0), max(hi, 1)
		}
		if fromZero {
			lo = min(lo, 0)
		}
		scales[k] = newScale(lo, hi)
	}
	// Grid and ticks.
	for _, v := range scales[0].ticks() {
		y := scales[0].row(v)
		c.line(left, y, plotWidth-right, y, 1, grey)
		text := scales[0].text(v)
		c.text(left-10-width(text), y-7, text, black)
	}
	if second != "" {
		for _, v := range scales[1].ticks() {
			text := scales[1].text(v)
			c.line(plotWidth-right, scales[1].row(v), plotWidth-right+5, scales[1].row(v), 1, black)
			c.text(plotWidth-right+10, scales[1].row(v)-7, text, black)
		}
		c.text(plotWidth-width(second)-6, top-26, second, green)
	}
	for _, v := range newScale(0, float64(last)).ticks() {
		if v == math.Trunc(v) && v <= float64(last) {
			text := fmt.Sprintf("%.0f", v)
			c.line(x(v), plotHeight-bottom, x(v), plotHeight-bottom+5, 1, black)
			c.text(x(v)-width(text)/2, plotHeight-bottom+9, text, black)
		}
	}
	c.text(plotWidth-right-width("epoch"), plotHeight-16, "epoch", black)
	c.text(6, 12, label, black)
	for _, l := range [][4]int{{left, top, left, plotHeight - bottom}, {plotWidth - right, top, plotWidth - right, plotHeight - bottom},
		{left, top, plotWidth - right, top}, {left, plotHeight - bottom, plotWidth - right, plotHeight - bottom}} {
		c.line(l[0], l[1], l[2], l[3], 1, black)
	}
	at := left + 100
	for _, l := range lines {
		s := scales[0]
		if l.second {
			s = scales[1]
		}
		c.line(at, 18, at+26, 18, 3, l.color)
		c.text(at+32, 12, l.name, black)
		at += 32 + width(l.name) + 22
		for i := range epochs {
			v := l.of(&epochs[i])
			if math.IsNaN(v) || math.IsInf(v, 0) {
				continue
			}
			from := max(0, i-1)
			u := l.of(&epochs[from])
			if math.IsNaN(u) || math.IsInf(u, 0) {
				from, u = i, v
			}
			c.line(x(float64(from)), s.row(u), x(float64(i)), s.row(v), 3, l.color)
		}
	}
}

// scale is the range of an axis, with round ends.
type scale struct{ lo, hi, step float64 }

func newScale(lo, hi float64) scale {
	if !(lo <= hi) { // nothing to show
		lo, hi = 0, 1
	}
	if hi-lo < 1e-12*max(1, math.Abs(hi)) {
		lo, hi = lo-max(1e-6, math.Abs(lo)/2), hi+max(1e-6, math.Abs(hi)/2)
	}
	raw := (hi - lo) / 5
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{2, 5, 10} {
		if step < raw*0.999 {
			step = m * math.Pow(10, math.Floor(math.Log10(raw)))
		}
	}
	return scale{math.Floor(lo/step+1e-9) * step, math.Ceil(hi/step-1e-9) * step, step}
}

func (s scale) ticks() (t []float64) {
	for i := 0; ; i++ {
		v := s.lo + float64(i)*s.step
		if v > s.hi+s.step/2 {
			return t
		}
		t = append(t, v)
	}
}

func (s scale) row(v float64) int {
	return plotHeight - bottom - int(math.Round((v-s.lo)/(s.hi-s.lo)*(plotHeight-bottom-top)))
}

func (s scale) text(v float64) string {
	if math.Abs(v) < s.step/2 {
		v = 0
	}
	digits := max(0, int(-math.Floor(math.Log10(s.step)+1e-9)))
	if digits > 4 {
		return fmt.Sprintf("%.1e", v)
	}
	return fmt.Sprintf("%.*f", digits, v)
}

// line draws a line of a thickness in pixels.
func (c *canvas) line(x0, y0, x1, y1, thick int, col color.RGBA) {
	n := max(abs(x1-x0), abs(y1-y0), 1)
	for i := range n + 1 {
		x := x0 + int(math.Round(float64((x1-x0)*i)/float64(n)))
		y := y0 + int(math.Round(float64((y1-y0)*i)/float64(n)))
		for dy := -thick / 2; dy <= thick/2; dy++ {
			for dx := -thick / 2; dx <= thick/2; dx++ {
				c.img.SetRGBA(x+dx, c.y0+y+dy, col)
			}
		}
	}
}

func abs(v int) int { return max(v, -v) }

func width(s string) int { return 6 * glyph * len(s) }

// text writes letters of 5x7 dots.
func (c *canvas) text(x, y int, s string, col color.RGBA) {
	for _, r := range s {
		if rows, ok := font[r]; ok {
			for j, row := range strings.Fields(rows) {
				for i, dot := range row {
					if dot == '#' {
						for dy := range glyph {
							for dx := range glyph {
								c.img.SetRGBA(x+i*glyph+dx, c.y0+y+j*glyph+dy, col)
							}
						}
					}
				}
			}
		}
		x += 6 * glyph
	}
}
