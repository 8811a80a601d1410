package augment

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/train/random"
)

// The median of every window, found by sorting it, with many equal values and negative
// ones.
func TestMedianAgreesWithSorting(t *testing.T) {
	r := random.New(4)
	for _, shape := range [][3]int{{1, 9, 70}, {5, 3, 2}, {2, 1, 9}, {6, 7, 66}} {
		w := scratch(t, shape, shape)
		for size := minMedian; size <= maxMedian; size++ {
			x := make([]float32, shape[0]*shape[1]*shape[2])
			for i := range x {
				x[i] = float32(r.IntN(40)-20) / 8
			}
			s := &Sample{Shape: shape, Image: slices.Clone(x)}
			Median{}.Apply(s, []float64{float64(size)}, w)
			deep := size
			if shape[0] == 1 {
				deep = 1
			}
			want := make([]float32, 0, len(x))
			for z := range shape[0] {
				for y := range shape[1] {
					for i := range shape[2] {
						var window []float32
						for dz := range deep {
							for dy := range size {
								for dx := range size {
									window = append(window, x[(mirrored(z+dz-deep/2, shape[0])*shape[1]+mirrored(y+dy-size/2, shape[1]))*shape[2]+mirrored(i+dx-size/2, shape[2])])
								}
							}
						}
						slices.Sort(window)
						want = append(want, window[len(window)/2])
					}
				}
			}
			require.Equal(t, want, s.Image, "%v, size %d", shape, size)
		}
	}
}

func TestPower(t *testing.T) {
	var p power
	for _, g := range []float64{0.01, 0.3, 0.7, 1, 1.5, 4} {
		p.set(g)
		assert.Zero(t, p.of(0))
		for i := 1; i <= 10000; i++ {
			x := float32(i) / 10000 * float32(i) / 10000
			want := math.Pow(float64(x), g)
			assert.InEpsilon(t, want, p.of(x), 4e-7, "%g^%g", x, g)
		}
	}
}

// The noise has the mean, deviation and tails of a normal distribution, is not the same in
// two channels, in neighbouring voxels or for two keys, and is the same for the same key.
func TestNoiseIsNormal(t *testing.T) {
	shape := [3]int{30, 40, 50}
	const n = 30 * 40 * 50
	w := scratch(t, [3]int{1, 1, 1}, [3]int{1, 8, 8})
	noise := func(key float64) []float32 {
		s := &Sample{Shape: shape, Image: make([]float32, 2*n)}
		Noise{}.Apply(s, []float64{0.1, key}, w)
		return s.Image
	}
	x, other := noise(1<<53-1), noise(5)
	assert.Equal(t, x, noise(1<<53-1))
	var sum, sum2, sum4, next, channel, key float64
	for i, v := range x[:n] {
		d := float64(v) / 0.1
		sum, sum2, sum4 = sum+d, sum2+d*d, sum4+d*d*d*d
		next += d * float64(x[i+1]) / 0.1
		channel += d * float64(x[n+i]) / 0.1
		key += d * float64(other[i]) / 0.1
	}
	// 4.5 standard errors: the variances of d, d^2, d^4 and of products are 1, 2, 96 and 1.
	e := 4.5 / math.Sqrt(n)
	assert.InDelta(t, 0, sum/n, e)
	assert.InDelta(t, 1, sum2/n, e*math.Sqrt(2))
	assert.InDelta(t, 3, sum4/n, e*math.Sqrt(96))
	assert.InDelta(t, 0, next/n, e)
	assert.InDelta(t, 0, channel/n, e)
	assert.InDelta(t, 0, key/n, e)
}

// A constant image stays what it is, and nothing divides by zero.
func TestConstantImage(t *testing.T) {
	shape := [3]int{8, 9, 10}
	w := scratch(t, shape, shape)
	blob := []float64{0.3, 3, 0.4, 4, 0.5, 5}
	for _, c := range []struct {
		t Transform
		p []float64
	}{
		{Blur{}, []float64{1, 0.7, 0.5}}, {Contrast{}, []float64{1.3}}, {Contrast{Clip: true}, []float64{0.7}},
		{LowResolution{}, []float64{0.5, 0.5, 0.5}}, {Gamma{}, []float64{1.4}}, {Gamma{Invert: true}, []float64{0.7}},
		{Median{}, []float64{4}}, {Sharpen{}, []float64{1}}, {LocalGamma{}, append([]float64{3}, blob...)},
		{Blank{}, []float64{1, 1, 1, 1, 3, 3, 3}},
	} {
		s := &Sample{Shape: shape, Image: slices.Repeat([]float32{-2.5}, 720)}
		c.t.Apply(s, c.p, w)
		for _, v := range s.Image {
			require.InDelta(t, -2.5, v, 1e-5, "%T", c.t)
		}
	}
}

// An axis shorter than a filter is reflected as often as needed; one of one voxel is left.
func TestShortAxes(t *testing.T) {
	assert.Equal(t, []int{0, 1, 2, 1, 0, 1, 2, 1}, []int{reflect(-4, 3), reflect(-3, 3), reflect(-2, 3), reflect(-1, 3), reflect(4, 3), reflect(5, 3), reflect(6, 3), reflect(7, 3)})
	assert.Equal(t, 0, reflect(-3, 1))
	assert.Equal(t, []int{1, 0, 0, 1, 1, 0}, []int{mirrored(-2, 2), mirrored(-1, 2), mirrored(0, 2), mirrored(1, 2), mirrored(2, 2), mirrored(3, 2)})
	shape := [3]int{2, 3, 1}
	w := scratch(t, shape, shape)
	s := &Sample{Shape: shape, Image: []float32{1, 2, 3, 4, 5, 6}}
	Blur{}.Apply(s, []float64{1.5, 1.5, 1.5}, w)
	for _, v := range s.Image {
		assert.True(t, v > 1 && v < 6)
	}
}
