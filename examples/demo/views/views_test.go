package views

import (
	"image/color"
	"testing"

	"github.com/libflare/libflare/segment/phantom"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// corner is a cube with one labelled voxel near the patient's right, front and
// top, stored in LPS.
func corner(t *testing.T) (ct, labels *volume.Volume) {
	t.Helper()
	g := volume.Geometry{Size: [3]int{8, 10, 12}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	ct, err := volume.New(g, 1, volume.Int16)
	require.NoError(t, err)
	t.Cleanup(ct.Free)
	clear(ct.Data)
	labels, err = volume.New(g, 1, volume.Uint8)
	require.NoError(t, err)
	t.Cleanup(labels.Free)
	clear(labels.Data)
	labels.Data[1+8*(2+10*10)] = 1 // x 1 of 8, y 2 of 10, z 10 of 12
	return ct, labels
}

func TestFocusAndOrientation(t *testing.T) {
	ct, labels := corner(t)
	d, err := open(ct, labels)
	require.NoError(t, err)
	at, present := d.survey(3)
	assert.Equal(t, [3]int{10, 2, 1}, at)
	assert.Equal(t, []int{1}, present)
	at, present = d.survey(1) // the label is not among the names
	assert.Equal(t, [3]int{6, 5, 4}, at)
	assert.Empty(t, present)

	// At one pixel per mm the spot lies at the left (right of the patient), at the
	// top of the axial picture (front), and at the top of the upright ones.
	o := Options{Window: 400, Level: 40}
	for _, c := range []struct {
		p              plane
		k, column, row int
	}{
		{plane{row: 1, column: 2, through: 0}, 10, 1, 2},
		{plane{row: 0, column: 2, through: 1, up: true}, 2, 1, 1},
		{plane{row: 0, column: 1, through: 2, up: true}, 1, 2, 1},
	} {
		m := d.slice(c.p, c.k, 1, o)
		assert.Greater(t, m.RGBAAt(c.column, c.row).R, m.RGBAAt(c.column, c.row).B+50)
		far := m.RGBAAt(m.Rect.Dx()-1, m.Rect.Dy()-1)
		assert.Equal(t, color.RGBA{102, 102, 102, 255}, far) // 0 HU in the window 40 +- 200
	}
}

// TestOrientationOfStorageDoesNotMatter stores the same patient as RAI.
func TestOrientationOfStorageDoesNotMatter(t *testing.T) {
	ct, labels, err := phantom.Generate(phantom.Sample(1, 1, phantom.Small))
	require.NoError(t, err)
	defer ct.Free()
	defer labels.Free()
	o := Options{Names: phantom.Organs, Title: "phantom"}
	want, err := Render(ct, labels, o)
	require.NoError(t, err)

	// All axes reversed: voxel i is voxel n-1-i.
	turned := *ct
	turned.Direction = [9]float64{-1, 0, 0, 0, -1, 0, 0, 0, -1}
	hu := append([]int16(nil), volume.As[int16](ct)...)
	lab := append([]uint8(nil), labels.Data...)
	for i, j := 0, len(hu)-1; i < j; i, j = i+1, j-1 {
		hu[i], hu[j] = hu[j], hu[i]
		lab[i], lab[j] = lab[j], lab[i]
	}
	copy(volume.As[int16](ct), hu)
	turnedLabels, err := volume.Wrap(turned.Geometry, 1, volume.Uint8, lab)
	require.NoError(t, err)
	got, err := Render(&turned, turnedLabels, o)
	require.NoError(t, err)
	assert.Equal(t, want.Pix, got.Pix)
}

// TestTrim leaves a body of 30 x 40 mm with 10 mm around it, without the couch.
func TestTrim(t *testing.T) {
	g := volume.Geometry{Size: [3]int{100, 120, 5}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	ct, err := volume.New(g, 1, volume.Int16)
	require.NoError(t, err)
	defer ct.Free()
	hu := volume.As[int16](ct)
	for i := range hu {
		x, y := i%100, i/100%120
		hu[i] = -1000
		if x >= 40 && x < 70 && y >= 20 && y < 60 || y == 100 {
			hu[i] = 0
		}
	}
	labels, err := volume.Wrap(g, 1, volume.Uint8, make([]byte, len(hu)))
	require.NoError(t, err)
	d, err := open(ct, labels)
	require.NoError(t, err)
	d.trim()
	assert.Equal(t, 60, d.view.Shape[1])
	assert.InDelta(t, 50, d.view.Shape[2], 3) // columns are looked at in steps of 4
	for i := range hu {
		hu[i] = -1000
	}
	d, err = open(ct, labels)
	require.NoError(t, err)
	d.trim()
	assert.Equal(t, 100, d.view.Shape[2], "nothing but air stays whole")
}

func TestRenderRefuses(t *testing.T) {
	ct, labels := corner(t)
	_, err := Render(ct, ct, Options{})
	assert.ErrorContains(t, err, "not int16")
	other := *labels
	other.Size[0] = 4
	_, err = Render(ct, &other, Options{})
	assert.ErrorContains(t, err, "the CT has")
}

func TestColoursDiffer(t *testing.T) {
	seen := map[color.RGBA]bool{}
	for l := 1; l <= 120; l++ {
		c := colour(l)
		assert.False(t, seen[c], "label %d", l)
		assert.Greater(t, int(c.R)+int(c.G)+int(c.B), 250, "label %d is dark", l)
		seen[c] = true
	}
}
