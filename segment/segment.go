// Package segment is libflare's way through: a volume goes in, nnU-Net's labels
// come out.
//
//	model, err := segment.Open(ctx, "abdomen.onnx", segment.OpenOptions{})
//	if err != nil { ... }
//	defer model.Close()
//	stats, err := model.SegmentFile(ctx, "ct.nii.gz", "labels.nii.gz", segment.Options{})
//
// The way of the data, each step in a room of its own: imageio reads a volume;
// preprocess takes it to the network's grid; sliding runs the network (engine) over
// it tile by tile; resample turns the logits back into labels, plane by plane;
// imageio writes them.
package segment

import (
	"context"
	"strings"
	"time"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/sliding"
	"github.com/libflare/libflare/segment/volume"
)

// Version is the library's version.
const Version = "0.1.0"

// Precision of the arithmetic of every device so far.
const precision = "fp32"

// Model is an open model. It may be used from many goroutines; calls queue.
type Model struct {
	recipe
	path    string
	session *engine.Session
	opened  float64         // seconds that Open took
	busy    chan struct{}   // holds one token while a call runs
	closed  context.Context // done once Close was called
	close   context.CancelFunc
}

// Open opens a bundle (an .onnx file made by Convert) or an nnU-Net v2 results
// folder, and prepares it on a device. The caller calls Close.
func Open(ctx context.Context, path string, o OpenOptions) (*Model, error) {
	start := time.Now()
	r, networks, err := load(path, o)
	if err != nil {
		return nil, err
	}
	defer networks.free()
	if ctx.Err() != nil {
		return nil, cancelled(ctx)
	}
	session, err := engine.Open(networks.list, o.Device, o.Threads, o.Runtime)
	if err != nil {
		return nil, fault.New(fault.KindOf(err), "%s: %w", path, err)
	}
	for _, note := range session.Notes {
		logf(LogWarning, "%s: %s", path, note)
	}
	logf(LogInfo, "%s: %s, %s on %s, %d threads", path, r.task(), precision, session.Device, session.Threads)
	m := &Model{recipe: *r, path: path, session: session, opened: time.Since(start).Seconds(), busy: make(chan struct{}, 1)}
	m.closed, m.close = context.WithCancel(context.Background())
	return m, nil
}

// Close frees the model; a running call is cancelled and waited for, later calls
// fail. It may be called again.
func (m *Model) Close() {
	m.close()
	m.busy <- struct{}{}
	if m.session != nil {
		m.session.Close()
		m.session = nil
	}
	<-m.busy
}

// Segment labels image into labels: a volume of the same size with one channel,
// Uint8 or (needed for labels above 255) Uint16. The call waits for others on the
// same model. After an error the content of labels is undefined; the model stays
// usable. Cancelling ctx ends the call within one network tile.
func (m *Model) Segment(ctx context.Context, image, labels *volume.Volume, o Options) (Stats, error) {
	c, err := m.begin(ctx, o)
	if err != nil {
		return Stats{}, err
	}
	defer c.end()
	err = c.segment(image, labels, o.Probabilities)
	return c.stats(), err
}

// SegmentFile labels the volume in the file in and writes the labels to the file
// out, on the input's grid with its header geometry, uint8 (uint16 for labels above
// 255); out is whole or absent.
func (m *Model) SegmentFile(ctx context.Context, in, out string, o Options) (Stats, error) {
	c, err := m.begin(ctx, o)
	if err != nil {
		return Stats{}, err
	}
	defer c.end()
	err = c.segmentFile(in, out, o.ProbabilitiesFile)
	return c.stats(), err
}

// segmentFile reads, segments and writes.
func (c *call) segmentFile(in, out, probabilitiesFile string) error {
	if imageio.Ending(out) == "" {
		return fault.New(fault.Unsupported, "%s: output files end in .nii or .nii.gz", out)
	}
	c.phase(phaseRead)
	image, err := imageio.ReadCase(in, len(c.model.dataset.Channels))
	if err != nil {
		return err
	}
	defer image.Free()
	if image.Dims == 2 && len(c.model.configuration.PatchSize) == 3 {
		return fault.New(fault.Model, "%s: a 2-D image, but the model's configuration %s is three-dimensional", in, c.model.configuration.Name)
	}
	labels, err := volume.New(image.Geometry, 1, c.model.labelType())
	if err != nil {
		return err
	}
	defer labels.Free()
	var probabilities *volume.Volume
	if probabilitiesFile != "" {
		if probabilities, err = volume.New(image.Geometry, c.model.heads, volume.Float32); err != nil {
			return err
		}
		defer probabilities.Free()
	}
	if err := c.segment(image.Volume, labels, volume.As[float32](probabilities)); err != nil {
		if !strings.Contains(err.Error(), in) && fault.KindOf(err) != fault.Cancelled {
			err = fault.New(fault.KindOf(err), "%s: %w", in, err)
		}
		return err
	}
	c.phase(phaseWrite)
	if err := c.cancelled(); err != nil {
		return err
	}
	if probabilities != nil {
		if err := imageio.Write(probabilitiesFile, probabilities); err != nil {
			return err
		}
	}
	return image.WriteLabels(out, labels)
}

// segment is the way from an image to labels in memory.
func (c *call) segment(image, labels *volume.Volume, probabilities []float32) error {
	m := c.model
	if err := m.check(image, labels, probabilities); err != nil {
		return err
	}
	c.phase(phasePreprocess)
	grid, err := preprocess.Run(image, m.preprocess, m.session.Threads)
	if err != nil {
		return err
	}
	defer grid.Free()
	if err := c.cancelled(); err != nil {
		return err
	}

	// Outside the crop all is background.
	clear(labels.Data)
	if probabilities != nil {
		clear(probabilities)
		if m.regions == nil {
			fill(probabilities[:image.Voxels()], 1)
		}
	}
	export, err := resample.NewLabels(grid.Shape, m.heads, resample.SeparateAxis(grid.To, grid.From, m.separateLogits),
		resample.Target{Labels: labels, View: grid.View, Probabilities: probabilities, Regions: m.regions}, m.session.Threads)
	if err != nil {
		return err
	}
	defer export.Close()

	task := sliding.Task{
		Image: grid.Data, Shape: grid.Shape, Channels: image.Channels, Classes: m.heads,
		Patch: m.configuration.PatchSize, Threads: m.session.Threads,
		Network: c, Input: m.session.Input, Output: m.session.Output,
		Plane: export.Plane, Tile: c.tile,
	}
	if c.options.Mirror {
		task.Mirror = m.mirrorAxes
	}
	c.phase(phaseExport)
	return task.Run(c.ctx)
}

func fill(s []float32, v float32) {
	for i := range s {
		s[i] = v
	}
}
