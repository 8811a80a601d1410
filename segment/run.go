package segment

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/sliding"
	"github.com/libflare/libflare/segment/volume"
)

// run takes an image through the network in use into the target, whose view it sets.
func (c *call) run(image, previous *volume.Volume, target resample.Target) error {
	p := c.part
	c.phase(phasePreprocess)
	grid, err := preprocess.Open(image, previous, p.preprocess, c.threads)
	if err != nil {
		return err
	}
	defer grid.Close()
	if err := c.cancelled(); err != nil {
		return err
	}

	// Outside the crop all is background.
	clear(target.Labels.Data)
	if target.Probabilities != nil {
		clear(target.Probabilities)
		if p.regions == nil {
			fill(target.Probabilities[:image.Voxels()], 1)
		}
	}
	area, err := c.area(image, previous, grid, target.Probabilities != nil)
	if err != nil {
		return err
	}
	target.View, target.Regions, target.Head = grid.View, p.regions, p.head
	w := &window{task: c.task(grid), grid: grid, method: p.exportMethod, to: grid.From, target: target, rows: area.rows()}
	if !area.whole(grid.View) {
		w.wanted = func(rows [2]int) func(lo, hi [3]int) bool {
			return area.within(rows).wanted(grid.View, grid.Shape, p.reach())
		}
	}
	if a := c.options.Agreement; a != nil {
		t, err := newTally(p, grid.Shape, a.Voxels != nil, c.threads)
		if err != nil {
			return err
		}
		defer t.free()
		w.tally, w.task.Apart = t, true
	}
	if _, err := w.run(c); err != nil {
		return err
	}
	if w.tally != nil {
		w.tally.result(c.options.Agreement, grid, c.threads)
	}
	all, _ := w.task.Tiles()
	c.skipped += all - w.needed
	area.clear(target, p.heads, c.threads)
	return nil
}

// task is the network in use on a prepared image.
func (c *call) task(grid *preprocess.Case) *sliding.Task {
	p := c.part
	t := &sliding.Task{
		Shape: grid.Shape, Channels: p.inputs, Classes: p.features, Apart: p.head != nil, Patch: p.configuration.PatchSize, Threads: c.threads,
		Network: c, Inputs: c.session.Inputs, Outputs: c.session.Outputs, HalfOutputs: c.session.HalfOutputs, Tile: c.tile,
		Waited: func(d time.Duration) { c.seconds[phaseExport] -= d.Seconds() }, // the network's time
	}
	if c.options.Mirror {
		t.Mirror = p.mirrorAxes
	}
	t.Load = func(ctx context.Context, n int, dst func(channel, plane int) []float32) error {
		now := c.current
		c.phase(phasePreprocess)
		defer c.phase(now)
		return grid.Next(ctx, n, dst)
	}
	return t
}

// reach is how many voxels of the grid away logits have a say in a label: the next ones
// where the export interpolates linearly; a spline's fade by 0.27 (order 3) to 0.43
// (order 5) a voxel.
func (p *part) reach() int {
	if f := p.exportMethod; f.Function == resample.Spline && max(f.Order, f.OrderZ) > 1 {
		return 16
	}
	return 1
}

// area is what the call's options, and in fast mode the body, leave of the image.
func (c *call) area(image, previous *volume.Volume, grid *preprocess.Case, probabilities bool) (*area, error) {
	a := wholeArea(grid.View)
	a.values = c.values
	if err := a.intersect(c.options.Box, grid.View, image.Size); err != nil {
		return nil, err
	}
	p := c.part
	if p.options.fast() && !probabilities && p.preprocess.Channels[0].Scheme == preprocess.CT {
		body, err := preprocess.Body(c.ctx, image, grid.View, grid.From, c.threads)
		if err != nil {
			return nil, err
		}
		if fraction := body.Fraction(); fraction > 0 {
			c.body, a.masks = fraction, append(a.masks, body)
			c.note("the body mask covers %.0f %% of the image; what is outside is background", 100*c.body)
		} else {
			c.note("no body was found in the image: no tile was left out as air")
		}
	}
	if c.values != nil {
		mask, err := c.coarse(image, previous, grid, a)
		if err != nil {
			return nil, err
		}
		if mask != nil {
			a.masks = append(a.masks, mask)
		}
	}
	return a, nil
}

