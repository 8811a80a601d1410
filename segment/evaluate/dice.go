// Package evaluate compares label maps with a reference.
package evaluate

import (
	"math"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// Overlap is how one label of a prediction and its reference overlap.
type Overlap struct {
	DSC        float64 // Dice similarity coefficient: 1 if both are empty, 0 if one is
	Prediction float64 // ml
	Reference  float64 // ml
	Both       int     // voxels that have the label in both maps
	Predicted  int     // voxels in the prediction
	Expected   int     // voxels in the reference
}

// Dice compares two label maps on the same grid, for the labels 0 (background)
// to labels-1; entry i of the result is label i. The maps are read once, for all
// labels together. Their voxels may be uint8, uint16, int16 or int32, the two
// not necessarily the same; a value that is no label, or another grid, is an
// error.
func Dice(prediction, reference *volume.Volume, labels int) ([]Overlap, error) {
	if labels < 1 {
		return nil, fault.New(fault.Argument, "cannot compare %d labels: at least the background is needed", labels)
	}
	if err := SameGrid(&prediction.Geometry, &reference.Geometry); err != nil {
		return nil, err
	}
	if prediction.Channels != 1 || reference.Channels != 1 {
		return nil, fault.New(fault.Argument, "label maps have one channel, not %d and %d", prediction.Channels, reference.Channels)
	}
	c := counter{out: make([]Overlap, labels)}
	var err error
	switch prediction.DType {
	case volume.Uint8:
		err = against(&c, volume.As[uint8](prediction), reference)
	case volume.Uint16:
		err = against(&c, volume.As[uint16](prediction), reference)
	case volume.Int16:
		err = against(&c, volume.As[int16](prediction), reference)
	case volume.Int32:
		err = against(&c, volume.As[int32](prediction), reference)
	default:
		err = notLabels(prediction.DType)
	}
	if err != nil {
		return nil, err
	}
	g := &prediction.Geometry
	ml := g.Spacing[0] * g.Spacing[1] * g.Spacing[2] / 1000
	for i := range c.out {
		o := &c.out[i]
		o.Prediction, o.Reference = float64(o.Predicted)*ml, float64(o.Expected)*ml
		o.DSC = 1
		if sum := o.Predicted + o.Expected; sum > 0 {
			o.DSC = 2 * float64(o.Both) / float64(sum)
		}
	}
	return c.out, nil
}

// MeanDSC is the mean over the labels but the background (entry 0); NaN where
// there is no other.
func MeanDSC(o []Overlap) float64 {
	sum := 0.0
	for i := 1; i < len(o); i++ {
		sum += o[i].DSC
	}
	return sum / float64(len(o)-1)
}

// SameGrid reports how two grids differ: in size, or by more than what float32
// headers lose (0.1 % of the spacing, a hundredth of a voxel for the origin,
// 1e-4 for the direction).
func SameGrid(a, b *volume.Geometry) error {
	if a.Size != b.Size {
		return fault.New(fault.Argument, "the volumes differ in size: %v and %v voxels (x, y, z)", a.Size, b.Size)
	}
	for i := range 3 {
		if math.Abs(a.Spacing[i]-b.Spacing[i]) > 1e-3*a.Spacing[i] {
			return fault.New(fault.Argument, "the volumes differ in spacing: %v and %v mm (x, y, z)", a.Spacing, b.Spacing)
		}
		if math.Abs(a.Origin[i]-b.Origin[i]) > 1e-2*a.Spacing[i] {
			return fault.New(fault.Argument, "the volumes differ in origin: %v and %v mm (x, y, z)", a.Origin, b.Origin)
		}
	}
	for i := range 9 {
		if math.Abs(a.Direction[i]-b.Direction[i]) > 1e-4 {
			return fault.New(fault.Argument, "the volumes differ in direction: %v and %v", a.Direction, b.Direction)
		}
	}
	return nil
}

type integer interface {
	uint8 | uint16 | int16 | int32
}

func against[P integer](c *counter, p []P, reference *volume.Volume) error {
	switch reference.DType {
	case volume.Uint8:
		return count(c, p, volume.As[uint8](reference))
	case volume.Uint16:
		return count(c, p, volume.As[uint16](reference))
	case volume.Int16:
		return count(c, p, volume.As[int16](reference))
	case volume.Int32:
		return count(c, p, volume.As[int32](reference))
	}
	return notLabels(reference.DType)
}

func notLabels(d volume.DType) error {
	return fault.New(fault.Argument, "a label map has integer voxels, not %s", d)
}

type counter struct{ out []Overlap }

// count goes through both maps once. Label maps are long runs of the same pair,
// so runs are counted, not voxels.
func count[P, R integer](c *counter, p []P, r []R) error {
	for i := 0; i < len(p); {
		a, b := p[i], r[i]
		start := i
		for i++; i < len(p) && p[i] == a && r[i] == b; i++ {
		}
		if err := c.add(int(a), int(b), i-start); err != nil {
			return err
		}
	}
	return nil
}

// add counts n voxels with label a in the prediction and b in the reference.
func (c *counter) add(a, b, n int) error {
	for _, l := range [2]int{a, b} {
		if l < 0 || l >= len(c.out) {
			return fault.New(fault.Argument, "a voxel has the value %d, which is none of the labels 0 to %d", l, len(c.out)-1)
		}
	}
	c.out[a].Predicted += n
	c.out[b].Expected += n
	if a == b {
		c.out[a].Both += n
	}
	return nil
}
