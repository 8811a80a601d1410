// Package views draws a CT and its labels as one picture: an axial, a coronal
// and a sagittal slice with the organs in colour, and a legend.
package views

import (
	"fmt"
	"image"
	"image/color"
	"math"

	"github.com/libflare/libflare/segment/volume"
)

// Options are what Render needs to know besides the volumes.
type Options struct {
	Names  []string // name of each label; entry 0, the background, is not shown
	Window float64  // HU from black to white; 0 means 400, soft tissue
	Level  float64  // HU in the middle; used as given where Window is set, otherwise 40
	Title  string   // a line above the slices, may be empty
}

const (
	height = 460 // pixels of the highest slice
	gap    = 10  // pixels around slices
	zoom   = 2   // pixels per dot of the letters
)

// Render draws three slices through the place where most organs are seen, at one
// scale and in true proportions, seen as radiologists do: the patient's right is
// on the left of the axial and the coronal slice, anterior on the left of the
// sagittal one. ct and labels (uint8 or uint16) share a grid of any orientation.
func Render(ct, labels *volume.Volume, o Options) (*image.RGBA, error) {
	if ct.Size != labels.Size {
		return nil, fmt.Errorf("the CT has %v voxels, the labels %v", ct.Size, labels.Size)
	}
	if o.Window == 0 {
		o.Window, o.Level = 400, 40
	}
	v, err := open(ct, labels)
	if err != nil {
		return nil, err
	}
	v.trim()
	at, items := v.survey(len(o.Names))
	// Axes of the pictures: rows, columns, and the sliced one; z, y, x are 0, 1, 2.
	planes := []plane{
		{"axial", 1, 2, 0, false, "R", "L"},
		{"coronal", 0, 2, 1, true, "R", "L"},
		{"sagittal", 0, 1, 2, true, "A", "P"},
	}
	tallest := math.Max(v.mm(0), v.mm(1))
	scale := tallest / height // mm per pixel
	width, highest := gap, 0
	var pictures []*image.RGBA
	for _, p := range planes {
		picture := v.slice(p, at[p.through], scale, o)
		pictures = append(pictures, picture)
		width += picture.Rect.Dx() + gap
		highest = max(highest, picture.Rect.Dy())
	}
	columns := max(1, min(len(items), 5))
	rows := (len(items) + columns - 1) / columns
	const line = 7*zoom + 12
	top := gap
	if o.Title != "" {
		top += line
	}
	out := image.NewRGBA(image.Rect(0, 0, width, top+highest+gap+rows*line+gap/2))
	fill(out, out.Rect, color.RGBA{12, 12, 14, 255})
	write(out, gap, gap, o.Title, white)
	x := gap
	for i, picture := range pictures {
		y := top + (highest-picture.Rect.Dy())/2
		paste(out, x, y, picture)
		write(out, x+4, y+4, planes[i].name, grey)
		middle := y + picture.Rect.Dy()/2
		write(out, x+4, middle, planes[i].left, grey)
		write(out, x+picture.Rect.Dx()-4-textWidth(planes[i].right), middle, planes[i].right, grey)
		x += picture.Rect.Dx() + gap
	}
	for i, label := range items {
		lx := gap + (i%columns)*(width-gap)/columns
		ly := top + highest + gap + (i/columns)*line
		fill(out, image.Rect(lx, ly, lx+18, ly+7*zoom), colour(label))
		write(out, lx+26, ly, o.Names[label], white)
	}
	return out, nil
}

// plane is one of the three views: the array axes of its rows and columns and of
// what it cuts through, whether rows run against their axis (head up), and the
// letters at its sides.
type plane struct {
	name                 string
	row, column, through int
	up                   bool
	left, right          string
}

// data is a CT with labels seen in LPS orientation, axes z, y, x.
type data struct {
	hu      func(i int) float64
	label   func(i int) int
	view    volume.View
	spacing [3]float64 // mm
}

