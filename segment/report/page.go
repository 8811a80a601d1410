package report

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

//go:embed page.html
var pageText string

//go:embed viewer.js
var viewer []byte

// niivue draws the image; niivue/fetch.sh has its version.
//
//go:embed niivue/niivue.umd.js.gz
var niivue []byte

//go:embed niivue/LICENSES.txt
var licences string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// Page is what a page shows. Texts may come from anywhere; they are escaped.
type Page struct {
	Title         string // the case
	Image, Labels *volume.Volume
	Organs        []Organ // of Measure
	CT            bool    // values are Hounsfield units; else of any scale
	Date          time.Time
	Version       string   // of the library
	Notes         []string // what the reader has to know of how the labels were made
	Phases        []Phase  // of the call
	Tables        []Table  // of the image, model, call
}

// Phase is a part of the time a call took.
type Phase struct {
	Name    string
	Seconds float64
}

// Table is facts under a title: what it is, and the fact.
type Table struct {
	Title string
	Rows  [][2]string
}

// row is an organ as the page shows it.
type row struct {
	*Organ
	Number                   int // from 1 on
	Colour                   template.CSS
	Volume, Intensity, Parts string
	Remarks                  []string
}

// data is what viewer.js gets.
type data struct {
	Size    [3]int        `json:"size"`
	Spacing [3]float64    `json:"spacing"`
	Affine  [3][4]float64 `json:"affine"` // from voxels to mm, RAS
	CT      bool          `json:"ct"`
	Values  []float64     `json:"values"` // of the 256 codes
	Window  [2]float64    `json:"window"`
	Wide    bool          `json:"wide"` // organs are two bytes each
	Organs  []dataOrgan   `json:"organs"`
	Focus   [3]float64    `json:"focus"` // mm, RAS
}

type dataOrgan struct {
	Name   string      `json:"name"`
	Colour [3]int      `json:"colour"`
	Centre *[3]float64 `json:"centre"` // mm, RAS; null where there is none
}

