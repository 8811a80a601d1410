package volume

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
)

func grid(x, y, z int) Geometry {
	return Geometry{Size: [3]int{x, y, z}, Spacing: [3]float64{0.7, 0.8, 2}, Direction: Identity}
}

func TestValidateNamesTheFault(t *testing.T) {
	good := grid(4, 3, 2)
	assert.NoError(t, good.Validate())
	for name, c := range map[string]struct {
		change func(*Geometry)
		kind   fault.Kind
		text   string
	}{
		"zero size":     {func(g *Geometry) { g.Size[1] = 0 }, fault.Argument, "size along y is 0"},
		"huge":          {func(g *Geometry) { g.Size = [3]int{30000, 30000, 30000} }, fault.Memory, "more than 2^40"},
		"overflow":      {func(g *Geometry) { g.Size = [3]int{math.MaxInt, math.MaxInt, 2} }, fault.Memory, "must be below 2^31"},
		"zero spacing":  {func(g *Geometry) { g.Spacing[0] = 0 }, fault.Argument, "spacing along x is 0 mm"},
		"negative":      {func(g *Geometry) { g.Spacing[2] = -1 }, fault.Argument, "spacing along z is -1 mm"},
		"NaN spacing":   {func(g *Geometry) { g.Spacing[2] = math.NaN() }, fault.Argument, "spacing along z is NaN"},
		"inf origin":    {func(g *Geometry) { g.Origin[0] = math.Inf(1) }, fault.Argument, "origin along x is +Inf"},
		"singular":      {func(g *Geometry) { g.Direction = [9]float64{1, 0, 0, 1, 0, 0, 0, 0, 1} }, fault.Argument, "singular"},
		"long axis":     {func(g *Geometry) { g.Direction[4] = 2 }, fault.Argument, "column 1, the direction of axis y, has length 2, must be 1"},
		"short axis":    {func(g *Geometry) { g.Direction[8] = -0.998 }, fault.Argument, "axis z, has length 0.998"},
		"sheared":       {func(g *Geometry) { g.Direction[2], g.Direction[8] = 0.6, 0.8 }, fault.Argument, "columns 0 and 2, the directions of axes x and z, must be at right angles, their dot product is 0.6"},
		"NaN direction": {func(g *Geometry) { g.Direction[4] = math.NaN() }, fault.Argument, "singular"},
	} {
		g := good
		c.change(&g)
		err := g.Validate()
		assert.Equal(t, c.kind, fault.KindOf(err), name)
		assert.ErrorContains(t, err, c.text, name)
		_, err = New(g, 1, Int16)
		assert.Error(t, err, name)
	}
}

// Directions as files and other libraries round them are accepted.
func TestValidateIsLenient(t *testing.T) {
	g := grid(4, 3, 2)
	s, c := math.Sincos(0.3)
	exact := [9]float64{c, -s, 0, s, c, 0, 0, 0, -1}
	for _, digits := range []float64{1e3, 1e4, 1e6} {
		for i, v := range exact {
			g.Direction[i] = math.Round(v*digits) / digits
		}
		assert.NoError(t, g.Validate(), digits)
	}
	for i, v := range exact {
		g.Direction[i] = float64(float32(v)) * 1.0009
	}
	assert.NoError(t, g.Validate())
}

