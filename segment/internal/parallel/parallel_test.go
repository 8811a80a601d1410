package parallel

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestForVisitsEveryIndexOnce(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 7, 100} {
		seen := make([]atomic.Int32, 50)
		assert.NoError(t, For(50, threads, func(_, i int) error { seen[i].Add(1); return nil }))
		for i := range seen {
			assert.EqualValues(t, 1, seen[i].Load(), "index %d with %d threads", i, threads)
		}
	}
	assert.NoError(t, For(0, 4, func(_, _ int) error { return errors.New("called") }))
}

func TestForStopsAtAnError(t *testing.T) {
	boom := errors.New("boom")
	var calls atomic.Int32
	err := For(1_000_000, 2, func(_, i int) error {
		calls.Add(1)
		if i == 10 {
			return boom
		}
		return nil
	})
	assert.Equal(t, boom, err)
	assert.Less(t, calls.Load(), int32(1_000_000))
}

func TestForPanicsInTheCaller(t *testing.T) {
	assert.Panics(t, func() {
		_ = For(10, 2, func(_, i int) error {
			if i == 3 {
				panic("inside")
			}
			return nil
		})
	})
}

func TestGo(t *testing.T) {
	boom := errors.New("boom")
	wait := Go(func() error { return boom })
	assert.Equal(t, boom, wait())
	assert.Equal(t, boom, wait(), "again")
	assert.PanicsWithValue(t, assert.AnError.Error(), func() {
		defer func() {
			p := recover().(string)
			assert.Contains(t, p, "TestGo", "the stack of where it happened")
			panic(p[:len(assert.AnError.Error())])
		}()
		_ = Go(func() error { panic(assert.AnError.Error()) })()
	})
}
