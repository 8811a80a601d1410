package train

import (
	"context"
	"slices"
	"sync"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/train/augment"
	"github.com/libflare/libflare/segment/train/dataset"
	"github.com/libflare/libflare/segment/train/random"
)

// data makes the batches of a training: each is a function of the seed, its kind and its
// number, whoever makes it and when.
type data struct {
	seed       uint64
	batch      int
	foreground float64
	patch      [3]int
	channels   int
	ignore     bool    // the last of a case's locations are of all that is annotated
	kinds      [2]kind // training, validation
}

// kind is where batches come from and what happens to them.
type kind struct {
	cases    []*dataset.Case
	pipeline *augment.Pipeline
}

const (
	training   = 0
	validation = 1
)

// newData opens the cases of a split.
func (t *Trainer) newData(cache *dataset.Cache, split dataset.Split) (*data, error) {
	c := t.configuration
	d := &data{seed: t.Seed, batch: t.Settings.Batch, foreground: t.Foreground, ignore: t.Dataset.IgnoreLabel >= 0, channels: t.Step.Channels, patch: [3]int{1, 1, 1}}
	copy(d.patch[3-len(c.PatchSize):], c.PatchSize)
	for kind, names := range [][]string{split.Train, split.Val} {
		for _, name := range names {
			k, err := cache.Case(name)
			if err != nil {
				return nil, err
			}
			if k.Channels != d.channels {
				return nil, fault.New(fault.Model, "case %s has %d channels, the network takes %d", name, k.Channels, d.channels)
			}
			d.kinds[kind].cases = append(d.kinds[kind].cases, k)
		}
	}
	setup := augment.Setup{Patch: d.patch, Channels: d.channels}
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
	d.kinds[training].pipeline, d.kinds[validation].pipeline = pipeline, augment.None(setup)
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
	cases  []string
	err    error
	ready  chan struct{}
}

// worker is what one goroutine that makes batches owns.
type worker struct {
	data       *data
	random     *random.Rand
	parameters augment.Parameters
	scratch    [2]*augment.Scratch
}

// fill makes the slot's batch.
func (w *worker) fill(s *slot) error {
	d, k := w.data, &w.data.kinds[s.kind]
	voxels := d.patch[0] * d.patch[1] * d.patch[2]
	for i := range d.batch {
		w.random.Key(d.seed, uint64(s.kind), uint64(s.step), uint64(i))
		c, corner := d.pick(w.random, s.kind, i)
		k.pipeline.Draw(&w.parameters, w.random)
		sample := augment.Sample{Shape: d.patch, Image: s.images[i*d.channels*voxels : (i+1)*d.channels*voxels : (i+1)*d.channels*voxels],
			Labels: s.labels[i*voxels : (i+1)*voxels : (i+1)*voxels]}
		if err := k.pipeline.Make(&sample, &augment.Arrays{Size: c.Shape, Voxels: c.Image, Classes: c.Labels}, corner, &w.parameters, w.scratch[s.kind]); err != nil {
			return err
		}
		s.cases[i] = c.Name
	}
	return nil
}

// queue makes batches ahead, in order, on some goroutines.
type queue struct {
	order chan *slot // batches in their order, finished or not
	free  chan *slot
	stop  context.CancelFunc
	wait  sync.WaitGroup
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
	voxels := d.patch[0] * d.patch[1] * d.patch[2]
	for range workers + 2 {
		s := &slot{cases: make([]string, d.batch)}
		q.slots = append(q.slots, s)
		if s.images, err = cmem.Alloc[float32](d.batch * d.channels * voxels); err != nil {
			return nil, err
		}
		if s.labels, err = cmem.Alloc[int16](d.batch * voxels); err != nil {
			return nil, err
		}
	}
	for range workers {
		w := &worker{data: d, random: random.New()}
		q.all = append(q.all, w)
		for i := range d.kinds {
			if w.scratch[i], err = d.kinds[i].pipeline.NewScratch(); err != nil {
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
	q.wait.Go(func() {
		defer close(work)
		defer close(q.order)
		for {
			j, more := jobs()
			if !more {
				return
			}
			select {
			case <-ctx.Done():
				return
			case s := <-q.free:
				s.job, s.err, s.ready = j, nil, make(chan struct{})
				q.order <- s
				select {
				case work <- s:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	for _, w := range q.all {
		q.wait.Go(func() {
			for s := range work {
				func() {
					defer close(s.ready)
					defer func() {
						if p := recover(); p != nil {
							s.err = fault.New(fault.Internal, "making a batch of cases %v: %v", s.cases, p)
						}
					}()
					s.err = w.fill(s)
				}()
			}
		})
	}
	return q, nil
}

// next returns the next batch; give it back with done. Errors: Cancelled, and what making
// it met with.
func (q *queue) next(ctx context.Context) (*slot, error) {
	select {
	case <-ctx.Done():
		return nil, fault.New(fault.Cancelled, "cancelled")
	case s, ok := <-q.order:
		if !ok {
			return nil, fault.New(fault.Internal, "no more batches")
		}
		select {
		case <-ctx.Done():
			return nil, fault.New(fault.Cancelled, "cancelled")
		case <-s.ready:
			return s, s.err
		}
	}
}

func (q *queue) done(s *slot) { q.free <- s }

// close ends the workers and frees the batches.
func (q *queue) close() {
	q.stop()
	q.wait.Wait()
	q.release()
}

func (q *queue) release() {
	for _, s := range q.slots {
		cmem.Free(s.images)
		cmem.Free(s.labels)
	}
	for _, w := range q.all {
		for _, s := range w.scratch {
			if s != nil {
				s.Free()
			}
		}
	}
}
