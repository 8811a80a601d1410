package train

import (
	"context"
	"slices"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/train/augment"
	"github.com/libflare/libflare/segment/train/dataset"
	"github.com/libflare/libflare/segment/train/sample"
)

// data makes the batches of a training: each is a function of the seed, its kind and its
// number, whoever makes it and when.
type data struct {
	batch    int
	voxels   int // of a patch
	size     int // numbers of a sample's image: channels x patch
	shape    [3]int
	weighted bool
	kinds    [2]*sample.Loader // training, validation
	cases    [2][]string       // their names
}

// cached is a case of a cache as a source of samples. It is verified when the first
// sample is made of it.
type cached struct {
	augment.Arrays
	of        *dataset.Case
	locations sample.Locations
}

// Image implements augment.Source.
func (c *cached) Image(channel int, dst []float32, stride [2]int, lo, hi [3]int) error {
	if err := c.of.Verify(); err != nil {
		return err
	}
	return c.Arrays.Image(channel, dst, stride, lo, hi)
}

// Targets implements augment.Source: the voxels' doubts.
func (c *cached) Targets(channel int, dst []float32, stride [2]int, lo, hi [3]int) error {
	if c.Soft != nil {
		return c.Arrays.Targets(channel, dst, stride, lo, hi)
	}
	for z := range hi[0] - lo[0] {
		for y := range hi[1] - lo[1] {
			clear(dst[z*stride[0]+y*stride[1]:][:hi[2]-lo[2]])
		}
	}
	return nil
}

// Locations implements sample.Case.
func (c *cached) Locations() *sample.Locations { return &c.locations }

const (
	training   = 0
	validation = 1
)

// source is a case with its name.
type source struct {
	name string
	sample.Case
}

// newData makes batches of the cases of a split.
func (t *Trainer) newData(cache *dataset.Cache, split dataset.Split) (*data, error) {
	cases, err := t.sources(cache, split)
	if err != nil {
		return nil, err
	}
	return t.dataOf(cases)
}

// sources opens the cases of a split, of each kind.
func (t *Trainer) sources(cache *dataset.Cache, split dataset.Split) (cases [2][]source, err error) {
	for kind, names := range [2][]string{split.Train, split.Val} {
		for _, name := range names {
			k, err := cache.Case(name)
			if err != nil {
				return cases, err
			}
			s, err := t.source(k)
			if err != nil {
				return cases, err
			}
			cases[kind] = append(cases[kind], s)
		}
	}
	return cases, nil
}

// source makes samples of a preprocessed case.
func (t *Trainer) source(k *dataset.Case) (source, error) {
	if k.Channels != t.Step.Channels {
		return source{}, fault.New(fault.Model, "case %s has %d channels, the network takes %d", k.Name, k.Channels, t.Step.Channels)
	}
	c := &cached{of: k, Arrays: augment.Arrays{Size: k.Shape, Voxels: k.Image, Classes: k.Labels, Soft: k.Doubt}}
	for _, l := range k.Locations {
		c.locations.Classes = append(c.locations.Classes, cmem.Cast[[3]int32](cmem.Bytes(l)))
	}
	if n := len(k.Locations) - 1; t.Dataset.IgnoreLabel >= 0 {
		c.locations.Annotated, c.locations.Classes = c.locations.Classes[n], c.locations.Classes[:n]
	}
	return source{k.Name, c}, nil
}

// dataOf makes batches of cases, of each kind.
func (t *Trainer) dataOf(cases [2][]source) (*data, error) {
	if t.Soft {
		return nil, fault.New(fault.Unsupported, "a cache of cases holds labels, not the soft targets that this trainer's settings ask for")
	}
	c := t.configuration
	d := &data{batch: t.Settings.Batch, shape: [3]int{1, 1, 1}, weighted: t.Weighted}
	copy(d.shape[3-len(c.PatchSize):], c.PatchSize)
	d.voxels = d.shape[0] * d.shape[1] * d.shape[2]
	d.size = d.voxels * t.Step.Channels
	setup := augment.Setup{Patch: d.shape, Channels: t.Step.Channels}
	for i, masked := range c.UseMask {
		if masked {
			setup.Masked = append(setup.Masked, i)
		}
	}
	pipeline := augment.Default(setup)
	if t.Strong {
		pipeline = augment.Strong(setup)
	}
	if t.NoMirroring {
		pipeline.Transforms = slices.DeleteFunc(pipeline.Transforms, func(s augment.Transform) bool { _, mirror := s.(augment.Mirror); return mirror })
	}
	for kind, list := range cases {
		set := sample.Set{Batch: d.batch, Foreground: t.Foreground, Ignore: t.Dataset.IgnoreLabel >= 0, Seed: t.Seed + uint64(kind)*0x9e3779b97f4a7c15}
		for _, s := range list {
			d.cases[kind] = append(d.cases[kind], s.name)
			set.Cases = append(set.Cases, s.Case)
		}
		if kind == validation {
			pipeline = augment.None(setup)
		}
		d.kinds[kind] = sample.NewLoader(set, pipeline)
	}
	return d, nil
}

