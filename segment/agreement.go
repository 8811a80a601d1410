package segment

import (
	"sync"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/volume"
)

// Agreement is how the folds of a model agree with their mean, which decides the labels:
// on the network's grid, where each fold's own labels exist plane by plane as the tiles
// end. It costs the accumulators of every fold instead of those of their mean, and little
// time.
type Agreement struct {
	Labels []LabelAgreement // in the order of the network's outputs, without the background

	// Voxels is nil or a buffer of z x y x x, of the image, to fill: how many folds by
	// themselves give a voxel the label of all, looked up in the nearest voxel of the
	// network's grid; all of them outside the nonzero part of the image.
	Voxels []uint8
}

// LabelAgreement is the agreement on one label.
type LabelAgreement struct {
	Value int
	Dice  float64 // mean over the folds of the Dice between the fold's labels and those of all; 1 where neither has any
	Any   bool    // whether all folds together, or one of them, find the label anywhere
}

// checkAgreement refuses what has no folds to compare.
func (m *Model) checkAgreement(o *Options, image *volume.Volume) error {
	switch {
	case o.Agreement == nil:
	case m.list != nil:
		return fault.New(fault.Unsupported, "%s: the folds of a list's models cannot be compared", m.path)
	case o.Agreement.Voxels != nil && len(o.Agreement.Voxels) != image.Voxels():
		return fault.New(fault.Argument, "a buffer of %d voxels for the agreement of folds, the image has %d", len(o.Agreement.Voxels), image.Voxels())
	}
	return nil
}

// tally compares the folds' labels with those of all, plane by plane, on their way from the
// sliding window to the export.
type tally struct {
	part    *part
	shape   [3]int
	folds   int
	threads int
	means   [2][]float32 // heads x plane of a strip, of every second plane; nil where the export applies the head
	agreed  []uint8      // of the grid: how many folds agree; nil where not asked for
	low     [2]int       // rows of the strip
	counted int          // rows below this one were in an earlier strip

	mu         sync.Mutex
	own, both  [][]int // voxels that a fold gives a label (folds x labels), and that all do as well
	altogether []int   // voxels that all folds give a label
}

// newTally prepares for a grid; the caller calls free.
func newTally(p *part, shape [3]int, voxels bool, threads int) (_ *tally, err error) {
	t := &tally{part: p, shape: shape, folds: len(p.folds), threads: threads, altogether: make([]int, p.heads+1)}
	for range t.folds {
		t.own, t.both = append(t.own, make([]int, p.heads+1)), append(t.both, make([]int, p.heads+1))
	}
	for i := range t.means {
		if p.head != nil {
			break
		}
		if t.means[i], err = cmem.AllocZero[float32](p.heads*shape[1]*shape[2] + kernel.Slack); err != nil {
			t.free()
			return nil, err
		}
	}
	if voxels {
		if t.agreed, err = cmem.Alloc[uint8](shape[0] * shape[1] * shape[2]); err != nil {
			t.free()
			return nil, err
		}
		for i := range t.agreed {
			t.agreed[i] = uint8(t.folds) // also where no tile runs
		}
	}
	return t, nil
}

func (t *tally) free() {
	cmem.Free(t.means[0])
	cmem.Free(t.means[1])
	cmem.Free(t.agreed)
}

// tallyMemory returns the bytes that a tally holds.
func (p *part) tallyMemory(shape [3]int) int64 {
	plane := int64(shape[1] * shape[2])
	return plane * int64(2*4*p.heads+shape[0])
}

// strip begins a strip of rows from before to.
func (t *tally) strip(low [2]int) {
	t.counted, t.low = t.low[1], low
}

// plane counts a plane of the folds' logits, or of their features where the export applies
// the networks' last layers, as the sliding window accumulates them apart, channels stride
// apart; and hands on what the export needs: the folds' mean, or the features.
func (t *tally) plane(z int, apart []float32, stride int, export func(z int, logits []float32, stride int) error) error {
	rows, columns := t.low[1]-t.low[0], t.shape[2]
	parts := min(rows, 4*t.threads)
	mean, size := t.means[z%2], rows*columns
	_ = parallel.For(parts, t.threads, func(_, i int) error {
		from, to := i*rows/parts, (i+1)*rows/parts
		at, n := from*columns, (to-from)*columns
		if t.part.head != nil {
			t.heads(apart[at:], stride, n, z, from)
			return nil
		}
		t.average(mean[at:], size, apart[at:], stride, n)
		labels := t.newLabels(n)
		t.part.pick(labels[0], mean[at:], size)
		for fold := range t.folds {
			t.part.pick(labels[1+fold], apart[fold*t.part.heads*stride+at:], stride)
		}
		t.count(labels, z, from)
		return nil
	})
	if t.part.head != nil {
		return export(z, apart, stride)
	}
	return export(z, mean, size)
}

// average writes the mean of the folds' logits of n voxels; classes lie size and stride apart.
func (t *tally) average(mean []float32, size int, apart []float32, stride, n int) {
	share := 1 / float32(t.folds)
	for class := range t.part.heads {
		sum := mean[class*size:][:n]
		for fold := range t.folds {
			one := apart[(fold*t.part.heads+class)*stride:][:n]
			if fold == 0 {
				copy(sum, one)
				continue
			}
			for i, v := range one {
				sum[i] += v
			}
		}
		for i := range sum {
			sum[i] *= share
		}
	}
}

