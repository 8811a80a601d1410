package report

import (
	"bytes"
	"encoding/base64"
	"html/template"
	"image"
	"image/color"
	"image/png"

	"github.com/libflare/libflare/segment/volume"
)

// plane is a picture of a slice, for paper and for browsers without WebGL.
type plane struct {
	Name   string
	Source template.URL
	Across float64 // width as part of the height
}

// toGrid returns the block that holds a voxel.
func toGrid(g *volume.Geometry, voxel [3]int, factor [3]int) [3]int {
	for i := range voxel {
		voxel[i] = min(max(voxel[i], 0), g.Size[i]-1) / factor[i]
	}
	return voxel
}

// opacity of organs in pictures.
const opacity = 0.45

// planes draws the three planes through a voxel as radiologists see them: the patient's right
// on the left side, front and head up. Of a 2-D image there is one.
func (r *reduced) planes(organs []Organ, at [3]int) ([]plane, error) {
	g := &r.geometry
	view, spacing, err := g.Reorient("LPS") // z, y, x
	if err != nil {
		return nil, err
	}
	var focus [3]int // in the view
	for j, towards := range []byte(g.Orientation()) {
		i := map[byte]int{'S': 0, 'I': 0, 'P': 1, 'A': 1, 'L': 2, 'R': 2}[towards]
		if focus[i] = at[j]; towards == 'I' || towards == 'A' || towards == 'R' {
			focus[i] = g.Size[j] - 1 - at[j]
		}
	}
	var colours []rgb
	for i := range organs {
		colours = append(colours, colour(&organs[i]))
	}
	var grey [256]float64
	for i, v := range r.values {
		grey[i] = 255 * min(max((v-r.lo)/(r.hi-r.lo), 0), 1)
	}
	var all []plane
	for _, p := range []struct {
		name        string
		fixed, u, v int // axes of the view: across, down
		flip        bool
	}{{"axial", 0, 2, 1, false}, {"coronal", 1, 2, 0, true}, {"sagittal", 2, 1, 0, true}} {
		width, height := view.Shape[p.u], view.Shape[p.v]
		if width == 1 || height == 1 { // of a 2-D image
			continue
		}
		im := image.NewNRGBA(image.Rect(0, 0, width, height))
		for v := range height {
			for u := range width {
				i := view.Offset + focus[p.fixed]*view.Stride[p.fixed] + u*view.Stride[p.u] + v*view.Stride[p.v]
				w := grey[r.image[i]]
				c := color.NRGBA{uint8(w), uint8(w), uint8(w), 255}
				if o := r.organs[i]; o > 0 {
					mix := func(own uint8) uint8 { return uint8((1-opacity)*w + opacity*float64(own)) }
					own := colours[o-1]
					c = color.NRGBA{mix(own.R), mix(own.G), mix(own.B), 255}
				}
				y := v
				if p.flip {
					y = height - 1 - v
				}
				im.SetNRGBA(u, y, c)
			}
		}
		var b bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, im); err != nil {
			return nil, err
		}
		all = append(all, plane{p.name, template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())),
			float64(width) * spacing[p.u] / (float64(height) * spacing[p.v])})
	}
	return all, nil
}