// job says which batch: step counts from 0 through all epochs, for each kind.
type job struct {
	kind int
	step int
}

// slot is a batch in the making.
type slot struct {
	job
	images []float32 // batch x channels x patch, C memory
	labels []int16   // batch x patch
	doubt  []float32 // batch x patch: 1 - weight; nil where voxels have none
	cases  []string
	err    error
	ready  chan struct{}
}

// worker is what one goroutine that makes batches owns, for each kind.
type worker [2]*sample.Worker

// fill makes the slot's batch.
func (d *data) fill(s *slot, w *worker) error {
	for i := range d.batch {
		out := augment.Sample{Shape: d.shape, Image: s.images[i*d.size : (i+1)*d.size : (i+1)*d.size], Labels: s.labels[i*d.voxels : (i+1)*d.voxels : (i+1)*d.voxels]}
		if d.weighted {
			out.Targets = s.doubt[i*d.voxels : (i+1)*d.voxels]
		}
		c, err := d.kinds[s.kind].Make(uint64(s.step), i, &out, w[s.kind])
		if err != nil {
			return err
		}
		s.cases[i] = d.cases[s.kind][c.Case]
	}
	return nil
}

// queue makes batches ahead, in order, on some goroutines.
type queue struct {
	order chan *slot // batches in their order, finished or not
	free  chan *slot
	first *slot // taken from order when next was cancelled, or nil
	stop  context.CancelFunc
	waits []func() error // for the goroutines
	slots []*slot
	all   []*worker
}

// start makes the batches of jobs, which ends where it returns false, on so many workers.
// The caller calls close.
func (d *data) start(workers int, jobs func() (job, bool)) (_ *queue, err error) {
	workers = max(1, workers)
	q := &queue{}
	defer func() {
		if err != nil {
			q.release()
		}
	}()
	for range workers + 2 {
		s := &slot{cases: make([]string, d.batch)}
		q.slots = append(q.slots, s)
		if s.images, err = cmem.Alloc[float32](d.batch * d.size); err != nil {
			return nil, err
		}
		if s.labels, err = cmem.Alloc[int16](d.batch * d.voxels); err != nil {
			return nil, err
		}
		if d.weighted {
			if s.doubt, err = cmem.Alloc[float32](d.batch * d.voxels); err != nil {
				return nil, err
			}
		}
	}
	for range workers {
		w := &worker{}
		q.all = append(q.all, w)
		for i := range d.kinds {
			if w[i], err = d.kinds[i].NewWorker(); err != nil {
				return nil, err
			}
		}
	}
	q.order, q.free = make(chan *slot, len(q.slots)), make(chan *slot, len(q.slots))
	for _, s := range q.slots {
		q.free <- s
	}
	ctx, stop := context.WithCancel(context.Background())
	q.stop = stop
	work := make(chan *slot)
	q.waits = append(q.waits, parallel.Go(func() error {
		defer close(work)
		defer close(q.order)
		for {
			j, more := jobs()
			if !more {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case s := <-q.free:
				s.job, s.err, s.ready = j, nil, make(chan struct{})
				q.order <- s
				select {
				case work <- s:
				case <-ctx.Done():
					return nil
				}
			}
		}
	}))
	for _, w := range q.all {
		q.waits = append(q.waits, parallel.Go(func() error {
			for s := range work {
				func() {
					defer close(s.ready)
					defer func() {
						if p := recover(); p != nil {
							s.err = fault.New(fault.Internal, "making a batch of cases %v: %v", s.cases, p)
						}
					}()
					s.err = d.fill(s, w)
				}()
			}
			return nil
		}))
	}
	return q, nil
}

// next returns the next batch; give it back with done. After an error of kind Cancelled the
// same batch is the next one. Other errors: what making the batch met with.
func (q *queue) next(ctx context.Context) (*slot, error) {
	s := q.first
	if s == nil {
		var ok bool
		select {
		case <-ctx.Done():
			return nil, fault.New(fault.Cancelled, "cancelled")
		case s, ok = <-q.order:
		}
		if !ok {
			return nil, fault.New(fault.Internal, "no more batches")
		}
	}
	select {
	case <-ctx.Done():
		q.first = s
		return nil, fault.New(fault.Cancelled, "cancelled")
	case <-s.ready:
	}
	q.first = nil
	if s.err != nil {
		q.done(s)
		return nil, s.err
	}
	return s, nil
}

func (q *queue) done(s *slot) { q.free <- s }

// close ends the workers and frees the batches.
func (q *queue) close() {
	q.stop()
	for _, wait := range q.waits {
		_ = wait()
	}
	q.release()
}

func (q *queue) release() {
	for _, s := range q.slots {
		cmem.Free(s.images)
		cmem.Free(s.labels)
		cmem.Free(s.doubt)
	}
	for _, w := range q.all {
		for _, k := range w {
			if k != nil {
				k.Free()
			}
		}
	}
}
