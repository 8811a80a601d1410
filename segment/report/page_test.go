package report

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hostile is a name that runs a script wherever it is not escaped.
const hostile = `</script><img src=x onerror="document.title='taken'">'` + "`${alert(1)}`\u2028"

// cube is a CT in which organ 1 is a cube of 60 HU and 2 a bar that leaves the image, with noise.
func cube(t *testing.T, g volume.Geometry) (image, labels *volume.Volume) {
	random := rand.New(rand.NewPCG(5, 6))
	v, l := make([]int16, g.Voxels()), make([]uint8, g.Voxels())
	for i := range v {
		x, y, z := i%g.Size[0], i/g.Size[0]%g.Size[1], i/g.Size[0]/g.Size[1]
		inside := func(at, n int) bool { return at >= n/4 && at < n/2 }
		v[i] = int16(random.IntN(20)) - 1000
		switch {
		case inside(x, g.Size[0]) && inside(y, g.Size[1]) && (inside(z, g.Size[2]) || g.Size[2] == 1):
			v[i], l[i] = int16(50+random.IntN(20)), 1
		case x > g.Size[0]*3/4 && inside(y, g.Size[1]):
			v[i], l[i] = int16(200+random.IntN(20)), 2
		}
	}
	return wrap(t, g, 1, volume.Int16, v), wrap(t, g, 1, volume.Uint8, l)
}

// page makes the page of an image.
func page(t *testing.T, image, labels *volume.Volume, names []Label, ct bool) string {
	organs, err := Measure(image, labels, names, 2)
	require.NoError(t, err)
	p := Page{Title: "case " + hostile, Image: image, Labels: labels, Organs: organs, CT: ct, Date: time.Unix(1e9, 0).UTC(), Version: "1.2.3",
		Notes: []string{"note " + hostile}, Phases: []Phase{{"read", 0.5}, {"network", 2}},
		Tables: []Table{{"Model " + hostile, [][2]string{{"name " + hostile, "text " + hostile}}}}}
	var b bytes.Buffer
	require.NoError(t, p.Write(t.Context(), &b, 2))
	return b.String()
}

var bar = []Label{{1, "cube"}, {2, hostile}, {3, "absent"}}

func TestPageEscapes(t *testing.T) {
	image, labels := cube(t, grid(40, 30, 20))
	text := page(t, image, labels, bar, true)
	for part, times := range map[string]int{
		"<img src=x": 0, "\u2028`": 0, "<script": 5, "</script>": 5, // data, niivue, image, labels, viewer
		`content="default-src 'none';`: 1, // what the browser is told not to fetch
		"libflare 1.2.3":               1, "not for clinical use": 2, "cut by the field of view (right, inferior, superior)": 2,
		"not found": 2, "2001-09-09": 1, "BSD 2-Clause": 1,
	} {
		assert.Equal(t, times, strings.Count(text, part), part)
	}
	assert.Empty(t, regexp.MustCompile(`(?i)(src|href|action)\s*=\s*["']?\s*(https?:)?//[^"']*`).FindString(text), "nothing from elsewhere")
}

// part returns what the page holds under an id.
func part(t *testing.T, text, id string) []byte {
	_, after, found := strings.Cut(text, `<script type="text/plain" id="`+id+`">`)
	require.True(t, found, id)
	before, _, _ := strings.Cut(after, "</script>")
	b, err := base64.StdEncoding.DecodeString(before)
	require.NoError(t, err)
	return b
}

