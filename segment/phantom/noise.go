package phantom

import "math"

// mix is the finalizer of splitmix64: a bijection of 64 bits in which every
// input bit affects every output bit. Noise is this hash of a voxel's number,
// so it does not depend on who computes it or in which order.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// golden is 2^64 / golden ratio, which spreads consecutive counters.
const golden = 0x9e3779b97f4a7c15

// gauss is a standard normal number of a hash, nearly: the sum of four uniform
// ones, within 3.5 standard deviations.
func gauss(h uint64) float32 {
	sum := h&0xffff + h>>16&0xffff + h>>32&0xffff + h>>48
	return (float32(sum) - 131070) * (1 / 37837.2) // 65536 * sqrt(4/12)
}

// noiseSlice fills dst (ny, nx) with noise of standard deviation 1, correlated
// between neighbours by the kernel (c, 1, c) along both axes. row is scratch of
// nx. base is the seed mixed with the slice's number.
func noiseSlice(dst, row []float32, nx, ny int, c float32, base uint64) {
	gain := 1 / (1 + 2*c*c) // of both axes: a variance of 1+2c^2 each
	for i := range dst {
		dst[i] = gain * gauss(mix(base+golden*uint64(i)))
	}
	if c < 0.01 { // a coarse grid: neighbours are independent
		return
	}
	for j := range ny {
		line := dst[j*nx : (j+1)*nx]
		left := float32(0)
		for i := range line {
			right := float32(0)
			if i+1 < nx {
				right = line[i+1]
			}
			left, line[i] = line[i], line[i]+c*(left+right)
		}
	}
	clear(row)
	for j := range ny { // row holds the line above as it was
		line := dst[j*nx : (j+1)*nx]
		var below []float32
		if j+1 < ny {
			below = dst[(j+1)*nx : (j+2)*nx]
		}
		for i := range line {
			v := line[i]
			s := row[i]
			if below != nil {
				s += below[i]
			}
			row[i], line[i] = v, v+c*s
		}
	}
}

// lattice is a function of space given on a grid of pitch mm and interpolated
// linearly. values is (n[2], n[1], n[0]); node (0,0,0) lies at lo.
type lattice struct {
	lo     [3]float64
	pitch  float64
	n      [3]int
	values []float32
}

// newLattice covers the box from lo to hi.
func newLattice(lo, hi [3]float64, pitch float64) *lattice {
	l := &lattice{lo: lo, pitch: pitch}
	for i := range 3 {
		l.n[i] = int(math.Ceil((hi[i]-lo[i])/pitch)) + 2
	}
	l.values = make([]float32, l.n[0]*l.n[1]*l.n[2])
	return l
}

// plane interpolates along z into dst (n[1], n[0]).
func (l *lattice) plane(dst []float32, z float64) {
	k, f := l.cell(2, z)
	m := l.n[0] * l.n[1]
	a, b := l.values[k*m:(k+1)*m], l.values[(k+1)*m:(k+2)*m]
	for i := range dst[:m] {
		dst[i] = a[i] + f*(b[i]-a[i])
	}
}

// line interpolates a plane along y into dst (n[0]).
func (l *lattice) line(dst, plane []float32, y float64) {
	j, f := l.cell(1, y)
	a, b := plane[j*l.n[0]:(j+1)*l.n[0]], plane[(j+1)*l.n[0]:(j+2)*l.n[0]]
	for i := range dst[:l.n[0]] {
		dst[i] = a[i] + f*(b[i]-a[i])
	}
}

// cell returns the node below position v of an axis and the fraction above it.
func (l *lattice) cell(axis int, v float64) (int, float32) {
	t := (v - l.lo[axis]) / l.pitch
	k := min(max(int(t), 0), l.n[axis]-2)
	return k, float32(t - float64(k))
}

// smooth averages neighbours once along every axis with (1 2 1)/4 and rescales
// by gain.
func (l *lattice) smooth(gain float32) {
	stride := [3]int{1, l.n[0], l.n[0] * l.n[1]}
	for axis := range 3 {
		src := append([]float32(nil), l.values...)
		for i := range src {
			pos := i / stride[axis] % l.n[axis]
			a, b := src[i], src[i]
			if pos > 0 {
				a = src[i-stride[axis]]
			}
			if pos+1 < l.n[axis] {
				b = src[i+stride[axis]]
			}
			l.values[i] = (a + 2*src[i] + b) / 4
		}
	}
	for i := range l.values {
		l.values[i] *= gain
	}
}
