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
			for i := from; i < inner; i++ {
				out[i] = g.vote(src, l.to(i).at)
			}
			for i := outer; i < to; i++ {
				out[i] = g.vote(src, l.to(i).at)
			}
			at := l.to(inner).at
			for i := inner; i < outer; i++ {
				v := src[int(at[0]>>32)*g.size[1]*row+int(at[1]>>32)*row+int(at[2]>>32):]
				first := v[0]
				if d := v[plane:]; first == v[1] && first == v[row] && first == v[row+1] &&
					first == d[0] && first == d[1] && first == d[row] && first == d[row+1] {
					out[i] = first
				} else {
					out[i] = g.vote(src, at)
				}
				at[0], at[1], at[2] = at[0]+l.step[0], at[1]+l.step[1], at[2]+l.step[2]
			}
		}
	}
}

// vote returns the label of a place. As batchgeneratorsv2: each label has the sum of its
// neighbours' weights, times 1000 and rounded to half precision (so that near ties are
// ties); the largest wins, the nearest neighbour's label before others and then the
// smallest.
func (g *grid) vote(src []int16, at [3]fixed) int16 {
	var label [8]int16
	var weight [8]float32
	for k := range 8 {
		var j int
		if j, weight[k] = g.neighbour(at, k); j >= 0 {
			label[k] = src[j]
		} else {
			label[k] = outside
		}
	}
	near := 0 // the nearest neighbour; in the middle between two, the even one
	for i := range 3 {
		j, f := int(at[i]>>32), uint32(at[i])
		if near <<= 1; f > 1<<31 || f == 1<<31 && j&1 == 1 {
			near |= 1
		}
	}
	score := func(l int16) float32 {
		sum := float32(0)
		for k := range label {
			if label[k] == l {
				sum += weight[k]
			}
		}
		return half(1000 * sum)
	}
	best, most := label[near], score(label[near])
	for k, l := range label {
		if l == best || k > 0 && l == label[k-1] {
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