// TestPageData unpacks what the page's script will unpack and compares it with the image.
func TestPageData(t *testing.T) {
	many := []Label{{1, "cube"}, {2, "bar"}}
	for i := 3; i < 300; i++ {
		many = append(many, Label{i, "absent"})
	}
	for _, names := range [][]Label{bar, many} {
		g := grid(40, 30, 35) // more than two parts of 16 slices
		image, labels := cube(t, g)
		text := page(t, image, labels, names, true)
		_, after, _ := strings.Cut(text, "const report = ")
		var d data
		require.NoError(t, json.NewDecoder(strings.NewReader(after)).Decode(&d))
		assert.Equal(t, g.Size, d.Size)
		assert.Equal(t, names[1].Name, d.Organs[1].Name)
		assert.Nil(t, d.Organs[2].Centre)
		// LPS (-1, -1, 1) is RAS (1, 1, 1): the origin's x and y change their signs.
		assert.InDeltaSlice(t, []float64{0.7, 0, 0, -10}, d.Affine[0][:], 1e-9)
		assert.InDeltaSlice(t, []float64{0, 0, 2.5, 30}, d.Affine[2][:], 1e-9)

		steps, err := io.ReadAll(flate.NewReader(bytes.NewReader(part(t, text, "image"))))
		require.NoError(t, err)
		require.Len(t, steps, g.Voxels())
		voxels := volume.As[int16](image)
		code := uint8(0)
		for i, step := range steps {
			if i%g.Size[0] == 0 {
				code = 0
			}
			code += step
			off := math.Abs(d.Values[code] - float64(voxels[i]))
			require.LessOrEqual(t, off, map[bool]float64{true: 2, false: 8}[voxels[i] > -200], "voxel %d", i)
		}
		organs, err := io.ReadAll(flate.NewReader(bytes.NewReader(part(t, text, "labels"))))
		require.NoError(t, err)
		assert.Equal(t, len(names) > 255, d.Wide)
		want := labels.Data
		if d.Wide {
			want = nil
			for _, l := range labels.Data {
				want = append(want, l, 0)
			}
		}
		assert.Equal(t, want, organs)
	}
}

// TestNothingFound: of a label map that is all background the page shows the middle of the image.
func TestNothingFound(t *testing.T) {
	g := grid(40, 30, 20)
	image, _ := cube(t, g)
	text := page(t, image, wrap(t, g, 1, volume.Uint8, make([]uint8, g.Voxels())), []Label{{1, "cube"}, {2, "bar"}}, true)
	assert.Equal(t, 1, strings.Count(text, "not found: cube, bar"))
	_, after, _ := strings.Cut(text, "const report = ")
	var d data
	require.NoError(t, json.NewDecoder(strings.NewReader(after)).Decode(&d))
	assert.InDeltaSlice(t, []float64{-10 + 20*0.7, 20 + 15*0.8, 30 + 10*2.5}, d.Focus[:], 1e-9)
	assert.Nil(t, d.Organs[0].Centre)
}

// TestReduce compares blocks, also those cut by the image's end, with plain means and counts.
func TestReduce(t *testing.T) {
	g := grid(37, 30, 9) // 0.7 x 0.8 x 2.5 mm
	random := rand.New(rand.NewPCG(7, 8))
	v, l := make([]float32, g.Voxels()), make([]uint16, g.Voxels())
	for i := range v {
		v[i] = random.Float32() * 1000
		if random.IntN(3) > 0 {
			l[i] = []uint16{1, 2, 2, 300, 7}[random.IntN(5)]
		}
	}
	names := []Label{{2, "two"}, {1, "one"}, {300, "wide"}} // 7 is not shown
	r, err := reduce(wrap(t, g, 1, volume.Float32, v), wrap(t, g, 1, volume.Uint16, l), names, false, 800, 2)
	require.NoError(t, err)
	defer r.free()
	// 9990 voxels: 2.1 x 2.4 x 2.5 mm are 13 x 10 x 9 = 1170; then x and y once more each: 10 x 10 x 9, 10 x 8 x 9.
	assert.Equal(t, [3]int{4, 4, 1}, r.factor)
	assert.Equal(t, [3]int{10, 8, 9}, r.geometry.Size)
	assert.InDeltaSlice(t, []float64{2.8, 3.2, 2.5}, r.geometry.Spacing[:], 1e-9)
	assert.InDeltaSlice(t, []float64{10 - 1.5*0.7, -20 - 1.5*0.8, 30}, r.geometry.Origin[:], 1e-9, "of the first block; axes run to right and front")
	step := r.values[1] - r.values[0]
	for i := range r.image {
		x, y, z := i%10, i/10%8, i/80
		sum, n, count := 0.0, 0, map[uint16]int{}
		for j := 4 * y; j < min(4*y+4, 30); j++ {
			for k := 4 * x; k < min(4*x+4, 37); k++ {
				at := (z*30+j)*37 + k
				sum += float64(v[at])
				count[map[uint16]uint16{2: 1, 1: 2, 300: 3}[l[at]]]++
				n++
			}
		}
		require.InDelta(t, sum/float64(n), r.values[r.image[i]], step/2+0.2, "block %d", i)
		most := 0
		for organ, c := range count {
			if organ > 0 {
				most = max(most, c)
			}
		}
		if o := r.organs[i]; 2*count[0] > n {
			require.Zero(t, o)
		} else {
			require.NotZero(t, o)
			require.Equal(t, most, count[o], "block %d", i)
		}
	}
}

