package segment

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/libflare/libflare/segment/internal/resident"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// Estimate is what segmenting an image would take on this machine.
type Estimate struct {
	Tiles          int     `json:"tiles"` // of all networks
	SecondsPerTile float64 `json:"seconds_per_tile"`
	Seconds        float64 `json:"seconds"`           // of all tiles; and of opening the networks of a list
	Memory         int64   `json:"peak_memory_bytes"` // peak resident size of the process
}

// Estimate tells what segmenting an image of geometry g would take, without
// mirroring and probabilities. The number of tiles is exact for an image without
// zero borders (those are cropped) and an upper bound for others. The time of a tile
// is measured, by running all folds once or twice on zeros, on a machine that may be
// busier or less so later; reading, resampling and writing come on top, a few seconds
// for a clinical CT. Memory is what the process has now plus the arrays of a call on
// an image of two bytes a voxel; what the runtime and the reading of a compressed
// file need besides is not in it. The call waits for others on the same model.
func (m *Model) Estimate(ctx context.Context, g volume.Geometry) (Estimate, error) {
	if err := g.Validate(); err != nil {
		return Estimate{}, err
	}
	c, err := m.begin(ctx, Options{})
	if err != nil {
		return Estimate{}, err
	}
	defer c.end()
	var all Estimate
	network := 0.0
	for i, p := range m.parts {
		var one Estimate
		if m.list == nil {
			c.use(p, m.session, i, 1)
			one, err = c.estimate(g)
		} else {
			start := time.Now()
			err = c.with(i, func() (err error) {
				all.Seconds += time.Since(start).Seconds() // opening
				one, err = c.estimate(g)
				return err
			})
		}
		if err != nil {
			return Estimate{}, err
		}
		all.Tiles += one.Tiles
		network += one.Seconds
		all.Memory = max(all.Memory, one.Memory)
	}
	all.SecondsPerTile = network / float64(all.Tiles)
	all.Seconds += network
	if m.list != nil {
		all.Memory += 2 * int64(g.Voxels()) // the labels of one part
		if m.list.Combine == combineEnsemble {
			all.Memory += 2 * 4 * int64(m.heads()*g.Voxels()) // probabilities of one model and of all
		}
	}
	all.Memory = max(all.Memory, peakMemory()) // opening may have taken more
	return all, nil
}

// estimate is Estimate for the network in use.
func (c *call) estimate(g volume.Geometry) (e Estimate, err error) {
	if e.SecondsPerTile, err = c.secondsPerTile(); err != nil {
		return Estimate{}, err
	}
	if e.Tiles, e.Memory, err = c.needs(&g); err != nil {
		return Estimate{}, err
	}
	image := int64(g.Voxels())
	e.Memory += int64(len(c.part.dataset.Channels))*image*2 + image*int64(c.model.labelType().Size())
	e.Seconds = float64(e.Tiles) * e.SecondsPerTile
	return e, nil
}

// needs returns the tiles of an image of geometry g, and what the process has now plus
// the arrays between image and labels.
func (c *call) needs(g *volume.Geometry) (tiles int, memory int64, err error) {
	p := c.part
	grid := &preprocess.Case{}
	if grid.View, grid.From, grid.To, err = p.preprocess.Grid(g); err != nil {
		return 0, 0, err
	}
	if grid.Shape, err = p.preprocess.Image.Shape(grid.View.Shape, grid.From, grid.To); err != nil {
		return 0, 0, err
	}
	w := &window{task: c.task(grid), grid: grid, method: p.exportMethod, to: grid.From, rows: wholeArea(grid.View).rows(),
		target: resample.Target{View: grid.View, Head: p.head}}
	strips, _, err := w.cut(c, 1)
	if err != nil {
		return 0, 0, err
	}
	return strips[0].tiles, residentMemory() + strips[0].memory, nil
}

// secondsPerTile measures a tile of zeros with all folds. The first may be slower, as
// the runtime makes its buffers then; where it was quick, a second one counts.
func (c *call) secondsPerTile() (float64, error) {
	p := c.part
	patch := [3]int{1, 1, 1}
	copy(patch[3-len(p.configuration.PatchSize):], p.configuration.PatchSize)
	task := c.task(&preprocess.Case{Shape: patch})
	task.Mirror = nil
	task.Load = func(_ context.Context, n int, dst func(channel, plane int) []float32) error {
		for channel := range p.inputs {
			for i := range n {
				clear(dst(channel, i))
			}
		}
		return nil
	}
	task.Plane = func(int, []float32, int) error { return nil }
	task.Tile = func(int, int) error { return c.cancelled() }
	best := 0.0
	for try := range 2 {
		start := time.Now()
		if err := task.Run(c.ctx); err != nil {
			return 0, err
		}
		if took := time.Since(start).Seconds(); try == 0 || took < best {
			best = took
		}
		if best > 5 {
			break
		}
	}
	return best, nil
}

// TypicalImage returns the geometry of an image such as the model is made for, and
// says where it comes from: a clinical CT for models of CT, else the median image of
// the training data, as the plans name it, or where they do not, an image of twice
// the patch along each axis.
func (m *Model) TypicalImage() (g volume.Geometry, origin string) {
	p := m.parts[0]
	g.Direction = volume.Identity
	if !slices.ContainsFunc(p.configuration.Normalization, func(s string) bool { return s != "CTNormalization" }) {
		g.Size, g.Spacing = [3]int{512, 512, 168}, [3]float64{0.75, 0.75, 2}
		return g, "a clinical CT"
	}
	var median struct {
		Shape   []float64 `json:"original_median_shape_after_transp"`
		Spacing []float64 `json:"original_median_spacing_after_transp"`
	}
	origin = "the training data's median image"
	err := json.Unmarshal(p.plans.Raw, &median)
	for i, axis := range p.plans.TransposeForward {
		if err == nil && len(median.Shape) == 3 && len(median.Spacing) == 3 {
			g.Size[2-axis], g.Spacing[2-axis] = int(min(median.Shape[i], 1<<20)), median.Spacing[i]
		}
	}
	if g.Validate() == nil {
		return g, origin
	}
	g.Size, g.Spacing = [3]int{1, 1, 1}, [3]float64{1, 1, 1}
	for i, axis := range p.plans.TransposeForward {
		if j := i - 3 + len(p.configuration.PatchSize); j >= 0 {
			g.Size[2-axis], g.Spacing[2-axis] = 2*p.configuration.PatchSize[j], p.configuration.Spacing[j]
		}
	}
	return g, "an image of twice the patch"
}

// residentMemory returns the resident size of the process in bytes, or where the
// system does not tell it (macOS), its peak.
func residentMemory() int64 {
	if n := resident.Now(); n > 0 {
		return n
	}
	return peakMemory()
}
