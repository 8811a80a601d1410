package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
)

// eachSet runs a test with every instruction set that this processor has. Plain C
// and the reference run everywhere; the log says which others were tested.
func eachSet(t *testing.T, body func(t *testing.T)) {
	defer Choose(Best())
	for set, name := range []string{"plain", "avx2", "avx512"} {
		if !Choose(set) {
			t.Logf("%s: not on this machine", name)
			continue
		}
		t.Run(name, body)
	}
}

func noise(n int) []float32 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

// near compares within a few roundings of float32.
func near(t *testing.T, want, got []float32) {
	t.Helper()
	require.Equal(t, len(want), len(got))
	for i := range want {
		require.InDelta(t, want[i], got[i], 2e-6*max(1, math.Abs(float64(want[i]))), "element %d", i)
	}
}

// splineReference is the cubic B-spline of a line continued by its end values, by
// solving for its coefficients directly (Thomas algorithm over a line extended until
// the ends no longer matter) in float64.
func splineReference(line []float32, start int32, w []float32) float32 {
	const extend = 40 // the pole's power 40 is 1e-23
	n := len(line) + 2*extend
	s := func(i int) float64 { return float64(line[min(max(i-extend, 0), len(line)-1)]) }
	// c[i-1] + 4 c[i] + c[i+1] = 6 s[i]; the outermost coefficients are the values.
	d, e := make([]float64, n), make([]float64, n)
	for i := range n {
		if i == 0 || i == n-1 {
			d[i], e[i] = s(i), 0
			continue
		}
		m := 4 - e[i-1]
		e[i] = 1 / m
		d[i] = (6*s(i) - d[i-1]) / m
	}
	c := make([]float64, n)
	for i := n - 1; i >= 0; i-- {
		c[i] = d[i]
		if i < n-1 {
			c[i] -= e[i] * c[i+1]
		}
	}
	sum := 0.0
	for k := range 4 {
		sum += float64(w[k]) * c[int(start)+k+extend]
	}
	return float32(sum)
}

// cubicCase returns an interpolation of in rows to out with any weights, and what it makes of
// a column.
func cubicCase(in, out, most int) (c *Cubic, of func(line []float32, j int) float32) {
	weights, start := noise(4*out), make([]int32, out)
	for j := range out {
		start[j] = int32(j*(in+1)/out) - 2 // from -2 to n-2, the whole range allowed
	}
	c = NewCubic(in, start, weights, most).Divided(1 / Gain)
	return c, func(line []float32, j int) float32 { return splineReference(line, c.Start[j], weights[4*j:4*j+4]) }
}

// Rows of every type, in as many calls as there are steps, each of which sees no more rows
// than it may. However they are called for, and where they begin, they are the same.
func TestCubicRows(t *testing.T) {
	m := Affine{Lo: -1, Hi: 1.2, Sub: 0.3, Div: 1}
	for _, s := range []struct{ in, out, columns, step, most, window, dtype int }{
		{1, 3, 5, 3, 64, 64, 5}, {2, 5, 64, 1, 16, 16, 6}, {7, 4, 65, 2, 64, 64, 5}, {40, 55, 130, 20, 16, 16, 5},
		{19, 19, 1, 19, 64, 64, 5}, {300, 200, 64, 64, 64, 64, 5}, {300, 200, 70, 200, 64, 64, 2}, {300, 100, 64, 10, 64, 32, 5},
		{300, 2, 64, 1, 64, 1, 5}, {200, 2, 3, 2, 64, 64, 1}, {50, 300, 67, 100, 64, 64, 3}, {60, 60, 64, 7, 16, 16, 4},
	} {
		columns := s.columns + 3
		values := noise(s.in * columns)
		a := m
		if s.dtype < 5 {
			a = Affine{Lo: 10, Hi: 200, Sub: 50, Div: 1}
			for i := range values {
				values[i] = float32(i * 7919 % 251)
			}
		}
		if s.out == 55 {
			a = Identity
		}
		cubic, of := cubicCase(s.in, s.out, s.most)
		require.Equal(t, s.window, cubic.Window)
		want := make([]float32, s.out*s.columns)
		for l := range s.columns {
			line := make([]float32, s.in)
			for i := range line {
				line[i] = min(max(values[i*columns+l], a.Lo), a.Hi) - a.Sub
			}
			for j := range s.out {
				want[j*s.columns+l] = of(line, j)
			}
		}
		scale := float32(2e-5)
		if s.dtype < 5 {
			scale *= 200
		}
		eachSet(t, func(t *testing.T) {
			state := make([]float32, StateSize(s.columns))
			rows := func(got []float32, from, to int, begins bool) {
				first, end := cubic.Needs(from, to)
				if begins {
					first = 0
				}
				// The rows lie upside down between two of which NaN is made.
				seen := make([]float32, (end-first+2)*columns)
				for i := range seen {
					seen[i] = float32(math.NaN())
				}
				for i := first; i < end; i++ {
					copy(seen[(end-i)*columns:], values[i*columns:(i+1)*columns])
				}
				cubic.Rows(got, s.columns, Plane{Data: typed(seen, s.dtype), DType: int32(s.dtype), Offset: (end - first) * columns,
					Stride: [2]int{-columns, 1}, Shape: [2]int{end - first, s.columns}}, first, a, from, to, state, begins)
			}
			whole, got := make([]float32, len(want)), make([]float32, len(want))
			rows(whole, 0, s.out, true)
			for i := range want {
				require.InDelta(t, want[i], whole[i], float64(scale), "%v element %d", s, i)
			}
			for _, begin := range []int{0, s.out / 3, s.out - 1} {
				for from := begin; from < s.out; from += s.step {
					rows(got[from*s.columns:], from, min(from+s.step, s.out), from == begin)
				}
				require.Equal(t, whole[begin*s.columns:], got[begin*s.columns:], "%v from row %d", s, begin)
			}
		})
	}
}

