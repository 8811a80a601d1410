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
	"io"
	"time"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/postprocess"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// Version is the library's version.
const Version = "0.1.0"

// Model is an open model: one network, or several that work together (a list). It
// may be used from many goroutines; calls queue.
type Model struct {
	path    string
	list    *list           // nil for one network
	parts   []*part         // one, or the list's
	session *engine.Session // of one network; those of a list live for their part of a call
	seconds float64         // that Open took
	ahead   *ahead          // OpenOptions.ReadAhead, until a call takes it; guarded by busy
	busy    chan struct{}   // holds one token while a call runs
	closed  context.Context // done once Close was called
	close   context.CancelFunc
	gone    bool              // closed, and nothing runs any more; guarded by busy
	warmed  *engine.Session   // one whose networks have run for a bound on memory; guarded by busy
	digests map[string]string // of parts, by path, that a report asked for; guarded by busy
}

// part is one network of a model. It does not change once it was read.
type part struct {
	recipe
	path    string
	options OpenOptions
}

// Open opens a bundle (an .onnx file made by Convert), an nnU-Net v2 results folder,
// or a list of these (a .json file), and prepares it on a device. The caller calls
// Close. The networks of a list are opened one after the other when a call needs
// them, so that only one at a time takes memory.
func Open(ctx context.Context, path string, o OpenOptions) (*Model, error) {
	start := time.Now()
	if err := o.check(); err != nil {
		return nil, err
	}
	m := &Model{path: path, busy: make(chan struct{}, 1), digests: map[string]string{}}
	if isList(path) {
		if err := m.openList(o); err != nil {
			return nil, err
		}
	} else {
		p := &part{path: path, options: o}
		r, session, err := p.open(ctx, func(r *recipe) { m.ahead = readAhead(o.ReadAhead, len(r.dataset.Channels)) })
		if err != nil {
			m.ahead.drop()
			return nil, err
		}
		p.recipe, m.parts, m.session = *r, []*part{p}, session
	}
	m.seconds = time.Since(start).Seconds()
	m.closed, m.close = context.WithCancel(context.Background())
	return m, nil
}

// open reads the part's files and makes its session, which the caller closes; known, unless
// nil, is called in between, when the session is still to be made.
func (p *part) open(ctx context.Context, known func(*recipe)) (*recipe, *engine.Session, error) {
	r, networks, err := load(p.path, p.options)
	if err != nil {
		return nil, nil, err
	}
	defer networks.free()
	if known != nil {
		known(r)
	}
	if ctx.Err() != nil {
		return nil, nil, cancelled(ctx)
	}
	session, err := engine.Open(networks.list, engine.Options{
		Device: p.options.Device, Threads: p.options.Threads, Runtime: p.options.Runtime, Fast: p.options.fast(), Cache: p.options.CacheDir,
		GPUMemory: p.options.GPUMemory,
	})
	if err != nil {
		return nil, nil, fault.New(fault.KindOf(err), "%s: %w", p.path, err)
	}
	for _, note := range session.Notes {
		logf(LogWarning, "%s: %s", p.path, note)
	}
	logf(LogInfo, "%s: %s, %s on %s, %d threads", p.path, r.task(), session.Precision, session.Device, session.Threads)
	return r, session, nil
}

// read reads and checks the part's files without making a session.
func (p *part) read() error {
	r, _, done, err := read(p.path, p.options)
	if err != nil {
		return err
	}
	done()
	p.recipe = *r
	return nil
}

// Close frees the model; a running call is cancelled and waited for (so it must not
// be called from Options.Progress), later calls fail. It may be called again.
func (m *Model) Close() {
	m.close()
	m.busy <- struct{}{}
	m.ahead.drop()
	if m.session != nil && !m.gone {
		m.session.Close()
	}
	m.gone = true
	<-m.busy
}

// Segment labels image into labels: a volume of the same size with one channel,
// Uint8 or (needed for labels above 255) Uint16. The call waits for others on the
// same model. After an error the content of labels is undefined; the model stays
// usable. Cancelling ctx ends the call within one network tile, in every phase.
func (m *Model) Segment(ctx context.Context, image, labels *volume.Volume, o Options) (Stats, error) {
	c, err := m.begin(ctx, o)
	if err != nil {
		return Stats{}, err
	}
	defer c.end()
	if err = c.segment(image, labels, o.Previous, o.Probabilities); err == nil {
		err = c.measure(image, labels)
	}
	return c.stats(), err
}

