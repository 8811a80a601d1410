package engine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
)

// A CUDA device that fails, runs out of memory and is at last lost. The device is a
// processor, its failure a tensor of a wrong shape, and what tells how the device does this
// test's own CUDA runtime.
func TestLostDevice(t *testing.T) {
	library := filepath.Join(t.TempDir(), "libflarecudart.so.98")
	compile(t, library, `#include <stdlib.h>
int cudaDeviceSynchronize(void) { const char *s = getenv("FLARE_TEST_CUDA"); return s ? atoi(s) : 0; }
const char *cudaGetErrorString(int e) { return e == 719 ? "unspecified launch failure" : "out of memory"; }`)
	require.True(t, loads(library))
	before := cudaRuntime.Swap(&library)
	defer cudaRuntime.Store(before)
	defer lost.Store(nil)

	c := golden(t, "plain3d")
	runtime := testenv.Runtime(t)
	sessions := make([]*Session, 2)
	for i := range sessions {
		s, err := Open([]Network{network(t, c)}, Options{Device: ORT, Threads: 1, Slots: 2, Runtime: runtime})
		require.NoError(t, err)
		s.Device = CUDA
		wrong, err := float32Value(ort.Shape{1}, s.Inputs[1][:1])
		require.NoError(t, err)
		s.in[1].Destroy()
		s.in[1] = wrong
		copy(s.Inputs[0], c.Input.Data)
		sessions[i] = s
	}
	s := sessions[0]
	for _, state := range []string{"0", "2"} {
		require.NoError(t, os.Setenv("FLARE_TEST_CUDA", state))
		defer os.Unsetenv("FLARE_TEST_CUDA")
		err := s.Run(context.Background(), 0, 1)
		assert.Equal(t, fault.Device, fault.KindOf(err))
		assert.ErrorContains(t, err, "device cuda failed: ")
		require.NoError(t, s.Run(context.Background(), 0, 0), "a failure that the device survives")
		assert.Less(t, largestError(s.Outputs[0], c.Output.Data), 1e-5)
	}

	require.NoError(t, os.Setenv("FLARE_TEST_CUDA", "719"))
	const text = "device cuda is lost to this process: CUDA failure 719: unspecified launch failure"
	for _, slot := range []int{1, 0} {
		for _, s := range slices.Backward(sessions) { // of every session, whoever noticed
			err := s.Run(context.Background(), 0, slot)
			assert.Equal(t, fault.Device, fault.KindOf(err))
			assert.EqualError(t, err, text)
		}
	}
	_, err := Open([]Network{network(t, c)}, Options{Device: CUDA, Runtime: runtime})
	assert.Equal(t, fault.Device, fault.KindOf(err))
	assert.EqualError(t, err, text)
	for _, s := range sessions {
		s.Close()
		s.Close()
	}
	assert.Zero(t, cmem.Live())

	out, other := run(t, Options{Device: CPU}, c.Input.Data, network(t, c))
	assert.NotEqual(t, CUDA, other.Device)
	assert.Less(t, largestError(out, c.Output.Data), 1e-5, "processors go on")
}

// A device that was lost between the last run and the closing.
func TestLostBeforeClose(t *testing.T) {
	library := filepath.Join(t.TempDir(), "libflarecudart.so.99")
	compile(t, library, `int cudaDeviceSynchronize(void) { return 999; }
const char *cudaGetErrorString(int e) { return "unknown error"; }`)
	require.True(t, loads(library))
	before := cudaRuntime.Swap(&library)
	defer cudaRuntime.Store(before)
	defer lost.Store(nil)
	s, err := Open([]Network{network(t, golden(t, "plain3d"))}, Options{Device: ORT, Threads: 1, Runtime: testenv.Runtime(t)})
	require.NoError(t, err)
	s.Device = CUDA
	networks := slices.Clone(s.runs)
	s.Close()
	assert.EqualError(t, wasLost(), "device cuda is lost to this process: CUDA failure 999: unknown error")
	assert.Zero(t, cmem.Live())
	for _, r := range networks {
		meta, err := r.GetModelMetadata()
		require.NoError(t, err, "it was left alone")
		meta.Destroy()
		r.Destroy()
	}
}
