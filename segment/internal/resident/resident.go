// Package resident tells how much memory the process has.
package resident

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"github.com/libflare/libflare/segment/internal/parallel"
)

// Now returns the resident size of the process in bytes; 0 where the system does not tell it
// (macOS).
func Now() int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// interval is the pause between two samples: they take 0.1 % of a core, and a tile of a small
// network takes as long.
const interval = 10 * time.Millisecond

// Watch samples the resident size until stop is called, once, which returns by how much it
// exceeded that at the beginning; 0 where the system does not tell. The system's own peak counts
// from the start of the process on, and making it begin anew would be felt by the host.
func Watch() (stop func() int64) {
	first := Now()
	most := first
	over := make(chan struct{})
	wait := parallel.Go(func() error {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return nil
			case <-tick.C:
				most = max(most, Now())
			}
		}
	})
	return func() int64 {
		close(over)
		_ = wait() // never fails
		return max(most, Now()) - first
	}
}
