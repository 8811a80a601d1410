package main

import (
	"context"
	"sync"

	"github.com/libflare/libflare/segment"
)

// handle is an open T and the calls on it. Its table's Mutex guards calls.
type handle[T any] struct {
	of    T
	calls map[*call[T]]func() // running or waiting, each with what cancels it
	ended sync.WaitGroup      // of the calls
}

// call is one call on a T.
type call[T any] struct {
	*handle[T]
	table *table[T]
	ctx   context.Context // ends when the call is cancelled
}

// table holds what is open by the id that C has. Ids are never used again.
type table[T any] struct {
	sync.Mutex
	what, opener string // for messages: model, flare_model_open
	first, next  uint64
	open         map[uint64]*handle[T]
}

// newTable makes a table whose ids begin with first: above every address that a process
// on x86-64 or arm64 has, no small number, and another for each table, so that whatever
// else ends up in a handle is told apart.
func newTable[T any](what, opener string, first uint64) *table[T] {
	return &table[T]{what: what, opener: opener, first: first, next: first, open: map[uint64]*handle[T]{}}
}

// openModel is a model with the statistics of its last call that succeeded; models.Mutex
// guards them.
type openModel struct {
	*segment.Model
	stats segment.Stats
}

var models = newTable[*openModel]("model", "flare_model_open", 0x5f1a_4e00_0000_0001)

// add gives a T its id.
func (t *table[T]) add(of T) uint64 {
	t.Lock()
	defer t.Unlock()
	id := t.next
	t.next++
	t.open[id] = &handle[T]{of: of, calls: map[*call[T]]func(){}}
	return id
}

// find returns the handle of an id. The caller holds the Mutex.
func (t *table[T]) find(id uint64) (*handle[T], error) {
	if h := t.open[id]; h != nil {
		return h, nil
	}
	if id >= t.first && id < t.next {
		return nil, segment.Errorf(segment.ErrHandle, "%s handle %#x is stale: it was already freed", t.what, id)
	}
	return nil, segment.Errorf(segment.ErrHandle, "%#x is no %s handle: %s did not give it", id, t.what, t.opener)
}

// begin enters a call, whose T cannot be freed until the call's end.
func (t *table[T]) begin(id uint64) (*call[T], error) {
	t.Lock()
	defer t.Unlock()
	h, err := t.find(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &call[T]{h, t, ctx}
	h.calls[c] = cancel
	h.ended.Add(1)
	return c, nil
}

// cancel makes the call end soon with ErrCancelled.
func (c *call[T]) cancel() {
	c.table.Lock()
	defer c.table.Unlock()
	c.calls[c]()
}

// end leaves the call.
func (c *call[T]) end() {
	c.table.Lock()
	defer c.table.Unlock()
	c.calls[c]()
	delete(c.calls, c)
	c.ended.Done()
}

// cancel cancels the calls on a handle.
func (t *table[T]) cancel(id uint64) error {
	t.Lock()
	defer t.Unlock()
	h, err := t.find(id)
	if err != nil {
		return err
	}
	for _, cancel := range h.calls {
		cancel()
	}
	return nil
}

// free takes the id back, cancels the calls, waits for them and closes what it stood for.
func (t *table[T]) free(id uint64, closeIt func(T)) error {
	t.Lock()
	h, err := t.find(id)
	if err == nil {
		delete(t.open, id)
		for _, cancel := range h.calls {
			cancel()
		}
	}
	t.Unlock()
	if err != nil {
		return err
	}
	h.ended.Wait() // no call can begin any more
	closeIt(h.of)
	return nil
}

// succeed keeps the statistics of a call.
func (m *openModel) succeed(stats segment.Stats) {
	models.Lock()
	defer models.Unlock()
	m.stats = stats
}

// lastStats returns the statistics of the last call on the model that succeeded.
func (m *openModel) lastStats() segment.Stats {
	models.Lock()
	defer models.Unlock()
	return m.stats
}
