// Package parallel runs loops on several goroutines. It is the one place where
// the library starts goroutines for its arithmetic: a panic in one of them
// surfaces in the caller, where the C edge recovers it, instead of ending the
// host process.
package parallel

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// For calls body(worker, i) for every i in [0, n) on up to threads goroutines, in
// no particular order, and returns when all calls have returned. worker, below
// max(1, min(threads, n)), tells the goroutines apart: for scratch memory. The first error
// stops the hand-out of further indices and is returned. A panic in body panics
// again in the caller, with the stack of where it happened.
func For(n, threads int, body func(worker, i int) error) error {
	threads = max(1, min(threads, n))
	if threads == 1 {
		for i := range n {
			if err := body(0, i); err != nil {
				return err
			}
		}
		return nil
	}
	var (
		next   atomic.Int64
		wait   sync.WaitGroup
		once   sync.Once
		failed atomic.Bool
		result error
		caught any
	)
	fail := func(err error, panicked any) {
		once.Do(func() { result, caught = err, panicked })
		failed.Store(true)
	}
	for worker := range threads {
		wait.Add(1)
		go func() {
			defer wait.Done()
			defer func() {
				if p := recover(); p != nil {
					fail(nil, fmt.Sprintf("%v\n%s", p, debug.Stack()))
				}
			}()
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := body(worker, i); err != nil {
					fail(err, nil)
				}
			}
		}()
	}
	wait.Wait()
	if caught != nil {
		panic(caught)
	}
	return result
}

// Go runs body on a goroutine of its own. wait, which may be called again, returns
// body's result when it has returned; a panic in body panics again there.
func Go(body func() error) (wait func() error) {
	var result error
	var caught any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				caught = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
		}()
		result = body()
	}()
	return func() error {
		<-done
		if caught != nil {
			panic(caught)
		}
		return result
	}
}
