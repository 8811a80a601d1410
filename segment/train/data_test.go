package train

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/train/dataset"
)

// TestBatches: batches do not depend on who makes them, in order and content.
func TestBatches(t *testing.T) {
	c := smallCache(t, 3)
	o := smallRun(t, c)
	o.Settings.Strong = true
	k, err := New(Task{Plans: c.Plans, Dataset: c.Dataset, Configuration: "3d_fullres", Fold: "all"}, o.Settings, o.Options)
	require.NoError(t, err)
	defer k.Close()
	split, err := dataset.SplitOf("all", c.Cases, nil)
	require.NoError(t, err)
	d, err := k.newData(c, split)
	require.NoError(t, err)
	type batch struct {
		images []float32
		labels []int16
		cases  []string
	}
	collect := func(workers, from, n int) (out []batch) {
		i := from
		q, err := d.start(workers, func() (job, bool) { i++; return job{i % 2, i - 1}, i <= from+n })
		require.NoError(t, err)
		defer q.close()
		for range n {
			s, err := q.next(t.Context())
			require.NoError(t, err)
			out = append(out, batch{slices.Clone(s.images), slices.Clone(s.labels), slices.Clone(s.cases)})
			q.done(s)
		}
		return out
	}
	all := collect(1, 0, 20)
	assert.Equal(t, all, collect(4, 0, 20))
	assert.Equal(t, all[7:12], collect(2, 7, 5))
	foreground := 0
	for i, b := range all {
		assert.NotEqual(t, all[(i+1)%20], b)
		half := len(b.labels) / 2
		if b.cases[1] != "b" && slices.ContainsFunc(b.labels[half:], func(v int16) bool { return v > 0 }) {
			foreground++ // the second of two samples is centred on foreground
		}
		assert.False(t, slices.Contains(b.labels, -1))
	}
	with := 0
	for _, b := range all {
		if b.cases[1] != "b" {
			with++
		}
	}
	assert.Equal(t, with, foreground)

	// A queue that nobody reads from closes.
	q, err := d.start(2, func() (job, bool) { return job{}, true })
	require.NoError(t, err)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	_, _ = q.next(ctx)
	q.close()
}

// A cancelled wait loses no batch, and one that failed leaves its place to others.
func TestQueueGoesOn(t *testing.T) {
	q := &queue{order: make(chan *slot, 3), free: make(chan *slot, 3)}
	slow, bad := &slot{ready: make(chan struct{})}, &slot{ready: make(chan struct{}), err: errors.New("boom")}
	q.order <- slow
	q.order <- bad
	close(bad.ready)
	close(q.order)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 { // whichever of two ready channels is looked at first
		_, err := q.next(ctx)
		assert.Equal(t, fault.Cancelled, fault.KindOf(err))
	}
	close(slow.ready)
	got, err := q.next(t.Context())
	require.NoError(t, err)
	assert.Same(t, slow, got)
	q.done(got)
	_, err = q.next(t.Context())
	assert.Equal(t, bad.err, err)
	assert.Len(t, q.free, 2)
	_, err = q.next(t.Context())
	assert.Equal(t, fault.Internal, fault.KindOf(err))
}