// What the coarse pass of a region of interest does: coarseSpacing times the network's
// spacing, within what nnU-Net's scaling augmentation teaches (0.7 to 1.4); tiles that
// hardly overlap; coarseMargin mm around what is found.
const (
	coarseSpacing = 1.4
	coarseStep    = 0.9
	coarseMargin  = 15
)

// coarse finds where the wanted labels can be. nil: anywhere, also where the pass would run
// as many tiles as it could save: it leaves at least those that touch one voxel.
func (c *call) coarse(image, previous *volume.Volume, grid *preprocess.Case, a *area) (*preprocess.Mask, error) {
	p := c.part
	config := p.preprocess
	config.Spacing = slices.Clone(config.Spacing)
	for i, fine := range config.Spacing {
		j := i + 3 - len(config.Spacing)
		// Not coarser than leaves one patch: a tile is the least that can run.
		most := grid.From[j] * float64(grid.View.Shape[j]) / float64(p.configuration.PatchSize[i])
		config.Spacing[i] = max(fine, min(coarseSpacing*fine, most))
	}
	low, err := preprocess.Open(image, previous, config, c.threads)
	if err != nil {
		return nil, err
	}
	defer low.Close()
	labels, err := volume.New(volume.Geometry{Size: [3]int{low.Shape[2], low.Shape[1], low.Shape[0]}, Spacing: [3]float64{1, 1, 1},
		Direction: volume.Identity}, 1, volume.Uint16)
	if err != nil {
		return nil, err
	}
	defer labels.Free()
	w := &window{task: c.task(low), grid: low, method: resample.Method{Function: resample.NoResampling}, to: low.To, rows: [2]int{0, low.Shape[1]},
		target: resample.Target{Labels: labels, View: labels.Full(), Regions: p.regions, Head: p.head}}
	fine := c.task(grid)
	w.task.Step, w.task.Mirror = coarseStep, nil
	w.task.Tile = func(int, int) error { return c.cancelled() }
	if !a.whole(grid.View) {
		w.task.Wanted = a.wanted(grid.View, low.Shape, 1)
		fine.Wanted = a.wanted(grid.View, grid.Shape, p.reach())
	}
	_, cost := w.task.Tiles()
	_, all := fine.Tiles()
	flips := float64(int(1) << len(fine.Mirror))
	if float64(cost)+fine.Coverage()*flips >= float64(all)*flips {
		c.note("a coarse pass of %d tiles could not save as many of %d: all tiles run", cost, all)
		return nil, nil
	}
	tiles, err := w.run(c)
	if err != nil {
		return nil, err
	}
	c.tiles += tiles
	found := volume.As[uint16](labels)
	for _, v := range c.values {
		if !slices.Contains(found, v) {
			c.note("the coarse pass found no voxel of label %d: all tiles run", v)
			return nil, nil
		}
	}
	wanted := func(v uint16) bool { return slices.Contains(c.values, v) }
	mask := preprocess.MaskOf(found, low.Shape, grid.View.Shape, grid.From, wanted, coarseMargin)
	c.note("a coarse pass of %d tiles bounds the region of interest to %.0f %% of the image", tiles, 100*mask.Fraction())
	return mask, nil
}

// roi returns the call's region of interest as the model's values; nil: none.
func (c *call) roi() []uint16 {
	var values []uint16
	for _, v := range c.options.ROI {
		values = append(values, uint16(v))
	}
	return values
}

// checkROI refuses regions of interest that the model does not have.
func (m *Model) checkROI(o *Options, probabilities bool) error {
	if len(o.ROI) == 0 {
		return nil
	}
	if m.list != nil && m.list.Combine != combineParts {
		return fault.New(fault.Unsupported, "%s: an ensemble or cascade takes no region of interest", m.path)
	}
	if probabilities {
		return fault.New(fault.Unsupported, "probabilities cannot be bounded to a region of interest")
	}
	for _, v := range o.ROI {
		if v == 0 || !slices.ContainsFunc(m.labels(), func(l Label) bool { return l.Value == v }) {
			var have []string
			for _, l := range m.labels()[1:] {
				have = append(have, fmt.Sprintf("%d (%s)", l.Value, l.Name))
			}
			return fault.New(fault.Argument, "region of interest: the model has no label %d, only %s", v, strings.Join(have, ", "))
		}
	}
	return nil
}

// note adds a sentence to the call's account.
func (c *call) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
	logf(LogInfo, "%s: %s", c.part.path, c.notes[len(c.notes)-1])
}

func fill(s []float32, v float32) {
	for i := range s {
		s[i] = v
	}
}
