package resample

import (
	"math"

	"github.com/libflare/libflare/segment/internal/kernel"
)

// B-splines of the orders that have no kernel in C (2, 4 and 5), in float64 as
// scipy.ndimage computes them (ni_splines.c): the signal is continued by 12 of its
// end values on each side, as mode "nearest" does, and filtered with reflecting ends.

// splinePad is scipy's npad (_prepad_for_spline_filter).
const splinePad = 12

// splinePoles are the poles of the recursive filter that turns a signal into spline
// coefficients, by order (Unser, Aldroubi, Eden, "B-spline signal processing", IEEE
// TSP 1993, table I).
var splinePoles = [6][]float64{
	2: {math.Sqrt(8) - 3},
	3: {math.Sqrt(3) - 2},
	4: {math.Sqrt(664-math.Sqrt(438976)) + math.Sqrt(304) - 19, math.Sqrt(664+math.Sqrt(438976)) - math.Sqrt(304) - 19},
	5: {math.Sqrt(67.5-math.Sqrt(4436.25)) + math.Sqrt(26.25) - 6.5, math.Sqrt(67.5+math.Sqrt(4436.25)) - math.Sqrt(26.25) - 6.5},
}

// splineTable returns for every output voxel the first of its order+1 coefficients
// (negative where the support begins before the signal) and their weights.
func splineTable(in, out, order int) (start []int32, weights []float64) {
	start, weights = make([]int32, out), make([]float64, out*(order+1))
	for j := range out {
		c := position(j, in, out)
		middle := math.Floor(c)
		if order%2 == 0 {
			middle = math.Floor(c + 0.5)
		}
		start[j] = int32(middle) - int32(order/2)
		splineWeights(weights[j*(order+1):(j+1)*(order+1)], c-middle)
	}
	return start, weights
}

// splineWeights writes the B-spline's values at the knots around a position that lies
// x behind the middle one: 0 <= x < 1 for odd orders, -0.5 <= x < 0.5 for even ones.
func splineWeights(w []float64, x float64) {
	order := len(w) - 1
	first := float64(order/2) + x // distance of the position behind the first knot
	for k := range w {
		w[k] = bspline(order, first-float64(k))
	}
}

// bspline returns the centered B-spline of an order at t, by de Boor's recursion.
func bspline(order int, t float64) float64 {
	half := float64(order+1) / 2
	if t < -half || t >= half {
		return 0
	}
	if order == 0 {
		return 1
	}
	return ((t+half)*bspline(order-1, t+0.5) + (half-t)*bspline(order-1, t-0.5)) / float64(order)
}

// spline interpolates all output rows, of the orders 2, 4 and 5. c is scratch of
// (p.in + 2*splinePad) * kernel.Lanes elements. It writes output rows from a to before b.
func (p *pass) spline(dst []float32, dstStride int, src []float32, srcStride, lanes, a, b int, c []float64) {
	const block = kernel.Lanes
	n, taps, gain := p.in+2*splinePad, p.order+1, 1.0
	for _, z := range splinePoles[p.order] {
		gain *= (1 - z) * (1 - 1/z)
	}
	for first := 0; first < lanes; first += block {
		width := min(block, lanes-first)
		for i := range n {
			row := src[min(max(i-splinePad, 0), p.in-1)*srcStride+first:]
			for l, d := 0, c[i*block:][:width]; l < width; l++ {
				d[l] = gain * float64(row[l])
			}
		}
		for _, z := range splinePoles[p.order] {
			splineFilter(c, n, width, z)
		}
		for j := a; j < b; j++ {
			var sum [block]float64
			w := p.taps[j*taps : (j+1)*taps]
			for k := range w {
				row := c[(int(p.start[j])+splinePad+k)*block:][:width]
				for l, v := range row {
					sum[l] += w[k] * v
				}
			}
			for l, d := 0, dst[(j-a)*dstStride+first:][:width]; l < width; l++ {
				d[l] = float32(sum[l])
			}
		}
	}
}

// splineFilter applies one pole, forth and back, to the first width columns of c (n
// rows of kernel.Lanes) with reflecting ends (ni_splines.c, _init_causal_reflect).
func splineFilter(c []float64, n, width int, z float64) {
	const block = kernel.Lanes
	zn := math.Pow(z, float64(n))
	last := c[(n-1)*block:]
	for l := range width {
		first, sum, zi := c[l], c[l]+zn*last[l], z
		for i := 1; i < n && zi != 0; i++ {
			sum += zi * (c[i*block+l] + zn*c[(n-1-i)*block+l])
			zi *= z
		}
		c[l] = first + sum*z/(1-zn*zn)
	}
	for i := 1; i < n; i++ {
		before, row := c[(i-1)*block:][:width], c[i*block:][:width]
		for l := range row {
			row[l] += z * before[l]
		}
	}
	for l := range width {
		last[l] *= z / (z - 1)
	}
	for i := n - 2; i >= 0; i-- {
		row, after := c[i*block:][:width], c[(i+1)*block:][:width]
		for l := range row {
			row[l] = z * (after[l] - row[l])
		}
	}
}
