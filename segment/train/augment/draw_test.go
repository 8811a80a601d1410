package augment

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/train/random"
)

// draws is how many samples the tests below draw. Counts may miss their means by 4.5
// standard errors, of which one test in 150,000 would make more.
const draws = 20000

// often checks that something happened in count of so many cases, each with probability p.
func often(t *testing.T, p float64, count, cases int, what string) {
	t.Helper()
	n := float64(cases)
	assert.InDelta(t, p*n, count, 4.5*math.Sqrt(n*p*(1-p))+1e-9, what)
}

// uniform checks that values fill a range evenly.
func uniform(t *testing.T, values []float64, lo, hi float64, what string) {
	t.Helper()
	require.NotEmpty(t, values, what)
	n := float64(len(values))
	below := 0
	mean := 0.0
	for _, v := range values {
		require.True(t, v >= lo && v < hi, "%s: %g is not in [%g, %g)", what, v, lo, hi)
		mean += (v - lo) / (hi - lo) / n
		if v < lo+(hi-lo)/4 {
			below++
		}
	}
	assert.InDelta(t, 0.5, mean, 4.5*math.Sqrt(1/12./n), what)
	often(t, 0.25, below, len(values), what)
}

// aroundOne checks values that nnU-Net draws below and above 1 equally often.
func aroundOne(t *testing.T, values []float64, lo, hi float64, what string) {
	t.Helper()
	var below, above []float64
	for _, v := range values {
		if v < 1 {
			below = append(below, v)
		} else {
			above = append(above, v)
		}
	}
	often(t, 0.5, len(below), len(values), what)
	uniform(t, below, lo, 1, what)
	uniform(t, above, 1, hi, what)
}

// drawn returns the parameters of many draws of a transform.
func drawn(transform Transform, channels int, shape [3]int) [][]float64 {
	r, out := random.New(), make([][]float64, draws)
	for i := range out {
		r.Key(1, uint64(i))
		out[i] = transform.Draw(nil, r, channels, shape)
	}
	return out
}

// column returns one parameter of all draws but those where it is none.
func column(draws [][]float64, i int, none float64) []float64 {
	var out []float64
	for _, p := range draws {
		if p[i] != none {
			out = append(out, p[i])
		}
	}
	return out
}

var cube = [3]int{40, 56, 40}

func TestRandomAndOneOf(t *testing.T) {
	counts := map[float64]int{}
	none := 0
	for _, p := range drawn(OneOf{Random{0.2, Multiply{2, 3}}, Random{0.7, Multiply{4, 5}}}, 1, cube) {
		if len(p) == 0 {
			none++
			continue
		}
		require.Len(t, p, 2)
		counts[p[0]]++
		assert.Equal(t, p[0], math.Floor(p[1]/2)-1, "the parameters are those of the chosen transform")
	}
	often(t, 0.1, counts[0], draws, "first")
	often(t, 0.35, counts[1], draws, "second")
	often(t, 0.55, none, draws, "none")
}

func TestSpatialDraws(t *testing.T) {
	for name, c := range map[string]struct {
		spatial                       Spatial
		rotate, perAngle, angle, most float64
		axes                          int
	}{
		"default":          {Default(Setup{Patch: cube, Channels: 1}).Spatial, 0.2, 1, math.Pi / 6, 1.4, 3},
		"default, planar":  {Default(Setup{Patch: [3]int{32, 128, 192}, Channels: 1}).Spatial, 0.2, 1, math.Pi, 1.4, 1},
		"strong":           {Strong(Setup{Patch: cube, Channels: 1}).Spatial, 0.4, 0.5, math.Pi / 6, 1.43, 3},
		"strong, 2-D long": {Strong(Setup{Patch: [3]int{1, 512, 256}, Channels: 1}).Spatial, 0.4, 0.5, math.Pi / 12, 1.43, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := random.New()
			var angles, factors [3][]float64
			none, turned, scaled := 0, 0, 0
			for i := range draws {
				r.Key(2, uint64(i))
				p := c.spatial.Draw(nil, r)
				if len(p) == 0 {
					none++
					continue
				}
				require.Len(t, p, spatialNumbers)
				for i := range 3 {
					if p[i] != 0 {
						angles[i] = append(angles[i], p[i])
					}
					if p[3+i] != 1 {
						factors[i] = append(factors[i], p[3+i])
					}
				}
				if p[0] != 0 || p[1] != 0 || p[2] != 0 {
					turned++
				}
				if p[5] != 1 {
					scaled++
					assert.Equal(t, c.spatial.Together, p[4] == p[5])
				}
			}
			often(t, (1-c.rotate)*0.8, none, draws, "neither")
			often(t, 0.2, scaled, draws, "scaled")
			often(t, c.rotate*(1-math.Pow(1-c.perAngle, float64(c.axes))), turned, draws, "rotated")
			for i := range 3 {
				if c.axes == 1 && i > 0 {
					assert.Empty(t, angles[i])
				} else {
					often(t, c.rotate*c.perAngle, len(angles[i]), draws, "angle")
					uniform(t, angles[i], -c.angle, c.angle, "angle")
				}
				if c.axes == 1 && i == 0 {
					assert.Empty(t, factors[i])
				} else {
					uniform(t, factors[i], 0.7, c.most, "factor")
				}
			}
		})
	}
}

