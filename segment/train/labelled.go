package train

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

// labelled is a training case that was read and checked. Free gives its memory back.
type labelled struct {
	image, label *imageio.Image
	view         volume.View // of both, in the order of nnU-Net's reader
	spacing      [3]float64  // of the view's axes: mm, slowest first
	foreground   int         // voxels above 0
	placed       bool        // image and label have the same origin and direction
}

// openLabelled reads a case and checks what nnU-Net's verify_dataset_integrity.py checks.
// Errors name the file; besides those of imageio.ReadFiles: Format (voxels that are not
// finite, values that are no labels of dataset.json), Model (the number of channels, grids
// that differ).
func openLabelled(ctx context.Context, raw *nnunet.RawDataset, c nnunet.RawCase) (*labelled, error) {
	l := &labelled{}
	if err := l.open(ctx, raw, c); err != nil {
		l.Free()
		return nil, err
	}
	return l, nil
}

func (l *labelled) open(ctx context.Context, raw *nnunet.RawDataset, c nnunet.RawCase) (err error) {
	if l.image, err = imageio.ReadFiles(ctx, c.Images); err != nil {
		return err
	}
	if l.label, err = imageio.Read(ctx, c.Label); err != nil {
		return err
	}
	if n := len(raw.Dataset.Channels); l.image.Channels != n {
		return fault.New(fault.Model, "%s: %d channels, dataset.json has %d (%s)", c.Images[0], l.image.Channels, n, strings.Join(raw.Dataset.Channels, ", "))
	}
	if l.image.NotFinite > 0 {
		return fault.New(fault.Format, "%s: %d voxels are NaN or infinite: replace them by what means nothing there in such images", c.Images[0], l.image.NotFinite)
	}
	if l.label.NotFinite > 0 {
		return fault.New(fault.Format, "%s: %d voxels are NaN or infinite, expected labels", c.Label, l.label.NotFinite)
	}
	reader, err := raw.Dataset.Reader()
	if err != nil {
		return err
	}
	if err := l.place(strings.HasSuffix(reader, "WithReorient"), c); err != nil {
		return err
	}
	return l.check(raw.Dataset, c.Label)
}

// Free gives the memory back.
func (l *labelled) Free() {
	for _, im := range []*imageio.Image{l.image, l.label} {
		if im != nil {
			im.Free()
		}
	}
}

// place compares the grids of image and label and finds the order of the axes. Origin and
// direction may differ, as for nnU-Net.
func (l *labelled) place(reorient bool, c nnunet.RawCase) (err error) {
	a, b := &l.image.Geometry, &l.label.Geometry
	if l.label.Channels != 1 || a.Size != b.Size {
		return fault.New(fault.Model, "%s: %v voxels (x, y, z) and %d channels, but its image %s has %v voxels", c.Label, b.Size, l.label.Channels, c.Images[0], a.Size)
	}
	l.placed = true
	for i := range 3 {
		if math.Abs(a.Spacing[i]-b.Spacing[i]) > 1e-8+1e-5*a.Spacing[i] {
			return fault.New(fault.Model, "%s: spacing %v mm (x, y, z), but its image %s has %v mm", c.Label, b.Spacing, c.Images[0], a.Spacing)
		}
		l.placed = l.placed && math.Abs(a.Origin[i]-b.Origin[i]) < 0.01*a.Spacing[i]
	}
	for i := range a.Direction {
		l.placed = l.placed && math.Abs(a.Direction[i]-b.Direction[i]) < 0.001
	}
	l.view, l.spacing = a.Full(), [3]float64{a.Spacing[2], a.Spacing[1], a.Spacing[0]}
	if reorient { // as nnU-Net's two readers of such names do
		if l.view, l.spacing, err = a.Reorient("RAS"); err != nil {
			return err
		}
		if v, _, err := b.Reorient("RAS"); err != nil || v != l.view {
			return fault.New(fault.Model, "%s: its voxels are in the order %s, those of its image %s in %s", c.Label, b.Orientation(), c.Images[0], a.Orientation())
		}
	}
	if l.image.Dims == 2 { // an axis that no network sees
		l.spacing[0] = 999 * max(a.Spacing[0], a.Spacing[1])
	}
	return nil
}

// check refuses values that are no labels.
func (l *labelled) check(d *nnunet.Dataset, path string) error {
	values := d.Values()
	if d.IgnoreLabel >= 0 {
		values = append(values, d.IgnoreLabel)
	}
	known := float32(len(values)) // from 0 on without gaps, as the reader of dataset.json saw to
	row := make([]float32, l.view.Shape[1]*l.view.Shape[2])
	for z := range l.view.Shape[0] {
		kernel.Load(row, plane(l.label.Volume, 0, l.view, z), kernel.Identity)
		right := float32(0) // the last that was looked at: labels come in runs
		for _, v := range row {
			if v != right {
				if !(v >= 0 && v < known && v == float32(int32(v))) {
					return fault.New(fault.Format, "%s: a voxel is %g, dataset.json has only the labels %s", path, v, span(values))
				}
				right = v
			}
			if v > 0 {
				l.foreground++
			}
		}
	}
	return nil
}

// plane is slice z of a view of a volume's channel.
func plane(v *volume.Volume, channel int, view volume.View, z int) kernel.Plane {
	n := len(v.Data) / v.Channels
	return kernel.Plane{Data: v.Data[channel*n : (channel+1)*n], DType: int32(v.DType), Offset: view.Offset + z*view.Stride[0],
		Stride: [2]int{view.Stride[1], view.Stride[2]}, Shape: [2]int{view.Shape[1], view.Shape[2]}}
}

func span(values []int) string {
	if len(values) < 4 {
		return strings.Trim(fmt.Sprint(values), "[]")
	}
	return fmt.Sprintf("%d to %d", values[0], values[len(values)-1])
}