// newLabels returns room for n labels of all folds together (the first) and of each.
func (t *tally) newLabels(n int) [][]uint16 {
	labels := make([][]uint16, t.folds+1)
	for i := range labels {
		labels[i] = make([]uint16, n)
	}
	return labels
}

// heads labels n voxels of features (all folds' channels, stride apart) and counts them.
func (t *tally) heads(features []float32, stride, n, z, from int) {
	const block = 512 // voxels whose logits stay in the cache
	p := t.part
	all := kernel.Matrix{Weight: p.head.Weight, Bias: p.head.Bias}
	maps := []kernel.Matrix{all}
	for _, h := range p.foldHeads {
		maps = append(maps, kernel.Matrix{Weight: h.Weight, Bias: h.Bias})
	}
	logits, scratch := make([]float32, p.heads*block), make([]float32, all.ProductScratch())
	labels := t.newLabels(n)
	for k, m := range maps {
		x := features
		if k > 0 {
			x = features[(k-1)*p.features*stride:]
		}
		for i := 0; i < n; i += block {
			count := min(block, n-i)
			m.Product(logits, block, x[i:], stride, count, scratch)
			p.pick(labels[k][i:i+count], logits, block)
		}
	}
	t.count(labels, z, from)
}

// pick labels voxels by their logits, whose classes lie stride apart: the largest, or 1 +
// the last region above 0.
func (p *part) pick(labels []uint16, logits []float32, stride int) {
	if p.regions != nil {
		kernel.Last(labels, logits, stride, p.heads, len(labels))
	} else {
		kernel.Winner(labels, logits, stride, p.heads, len(labels))
	}
}

// count adds the labels of a plane's rows from the strip's row from on.
func (t *tally) count(labels [][]uint16, z, from int) {
	if seen := (t.counted - t.low[0] - from) * t.shape[2]; seen > 0 {
		for i, l := range labels {
			labels[i] = l[min(seen, len(l)):]
		}
		from = t.counted - t.low[0]
	}
	n := t.part.heads + 1
	counts := make([]int, (1+2*t.folds)*n) // all, then own and both of each fold
	mean := labels[0]
	var agreed []uint8
	if t.agreed != nil {
		agreed = t.agreed[(z*t.shape[1]+t.low[0]+from)*t.shape[2]:][:len(mean)]
		clear(agreed)
	}
	for fold := range t.folds {
		all, own, both := counts, counts[(1+2*fold)*n:], counts[(2+2*fold)*n:]
		one := labels[1+fold][:len(mean)]
		for i := 0; i < len(mean); { // labels come in runs
			l, m, start := one[i], mean[i], i
			for i++; i < len(mean) && one[i] == l && mean[i] == m; i++ {
			}
			own[l] += i - start
			if fold == 0 {
				all[m] += i - start
			}
			if l != m {
				continue
			}
			both[l] += i - start
			if agreed != nil {
				for k := start; k < i; k++ {
					agreed[k]++
				}
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for l := range n {
		t.altogether[l] += counts[l]
		for fold := range t.folds {
			t.own[fold][l] += counts[(1+2*fold)*n+l]
			t.both[fold][l] += counts[(2+2*fold)*n+l]
		}
	}
}

// result writes what was counted.
func (t *tally) result(a *Agreement, grid *preprocess.Case, threads int) {
	a.Labels = nil
	labels, value := t.part.heads, func(l int) int { return l }
	if r := t.part.regions; r != nil {
		labels, value = len(r)+1, func(l int) int { return int(r[l-1]) }
	}
	for l := 1; l < labels; l++ {
		one := LabelAgreement{Value: value(l), Any: t.altogether[l] > 0}
		for fold := range t.folds {
			dice := 1.0
			if sum := t.own[fold][l] + t.altogether[l]; sum > 0 {
				dice = 2 * float64(t.both[fold][l]) / float64(sum)
			}
			one.Dice += dice / float64(t.folds)
			one.Any = one.Any || t.own[fold][l] > 0
		}
		a.Labels = append(a.Labels, one)
	}
	if a.Voxels == nil {
		return
	}
	for i := range a.Voxels {
		a.Voxels[i] = uint8(t.folds)
	}
	view := grid.View
	nearest := [3][]int{}
	for axis := range nearest {
		nearest[axis] = make([]int, view.Shape[axis])
		for i := range nearest[axis] {
			nearest[axis][i] = (2*i + 1) * t.shape[axis] / (2 * view.Shape[axis])
		}
	}
	_ = parallel.For(view.Shape[0], threads, func(_, z int) error {
		for y := range view.Shape[1] {
			row := t.agreed[(nearest[0][z]*t.shape[1]+nearest[1][y])*t.shape[2]:]
			at := view.Offset + z*view.Stride[0] + y*view.Stride[1]
			for x, from := range nearest[2] {
				a.Voxels[at+x*view.Stride[2]] = row[from]
			}
		}
		return nil
	})
}
