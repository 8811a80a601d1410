package augment

import "math"

// fixed is a place along an axis in 2^-32 voxels.
type fixed = int64

const one fixed = 1 << 32

func toFixed(x float64) fixed { return fixed(math.RoundToEven(x * float64(one))) }

// split returns the voxel at or before a place and the place's distance from it.
func split(c fixed) (int, float32) { return int(c >> 32), float32(uint32(c)) * (1. / (1 << 32)) }

// grid says where the voxels of a patch lie in an array of size voxels, which is as wide
// as 2^30 voxels at most.
type grid struct {
	patch, size [3]int
	origin      [3]fixed    // of the patch's first voxel
	step        [3][3]fixed // [i][j]: along i of the array, per voxel along j of the patch
	first       [3]fixed    // in whole voxels: the array's first in the box
}

func (g *grid) set(m [3][3]float64, origin [3]float64, patch, size [3]int) {
	g.patch, g.size = patch, size
	for i := range 3 {
		g.origin[i] = toFixed(origin[i])
		for j := range 3 {
			g.step[i][j] = toFixed(m[i][j])
		}
	}
}

// line is a row of the patch: its first voxel's place and the step to the next.
type line struct{ at, step [3]fixed }

func (g *grid) line(z, y int) line {
	var l line
	for i := range 3 {
		l.at[i] = g.origin[i] + fixed(z)*g.step[i][0] + fixed(y)*g.step[i][1]
		l.step[i] = g.step[i][2]
	}
	return l
}

// to returns the line from voxel x on.
func (l line) to(x int) line {
	for i := range l.at {
		l.at[i] += fixed(x) * l.step[i]
	}
	return l
}

// spans returns which voxels of a line have any neighbour in the array: [from, to), and
// which have all of them along the axes from axis on: [inner, outer).
func (g *grid) spans(l line, axis int) (from, inner, outer, to int) {
	to = g.patch[2]
	for i := range 3 {
		from, to = within(l.at[i], l.step[i], -one+1, fixed(g.size[i])*one-1, from, to)
	}
	if from >= to {
		return 0, 0, 0, 0
	}
	inner, outer = from, to
	for i := axis; i < 3; i++ {
		inner, outer = within(l.at[i], l.step[i], 0, fixed(g.size[i]-1)*one-1, inner, outer)
	}
	if inner >= outer {
		return from, to, to, to
	}
	return from, inner, outer, to
}

// within narrows [from, to) to the x for which lo <= at + x*step <= hi.
func within(at, step, lo, hi fixed, from, to int) (int, int) {
	switch {
	case step > 0:
		return max(from, int(up(lo-at, step))), min(to, int(down(hi-at, step))+1)
	case step < 0:
		return max(from, int(up(at-hi, -step))), min(to, int(down(at-lo, -step))+1)
	case at < lo || at > hi:
		return from, from
	}
	return from, to
}

// down and up return a/b rounded so, for b > 0.
func down(a, b fixed) fixed {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func up(a, b fixed) fixed { return -down(-a, b) }

// linear3 fills dst, which has the patch's shape, with linear interpolations of src, which
// has the array's; what is outside counts as 0.
func (g *grid) linear3(dst, src []float32) {
	row, plane := g.size[2], g.size[1]*g.size[2]
	for z := range g.patch[0] {
		for y := range g.patch[1] {
			out := dst[(z*g.patch[1]+y)*g.patch[2]:][:g.patch[2]]
			l := g.line(z, y)
			from, inner, outer, to := g.spans(l, 0)
			clear(out[:from])
			clear(out[to:])
			g.edge3(out[from:inner], src, l.to(from))
			g.edge3(out[outer:to], src, l.to(outer))
			cz, cy, cx := l.at[0]+fixed(inner)*l.step[0], l.at[1]+fixed(inner)*l.step[1], l.at[2]+fixed(inner)*l.step[2]
			out = out[inner:outer]
			for i := range out {
				z, fz := split(cz)
				y, fy := split(cy)
				x, fx := split(cx)
				v := src[z*plane+y*row+x:]
				a := v[0] + fx*(v[1]-v[0])
				b := v[row] + fx*(v[row+1]-v[row])
				v = v[plane:]
				c := v[0] + fx*(v[1]-v[0])
				d := v[row] + fx*(v[row+1]-v[row])
				a += fy * (b - a)
				c += fy * (d - c)
				out[i] = a + fz*(c-a)
				cz, cy, cx = cz+l.step[0], cy+l.step[1], cx+l.step[2]
			}
		}
	}
}

// edge3 is linear3 for voxels of one line that may have neighbours outside.
func (g *grid) edge3(out, src []float32, l line) {
	for i := range out {
		at := l.to(i).at
		var sum float32
		for k := range 8 {
			if at, weight := g.neighbour(at, k); at >= 0 {
				sum += weight * src[at]
			}
		}
		out[i] = sum
	}
}

// neighbour returns where in the array neighbour k of a place lies, or -1 for outside, and
// its weight. Bits 2, 1, 0 of k say whether it is the later one along z, y, x.
func (g *grid) neighbour(at [3]fixed, k int) (int, float32) {
	index, weight, inside := 0, float32(1), true
	for i := range 3 {
		j, f := split(at[i])
		if k>>(2-i)&1 == 1 {
			j++
		} else {
			f = 1 - f
		}
		weight *= f
		inside = inside && j >= 0 && j < g.size[i]
		index = index*g.size[i] + j
	}
	if !inside {
		index = -1
	}
	return index, weight
}

// linear2 is linear3 for lines that stay in their plane of the array.
func (g *grid) linear2(dst, src []float32) {
	row := g.size[2]
	for z := range g.patch[0] {
		for y := range g.patch[1] {
			out := dst[(z*g.patch[1]+y)*g.patch[2]:][:g.patch[2]]
			l := g.line(z, y)
			from, inner, outer, to := g.spans(l, 1)
			clear(out[:from])
			clear(out[to:])
			g.edge3(out[from:inner], src, l.to(from))
			g.edge3(out[outer:to], src, l.to(outer))
			plane := int(l.at[0]>>32) * g.size[1] * row
			cy, cx := l.at[1]+fixed(inner)*l.step[1], l.at[2]+fixed(inner)*l.step[2]
			out = out[inner:outer]
			for i := range out {
				y, fy := split(cy)
				x, fx := split(cx)
				v := src[plane+y*row+x:]
				a := v[0] + fx*(v[1]-v[0])
				b := v[row] + fx*(v[row+1]-v[row])
				out[i] = a + fy*(b-a)
				cy, cx = cy+l.step[1], cx+l.step[2]
			}
		}
	}
}