func TestIntensityDraws(t *testing.T) {
	p := drawn(Noise{0.1}, 3, cube)
	uniform(t, column(p, 0, -1), 0, 0.1, "deviation")
	keys := map[float64]bool{}
	for _, p := range p {
		keys[p[1]] = true
	}
	assert.Len(t, keys, draws)

	p = drawn(Multiply{0.75, 1.25}, 2, cube)
	aroundOne(t, column(p, 0, 0), 0.75, 1.25, "multiply")
	aroundOne(t, column(p, 1, 0), 0.75, 1.25, "multiply")
	assert.NotEqual(t, p[0][0], p[0][1])

	p = drawn(Gamma{0.7, 1.5, true}, 2, cube)
	aroundOne(t, column(p, 1, 0), 0.7, 1.5, "gamma")

	p = drawn(Contrast{Lo: 0.5, Hi: 2, PChannel: 0.5}, 2, cube)
	often(t, 0.5, len(column(p, 1, 1)), draws, "contrast")
	aroundOne(t, column(p, 1, 1), 0.5, 2, "contrast")

	p = drawn(Shift{0.5, 0.5}, 2, cube)
	shifts := column(p, 1, 0)
	often(t, 0.5, len(shifts), draws, "shift")
	within, sum := 0, 0.0
	for _, v := range shifts {
		sum += v
		if math.Abs(v) < 0.5 {
			within++
		}
	}
	often(t, math.Erf(1/math.Sqrt2), within, len(shifts), "within one deviation")
	assert.InDelta(t, 0, sum/float64(len(shifts)), 4.5*0.5/math.Sqrt(float64(len(shifts))))

	p = drawn(Sharpen{0.1, 1, 0.5}, 2, cube)
	often(t, 0.5, len(column(p, 0, 0)), draws, "sharpen")
	uniform(t, column(p, 0, 0), 0.1, 1, "sharpen")
}

func TestFilterDraws(t *testing.T) {
	flat := [3]int{1, 128, 96}
	for _, together := range []bool{false, true} {
		p := drawn(Blur{Lo: 0.5, Hi: 1, PChannel: 0.5, Together: together}, 2, cube)
		for i := range 6 {
			often(t, 0.5, len(column(p, i, 0)), draws, "blur")
			uniform(t, column(p, i, 0), 0.5, 1, "blur")
		}
		for _, p := range p {
			assert.Equal(t, p[0] == 0, p[2] == 0, "a channel is blurred along all axes")
			assert.True(t, p[0] == 0 || together == (p[0] == p[1]))
		}
		for _, p := range drawn(Blur{Lo: 0.5, Hi: 1, PChannel: 0.5, Together: together}, 1, flat) {
			assert.Zero(t, p[0], "not along z in 2-D")
		}
	}
	p := drawn(LowResolution{Lo: 0.5, Hi: 1, PChannel: 0.5}, 2, cube)
	often(t, 0.5, len(column(p, 3, 0)), draws, "low resolution")
	uniform(t, column(p, 3, 0), 0.5, 1, "low resolution")
	for _, p := range p {
		assert.True(t, p[0] == p[1] && p[0] == p[2])
	}
	for _, p := range drawn(LowResolution{Lo: 0.5, Hi: 1, PChannel: 1, Planar: true}, 1, cube) {
		assert.Equal(t, 1., p[0])
	}
	sizes := map[float64]int{}
	for _, p := range drawn(Median{0.5}, 2, cube) {
		sizes[p[1]]++
	}
	assert.Len(t, sizes, 7)
	often(t, 0.5, sizes[0], draws, "median")
	for size := 2.; size < 8; size++ {
		often(t, 1./12, sizes[size], draws, "median's size")
	}
}

