package cmem

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
)

func TestAllocFree(t *testing.T) {
	s, err := AllocZero[float64](1000)
	require.NoError(t, err)
	assert.Len(t, s, 1000)
	assert.Equal(t, make([]float64, 1000), s)
	assert.Zero(t, uintptr(unsafe.Pointer(&s[0]))%64)
	assert.EqualValues(t, 8000, Live())
	Free(s)
	assert.Zero(t, Live())
	none, err := Alloc[byte](0)
	assert.NoError(t, err)
	assert.Empty(t, none)
	Free(none)
}

func TestAllocRefuses(t *testing.T) {
	for _, n := range []int{-1, 1 << 60, 1 << 50} {
		_, err := Alloc[float32](n)
		assert.Equal(t, fault.Memory, fault.KindOf(err), "%d elements", n)
	}
	_, err := Alloc[byte](1 << 50)
	assert.ErrorContains(t, err, "1125899906842624 bytes", "the message names the size asked for")
	assert.Zero(t, Live())
}

func TestCast(t *testing.T) {
	b := Bytes([]uint16{0x0201, 0x0403})
	assert.Equal(t, []byte{1, 2, 3, 4}, b)
	assert.Equal(t, []uint16{0x0201}, Cast[uint16](b[:3]))
	assert.Nil(t, Cast[uint32](b[:3]))
	assert.Nil(t, Bytes([]int32(nil)))
}

// What is freed goes back to the system, whichever threads allocated it.
func TestFreeGivesBack(t *testing.T) {
	resident := func() (n int) {
		text, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Skip(err)
		}
		fields := bytes.Fields(text)
		n, err = strconv.Atoi(string(fields[1]))
		require.NoError(t, err)
		return n * os.Getpagesize()
	}
	before := resident()
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for n := range 4 {
				s, err := Alloc[byte]((20 + i + n) << 20)
				assert.NoError(t, err)
				for at := 0; at < len(s); at += 1 << 10 {
					s[at] = 1
				}
				Free(s)
			}
		})
	}
	group.Wait()
	assert.Less(t, resident(), before+16<<20)
	zero, err := AllocZero[uint64](1 << 20)
	require.NoError(t, err)
	assert.Equal(t, make([]uint64, 1<<20), zero)
	Free(zero)
	assert.Zero(t, Live())
}
