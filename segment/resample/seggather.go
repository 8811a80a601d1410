package resample

import (
	"math"

	"github.com/libflare/libflare/segment/internal/parallel"
)

// Linear interpolation of label maps looks at eight voxels, of which few differ: their
// labels' shares are summed on the spot, in the order and precision of the original,
// for ties are frequent and are decided by exact equality.

// segAxis tabulates one axis of a label map.
type segAxis struct {
	left, right, nearest []int32
	weight               [][2]float64 // of left and right
}

// splineSegAxis has scipy's order 1 and 0 (ni_splines.c: the last weight is what the
// others leave to 1).
func splineSegAxis(in, out int) segAxis {
	var a segAxis
	a.nearest, _ = nearestTable(in, out)
	for j := range out {
		c := min(max(position(j, in, out), 0), float64(in-1))
		f := math.Floor(c)
		w := 1 - (c - f)
		a.add(int32(f), in, [2]float64{w, 1 - w})
	}
	return a
}

// torchSegAxis has torch's linear weights, and the voxel of its mode as nearest.
func torchSegAxis(in, out int, mode Mode, fused bool) segAxis {
	var a segAxis
	a.nearest, _ = torchNearestTable(in, out, mode == NearestExact)
	left, weight := torchLinearTable(in, out, fused)
	for j := range out {
		a.add(left[j], in, [2]float64{float64(1 - weight[j]), float64(weight[j])})
	}
	return a
}

func (a *segAxis) add(left int32, in int, weight [2]float64) {
	a.left = append(a.left, left)
	a.right = append(a.right, min(left+1, int32(in-1)))
	a.weight = append(a.weight, weight)
}

// neighbours are the eight voxels around an output voxel, the last axis fastest.
type neighbours struct {
	label   [8]int16
	weight  [3][2]float64 // by axis: of the lower and the upper voxel
	nearest int16
}

// gather writes every output voxel's nearest label, or what rule makes of its
// neighbours where they differ.
func (g segGrid) gather(dst, src []int16, axes [3]segAxis, rule func(n *neighbours) int16) error {
	z, y, x := &axes[0], &axes[1], &axes[2]
	plane := g.in[1] * g.in[2]
	return parallel.For(g.out[0]*g.out[1], g.threads, func(_, i int) error {
		oz, oy := i/g.out[1], i%g.out[1]
		row := dst[i*g.out[2] : (i+1)*g.out[2]]
		near := src[int(z.nearest[oz])*plane+int(y.nearest[oy])*g.in[2]:]
		if rule == nil {
			for ox := range row {
				row[ox] = near[x.nearest[ox]]
			}
			return nil
		}
		var rows [4][]int16
		for k, at := range [4][2]int32{{z.left[oz], y.left[oy]}, {z.left[oz], y.right[oy]}, {z.right[oz], y.left[oy]}, {z.right[oz], y.right[oy]}} {
			rows[k] = src[int(at[0])*plane+int(at[1])*g.in[2]:][:g.in[2]]
		}
		n := neighbours{weight: [3][2]float64{z.weight[oz], y.weight[oy]}}
		for ox := range row {
			l, r := x.left[ox], x.right[ox]
			first, differ := rows[0][l], false
			for k, s := range rows {
				n.label[2*k], n.label[2*k+1] = s[l], s[r]
				differ = differ || s[l] != first || s[r] != first
			}
			row[ox] = first
			if differ {
				n.weight[2], n.nearest = x.weight[ox], near[x.nearest[ox]]
				row[ox] = rule(&n)
			}
		}
		return nil
	})
}

// shares calls visit with each label once and its interpolated share.
func (n *neighbours) shares(share func(label int16) float64, visit func(label int16, share float64)) {
	for k, label := range n.label {
		seen := false
		for _, earlier := range n.label[:k] {
			seen = seen || earlier == label
		}
		if !seen {
			visit(label, share(label))
		}
	}
}

// scipy returns a label's share as scipy.ndimage sums it (NI_ZoomShift).
func (n *neighbours) scipy(label int16) float64 {
	sum := 0.0
	for k, l := range n.label {
		if l == label {
			product := float64(n.weight[0][k>>2]*n.weight[1][k>>1&1]) * n.weight[2][k&1]
			sum += product
		}
	}
	return min(sum, 1)
}

// torch returns a label's share, times scale, as torch interpolates it: x, then y,
// then z, in float32.
func (n *neighbours) torch(label int16, scale float32) float32 {
	var v [8]float32
	for k, l := range n.label {
		if l == label {
			v[k] = scale
		}
	}
	for axis := 2; axis >= 0; axis-- {
		a, b := float32(n.weight[axis][0]), float32(n.weight[axis][1])
		for k := range 1 << axis {
			left, right := v[2*k]*a, v[2*k+1]*b
			v[k] = left + right
		}
	}
	return v[0]
}

// largest is resize_segmentation's rule.
func largest(n *neighbours) int16 {
	best, winner := -1.0, int16(0)
	n.shares(n.scipy, func(label int16, share float64) {
		switch {
		case share > best:
			best, winner = share, label
		case share == best && winner != n.nearest && (label == n.nearest || label < winner):
			winner = label
		}
	})
	return winner
}

// aboveHalf is the rule of nnU-Net's resample_data_or_seg along the separate axis
// (its np.round takes a half to 0).
func aboveHalf(n *neighbours) int16 {
	winner := int16(0)
	n.shares(n.scipy, func(label int16, share float64) {
		if share > 0.5 {
			winner = label
		}
	})
	return winner
}

// torchLargest is resample_torch_simple's rule: shares of 1000 in float16.
func torchLargest(n *neighbours) int16 {
	best, winner := -1.0, int16(0)
	share := func(label int16) float64 { return float64(half(n.torch(label, 1000))) }
	n.shares(share, func(label int16, share float64) {
		if share > best || share == best && label < winner {
			best, winner = share, label
		}
	})
	return winner
}

// torchAboveHalf is resample_torch_simple's rule with memefficient_seg_resampling.
func torchAboveHalf(n *neighbours) int16 {
	winner := int16(0)
	n.shares(func(label int16) float64 { return float64(n.torch(label, 1)) }, func(label int16, share float64) {
		if share > 0.5 {
			winner = label
		}
	})
	return winner
}

// half rounds to the nearest float16, ties to even, for values in its normal range.
func half(v float32) float32 {
	bits := math.Float32bits(v)
	return math.Float32frombits((bits + 0xfff + bits>>13&1) &^ 0x1fff)
}
