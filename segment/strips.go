package segment

import (
	"math"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/sliding"
)

// Strips. Accumulators, the image's planes on their way to the network and the logits on
// their way to labels are as large as planes of the grid. Where Options.MaxMemory leaves no
// room for that, the grid's middle axis is cut: the whole window runs for some rows of the
// labels, then for the next. Tiles over a border run for both strips, and the image is
// resampled again for each; every row of labels comes from the same tiles in the same order
// as without strips, so the labels are the same.

// window is a run of the network over a prepared image.
type window struct {
	task   *sliding.Task
	grid   *preprocess.Case
	method resample.Method // takes logits to labels
	to     [3]float64      // mm, spacing of the target's view
	target resample.Target
	rows   [2]int // of the target's view (its middle axis), from before to: where labels are wanted

	tally *tally // nil, or what compares the folds, which the task then accumulates apart

	needed int // tiles, without strips; set by plan

	// wanted returns Task.Wanted of labels in some rows; nil: all tiles are wanted.
	wanted func(rows [2]int) func(lo, hi [3]int) bool
}

// strip is some of a window's rows and what they take.
type strip struct {
	rows   [2]int // of the target's view
	low    [2]int // of the grid: the logits that those need
	tiles  int
	memory int64
}

// headroom is what a call takes in bytes beside its arrays: the Go heap's growth between
// two collections, stacks, tables. Measured: 12 MB.
const headroom = 32 << 20

// run segments the window, strip by strip, and returns how many tiles ran.
func (w *window) run(c *call) (tiles int, err error) {
	strips, err := w.plan(c)
	if err != nil {
		return 0, err
	}
	for _, s := range strips {
		tiles += s.tiles
	}
	tell, done := w.task.Tile, 0
	for _, s := range strips {
		w.task.Tile = func(n, _ int) error { return tell(done+n, tiles) }
		if err := w.strip(c, s); err != nil {
			return 0, err
		}
		done += s.tiles
	}
	return tiles, nil
}

// strip segments one strip.
func (w *window) strip(c *call, s strip) error {
	w.set(s)
	c.phase(phasePreprocess)
	from, to := w.task.ImageRows()
	if err := w.grid.Begin(c.ctx, from, to); err != nil {
		return err
	}
	c.phase(phaseExport)
	target := w.target
	target.Rows = s.rows
	export, err := w.method.Labels(c.ctx, w.grid.Shape, c.part.heads, w.grid.To, w.to, target, c.threads)
	if err != nil {
		return err
	}
	defer export.Close()
	w.task.Plane = export.Plane
	if w.tally != nil {
		w.tally.strip(s.low)
		w.task.Plane = func(z int, apart []float32, stride int) error { return w.tally.plane(z, apart, stride, export.Plane) }
	}
	return w.task.Run(c.ctx)
}

// set makes the task that of a strip.
func (w *window) set(s strip) {
	w.task.Strip = s.low
	if w.wanted != nil {
		w.task.Wanted = w.wanted(s.rows)
	}
}

// plan returns the fewest strips with which the call stays within Options.MaxMemory: one
// where there is no bound, none where no labels are wanted.
func (w *window) plan(c *call) ([]strip, error) {
	if w.rows[0] >= w.rows[1] {
		return nil, nil
	}
	one, splits, err := w.cut(c, 1)
	if err != nil {
		return nil, err
	}
	w.needed = one[0].tiles
	bound := c.options.MaxMemory
	if n := min(c.options.strips, w.rows[1]-w.rows[0]); n > 0 && splits {
		one, _, err = w.cut(c, n)
	}
	if err != nil || bound == 0 {
		return one, err
	}
	if err := c.warm(); err != nil {
		return nil, err
	}
	taken, most := residentMemory()+headroom, 1
	if splits { // strips of half a tile at least: a lower one runs more than three times the tiles
		tile := w.task.Patch[len(w.task.Patch)-2]
		most = min(max(1, (2*(one[0].low[1]-one[0].low[0])+tile-1)/tile), w.rows[1]-w.rows[0])
	}
	least := int64(math.MaxInt64)
	for n := 1; n <= most; n++ {
		strips, _, err := w.cut(c, n)
		if err != nil {
			return nil, err
		}
		tiles, need := 0, int64(0)
		for _, s := range strips {
			tiles, need = tiles+s.tiles, max(need, taken+s.memory)
		}
		if need <= bound {
			if n > 1 {
				c.note("segmented in %d strips to stay within %d bytes: %d tiles instead of %d", n, bound, tiles, w.needed)
			}
			return strips, nil
		}
		least = min(least, need)
	}
	why := ""
	if !splits {
		why = " (the model's splines from logits to labels need all logits at once)"
	}
	return nil, fault.New(fault.Memory, "segmenting needs %d bytes at least%s, more than the bound of %d bytes", least, why, bound)
}

// cut returns the window's rows as n strips. splits is false where more than one is of no
// use, because labels need all logits.
func (w *window) cut(c *call, n int) (strips []strip, splits bool, err error) {
	p, grid, view := c.part, w.grid, w.grid.View
	needs, splits, err := w.method.Needs(grid.Shape, w.target.View.Shape, grid.To, w.to)
	if err != nil {
		return nil, false, err
	}
	borders := w.borders(n, needs)
	for i := range n {
		s := strip{rows: [2]int{borders[i], borders[i+1]}}
		s.low = needs(s.rows)
		w.set(s)
		_, s.tiles = w.task.Tiles()
		from, to := w.task.ImageRows()
		image, err := p.preprocess.Memory(view.Shape, grid.Shape, grid.From, grid.To, to-from, c.threads)
		if err != nil {
			return nil, false, err
		}
		labels, err := w.method.LabelsMemory(grid.Shape, p.heads, grid.To, w.to, w.target, s.low[1]-s.low[0], c.threads)
		if err != nil {
			return nil, false, err
		}
		s.memory = w.task.Memory() + image + labels
		if w.tally != nil {
			s.memory += p.tallyMemory(grid.Shape)
		}
		strips = append(strips, s)
	}
	return strips, splits, nil
}

// borders returns where n strips of about the same height begin, and where the last ends.
// Each border is moved by up to a quarter of the height to where the fewest tiles lie across
// it: two rows of them almost everywhere, three where a tile ends just after another begins.
func (w *window) borders(n int, needs func(rows [2]int) [2]int) []int {
	first, count := w.rows[0], w.rows[1]-w.rows[0]
	borders := make([]int, n+1)
	for i := range borders {
		even := first + i*count/n
		borders[i] = even
		if i == 0 || i == n {
			continue
		}
		shared := func(row int) int {
			return w.task.Shared(needs([2]int{row - 1, row})[1], needs([2]int{row, row + 1})[0])
		}
		least := shared(even)
		for d := 1; d <= count/n/4; d++ {
			for _, row := range []int{even - d, even + d} {
				if s := shared(row); s < least {
					borders[i], least = row, s
				}
			}
		}
	}
	return borders
}

// warm runs every network once, unless they have run: the runtime makes its own buffers then.
func (c *call) warm() error {
	if c.model.warmed == c.session {
		return nil
	}
	for network := range c.session.Networks() {
		if err := c.Run(c.ctx, network, 0); err != nil {
			return err
		}
		if err := c.cancelled(); err != nil {
			return err
		}
	}
	c.model.warmed = c.session
	return nil
}