func TestNewWrapFree(t *testing.T) {
	v, err := New(grid(4, 3, 2), 2, Int16)
	require.NoError(t, err)
	assert.Len(t, v.Data, 4*3*2*2*2)
	assert.Len(t, As[int16](v), 48)
	assert.EqualValues(t, 96, cmem.Live())
	v.Free()
	v.Free()
	(*Volume)(nil).Free()
	assert.Zero(t, cmem.Live())

	data := make([]byte, 48)
	w, err := Wrap(grid(4, 3, 2), 1, Uint16, data)
	require.NoError(t, err)
	As[uint16](w)[1] = 258
	assert.Equal(t, []byte{2, 1}, data[2:4])
	assert.NoError(t, w.Check())
	half, err := Wrap(grid(4, 3, 1), 1, Uint16, data[24:])
	require.NoError(t, err)
	other, err := Wrap(grid(4, 3, 1), 1, Uint16, data[:24])
	require.NoError(t, err)
	assert.True(t, w.Overlaps(half))
	assert.True(t, half.Overlaps(w))
	assert.False(t, half.Overlaps(other))
	assert.Error(t, v.Check(), "freed")
	assert.Error(t, (*Volume)(nil).Check())
	assert.Error(t, (&Volume{Geometry: grid(4, 3, 2), Channels: 1, DType: Uint8, Data: data[:5]}).Check())
	w.Free()
	assert.NotNil(t, w.Data, "wrapped memory stays the caller's")
	_, err = Wrap(grid(4, 3, 2), 1, Uint16, data[:47])
	assert.ErrorContains(t, err, "another number of bytes than the 47")
	_, err = Wrap(grid(4, 3, 2), 1<<61, Uint16, data)
	assert.Error(t, err)
	_, err = Wrap(grid(4, 3, 2), 1, DType(9), data)
	assert.ErrorContains(t, err, "dtype 9")
}

// The letters follow SimpleITK's DICOMOrientImageFilter: identity is LPS.
func TestOrientation(t *testing.T) {
	s := math.Sqrt2 / 2
	for want, d := range map[string][9]float64{
		"LPS": Identity,
		"RAS": {-1, 0, 0, 0, -1, 0, 0, 0, 1},
		"PIR": {0, 0, -1, 1, 0, 0, 0, -1, 0},
		"LAI": {1, 0, 0, 0, -1, 0, 0, 0, -1},
		"PSL": {0.1, 0, 0.99, 0.99, 0.1, 0, 0, 0.99, 0.1},
		// Two axes at 45 degrees: the first takes one, the second the other.
		"LPI": {s, -s, 0, s, s, 0, 0, 0, -1},
	} {
		g := grid(4, 3, 2)
		g.Direction = d
		assert.Equal(t, want, g.Orientation())
	}
}

// Reorienting there and back visits every voxel once, and the view's physical
// neighbours lie in the named directions.
func TestReorient(t *testing.T) {
	g := grid(4, 3, 2)
	g.Direction = [9]float64{0, 0, -1, 1, 0, 0, 0, -1, 0} // PIR: x grows to P, y to I, z to R
	v, spacing, err := g.Reorient("lps")
	require.NoError(t, err)
	assert.Equal(t, [3]int{3, 4, 2}, v.Shape, "S from stored y (3), P from x (4), L from z (2)")
	assert.Equal(t, [3]float64{0.8, 0.7, 2}, spacing)
	assert.Equal(t, [3]int{-4, 1, -12}, v.Stride, "I is flipped to S, R to L")
	assert.Equal(t, 2*4+12, v.Offset)
	seen := map[int]bool{}
	for i := range v.Shape[0] {
		for j := range v.Shape[1] {
			for k := range v.Shape[2] {
				seen[v.Offset+i*v.Stride[0]+j*v.Stride[1]+k*v.Stride[2]] = true
			}
		}
	}
	assert.Len(t, seen, 24)
	same, _, err := g.Reorient("PIR")
	require.NoError(t, err)
	assert.Equal(t, g.Full(), same)
	for _, bad := range []string{"", "LP", "LPX", "LRS", "LPSS"} {
		_, _, err := g.Reorient(bad)
		assert.ErrorContains(t, err, "not three letters", bad)
	}
}

func TestTransposeAndCrop(t *testing.T) {
	g := grid(4, 3, 2)
	v := g.Full().Transpose([3]int{2, 0, 1})
	assert.Equal(t, View{Shape: [3]int{4, 2, 3}, Stride: [3]int{1, 12, 4}}, v)
	c := v.Crop([3]int{1, 0, 2}, [3]int{3, 1, 3})
	assert.Equal(t, View{Shape: [3]int{2, 1, 1}, Stride: [3]int{1, 12, 4}, Offset: 1 + 2*4}, c)
	assert.Equal(t, 2, c.Voxels())
}