// typed returns values as voxels of a type.
func typed(values []float32, dtype int) []byte {
	switch dtype {
	case 1:
		return converted[uint8](values)
	case 2:
		return converted[int16](values)
	case 3:
		return converted[uint16](values)
	case 4:
		return converted[int32](values)
	case 5:
		return cmem.Bytes(values)
	}
	return converted[float64](values)
}

func converted[T uint8 | int16 | uint16 | int32 | float64](values []float32) []byte {
	s := make([]T, len(values))
	for i, v := range values {
		s[i] = T(v)
	}
	return cmem.Bytes(s)
}

func TestCubicAcross(t *testing.T) {
	eachSet(t, func(t *testing.T) {
		for _, s := range []struct{ in, out, rows int }{{1, 3, 5}, {2, 5, 64}, {40, 55, 70}, {19, 19, 1}, {300, 200, 64}, {200, 2, 100}, {161, 161, 16}} {
			stride := s.in + Slack
			src := noise((s.rows + Slack) * stride)
			for i := range src {
				if i%stride >= s.in || i/stride >= s.rows {
					src[i] = float32(math.NaN())
				}
			}
			cubic, of := cubicCase(s.in, s.out, 64)
			got := make([]float32, s.rows*(s.out+1))
			cubic.Across(got, s.out+1, src, stride, s.rows)
			for i := range s.rows {
				for j := range s.out {
					require.InDelta(t, of(src[i*stride:i*stride+s.in], j), got[i*(s.out+1)+j], 2e-5, "%v row %d element %d", s, i, j)
				}
				require.Zero(t, got[i*(s.out+1)+s.out])
			}
		}
	})
}