// Write writes the page: 1.2 MB, and the image (reduced to at most 12 million voxels of 256 values)
// and labels, packed. Errors are those of w, Memory and Cancelled.
func (p *Page) Write(ctx context.Context, w io.Writer, threads int) error {
	var names []Label
	for _, o := range p.Organs {
		names = append(names, Label{o.Label, o.Name})
	}
	r, err := reduce(p.Image, p.Labels, names, p.CT, maxVoxels, threads)
	if err != nil {
		return err
	}
	defer r.free()
	if ctx.Err() != nil {
		return fault.New(fault.Cancelled, "cancelled: %w", context.Cause(ctx))
	}
	focus := p.focus()
	planes, err := r.planes(p.Organs, toGrid(&p.Image.Geometry, focus, r.factor))
	if err != nil {
		return err
	}
	d := data{Size: r.geometry.Size, Spacing: r.geometry.Spacing, Affine: affine(&r.geometry), CT: p.CT, Values: r.values[:],
		Window: [2]float64{r.lo, r.hi}, Wide: len(p.Organs) > 255, Focus: place(&p.Image.Geometry, focus)}
	d.Organs = []dataOrgan{}
	var rows []row
	var warnings, missing []string
	for i := range p.Organs {
		o := &p.Organs[i]
		c := colour(o)
		in := dataOrgan{Name: o.Name, Colour: [3]int{int(c.R), int(c.G), int(c.B)}}
		if o.Voxels > 0 {
			mm := place(&p.Image.Geometry, o.Centre)
			in.Centre = &mm
		}
		d.Organs = append(d.Organs, in)
		rows = append(rows, p.row(i+1, o))
		if remarks := o.Remarks(); o.Voxels == 0 {
			missing = append(missing, o.Name)
		} else if len(remarks) > 0 {
			warnings = append(warnings, o.Name+": "+strings.Join(remarks, "; "))
		}
	}
	if len(missing) > 0 {
		warnings = append(warnings, "not found: "+strings.Join(missing, ", "))
	}
	var head bytes.Buffer
	err = pageTemplate.Execute(&head, map[string]any{
		"Page": p, "Date": p.Date.Format("2006-01-02 15:04 MST"), "Rows": rows, "Warnings": warnings, "Planes": planes, "Data": d,
		"Unit": p.unit(), "Shown": p.shown(r), "Licences": licences, "Total": p.total(),
	})
	if err != nil {
		return err
	}
	if _, err := head.WriteTo(w); err != nil {
		return err
	}
	image, organs := r.pack(d.Wide, threads)
	for _, part := range []struct {
		id   string
		data [][]byte
	}{{"niivue", [][]byte{niivue}}, {"image", image}, {"labels", organs}} {
		if ctx.Err() != nil {
			return fault.New(fault.Cancelled, "cancelled: %w", context.Cause(ctx))
		}
		if err := embed(w, part.id, part.data); err != nil {
			return err
		}
	}
	for _, text := range [][]byte{[]byte("<script>"), viewer, []byte("</script>\n</body>\n</html>\n")} {
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// embed writes data as a text that the page's script finds by its id.
func embed(w io.Writer, id string, data [][]byte) error {
	if _, err := fmt.Fprintf(w, `<script type="text/plain" id="%s">`, id); err != nil {
		return err
	}
	e := base64.NewEncoder(base64.StdEncoding, w)
	for _, part := range data {
		if _, err := e.Write(part); err != nil {
			return err
		}
	}
	if err := e.Close(); err != nil {
		return err
	}
	_, err := io.WriteString(w, "</script>\n")
	return err
}

// pack packs image and organs, each as one raw deflate stream in parts. Of the image are packed
// the differences from voxel to voxel along x, byte by byte: noise has no longer matches
// to look for, so that entropy coding alone makes it smaller (5.7 instead of 7.0 MB for a CT
// of 11 million voxels) in less time.
func (r *reduced) pack(wide bool, threads int) (image, organs [][]byte) {
	nx, ny, nz := r.geometry.Size[0], r.geometry.Size[1], r.geometry.Size[2]
	const deep = 16 // slices in a part
	parts := (nz + deep - 1) / deep
	image, organs = make([][]byte, parts), make([][]byte, parts)
	_ = parallel.For(parts, threads, func(_, i int) error {
		from, to, last := i*deep*nx*ny, min((i+1)*deep, nz)*nx*ny, i == parts-1
		steps := make([]byte, to-from)
		for row := from; row < to; row += nx {
			before := uint8(0)
			for x, c := range r.image[row:][:nx] {
				steps[row-from+x] = c - before
				before = c
			}
		}
		image[i] = deflate(steps, flate.HuffmanOnly, last)
		flat := make([]byte, 0, 2*(to-from))
		for _, o := range r.organs[from:to] {
			if flat = append(flat, uint8(o)); wide {
				flat = append(flat, uint8(o>>8))
			}
		}
		organs[i] = deflate(flat, flate.BestSpeed, last)
		return nil
	})
	return image, organs
}

// deflate packs a part of a stream; all but the last end at a byte and go on.
func deflate(b []byte, level int, last bool) []byte {
	var out bytes.Buffer
	z, err := flate.NewWriter(&out, level)
	if err == nil {
		_, err = z.Write(b)
	}
	if err == nil && last {
		err = z.Close()
	} else if err == nil {
		err = z.Flush()
	}
	if err != nil {
		panic(err) // the level is known, and a buffer takes everything
	}
	return out.Bytes()
}

// focus is the voxel that the page shows first: in the largest organ, else in the middle.
func (p *Page) focus() [3]int {
	var largest *Organ
	for i := range p.Organs {
		if o := &p.Organs[i]; o.Voxels > 0 && (largest == nil || o.Voxels > largest.Voxels) {
			largest = o
		}
	}
	if largest != nil {
		return largest.Centre
	}
	s := p.Image.Size
	return [3]int{s[0] / 2, s[1] / 2, s[2] / 2}
}

// affine takes voxels to mm in RAS, as NIfTI has it.
func affine(g *volume.Geometry) (m [3][4]float64) {
	for row, sign := range []float64{-1, -1, 1} {
		for i := range 3 {
			m[row][i] = sign*g.Direction[3*row+i]*g.Spacing[i] + 0 // + 0: no -0
		}
		m[row][3] = sign*g.Origin[row] + 0
	}
	return m
}

// place returns a voxel's centre in mm, RAS.
func place(g *volume.Geometry, voxel [3]int) (mm [3]float64) {
	for row, m := range affine(g) {
		mm[row] = m[3]
		for i, v := range voxel {
			mm[row] += m[i] * float64(v)
		}
	}
	return mm
}

func (p *Page) unit() string {
	if p.CT {
		return "HU"
	}
	return "intensity"
}

func (p *Page) total() (seconds float64) {
	for _, phase := range p.Phases {
		seconds += phase.Seconds
	}
	return seconds
}

// shown says what of the image the page shows.
func (p *Page) shown(r *reduced) string {
	var b strings.Builder
	b.WriteString("The view shows ")
	if r.factor == [3]int{1, 1, 1} {
		b.WriteString("every voxel")
	} else {
		fmt.Fprintf(&b, "blocks of %d × %d × %d voxels (%.3g × %.3g × %.3g mm)", r.factor[0], r.factor[1], r.factor[2],
			r.geometry.Spacing[0], r.geometry.Spacing[1], r.geometry.Spacing[2])
	}
	if p.Image.Channels > 1 {
		b.WriteString(" of the first channel")
	}
	if p.CT {
		b.WriteString(", rounded to 4 HU in soft tissue, 16 to 64 HU elsewhere")
	} else {
		b.WriteString(", rounded to 256 values")
	}
	b.WriteString(". The table is of all voxels and their exact values.")
	return b.String()
}

// Remarks says what is striking about an organ.
func (o *Organ) Remarks() (all []string) {
	if o.Voxels == 0 {
		return []string{"not found"}
	}
	if len(o.Border) > 0 {
		all = append(all, "cut by the field of view ("+strings.Join(o.Border, ", ")+")")
	}
	if o.Largest < mostlyWhole {
		all = append(all, fmt.Sprintf("in %d parts, the largest %.0f %%", o.Components, 100*o.Largest))
	}
	return all
}

// mostlyWhole is the fraction of an organ in its largest part below which the page says so:
// specks do not count.
const mostlyWhole = 0.95

// row makes an organ's row.
func (p *Page) row(number int, o *Organ) row {
	c := colour(o)
	r := row{Organ: o, Number: number, Colour: template.CSS(fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)), Remarks: o.Remarks()}
	if o.Voxels == 0 {
		return r
	}
	r.Volume, r.Parts = strconv.FormatFloat(o.Volume, 'f', digits(o.Volume), 64), strconv.Itoa(o.Components)
	var values []string
	for i := range o.Mean {
		n := 1
		if !p.CT {
			n = digits(max(o.SD[i], -o.Mean[i], o.Mean[i]))
		}
		values = append(values, fmt.Sprintf("%.*f ± %.*f", n, o.Mean[i], n, o.SD[i]))
	}
	r.Intensity = strings.Join(values, "; ")
	return r
}

// digits is how many decimals a number of such a size needs.
func digits(v float64) int {
	switch {
	case v >= 100:
		return 0
	case v >= 10:
		return 1
	case v >= 1:
		return 2
	}
	return 3
}

// rgb is a colour of the screen.
type rgb struct{ R, G, B uint8 }

// colour is that of the label in segmentations for 3D Slicer.
func colour(o *Organ) rgb {
	c := imageio.Colour(o.Label, o.Name)
	return rgb{c[0], c[1], c[2]}
}
