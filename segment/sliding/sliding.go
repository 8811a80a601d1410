package sliding

import (
	"context"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// Network is what runs a tile: some networks (folds) that share slots, pairs of an
// input and an output buffer. One Run is in progress at a time.
type Network interface {
	Networks() int
	Run(ctx context.Context, network, slot int) error
}

// Task is an image and how to run a network over it.
type Task struct {
	Shape    [3]int  // of the image
	Channels int     // of the image
	Classes  int     // channels of the network's output
	Patch    []int   // the network's input, two or three entries; two: slices are segmented one by one
	Mirror   []int   // axes of Patch to flip, nil for none
	Step     float64 // of the tiles, as a share of the patch; 0: nnU-Net's half
	Apart    bool    // accumulate the networks side by side instead of averaging them
	Threads  int

	// Load writes the image's next n planes, channel by channel: plane counts from 0.
	Load func(ctx context.Context, n int, dst func(channel, plane int) []float32) error
	// Wanted reports whether a tile is to be run, by its half-open box of the image;
	// nil: all are. Where no tile runs, logits are zero.
	Wanted func(lo, hi [3]int) bool

	// Network runs on Inputs[slot] (channels x patch) into Outputs[slot] (classes x
	// patch). With two slots (there are one or two) the next pass is prepared, and the last
	// one accumulated and exported, while the network runs.
	Network         Network
	Inputs, Outputs [][]float32

	// Plane takes the finished planes of the logits in order: those of the Accumulated()
	// channels lie stride apart and are followed by kernel.Slack finite values. A plane stays
	// as it is until the call for the next has returned.
	Plane func(z int, logits []float32, stride int) error
	Tile  func(done, all int) error // called after every tile that ran; an error ends the run
}

// Accumulated returns how many channels are accumulated: those of Plane's logits.
func (t *Task) Accumulated() int {
	if t.Apart {
		return t.Classes * t.Network.Networks()
	}
	return t.Classes
}

// tile is where a tile starts on the padded image.
type tile [3]int

// rows returns the tiles to run, by their positions along the slowest axis.
func (t *Task) rows(axes *[3]axis) (rows [][]tile, run int) {
	for _, pz := range axes[0].positions {
		var row []tile
		for _, py := range axes[1].positions {
			for _, px := range axes[2].positions {
				at := tile{pz, py, px}
				var lo, hi [3]int
				for i := range 3 {
					_, first, count := axes[i].inside(at[i])
					lo[i], hi[i] = first, first+count
				}
				if t.Wanted == nil || t.Wanted(lo, hi) {
					row = append(row, at)
				}
			}
		}
		rows, run = append(rows, row), run+len(row)
	}
	return rows, run
}

// Tiles returns how many tiles the image has, and how many of them are wanted.
func (t *Task) Tiles() (all, wanted int) {
	axes := t.axes()
	all = len(axes[0].positions) * len(axes[1].positions) * len(axes[2].positions)
	_, wanted = t.rows(&axes)
	return all, wanted
}

func (t *Task) axes() [3]axis {
	var axes [3]axis
	share := t.Step
	if share == 0 {
		share = 0.5
	}
	for i := range 3 {
		if j := i - (3 - len(t.Patch)); j >= 0 {
			axes[i] = newAxis(t.Shape[i], t.Patch[j], false, share)
		} else {
			axes[i] = newAxis(t.Shape[i], 1, true, share)
		}
	}
	return axes
}

// blockPlanes is the least number of planes that are asked of Load at a time, where
// there are so many: enough for every thread to have some.
const blockPlanes = 16

// Memory returns the bytes of the arrays that Run holds besides the slots.
func (t *Task) Memory() int64 {
	axes := t.axes()
	plane := int64(t.Shape[1]) * int64(t.Shape[2]) * 4
	return plane * (int64(t.Accumulated())*int64(axes[0].ring()) + int64(t.Channels)*int64(axes[0].imageRing()))
}

// ring is how many planes unfinished tiles touch at most, and the one handed out last.
func (a *axis) ring() int { return min(a.tile+1, a.n) }

// imageRing is how many planes of the image are held.
func (a *axis) imageRing() int { return min(max(a.tile, blockPlanes), a.n) }

// run is a task on its way.
type run struct {
	*Task
	axes  [3]axis
	flips [][3]bool
	share float32 // of one pass in the average

	image  []float32 // channels x imageRing planes; plane z at z mod imageRing
	loaded int       // planes of the image that were asked for so far
	sums   []float32 // accumulated x ring planes; plane z at z mod ring
	ended  int       // planes handed to Plane

	all, done int // tiles
}

// pass is one run of one network: a tile in one orientation.
type pass struct {
	tile    tile
	flip    [3]bool
	network int
	slot    int
	last    bool // of its tile
	ended   int  // planes that no later pass touches
}

// Run segments the image tile by tile, slowest axis first. Accumulators exist for
// the planes that unfinished tiles touch: as many as a tile is deep; so do the image's
// planes. Where tiles lie is known beforehand, and with it the weights' sums, so outputs are
// accumulated divided by them, and a plane that no further tile touches is handed to Plane
// as it is. The networks' outputs are averaged over folds and mirror flips, as nnU-Net
// does.
func (t *Task) Run(ctx context.Context) error {
	r := &run{Task: t, axes: t.axes(), flips: flips(t.Mirror, 3-len(t.Patch))}
	r.share = 1 / float32(len(r.flips))
	if !t.Apart {
		r.share /= float32(t.Network.Networks())
	}
	z, plane := &r.axes[0], t.Shape[1]*t.Shape[2]
	var err error
	if r.image, err = cmem.Alloc[float32](t.Channels * z.imageRing() * plane); err != nil {
		return err
	}
	defer func() { cmem.Free(r.image) }()
	if r.sums, err = cmem.AllocZero[float32](t.Accumulated()*z.ring()*plane + kernel.Slack); err != nil {
		return err
	}
	defer func() { cmem.Free(r.sums) }()
	if len(t.Inputs) == 1 {
		return r.alternate(ctx)
	}
	return r.overlap(ctx)
}

// alternate runs pass after pass.
func (r *run) alternate(ctx context.Context) error {
	return r.passes(func(p pass) error {
		if err := r.prepare(ctx, p); err != nil {
			return err
		}
		if err := r.Network.Run(ctx, p.network, p.slot); err != nil {
			return err
		}
		return r.take(p)
	})
}

// overlap prepares the next pass and takes the last one while the network runs.
func (r *run) overlap(ctx context.Context) error {
	var flying *pass
	land := func() error { return nil } // waits for the pass that flies; again and again
	defer func() { _ = land() }()       // in any case: the network must not outlive its buffers
	err := r.passes(func(p pass) error {
		if err := r.prepare(ctx, p); err != nil {
			return err
		}
		if err := land(); err != nil {
			return err
		}
		last := flying
		flying = &p
		land = parallel.Go(func() error { return r.Network.Run(ctx, p.network, p.slot) })
		if last != nil {
			return r.take(*last)
		}
		return nil
	})
	if landed := land(); err == nil {
		err = landed
	}
	if err == nil && flying != nil {
		err = r.take(*flying)
	}
	return err
}

// passes calls do for every pass, in order, and ends the planes that no pass touches.
func (r *run) passes(do func(p pass) error) error {
	z := &r.axes[0]
	rows, all := r.rows(&r.axes)
	r.all = all
	count := 0
	first := func(from int) int { // of the planes that rows from this one on touch
		for k := from; k < len(rows); k++ {
			if len(rows[k]) > 0 {
				_, plane, _ := z.inside(z.positions[k])
				return plane
			}
		}
		return z.n
	}
	if err := r.end(first(0)); err != nil {
		return err
	}
	for k, row := range rows {
		for i, at := range row {
			for j, flip := range r.flips {
				for network := range r.Network.Networks() {
					p := pass{tile: at, flip: flip, network: network, slot: count % len(r.Inputs)}
					p.last = j == len(r.flips)-1 && network == r.Network.Networks()-1
					if p.last && i == len(row)-1 {
						p.ended = first(k + 1)
					}
					if err := do(p); err != nil {
						return err
					}
					count++
				}
			}
		}
	}
	return nil
}

// prepare fills the pass's input.
func (r *run) prepare(ctx context.Context, p pass) error {
	if ctx.Err() != nil {
		return fault.New(fault.Cancelled, "cancelled")
	}
	if p.network >= len(r.Inputs) {
		return nil // an earlier network left the same tile in the slot
	}
	return r.gather(ctx, p)
}

// take adds a pass's output to the accumulators and ends its tile and planes.
func (r *run) take(p pass) error {
	if err := r.accumulate(p); err != nil {
		return err
	}
	if p.last {
		r.done++
		if err := r.Tile(r.done, r.all); err != nil {
			return err
		}
	}
	return r.end(p.ended)
}

// end hands out the planes below next.
func (r *run) end(next int) error {
	for ; r.ended < next; r.ended++ {
		if err := r.handOver(r.ended); err != nil {
			return err
		}
	}
	return nil
}

// flips lists the combinations of flipped axes, the unflipped first; the axes are
// those of the patch, from axis first of the image on.
func flips(mirror []int, first int) [][3]bool {
	list := [][3]bool{{}}
	for _, m := range mirror {
		for _, f := range list {
			f[first+m] = true
			list = append(list, f)
		}
	}
	return list
}