func TestLoadAndScan(t *testing.T) {
	const rows, columns = 21, 83 // more than a block along either axis
	values := noise(rows * columns)
	for i := range values {
		values[i] = float32(math.Round(float64(values[i] * 40)))
	}
	fill := func(f func(v float32, i int)) {
		for i, v := range values {
			f(v, i)
		}
	}
	u8, i16, u16, i32, f64 := make([]uint8, len(values)), make([]int16, len(values)), make([]uint16, len(values)), make([]int32, len(values)), make([]float64, len(values))
	fill(func(v float32, i int) {
		u8[i], i16[i], u16[i], i32[i], f64[i] = uint8(int(v)&255), int16(v), uint16(int(v)+500), int32(v)*1000, float64(v)/3
	})
	data := map[int32][]byte{1: u8, 2: cmem.Bytes(i16), 3: cmem.Bytes(u16), 4: cmem.Bytes(i32), 5: cmem.Bytes(values), 6: cmem.Bytes(f64)}
	at := func(dtype int32, i int) float64 {
		switch dtype {
		case 1:
			return float64(u8[i])
		case 2:
			return float64(i16[i])
		case 3:
			return float64(u16[i])
		case 4:
			return float64(i32[i])
		case 5:
			return float64(values[i])
		}
		return f64[i]
	}
	a := Affine{Lo: -30, Hi: 35, Sub: 3.5, Div: 1.7}
	eachSet(t, func(t *testing.T) {
		for dtype := int32(1); dtype <= 6; dtype++ {
			for _, p := range []Plane{
				{Offset: 0, Stride: [2]int{columns, 1}, Shape: [2]int{rows, columns}},
				{Offset: rows*columns - 1, Stride: [2]int{-columns, -1}, Shape: [2]int{rows, columns}},
				{Offset: 2, Stride: [2]int{1, columns}, Shape: [2]int{columns - 2, rows}},
			} {
				p.Data, p.DType = data[dtype], dtype
				n := p.Shape[0] * p.Shape[1]
				got, want := make([]float32, n), make([]float32, n)
				Load(got, p, a)
				r := Scan(p, 7)
				lo, hi, sum, sum2 := math.Inf(1), math.Inf(-1), 0.0, 0.0
				for i := range p.Shape[0] {
					for j := range p.Shape[1] {
						v := at(dtype, p.Offset+i*p.Stride[0]+j*p.Stride[1])
						want[i*p.Shape[1]+j] = (min(max(float32(v), a.Lo), a.Hi) - a.Sub) / a.Div
						lo, hi, sum, sum2 = min(lo, v), max(hi, v), sum+v-7, sum2+(v-7)*(v-7)
					}
				}
				near(t, want, got)
				assert.Equal(t, lo, r.Min)
				assert.Equal(t, hi, r.Max)
				assert.InEpsilon(t, sum, r.Sum, 1e-9)
				assert.InEpsilon(t, sum2, r.Sum2, 1e-9)
				assert.Zero(t, r.Bad)
			}
		}
		bad := []float64{1, math.NaN(), math.Inf(1), 1e300, 2} // 1e300 is infinite as float32
		assert.Equal(t, 3, Scan(Plane{Data: cmem.Bytes(bad), DType: 6, Stride: [2]int{5, 1}, Shape: [2]int{1, 5}}, 0).Bad)
	})
}

func TestExtremesAndClip(t *testing.T) {
	eachSet(t, func(t *testing.T) {
		for _, n := range []int{1, 2, 63, 64, 65, 200} {
			for at := range n {
				s := noise(n)
				s[at], s[n-1-at] = 9, -8
				want := append([]float32(nil), s...)
				lo, hi := Extremes(s)
				require.Equal(t, slices.Min(s), lo)
				require.Equal(t, slices.Max(s), hi)
				for i, v := range want {
					want[i] = min(max(v, -0.5), 0.7)
				}
				Clip(s, n, 1, n, -0.5, 0.7)
				require.Equal(t, want, s)
			}
		}
	})
}

func TestTranspose(t *testing.T) {
	eachSet(t, func(t *testing.T) {
		for _, s := range [][2]int{{1, 1}, {16, 16}, {17, 35}, {50, 3}} {
			src := noise(s[0] * (s[1] + 2))
			got := make([]float32, s[1]*(s[0]+1))
			Transpose(got, s[0]+1, src, s[1]+2, s[0], s[1])
			for i := range s[0] {
				for j := range s[1] {
					require.Equal(t, src[i*(s[1]+2)+j], got[j*(s[0]+1)+i])
				}
			}
		}
	})
}

func TestAccumulate(t *testing.T) {
	const ty, tx, stride = 11, 45, 60
	src := noise(ty * tx)
	eachSet(t, func(t *testing.T) {
		for flips := range 4 {
			w := Window{Y: 2, X: 5, TileY: ty, TileX: tx, FlipY: flips&1 != 0, FlipX: flips&2 != 0}
			wy, wx := noise(7), noise(33)
			got := noise(7 * stride)
			want := append([]float32(nil), got...)
			for y := range wy {
				for x := range wx {
					sy, sx := w.Y+y, w.X+x
					if w.FlipY {
						sy = ty - 1 - sy
					}
					if w.FlipX {
						sx = tx - 1 - sx
					}
					want[y*stride+x] += 0.3 * wy[y] * wx[x] * src[sy*tx+sx]
				}
			}
			assert.Zero(t, Accumulate(got, stride, src, w, 0.3, wy, wx))
			near(t, want, got)

			bad := append([]float32(nil), src...)
			bad[4*tx+12], bad[6*tx+20], bad[0] = float32(math.NaN()), float32(math.Inf(-1)), float32(math.NaN()) // the last lies outside
			assert.Equal(t, 2, Accumulate(got, stride, bad, w, 0.3, wy, wx))
		}
	})
}

