package augment

import "math"

// labels fills dst, which has the patch's shape, with the labels of src, which has the
// array's, that win the vote of the neighbours; outside there is the label outside.
func (g *grid) labels(dst, src []int16, planar bool) {
	row, plane, axis := g.size[2], g.size[1]*g.size[2], 0
	if planar {
		plane, axis = 0, 1 // both planes around a place are its own
	}
	for z := range g.patch[0] {
		for y := range g.patch[1] {
			out := dst[(z*g.patch[1]+y)*g.patch[2]:][:g.patch[2]]
			l := g.line(z, y)
			from, inner, outer, to := g.spans(l, axis)
			fill(out[:from], outside)
			fill(out[to:], outside)
			g.edgeLabels(out[from:inner], src, l.to(from))
			g.edgeLabels(out[outer:to], src, l.to(outer))
			at := l.to(inner).at
			out = out[inner:outer]
			for i := range out {
				z, fz := split(at[0])
				y, fy := split(at[1])
				x, fx := split(at[2])
				v := src[(z*g.size[1]+y)*row+x:]
				d, first := v[plane:], v[0]
				if first == v[1] && first == v[row] && first == v[row+1] &&
					first == d[0] && first == d[1] && first == d[row] && first == d[row+1] {
					out[i] = first
				} else {
					label := [8]int16{first, v[1], v[row], v[row+1], d[0], d[1], d[row], d[row+1]}
					out[i] = vote(&label, g.nearest(at), fz, fy, fx)
				}
				at[0], at[1], at[2] = at[0]+l.step[0], at[1]+l.step[1], at[2]+l.step[2]
			}
		}
	}
}

// edgeLabels is labels for voxels of one line that may have neighbours outside.
func (g *grid) edgeLabels(out, src []int16, l line) {
	for i := range out {
		at := l.to(i).at
		var label [8]int16
		for k := range label {
			label[k] = outside
			if j, _ := g.neighbour(at, k); j >= 0 {
				label[k] = src[j]
			}
		}
		_, fz := split(at[0])
		_, fy := split(at[1])
		_, fx := split(at[2])
		out[i] = vote(&label, g.nearest(at), fz, fy, fx)
	}
}

// nearest returns which neighbour of a place is the nearest, numbered as for neighbour; in
// the middle between two it is the one with an even place in the box.
func (g *grid) nearest(at [3]fixed) int {
	near := 0
	for i, c := range at {
		f := uint32(c)
		if near <<= 1; f > 1<<31 || f == 1<<31 && (c>>32+g.first[i])&1 == 1 {
			near |= 1
		}
	}
	return near
}

// vote returns the label of a place from those of its neighbours, of which near is the
// nearest. As batchgeneratorsv2: each label has the sum of its neighbours' weights, times
// 1000 and rounded to half precision (so that near ties are ties); the largest wins, the
// nearest neighbour's label before others and then the smallest.
func vote(label *[8]int16, near int, fz, fy, fx float32) int16 {
	gz, gy, gx := 1-fz, 1-fy, 1-fx
	weight := [8]float32{gz * gy * gx, gz * gy * fx, gz * fy * gx, gz * fy * fx, fz * gy * gx, fz * gy * fx, fz * fy * gx, fz * fy * fx}
	score := func(l int16) float32 {
		sum := float32(0)
		for k := range label {
			if label[k] == l {
				sum += weight[k]
			}
		}
		return half(1000 * sum)
	}
	best := label[near]
	most := score(best)
	if most > 500 {
		return best
	}
	for _, l := range label {
		if l == best {
			continue
		}
		if s := score(l); s > most || s == most && best != label[near] && l < best {
			best, most = l, s
		}
	}
	return best
}

// half rounds a number from 2^-14 to 65504 to half precision.
func half(x float32) float32 {
	b := math.Float32bits(x)
	return math.Float32frombits((b + 0xfff + b>>13&1) &^ 0x1fff)
}
