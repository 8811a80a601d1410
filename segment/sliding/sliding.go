package sliding

import (
	"context"
	"time"

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

	// Strip is the rows, along the middle axis, whose logits are wanted, from the first to
	// before the second: only tiles that touch them run, and accumulators hold nothing else.
	// Zero: all rows.
	Strip [2]int

	// Load writes the rows ImageRows of the image's next n planes, channel by channel: plane
	// counts from 0.
	Load func(ctx context.Context, n int, dst func(channel, plane int) []float32) error
	// Wanted reports whether a tile is to be run, by its half-open box of the image;
	// nil: all are. Where no tile runs, logits are zero.
	Wanted func(lo, hi [3]int) bool

	// Network runs on Inputs[slot] (channels x patch) into Outputs[slot] (classes x
	// patch), or where it computes in float16, into HalfOutputs[slot] (its bits). With two
	// slots (there are one or two) the next pass is prepared, and the last one accumulated and
	// exported, while the network runs.
	Network         Network
	Inputs, Outputs [][]float32
	HalfOutputs     [][]uint16 // in place of Outputs

	// Plane takes the finished planes of the logits in order: those of the Accumulated()
	// channels, of a plane the strip's rows, lie stride apart and are followed by kernel.Slack
	// finite values. A plane stays as it is until the call for the next has returned.
	Plane func(z int, logits []float32, stride int) error
	Tile  func(done, all int) error // called after every tile that ran; an error ends the run
	// Waited, unless nil, is told with two slots how long there was nothing to do but to wait
	// for the network.
	Waited func(time.Duration)
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

// strip returns the rows whose logits are wanted.
func (t *Task) strip() (from, to int) {
	if t.Strip == [2]int{} {
		return 0, t.Shape[1]
	}
	return t.Strip[0], t.Strip[1]
}

// ImageRows returns the rows of the image, along the middle axis, that the tiles to run
// look at; none where no tile runs.
func (t *Task) ImageRows() (from, to int) {
	axes := t.axes()
	return t.imageRows(&axes)
}

func (t *Task) imageRows(axes *[3]axis) (from, to int) {
	from = t.Shape[1]
	rows, _ := t.rows(axes)
	for _, row := range rows {
		for _, at := range row {
			_, first, count := axes[1].inside(at[1])
			from, to = min(from, first), max(to, first+count)
		}
	}
	return min(from, to), to
}

// Shared returns how many rows of tiles (along the middle axis) touch both rows below end
// and rows from first on.
func (t *Task) Shared(end, first int) (n int) {
	y := t.axis(1)
	for _, p := range y.positions {
		if _, from, count := y.inside(p); from < end && from+count > first {
			n++
		}
	}
	return n
}

// rows returns the tiles to run, by their positions along the slowest axis.
func (t *Task) rows(axes *[3]axis) (rows [][]tile, run int) {
	from, to := t.strip()
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
				if lo[1] < to && hi[1] > from && (t.Wanted == nil || t.Wanted(lo, hi)) {
					row = append(row, at)
				}
			}
		}
		rows, run = append(rows, row), run+len(row)
	}
	return rows, run
}

// Tiles returns how many tiles the image has, and how many of them are to run.
func (t *Task) Tiles() (all, wanted int) {
	axes := t.axes()
	all = len(axes[0].positions) * len(axes[1].positions) * len(axes[2].positions)
	_, wanted = t.rows(&axes)
	return all, wanted
}

// Coverage returns how many tiles touch a voxel of the image, on average.
func (t *Task) Coverage() float64 {
	n := 1.0
	for _, a := range t.axes() {
		in := 0
		for _, p := range a.positions {
			_, _, count := a.inside(p)
			in += count
		}
		n *= float64(in) / float64(a.n)
	}
	return n
}

func (t *Task) axes() [3]axis { return [3]axis{t.axis(0), t.axis(1), t.axis(2)} }

func (t *Task) axis(i int) axis {
	share := t.Step
	if share == 0 {
		share = 0.5
	}
	if j := i - (3 - len(t.Patch)); j >= 0 {
		return newAxis(t.Shape[i], t.Patch[j], false, share)
	}
	return newAxis(t.Shape[i], 1, true, share)
}

// blockPlanes is the least number of planes that are asked of Load at a time, where
// there are so many: enough for every thread to have some.
const blockPlanes = 16

// Memory returns the bytes of the arrays that Run holds besides the slots.
func (t *Task) Memory() int64 {
	axes := t.axes()
	from, to := t.strip()
	first, end := t.imageRows(&axes)
	row := int64(t.Shape[2]) * 4
	return row*(int64(t.Accumulated()*axes[0].ring())*int64(to-from)+int64(t.Channels*axes[0].imageRing())*int64(end-first)) + 4*kernel.Slack
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

	band   [2]int    // the image's rows that are held
	image  []float32 // channels x imageRing planes of the band; plane z at z mod imageRing
	loaded int       // planes of the image that were asked for so far
	lines  [2]int    // the strip's rows
	sums   []float32 // accumulated x ring planes of the strip; plane z at z mod ring
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
	r.lines[0], r.lines[1] = t.strip()
	r.band[0], r.band[1] = t.imageRows(&r.axes)
	z := &r.axes[0]
	var err error
	if r.image, err = cmem.Alloc[float32](t.Channels * z.imageRing() * r.bandSize()); err != nil {
		return err
	}
	defer func() { cmem.Free(r.image) }()
	if r.sums, err = cmem.AllocZero[float32](t.Accumulated()*z.ring()*r.lineSize() + kernel.Slack); err != nil {
		return err
	}
	defer func() { cmem.Free(r.sums) }()
	if len(t.Inputs) == 1 {
		return r.alternate(ctx)
	}
	return r.overlap(ctx)
}

// bandSize returns the voxels of a plane of the image that are held.
func (r *run) bandSize() int { return (r.band[1] - r.band[0]) * r.Shape[2] }

// lineSize returns the voxels of a plane of accumulators.
func (r *run) lineSize() int { return (r.lines[1] - r.lines[0]) * r.Shape[2] }

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
		if err := r.wait(land); err != nil {
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
	if landed := r.wait(land); err == nil {
		err = landed
	}
	if err == nil && flying != nil {
		err = r.take(*flying)
	}
	return err
}

// wait calls land and tells how long that took.
func (r *run) wait(land func() error) error {
	start := time.Now()
	err := land()
	if r.Waited != nil {
		r.Waited(time.Since(start))
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
