package cmem

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/libflare/libflare/segment/internal/fault"
)

func TestAllocRefusesWhatTheMachineLacks(t *testing.T) {
	free, ok := Available()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux, which tells how much memory is available")
	}
	assert.True(t, ok)
	assert.Greater(t, free, int64(1<<20))
	_, err := Alloc[byte](int(free) + 1<<34)
	assert.Equal(t, fault.Memory, fault.KindOf(err))
	assert.ErrorContains(t, err, "available")
}

func TestFailAfter(t *testing.T) {
	FailAfter(2)
	a, err := Alloc[byte](8)
	assert.NoError(t, err)
	_, err = Alloc[byte](8)
	assert.Equal(t, fault.Memory, fault.KindOf(err))
	assert.ErrorContains(t, err, "8 bytes asked for")
	b, err := Alloc[byte](8)
	assert.NoError(t, err)
	Free(a)
	Free(b)
	assert.Zero(t, Live())
}

func TestField(t *testing.T) {
	n, ok := field([]byte("MemFree: 3 kB\nMemAvailable:   1234 kB\n"), "MemAvailable:")
	assert.True(t, ok)
	assert.EqualValues(t, 1234, n)
	_, ok = field([]byte("MemFree: x kB\n"), "MemFree:")
	assert.False(t, ok)
}