// widen returns the value of a float16 (IEEE 754-2019, section 3.4).
func widen(h uint16) float32 {
	sign, exponent, mantissa := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	switch {
	case exponent == 0:
		return float32(sign * math.Ldexp(mantissa, -24))
	case exponent < 31:
		return float32(sign * math.Ldexp(1024+mantissa, exponent-25))
	case mantissa == 0:
		return float32(math.Inf(int(sign)))
	}
	return float32(math.NaN())
}

// Every float16 has its own value, and tiles of them accumulate as those of float32 do.
func TestAccumulateHalf(t *testing.T) {
	all := make([]uint16, 1<<16)
	for i := range all {
		all[i] = uint16(i)
	}
	one := make([]float32, len(all))
	for i := range one {
		one[i] = 1
	}
	const ty, tx, stride = 11, 45, 60
	src, wide := make([]uint16, ty*tx), make([]float32, ty*tx)
	for i := range src {
		src[i] = uint16(i*40503) & 0xbfff // below 2 in magnitude, small ones too
		wide[i] = widen(src[i])
	}
	eachSet(t, func(t *testing.T) {
		for _, flip := range []bool{false, true} {
			got := make([]float32, len(all))
			AccumulateHalf(got, len(all), all, Window{TileY: 1, TileX: len(all), FlipX: flip}, 1, one[:1], one)
			for i, v := range got {
				h := uint16(i)
				if flip {
					h = ^h
				}
				if want := widen(h); want == want {
					require.Equal(t, want, v, "bits %04x", h)
				} else {
					require.True(t, v != v, "bits %04x", h)
				}
			}
		}
		for flips := range 4 {
			w := Window{Y: 2, X: 5, TileY: ty, TileX: tx, FlipY: flips&1 != 0, FlipX: flips&2 != 0}
			wy, wx := noise(7), noise(33)
			got, want := noise(7*stride), noise(7*stride)
			Accumulate(want, stride, wide, w, 0.3, wy, wx)
			AccumulateHalf(got, stride, src, w, 0.3, wy, wx)
			near(t, want, got)
		}
	})
}

func TestLogits(t *testing.T) {
	const classes, rows, in, out = 5, 3, 21, 67
	low, high := noise(classes*rows*in), noise(classes*rows*in)
	for i := range high {
		high[i] = -high[i]
	}
	x0, w := make([]int32, out), make([]float32, out)
	for x := range x0 {
		p := float64(x) * (in - 1) / (out - 1)
		x0[x], w[x] = int32(p), float32(p-math.Floor(p))
	}
	p := &Planes{Logits: [2][]float32{low, high}, Stride: rows * in, Channels: classes}
	row := &Row{Offset: [2]int64{in, 2 * in}, Plane: [2]int32{0, 1}, Weight: [4]float32{0.1, 0.4, 0.2, 0.3}}
	logit := func(class, x int) float32 {
		at := func(i int) float64 {
			sum := 0.0
			for k, v := range []float32{low[(class*rows+1)*in+i], low[(class*rows+2)*in+i], high[(class*rows+1)*in+i], high[(class*rows+2)*in+i]} {
				sum += float64(row.Weight[k]) * float64(v)
			}
			return sum
		}
		a, b := at(int(x0[x])), at(min(int(x0[x])+1, in-1))
		return float32(a + float64(w[x])*(b-a))
	}
	eachSet(t, func(t *testing.T) {
		line := NewLine(in, x0, w)
		got, want := make([]float32, out), make([]float32, out)
		for class := range classes {
			for x := range want {
				want[x] = logit(class, x)
			}
			line.Logits(got, p, row, class)
			near(t, want, got)
		}
	})
}
