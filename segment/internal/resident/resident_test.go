package resident

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// touch maps size bytes, writes all of them, calls then and unmaps.
func touch(t *testing.T, size int, then func()) {
	t.Helper()
	data, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	for i := 0; i < size; i += 4096 {
		data[i] = 1
	}
	then()
	require.NoError(t, unix.Munmap(data))
}

// TestWatch: what was there before does not count, also where it was larger; what comes and goes
// while it watches does.
func TestWatch(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the resident size is Linux's")
	}
	const mb = 1 << 20
	touch(t, 300*mb, func() {})
	touch(t, 50*mb, func() {
		stop := Watch()
		touch(t, 100*mb, func() {
			for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); time.Sleep(interval) { // some samples
			}
		})
		assert.InDelta(t, 100*mb, stop(), 20*mb)
	})
	stop := Watch()
	assert.Less(t, stop(), int64(20*mb))
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	assert.Regexp(t, `VmHWM:\s+[3-9]\d{5} kB`, string(status), "the process's own peak stays")
}