func open(ct, labels *volume.Volume) (*data, error) {
	v, spacing, err := ct.Reorient("LPS")
	if err != nil {
		return nil, err
	}
	d := &data{view: v, spacing: spacing}
	switch ct.DType {
	case volume.Int16:
		d.hu = reader(volume.As[int16](ct))
	case volume.Uint16:
		d.hu = reader(volume.As[uint16](ct))
	case volume.Uint8:
		d.hu = reader(volume.As[uint8](ct))
	case volume.Int32:
		d.hu = reader(volume.As[int32](ct))
	case volume.Float32:
		d.hu = reader(volume.As[float32](ct))
	case volume.Float64:
		d.hu = reader(volume.As[float64](ct))
	}
	switch labels.DType {
	case volume.Uint8:
		s := volume.As[uint8](labels)
		d.label = func(i int) int { return int(s[i]) }
	case volume.Uint16:
		s := volume.As[uint16](labels)
		d.label = func(i int) int { return int(s[i]) }
	default:
		return nil, fmt.Errorf("labels are uint8 or uint16, not %s", labels.DType)
	}
	return d, nil
}

func reader[T uint8 | int16 | uint16 | int32 | float32 | float64](s []T) func(int) float64 {
	return func(i int) float64 { return float64(s[i]) }
}

// index is the element of the voxel at p (z, y, x).
func (d *data) index(p [3]int) int {
	return d.view.Offset + p[0]*d.view.Stride[0] + p[1]*d.view.Stride[1] + p[2]*d.view.Stride[2]
}

// mm is the extent along an axis.
func (d *data) mm(axis int) float64 { return float64(d.view.Shape[axis]) * d.spacing[axis] }

// survey goes through the labels once. It finds for each axis the slice that
// shows the most: the one where the sum over organs of the square root of its
// area is largest, so that small organs count too; without labels the middle.
// It also lists the labels that occur, in order.
func (d *data) survey(labels int) (at [3]int, present []int) {
	var area [3][]int32 // (slices, labels)
	for a := range 3 {
		area[a] = make([]int32, d.view.Shape[a]*labels)
	}
	total := make([]int, labels)
	var p [3]int
	for p[0] = range d.view.Shape[0] {
		for p[1] = range d.view.Shape[1] {
			p[2] = 0
			n := d.index(p)
			for x := range d.view.Shape[2] {
				if l := d.label(n); l > 0 && l < labels {
					area[0][p[0]*labels+l]++
					area[1][p[1]*labels+l]++
					area[2][x*labels+l]++
					total[l]++
				}
				n += d.view.Stride[2]
			}
		}
	}
	for a := range 3 {
		at[a] = d.view.Shape[a] / 2
		most := 0.0
		for k := range d.view.Shape[a] {
			sum := 0.0
			for _, n := range area[a][k*labels : (k+1)*labels] {
				sum += math.Sqrt(float64(n))
			}
			if sum > most {
				at[a], most = k, sum
			}
		}
	}
	for l, n := range total {
		if n > 0 {
			present = append(present, l)
		}
	}
	return at, present
}

// trim crops the air at the sides, in front and behind. What is thicker than
// 20 mm and denser than fat with noise is the body; the couch's shells are
// thinner. An image without air, or without body, stays whole.
func (d *data) trim() {
	const air, margin, step = -300, 10, 4 // HU, mm, voxels
	shape := d.view.Shape
	reach := max(1, int(math.Round(10/d.spacing[1])))
	lo, hi := [3]int{0, shape[1], shape[2]}, [3]int{shape[0], 0, 0}
	for z := 0; z < shape[0]; z += step {
		for x := 0; x < shape[2]; x += step {
			run := 0
			for y := range shape[1] {
				if d.hu(d.index([3]int{z, y, x})) <= air {
					run = 0
					continue
				}
				if run++; run >= 2*reach {
					lo[1], hi[1] = min(lo[1], y+1-run), max(hi[1], y+1)
					lo[2], hi[2] = min(lo[2], x), max(hi[2], x+1)
				}
			}
		}
	}
	if lo[1] >= hi[1] {
		return
	}
	for a := 1; a < 3; a++ {
		m := int(math.Round(margin / d.spacing[a]))
		lo[a], hi[a] = max(lo[a]-m, 0), min(hi[a]+m, shape[a])
	}
	d.view = d.view.Crop(lo, hi)
}
