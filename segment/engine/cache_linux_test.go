package engine

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A folder that is full, and one that is read-only.
func TestCacheIsFull(t *testing.T) {
	small := t.TempDir()
	if err := unix.Mount("none", small, "tmpfs", 0, "size=4k"); err != nil {
		t.Skipf("this test needs the right to mount a small file system: %v", err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	unusable(t, small, "no space left")
	assert.Empty(t, entries(t, small), "nothing half written is left")
	require.NoError(t, unix.Mount("none", small, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "size=4k"))
	unusable(t, small, "read-only")
}