func TestOrderDraws(t *testing.T) {
	var axes [3]int
	for _, p := range drawn(Mirror{[]int{0, 1, 2}}, 1, cube) {
		for _, a := range p {
			axes[int(a)]++
		}
	}
	for _, n := range axes {
		often(t, 0.5, n, draws, "mirror")
	}
	turns := map[[3]float64]int{}
	for _, p := range drawn(Rot90{[]int{0, 1, 2}}, 1, cube) {
		turns[[3]float64(p)]++
	}
	assert.Len(t, turns, 12)
	for turn, n := range turns {
		often(t, 1./12, n, draws, "rot90")
		assert.Less(t, turn[1], turn[2])
	}
	orders := map[[3]float64]int{}
	for _, p := range drawn(Permute{[]int{0, 1, 2}}, 1, cube) {
		orders[[3]float64(p)]++
	}
	assert.Len(t, orders, 6)
	for _, n := range orders {
		often(t, 1./6, n, draws, "permute")
	}
	orders = map[[3]float64]int{}
	for _, p := range drawn(Permute{[]int{0, 2}}, 1, cube) {
		orders[[3]float64(p)]++
	}
	often(t, 0.5, orders[[3]float64{0, 1, 2}], draws, "permute two")
	often(t, 0.5, orders[[3]float64{2, 1, 0}], draws, "permute two")
}

func TestLocalDraws(t *testing.T) {
	for name, transform := range map[string]Transform{"gradient": Gradient{0.5}, "gamma": LocalGamma{0.5}} {
		p := drawn(transform, 2, cube)
		var low, high []float64
		for _, v := range column(p, 7, 0) { // the second channel's strength
			switch {
			case name == "gradient" && v < 0 || name == "gamma" && v < 1:
				low = append(low, v)
			default:
				high = append(high, v)
			}
		}
		often(t, 0.5, len(low)+len(high), draws, name)
		often(t, 0.5, len(low), len(low)+len(high), name)
		if name == "gradient" {
			uniform(t, low, -5, -1+1e-12, name)
			uniform(t, high, 1, 5, name)
		} else {
			uniform(t, low, 0.01, 0.8, name)
			uniform(t, high, 1.5, 4, name)
		}
		for i, n := range cube {
			uniform(t, column(p, 8+2*i, 0), -0.5, 1.5, "centre")
			deviations := column(p, 9+2*i, 0)
			for j := range deviations {
				deviations[j] = math.Log(deviations[j])
			}
			uniform(t, deviations, math.Log(float64(n/6)), math.Log(float64(n)), "deviation")
		}
	}
}

func TestBlankDraws(t *testing.T) {
	counts := map[float64]int{}
	var sizes, places [3][]float64
	for _, p := range drawn(Blank{0.5}, 1, cube) {
		counts[p[0]]++
		require.Len(t, p, 1+6*int(p[0]))
		for b := p[1:]; len(b) > 0; b = b[6:] {
			for i, n := range cube {
				sizes[i] = append(sizes[i], b[3+i])
				places[i] = append(places[i], b[i]/(float64(n)-b[3+i]+1))
			}
		}
	}
	often(t, 0.5, counts[0], draws, "blank")
	for n := 1.; n <= 4; n++ {
		often(t, 1./8, counts[n], draws, "boxes")
	}
	assert.Len(t, counts, 5)
	for i, n := range cube {
		seen := map[float64]int{}
		for _, v := range sizes[i] {
			seen[v]++
		}
		assert.Len(t, seen, n/3-n/10)
		for v, count := range seen {
			assert.True(t, v >= float64(n/10) && v < float64(n/3))
			often(t, 1/float64(n/3-n/10), count, len(sizes[i]), "size")
		}
		below := 0
		for _, v := range places[i] {
			assert.True(t, v >= 0 && v < 1)
			if v == 0 {
				below++
			}
		}
		assert.Positive(t, below)
	}
	for _, p := range drawn(Blank{1}, 1, [3]int{5, 4, 3}) { // too short for the range: one voxel
		assert.Equal(t, []float64{1, 1, 1}, p[4:7])
	}
}

func TestCascadeDraws(t *testing.T) {
	var operators [4]int
	var radii []float64
	first, both := 0, 0
	for _, p := range drawn(Operator{3, 0.5}, 4, cube) {
		for ; len(p) > 0; p = p[3:] {
			operators[int(p[1])]++
			radii = append(radii, p[2])
			if len(p) == 6 {
				both++
				if p[0] < p[3] {
					first++
				}
			}
		}
	}
	often(t, 0.5, len(radii), 3*draws, "operator")
	for _, n := range operators {
		often(t, 0.25, n, len(radii), "operators")
	}
	uniform(t, radii, 1, 8, "radius")
	often(t, 0.5, first, both, "the order of the channels")
	var places []float64
	for _, p := range drawn(Component{3, 0.5, 0.15}, 4, cube) {
		for ; len(p) > 0; p = p[2:] {
			places = append(places, p[1])
		}
	}
	often(t, 0.5, len(places), 3*draws, "component")
	uniform(t, places, 0, 1, "component")
}
