package resample

import (
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// Seg writes the label map src (shape in) resampled to dst (shape out), both
// row-major, as nnU-Net does it with is_seg True; from and to are the spacings in mm
// of their axes. Each label is interpolated as a map of zeros and ones, and the
// largest wins:
//   - Spline (resize_segmentation of batchgenerators 0.25.5): among equals the nearest
//     voxel's label, else the lowest. Order 1 is exact; above, labels whose shares agree
//     to float32 rounding may fall otherwise than in scipy's float64. Along a separate
//     axis with OrderZ above 0 a label needs more than a half; where none has, 0.
//   - Torch: shares are rounded to float16, among equals the lowest label wins; with
//     MemEfficient a label needs more than a half; where none has, 0.
//
// Errors are those of Image.
func (m Method) Seg(dst []int16, out [3]int, src []int16, in [3]int, from, to [3]float64, threads int) error {
	if err := m.check(in, out); err != nil {
		return err
	}
	_, _ = src[in[0]*in[1]*in[2]-1], dst[out[0]*out[1]*out[2]-1]
	if in == out {
		copy(dst, src[:in[0]*in[1]*in[2]])
		return nil
	}
	g := segGrid{in: in, out: out, across: -1, threads: threads}
	axis := m.separate(from, to)
	mode, modeZ := m.modes(axis)
	if axis < 0 {
		return m.segStage(g, dst, src, m.Order, mode, false)
	}
	// First across the separate axis, then along it.
	across, along := g, g
	across.across = axis
	across.out[axis] = in[axis]
	along.in = across.out
	if across.in == across.out {
		return m.segStage(along, dst, src, m.OrderZ, modeZ, true)
	}
	if along.in == along.out {
		return m.segStage(across, dst, src, m.Order, mode, false)
	}
	tmp, err := cmem.Alloc[int16](along.in[0] * along.in[1] * along.in[2])
	if err != nil {
		return err
	}
	defer cmem.Free(tmp)
	if err := m.segStage(across, tmp, src, m.Order, mode, false); err != nil {
		return err
	}
	return m.segStage(along, dst, tmp, m.OrderZ, modeZ, true)
}

// segGrid is one stage's change of shape.
type segGrid struct {
	in, out [3]int
	across  int // the axis across which it goes slice by slice, or -1
	threads int
}

// segStage resamples labels in one go: along says that it is the second stage, along
// the separate axis.
func (m Method) segStage(g segGrid, dst, src []int16, order int, mode Mode, along bool) error {
	var axes [3]segAxis
	if m.Function != Spline {
		for i := range axes {
			axes[i] = torchSegAxis(g.in[i], g.out[i], mode, torchFused(g.out, g.across))
		}
		rule := torchLargest
		switch {
		case mode != Linear:
			rule = nil
		case m.MemEfficient:
			rule = torchAboveHalf
		}
		return g.gather(dst, src, axes, rule)
	}
	if order > 1 {
		return g.compete(dst, src, order, along)
	}
	for i := range axes {
		axes[i] = splineSegAxis(g.in[i], g.out[i])
	}
	switch {
	case order == 0:
		return g.gather(dst, src, axes, nil)
	case along:
		return g.gather(dst, src, axes, aboveHalf)
	}
	return g.gather(dst, src, axes, largest)
}

// compete interpolates label by label with splines above order 1. Across: the largest
// share wins; along: a share above a half, the highest such label (nnU-Net writes
// them in rising order), else 0.
func (g segGrid) compete(dst, src []int16, order int, along bool) error {
	method := Method{Function: Spline, Order: order, OrderZ: order}
	p := method.planAlong(g.in, g.out, g.across)
	if along {
		p.clip = false // map_coordinates does not clip
	}
	n, plane := g.out[0]*g.out[1]*g.out[2], g.out[1]*g.out[2]
	indicator, err := cmem.Alloc[byte](g.in[0] * g.in[1] * g.in[2])
	if err != nil {
		return err
	}
	defer cmem.Free(indicator)
	share, err := cmem.Alloc[float32](n)
	if err != nil {
		return err
	}
	defer cmem.Free(share)
	best, err := cmem.AllocZero[float32](n)
	if err != nil {
		return err
	}
	defer cmem.Free(best)
	var nearest []int16
	if !along {
		if nearest, err = cmem.Alloc[int16](n); err != nil {
			return err
		}
		defer cmem.Free(nearest)
		var axes [3]segAxis
		for i := range axes {
			axes[i] = splineSegAxis(g.in[i], g.out[i])
		}
		if err := g.gather(nearest, src, axes, nil); err != nil {
			return err
		}
	}
	clear(dst[:n])
	rows := g.in[1] * g.in[2]
	for _, label := range distinct(src[:g.in[0]*rows]) {
		_ = parallel.For(g.in[0], g.threads, func(_, z int) error {
			for i := z * rows; i < (z+1)*rows; i++ {
				indicator[i] = 0
				if src[i] == label {
					indicator[i] = 1
				}
			}
			return nil
		})
		source := Source{Data: indicator, DType: volume.Uint8, Affine: kernel.Identity,
			View: volume.View{Shape: g.in, Stride: [3]int{rows, g.in[2], 1}}}
		if err := p.run(share, source, 0, 1, g.threads); err != nil {
			return err
		}
		_ = parallel.For(g.out[0], g.threads, func(_, z int) error {
			for i := z * plane; i < (z+1)*plane; i++ {
				switch v := share[i]; {
				case along && v > 0.5:
					dst[i] = label
				case !along && (v > best[i] || v == best[i] && v > 0 && nearest[i] == label):
					best[i], dst[i] = v, label
				}
			}
			return nil
		})
	}
	return nil
}

// distinct returns the labels that occur, rising.
func distinct(src []int16) []int16 {
	seen := make([]bool, 1<<16)
	for _, v := range src {
		seen[int(v)+1<<15] = true
	}
	var labels []int16
	for i, s := range seen {
		if s {
			labels = append(labels, int16(i-1<<15))
		}
	}
	return labels
}