// SegmentFile labels the volume in the file in and writes the labels to the file
// out, on the input's grid with its header geometry, uint8 (uint16 for labels above
// 255); out is whole or absent; a .seg.nrrd file has the labels' names. Cancelling ctx ends
// reading and writing within some milliseconds, the rest as in Segment.
func (m *Model) SegmentFile(ctx context.Context, in, out string, o Options) (Stats, error) {
	c, err := m.begin(ctx, o)
	if err != nil {
		return Stats{}, err
	}
	defer c.end()
	err = c.segmentFile(in, out)
	return c.stats(), err
}

// segmentFile reads, segments and writes; what it writes appears together in the end.
func (c *call) segmentFile(in, out string) error {
	if err := c.checkFiles(in, out); err != nil {
		return err
	}
	if err := c.model.checkOptions(&c.options, c.options.Previous != nil || c.options.PreviousFile != "", c.options.ProbabilitiesFile != ""); err != nil {
		return err
	}
	c.phase(phaseRead)
	image, err := c.model.ahead.readCase(c.ctx, in, len(c.model.parts[0].dataset.Channels))
	if err != nil {
		return err
	}
	defer image.Free()
	for _, p := range c.model.parts {
		if image.Dims == 2 && len(p.configuration.PatchSize) == 3 {
			return fault.New(fault.Model, "%s: a 2-D image, but the model's configuration %s is three-dimensional", in, p.configuration.Name)
		}
	}
	previous := c.options.Previous
	if file := c.options.PreviousFile; file != "" {
		stage, err := imageio.Read(c.ctx, file)
		if err != nil {
			return err
		}
		defer stage.Free()
		if stage.Size != image.Size || stage.Channels != 1 {
			return fault.New(fault.Model, "%s: previous labels of %v voxels and %d channels for an image of %v voxels: sizes must agree, with one channel",
				file, stage.Size, stage.Channels, image.Size)
		}
		previous = stage.Volume
	}
	labels, err := volume.New(image.Geometry, 1, c.model.labelType())
	if err != nil {
		return err
	}
	defer labels.Free()
	var probabilities *volume.Volume
	if c.options.ProbabilitiesFile != "" {
		if probabilities, err = volume.New(image.Geometry, c.model.heads(), volume.Float32); err != nil {
			return err
		}
		defer probabilities.Free()
	}
	if err := c.segment(image.Volume, labels, previous, volume.As[float32](probabilities)); err != nil {
		return c.ofFile(err, in)
	}
	if err := c.measure(image.Volume, labels); err != nil {
		return err
	}
	c.phase(phaseWrite)
	var files imageio.Batch
	defer files.Discard()
	if probabilities != nil {
		if err := files.Write(c.ctx, c.options.ProbabilitiesFile, probabilities); err != nil {
			return err
		}
	}
	if err := files.WriteLabels(c.ctx, out, image, labels, c.model.segments()...); err != nil {
		return err
	}
	if page := c.options.ReportFile; page != "" {
		if err := files.Add(page, func(w io.Writer) error { return c.writeReport(w, in, out, image, labels) }); err != nil {
			return err
		}
	}
	if err := c.cancelled(); err != nil {
		return err
	}
	return files.Commit()
}

// segment is the way from an image to labels in memory.
func (c *call) segment(image, labels, previous *volume.Volume, probabilities []float32) error {
	if err := c.model.checkOptions(&c.options, previous != nil, probabilities != nil); err != nil {
		return err
	}
	if err := c.model.check(image, labels, previous, probabilities); err != nil {
		return err
	}
	if err := c.model.checkAgreement(&c.options, image); err != nil {
		return err
	}
	if c.model.list != nil {
		return c.segmentList(image, labels, previous, probabilities)
	}
	c.use(c.model.parts[0], c.model.session, 0, 1)
	c.values = c.roi()
	if err := c.run(image, previous, resample.Target{Labels: labels, Probabilities: probabilities}); err != nil {
		return err
	}
	return c.postprocess(labels)
}

// postprocess applies what the network in use stores, if asked for.
func (c *call) postprocess(labels *volume.Volume) error {
	if !c.options.Postprocess {
		return nil
	}
	return postprocess.Apply(labels, c.part.steps, c.threads)
}
