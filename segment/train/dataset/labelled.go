package dataset

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/volume"
)

// Labelled is a raw training case that was read and checked. Free gives its memory back.
type Labelled struct {
	Image, Label *imageio.Image
	View         volume.View // of both, in the order of nnU-Net's reader
	Spacing      [3]float64  // of the view's axes: mm, slowest first
	Foreground   int         // voxels above 0
	Placed       bool        // image and label have the same origin and direction
}

// OpenLabelled reads a case of a dataset and checks what nnU-Net's verify_dataset_integrity.py checks.
// Errors name the file; besides those of imageio.ReadFiles: Format (voxels that are not
// finite, values that are no labels of dataset.json), Model (the number of channels, grids
// that differ).
func OpenLabelled(ctx context.Context, d *nnunet.Dataset, c nnunet.RawCase) (*Labelled, error) {
	l := &Labelled{}
	if err := l.open(ctx, d, c); err != nil {
		l.Free()
		return nil, err
	}
	return l, nil
}

func (l *Labelled) open(ctx context.Context, d *nnunet.Dataset, c nnunet.RawCase) (err error) {
	if l.Image, err = imageio.ReadFiles(ctx, c.Images); err != nil {
		return err
	}
	if l.Label, err = imageio.Read(ctx, c.Label); err != nil {
		return err
	}
	return l.verify(d, c)
}

// verify checks a case and places it. c names the volumes in messages.
func (l *Labelled) verify(d *nnunet.Dataset, c nnunet.RawCase) error {
	if n := len(d.Channels); l.Image.Channels != n {
		return fault.New(fault.Model, "%s: %d channels, dataset.json has %d (%s)", c.Images[0], l.Image.Channels, n, strings.Join(d.Channels, ", "))
	}
	if l.Image.NotFinite > 0 {
		return fault.New(fault.Format, "%s: %d voxels are NaN or infinite: replace them by what means nothing there in such images", c.Images[0], l.Image.NotFinite)
	}
	if l.Label.NotFinite > 0 {
		return fault.New(fault.Format, "%s: %d voxels are NaN or infinite, expected labels", c.Label, l.Label.NotFinite)
	}
	reader, err := d.Reader()
	if err != nil {
		return err
	}
	if err := l.place(strings.HasSuffix(reader, "WithReorient"), c); err != nil {
		return err
	}
	return l.check(d, c.Label)
}

// Free gives the memory back.
func (l *Labelled) Free() {
	for _, im := range []*imageio.Image{l.Image, l.Label} {
		if im != nil {
			im.Free()
		}
	}
}

// place compares the grids of image and label and finds the order of the axes. Origin and
// direction may differ, as for nnU-Net.
func (l *Labelled) place(reorient bool, c nnunet.RawCase) (err error) {
	a, b := &l.Image.Geometry, &l.Label.Geometry
	if l.Label.Channels != 1 || a.Size != b.Size {
		return fault.New(fault.Model, "%s: %v voxels (x, y, z) and %d channels, but its image %s has %v voxels", c.Label, b.Size, l.Label.Channels, c.Images[0], a.Size)
	}
	l.Placed = true
	for i := range 3 {
		if math.Abs(a.Spacing[i]-b.Spacing[i]) > 1e-8+1e-5*a.Spacing[i] {
			return fault.New(fault.Model, "%s: spacing %v mm (x, y, z), but its image %s has %v mm", c.Label, b.Spacing, c.Images[0], a.Spacing)
		}
		l.Placed = l.Placed && math.Abs(a.Origin[i]-b.Origin[i]) < 0.01*a.Spacing[i]
	}
	for i := range a.Direction {
		l.Placed = l.Placed && math.Abs(a.Direction[i]-b.Direction[i]) < 0.001
	}
	l.View, l.Spacing = a.Full(), [3]float64{a.Spacing[2], a.Spacing[1], a.Spacing[0]}
	if reorient { // as nnU-Net's two readers of such names do
		if l.View, l.Spacing, err = a.Reorient("RAS"); err != nil {
			return err
		}
		if v, _, err := b.Reorient("RAS"); err != nil || v != l.View {
			return fault.New(fault.Model, "%s: its voxels are in the order %s, those of its image %s in %s", c.Label, b.Orientation(), c.Images[0], a.Orientation())
		}
	}
	if l.Image.Dims == 2 { // an axis that no network sees
		l.Spacing[0] = 999 * max(a.Spacing[0], a.Spacing[1])
	}
	return nil
}

// check refuses values that are no labels.
func (l *Labelled) check(d *nnunet.Dataset, path string) error {
	values := d.Values()
	if d.IgnoreLabel >= 0 {
		values = append(values, d.IgnoreLabel)
	}
	known := float32(len(values)) // from 0 on without gaps, as the reader of dataset.json saw to
	row := make([]float32, l.View.Shape[1]*l.View.Shape[2])
	for z := range l.View.Shape[0] {
		kernel.Load(row, Plane(l.Label.Volume, 0, l.View, z), kernel.Identity)
		right := float32(0) // the last that was looked at: labels come in runs
		for _, v := range row {
			if v != right {
				if !(v >= 0 && v < known && v == float32(int32(v))) {
					return fault.New(fault.Format, "%s: a voxel is %g, dataset.json has only the labels %s", path, v, span(values))
				}
				right = v
			}
			if v > 0 {
				l.Foreground++
			}
		}
	}
	return nil
}

func span(values []int) string {
	if len(values) < 4 {
		return strings.Trim(fmt.Sprint(values), "[]")
	}
	return fmt.Sprintf("%d to %d", values[0], values[len(values)-1])
}

// Plane is slice z of a view of a volume's channel.
func Plane(v *volume.Volume, channel int, view volume.View, z int) kernel.Plane {
	n := len(v.Data) / v.Channels
	return kernel.Plane{Data: v.Data[channel*n : (channel+1)*n], DType: int32(v.DType), Offset: view.Offset + z*view.Stride[0],
		Stride: [2]int{view.Stride[1], view.Stride[2]}, Shape: [2]int{view.Shape[1], view.Shape[2]}}
}
