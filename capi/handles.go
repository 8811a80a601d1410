package main

import (
	"context"
	"sync"

	"github.com/libflare/libflare/segment"
)

// handle is an open model and the calls on it. models.Mutex guards its fields.
type handle struct {
	model *segment.Model
	stats segment.Stats    // of the last call that succeeded
	calls map[*call]func() // running or waiting, each with what cancels it
	ended sync.WaitGroup   // of the calls
}

// call is one call on a model.
type call struct {
	*handle
	ctx context.Context // ends when the call is cancelled
}

// firstID is above every address that a process on x86-64 or arm64 has and no
// small number, so whatever else ends up in a flare_model* is told apart.
const firstID = 0x5f1a_4e00_0000_0001

// models holds the open models by the id that C has. Ids are never used again.
var models = struct {
	sync.Mutex
	next uint64
	open map[uint64]*handle
}{next: firstID, open: map[uint64]*handle{}}

// addModel gives a model its id.
func addModel(m *segment.Model, stats segment.Stats) uint64 {
	models.Lock()
	defer models.Unlock()
	id := models.next
	models.next++
	models.open[id] = &handle{model: m, stats: stats, calls: map[*call]func(){}}
	return id
}

// findModel returns the handle of an id. The caller holds models.Mutex.
func findModel(id uint64) (*handle, error) {
	if h := models.open[id]; h != nil {
		return h, nil
	}
	if id >= firstID && id < models.next {
		return nil, segment.Errorf(segment.ErrHandle, "model handle %#x is stale: it was already freed", id)
	}
	return nil, segment.Errorf(segment.ErrHandle, "%#x is not a model handle: flare_model_open did not give it", id)
}

// beginCall enters a call on a model, which cannot be freed until the call's end.
func beginCall(id uint64) (*call, error) {
	models.Lock()
	defer models.Unlock()
	h, err := findModel(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &call{h, ctx}
	h.calls[c] = cancel
	h.ended.Add(1)
	return c, nil
}

// cancel makes the call end soon with ErrCancelled.
func (c *call) cancel() {
	models.Lock()
	defer models.Unlock()
	c.calls[c]()
}

// end leaves the call.
func (c *call) end() {
	models.Lock()
	defer models.Unlock()
	c.calls[c]()
	delete(c.calls, c)
	c.ended.Done()
}

// succeed keeps the statistics of the call.
func (c *call) succeed(stats segment.Stats) {
	models.Lock()
	defer models.Unlock()
	c.stats = stats
}

// lastStats returns the statistics of the last call on the model that succeeded.
func (c *call) lastStats() segment.Stats {
	models.Lock()
	defer models.Unlock()
	return c.stats
}

// cancelModel cancels the calls on a model.
func cancelModel(id uint64) error {
	models.Lock()
	defer models.Unlock()
	h, err := findModel(id)
	if err != nil {
		return err
	}
	for _, cancel := range h.calls {
		cancel()
	}
	return nil
}

// freeModel takes the id back, cancels the calls on the model, waits for them and
// closes it.
func freeModel(id uint64) error {
	models.Lock()
	h, err := findModel(id)
	if err == nil {
		delete(models.open, id)
		for _, cancel := range h.calls {
			cancel()
		}
	}
	models.Unlock()
	if err != nil {
		return err
	}
	h.ended.Wait() // no call can begin any more
	h.model.Close()
	return nil
}
