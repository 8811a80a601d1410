package train

import (
	"context"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/train/dataset"
)

// Sampler gives a trainer the batches that Run trains on, one after the other, prepared
// ahead on other threads. Close it before the trainer and the cache.
type Sampler struct {
	trainer *Trainer
	queue   *queue
}

// Sampler starts with the batch of a step, counted from 0, of a split's training cases.
// Errors: those of Cache.Case, and Memory.
func (t *Trainer) Sampler(cache *dataset.Cache, split dataset.Split, step int) (*Sampler, error) {
	d, err := t.newData(cache, split)
	if err != nil {
		return nil, err
	}
	return t.sampler(d, step)
}

func (t *Trainer) sampler(d *data, step int) (*Sampler, error) {
	next := step - 1
	q, err := d.start(t.workers(), func() (job, bool) { next++; return job{training, next}, true })
	if err != nil {
		return nil, err
	}
	return &Sampler{t, q}, nil
}

// Next copies the next batch into the trainer's step and returns the names of its cases.
// Error: Cancelled.
func (s *Sampler) Next(ctx context.Context) (cases []string, err error) {
	b, err := s.queue.next(ctx)
	if err != nil {
		return nil, err
	}
	s.trainer.put(b)
	cases = append(cases, b.cases...)
	s.queue.done(b)
	return cases, nil
}

// Close ends the threads.
func (s *Sampler) Close() { s.queue.close() }

// workers is the number of threads that prepare batches.
func (t *Trainer) workers() int {
	if t.options.Workers > 0 {
		return t.options.Workers
	}
	return engine.Threads(t.options.Threads)
}

// put copies a batch into the step.
func (t *Trainer) put(b *slot) {
	copy(t.Step.Images, b.images)
	for i, v := range b.labels {
		t.Step.Labels[i] = float32(v)
	}
}