// TestCodes finds the nearest value of a CT, also beyond the ends.
func TestCodes(t *testing.T) {
	r := &reduced{}
	code := r.hounsfield()
	for v := -3000; v < 5000; v++ {
		best := math.Inf(1)
		for _, one := range r.values {
			best = min(best, math.Abs(one-float64(v)))
		}
		require.InDelta(t, best, math.Abs(r.values[code(float32(v))]-float64(v)), 1e-9, "%d HU", v)
	}
	even := &reduced{}
	image := wrap(t, grid(10, 1, 1), 1, volume.Float64, []float64{7, 7, 7, 7, 7, 7, 7, 7, 7, 7})
	even.scale(valuesOf(image), 10)
	assert.Less(t, even.lo, even.hi, "an image of one value has a window too")
}

// TestPlanes: an image stored in another orientation looks the same and lies at the same place.
func TestPlanes(t *testing.T) {
	g := volume.Geometry{Size: [3]int{20, 16, 12}, Spacing: [3]float64{1, 2, 3}, Direction: volume.Identity}
	image, labels := cube(t, g)
	names := []Label{{1, "cube"}, {2, "bar"}}
	draw := func(image, labels *volume.Volume) ([]plane, [3]float64) {
		organs, err := Measure(image, labels, names, 1)
		require.NoError(t, err)
		r, err := reduce(image, labels, names, true, maxVoxels, 1)
		require.NoError(t, err)
		defer r.free()
		p := &Page{Image: image, Organs: organs}
		planes, err := r.planes(organs, p.focus())
		require.NoError(t, err)
		return planes, place(&image.Geometry, p.focus())
	}
	want, at := draw(image, labels)
	require.Len(t, want, 3)
	assert.InDelta(t, 20.0/32, want[0].Across, 1e-9)

	// The same voxels with the axes z (to the feet), x (to the right), y.
	turned := volume.Geometry{Size: [3]int{12, 20, 16}, Spacing: [3]float64{3, 1, 2}, Origin: [3]float64{19, 0, 33},
		Direction: [9]float64{0, -1, 0, 0, 0, 1, -1, 0, 0}}
	v, l := make([]int16, g.Voxels()), make([]uint8, g.Voxels())
	for i := range v {
		from := ((11-i%12)*16+i/12/20)*20 + 19 - i/12%20
		v[i], l[i] = volume.As[int16](image)[from], labels.Data[from]
	}
	got, turnedAt := draw(wrap(t, turned, 1, volume.Int16, v), wrap(t, turned, 1, volume.Uint8, l))
	assert.Equal(t, want, got)
	assert.InDeltaSlice(t, at[:], turnedAt[:], 1e-9)

	flat := grid(20, 16, 1)
	image, labels = cube(t, flat)
	one, _ := draw(image, labels)
	require.Len(t, one, 1, "of a 2-D image")
	assert.Equal(t, "axial", one[0].Name)
}

// TestFailingWriter: the writer's error comes out, and nothing stays allocated.
func TestFailingWriter(t *testing.T) {
	image, labels := cube(t, grid(40, 30, 20))
	before := cmem.Live()
	p := &Page{Image: image, Labels: labels, Organs: []Organ{{Label: 1, Name: "a"}}}
	for _, n := range []int{0, 20_000, 500_000, 1_080_000} {
		assert.ErrorIs(t, p.Write(t.Context(), &full{n}, 1), io.ErrShortWrite, "after %d bytes", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, fault.Cancelled, fault.KindOf(p.Write(ctx, io.Discard, 1)))
	assert.Equal(t, before, cmem.Live())
}

type full struct{ left int }

func (f *full) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

// TestNiivue: what is packed here is the published file, of the version that fetch.sh names.
func TestNiivue(t *testing.T) {
	z, err := gzip.NewReader(bytes.NewReader(niivue))
	require.NoError(t, err)
	h := sha256.New()
	_, err = io.Copy(h, z)
	require.NoError(t, err)
	assert.Equal(t, "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af", fmt.Sprintf("%x", h.Sum(nil)))
	assert.Contains(t, licences, "niivue 0.69.0 (BSD-2-Clause)")
}
