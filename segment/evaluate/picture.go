package evaluate

import (
	"bytes"
	"context"
	"encoding/base64"
	"html/template"
	"image"
	"image/color"
	"image/png"

	"github.com/libflare/libflare/segment/volume"
)

// picture is a slice of a case as it stands in the report.
type picture struct {
	Source        template.URL // a PNG inside the page
	Width, Height int          // CSS pixels
	Slice         int          // along the patient's axis, from the feet, counted from 0
}

// palette: nothing, other labels of the reference, both, reference only, prediction only; as report.html
// explains.
var palette = color.Palette{color.RGBA{0x10, 0x15, 0x1b, 255}, color.RGBA{0x2a, 0x33, 0x3d, 255}, color.RGBA{0x7c, 0x8b, 0x99, 255},
	color.RGBA{0x4d, 0xa3, 0xff, 255}, color.RGBA{0xff, 0x8c, 0x42, 255}}

// draw draws labels of one case.
func (r *Report) draw(ctx context.Context, c *Case, of []*worst) error {
	prediction, err := readLabels(ctx, c.Prediction)
	if err != nil {
		return err
	}
	defer prediction.Free()
	reference, err := readLabels(ctx, c.Reference)
	if err != nil {
		return err
	}
	defer reference.Free()
	p := prediction.Volume
	if SameGrid(&p.Geometry, &reference.Geometry) != nil { // it was asked for, or there were no scores
		if p, err = onGrid(p, &reference.Geometry, r.job.Threads); err != nil {
			return err
		}
		defer p.Free()
	}
	pl, free, err := narrowed[uint16](p, r.job.Threads)
	if err != nil {
		return err
	}
	defer free()
	rl, free, err := narrowed[uint16](reference.Volume, r.job.Threads)
	if err != nil {
		return err
	}
	defer free()
	view, spacing, err := reference.Reorient("LPS")
	if err != nil {
		return err
	}
	slices := worstSlices(pl, rl, view, of)
	for i, w := range of {
		if w.Picture, err = drawLabel(pl, rl, view, spacing, uint16(w.Label), slices[i]); err != nil {
			return err
		}
	}
	return nil
}

// worstSlices finds for each of some labels the slice of a view in which the maps differ most, in one pass.
func worstSlices(p, r []uint16, view volume.View, of []*worst) []int {
	which := make([]int, maxLabel+1) // 1 + the index of each label in of
	for i, w := range of {
		which[w.Label] = i + 1
	}
	found, most := make([]int, len(of)), make([]int, len(of))
	for k := range view.Shape[0] {
		differ := make([]int, len(of)+1)
		for j := range view.Shape[1] {
			v := view.Offset + k*view.Stride[0] + j*view.Stride[1]
			for range view.Shape[2] {
				if p[v] != r[v] {
					differ[which[p[v]]]++
					differ[which[r[v]]]++
				}
				v += view.Stride[2]
			}
		}
		for i, n := range differ[1:] {
			if n > most[i] {
				found[i], most[i] = k, n
			}
		}
	}
	return found
}

// Size of pictures in CSS pixels, and how many voxels are shown around a label.
const pictureSide, pictureMargin = 240, 6

// drawLabel draws a slice of a view (spacing in mm, both slowest axis first), and of it the part where
// either map has the label.
func drawLabel(p, r []uint16, view volume.View, spacing [3]float64, label uint16, slice int) (*picture, error) {
	at := func(j, i int) int {
		return view.Offset + slice*view.Stride[0] + j*view.Stride[1] + i*view.Stride[2]
	}
	lo, hi := [2]int{view.Shape[1], view.Shape[2]}, [2]int{}
	for j := range view.Shape[1] {
		for i := range view.Shape[2] {
			if v := at(j, i); p[v] == label || r[v] == label {
				lo = [2]int{min(lo[0], j), min(lo[1], i)}
				hi = [2]int{max(hi[0], j+1), max(hi[1], i+1)}
			}
		}
	}
	for a := range 2 {
		lo[a], hi[a] = max(0, lo[a]-pictureMargin), min(view.Shape[1+a], hi[a]+pictureMargin)
	}
	im := image.NewPaletted(image.Rect(0, 0, hi[1]-lo[1], hi[0]-lo[0]), palette)
	for j := lo[0]; j < hi[0]; j++ {
		for i := lo[1]; i < hi[1]; i++ {
			v, c := at(j, i), uint8(0)
			switch {
			case p[v] == label && r[v] == label:
				c = 2
			case r[v] == label:
				c = 3
			case p[v] == label:
				c = 4
			case r[v] != 0:
				c = 1
			}
			im.SetColorIndex(i-lo[1], j-lo[0], c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, im); err != nil {
		return nil, err
	}
	width, height := float64(hi[1]-lo[1])*spacing[2], float64(hi[0]-lo[0])*spacing[1]
	scale := pictureSide / max(width, height)
	return &picture{Source: template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())),
		Width: max(1, int(width*scale)), Height: max(1, int(height*scale)), Slice: slice}, nil
}
