package train

import (
	"context"

	"github.com/libflare/libflare/segment/engine"
)

// sampler gives a trainer the batches that Run trains on, one after the other, prepared
// ahead on other threads. Close it before the trainer and the cache.
type sampler struct {
	trainer *Trainer
	queue   *queue
}

// sampler starts with the batch of a step, counted from 0, of the training cases.
func (t *Trainer) sampler(d *data, step int) (*sampler, error) {
	next := step - 1
	q, err := d.start(t.workers(), func() (job, bool) { next++; return job{training, next}, true })
	if err != nil {
		return nil, err
	}
	return &sampler{t, q}, nil
}

// next copies the next batch into the trainer's step and returns the names of its cases.
// Error: Cancelled.
func (s *sampler) next(ctx context.Context) (cases []string, err error) {
	b, err := s.queue.next(ctx)
	if err != nil {
		return nil, err
	}
	s.trainer.put(b)
	cases = append(cases, b.cases...)
	s.queue.done(b)
	return cases, nil
}

// close ends the threads.
func (s *sampler) close() { s.queue.close() }

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
	for i, v := range b.doubt {
		t.Step.Weights[i] = 1 - v
	}
}
