package engine

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/onnx"
)

// Each slot keeps what was put into it while another one runs.
func TestSlots(t *testing.T) {
	c := golden(t, "plain3d")
	for _, device := range []string{OpenVINO, ORT} {
		s, err := Open([]Network{network(t, c)}, Options{Device: device, Threads: 2, Slots: 2, Runtime: testenv.Runtime(t)})
		require.NoError(t, err)
		require.Len(t, s.Inputs, 2)
		require.Len(t, s.Outputs, 2)
		copy(s.Inputs[0], c.Input.Data)
		for range 3 {
			var other sync.WaitGroup
			other.Add(1)
			go func() {
				defer other.Done()
				for i, v := range c.Input.Data {
					s.Inputs[1][i] = -v
				}
				clear(s.Outputs[1])
			}()
			require.NoError(t, s.Run(context.Background(), 0, 0))
			other.Wait()
			require.NoError(t, s.Run(context.Background(), 0, 1))
			assert.Less(t, largestError(s.Outputs[0], c.Output.Data), 1e-5, device)
			assert.Greater(t, largestError(s.Outputs[1], c.Output.Data), 1e-2, "%s: another input", device)
			for i, v := range c.Input.Data {
				s.Inputs[1][i] = v
			}
			require.NoError(t, s.Run(context.Background(), 0, 1))
			assert.Equal(t, s.Outputs[0], s.Outputs[1], device)
		}
		s.Close()
	}
	assert.Zero(t, cmem.Live())
}

// A second slot is for what is not the host's processor, where a thread is left for the rest.
func TestHowManySlots(t *testing.T) {
	for device, want := range map[string][3]int{OpenVINO: {1, 1, 1}, ORT: {1, 1, 1}, CUDA: {1, 2, 2}, OpenVINOGPU: {1, 2, 2}, OpenVINOGPU + ".1": {1, 2, 2}} {
		for i, threads := range []int{1, 2, 64} {
			assert.Equal(t, want[i], slots(device, threads), "%s, %d threads", device, threads)
		}
	}
	s, err := Open([]Network{network(t, golden(t, "plain3d"))}, Options{Device: CPU, Runtime: testenv.Runtime(t)})
	require.NoError(t, err)
	assert.Len(t, s.Inputs, 1)
	s.Close()
}

func TestThreads(t *testing.T) {
	all := Threads(0)
	assert.Positive(t, all)
	assert.Equal(t, 1, Threads(1))
	assert.Equal(t, all, Threads(10000))
	c := golden(t, "plain3d")
	for _, n := range []int{0, 1, 10000} {
		for _, device := range []string{OpenVINO, ORT} {
			out, s := run(t, Options{Device: device, Threads: n}, c.Input.Data, network(t, c))
			assert.Equal(t, Threads(n), s.Threads)
			assert.Less(t, largestError(out, c.Output.Data), 1e-5)
		}
	}
}

// Sessions in several goroutines give what each gives alone.
func TestSessionsSideBySide(t *testing.T) {
	c := golden(t, "residual3d")
	n := network(t, c)
	want, _ := run(t, Options{Device: OpenVINO, Threads: 1}, c.Input.Data, n)
	var all sync.WaitGroup
	for _, device := range []string{OpenVINO, OpenVINO, ORT} {
		all.Add(1)
		go func() {
			defer all.Done()
			s, err := Open([]Network{n}, Options{Device: device, Threads: 1, Runtime: testenv.Runtime(t)})
			if !assert.NoError(t, err) {
				return
			}
			defer s.Close()
			copy(s.Inputs[0], c.Input.Data)
			for range 10 {
				assert.NoError(t, s.Run(context.Background(), 0, 0))
				assert.Less(t, largestError(s.Outputs[0], want), 1e-5, device)
			}
		}()
	}
	all.Wait()
}

// A host's cores are its own between calls: no thread of the runtime waits busily.
func TestNothingSpins(t *testing.T) {
	c := golden(t, "plain3d")
	for _, device := range []string{OpenVINO, ORT} {
		s, err := Open([]Network{network(t, c)}, Options{Device: device, Threads: 2, Runtime: testenv.Runtime(t)})
		require.NoError(t, err)
		for range 5 {
			require.NoError(t, s.Run(context.Background(), 0, 0))
		}
		before := processorTime(t)
		time.Sleep(500 * time.Millisecond)
		assert.Less(t, processorTime(t)-before, 200*time.Millisecond, "processor time of the idle process in 500 ms; a spinning thread takes all of them")
		s.Close()
	}
}

func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fast tells what it computes in, and exact mode is not touched by it.
func TestFast(t *testing.T) {
	c := golden(t, "residual3d")
	n := network(t, c)
	exact, s := run(t, Options{Device: OpenVINO, Threads: 2}, c.Input.Data, n)
	assert.Equal(t, "fp32", s.Precision)
	assert.Empty(t, s.Notes)

	fast, err := Open([]Network{n}, Options{Device: OpenVINO, Threads: 2, Fast: true, Runtime: testenv.Runtime(t)})
	require.NoError(t, err)
	defer fast.Close()
	copy(fast.Inputs[0], c.Input.Data)
	require.NoError(t, fast.Run(context.Background(), 0, 0))
	difference := largestError(fast.Outputs[0], exact)
	if bfloat16() {
		assert.Equal(t, "bf16", fast.Precision)
		assert.Empty(t, fast.Notes)
		assert.Greater(t, difference, 1e-4, "bf16 keeps 8 bits")
		assert.Less(t, difference, 5e-2)
	} else {
		assert.Equal(t, "fp32", fast.Precision)
		assert.Len(t, fast.Notes, 1)
		assert.Contains(t, fast.Notes[0], "no bf16 units")
		assert.Less(t, difference, 1e-6)
	}
	again, s := run(t, Options{Device: OpenVINO, Threads: 2}, c.Input.Data, n)
	assert.Equal(t, "fp32", s.Precision)
	assert.Equal(t, exact, again, "a fast session that is open has no part in an exact one")

	out, s := run(t, Options{Device: ORT, Threads: 2, Fast: true}, c.Input.Data, n)
	assert.Equal(t, "fp32", s.Precision)
	assert.Len(t, s.Notes, 1)
	assert.Less(t, largestError(out, c.Output.Data), 1e-5)
}

// values returns what float16 bits mean (IEEE 754-2019, section 3.4), finite ones.
func values(bits []uint16) []float32 {
	out := make([]float32, len(bits))
	for i, h := range bits {
		exponent, mantissa := int(h>>10&31), float64(h&1023)
		v := math.Ldexp(mantissa, -24)
		if exponent > 0 {
			v = math.Ldexp(1024+mantissa, exponent-25)
		}
		if h>>15 == 1 {
			v = -v
		}
		out[i] = float32(v)
	}
	return out
}

// What CUDA runs in fast mode, on a processor: graphs of float16, logits of float16 in
// every slot and of every fold.
func TestHalf(t *testing.T) {
	defer HalfOn(ORT)()
	for _, name := range []string{"residual3d", "plain3d"} {
		c := golden(t, name)
		n := network(t, c)
		for _, o := range []Options{{Slots: 1}, {Slots: 2}, {Slots: 2, Cache: t.TempDir()}} {
			o.Device, o.Fast, o.Threads, o.Runtime = ORT, true, 2, testenv.Runtime(t)
			s, err := Open([]Network{n, n}, o)
			require.NoError(t, err)
			assert.Equal(t, fp16, s.Precision)
			assert.Nil(t, s.Outputs)
			assert.Len(t, s.Notes, 1, "that ort computes in fp32")
			require.Len(t, s.HalfOutputs, o.Slots)
			for slot := range o.Slots {
				for fold := range 2 {
					clear(s.HalfOutputs[slot])
					copy(s.Inputs[slot], c.Input.Data)
					require.NoError(t, s.Run(context.Background(), fold, slot))
					got := largestError(values(s.HalfOutputs[slot]), c.Output.Data)
					assert.Less(t, got, 5e-3, "%s: some ten roundings to 2^-11", name)
					assert.Greater(t, got, 1e-5, name)
				}
			}
			for i := range s.Inputs[0] { // as if values were beyond float16
				s.Inputs[0][i] = float32(math.Inf(1))
			}
			err = s.Run(context.Background(), 0, 0)
			assert.Equal(t, fault.Model, fault.KindOf(err))
			assert.ErrorContains(t, err, "use exact mode")
			s.Close()
		}

		exact, s := run(t, Options{Device: ORT}, c.Input.Data, n)
		assert.Equal(t, fp32, s.Precision)
		assert.Less(t, largestError(exact, c.Output.Data), 1e-5, "exact mode is not touched")
	}

	_, err := Open([]Network{{ONNX: []byte("no model"), InputShape: []int64{1}, OutputShape: []int64{1}}}, Options{Device: ORT, Fast: true, Runtime: testenv.Runtime(t)})
	assert.Equal(t, fault.Format, fault.KindOf(err))
	assert.Zero(t, cmem.Live())
}

// A network that cannot be in float16 keeps all of a session in float32.
func TestHalfOfSome(t *testing.T) {
	defer HalfOn(ORT)()
	c := golden(t, "plain3d")
	n := network(t, c)
	m, err := onnx.Parse(n.ONNX)
	require.NoError(t, err)
	outputs := m.Graph.Outputs
	m.Graph.Outputs = append(slices.Clone(outputs), &onnx.ValueInfo{Name: m.Graph.Nodes[0].Outputs[0]}) // of a type that is not said
	odd := n
	odd.ONNX, err = m.Marshal()
	require.NoError(t, err)
	s, err := Open([]Network{n, odd}, Options{Device: ORT, Fast: true, Threads: 2, Runtime: testenv.Runtime(t)})
	require.NoError(t, err)
	defer s.Close()
	assert.Equal(t, fp32, s.Precision)
	assert.Nil(t, s.HalfOutputs)
	assert.Contains(t, s.Notes[0], "fast mode cannot take fp16 for this network")
	for fold := range 2 {
		copy(s.Inputs[0], c.Input.Data)
		require.NoError(t, s.Run(context.Background(), fold, 0))
		assert.Less(t, largestError(s.Outputs[0], c.Output.Data), 1e-5)
	}
}

func TestFinite(t *testing.T) {
	const n = 3 * 5000
	s := Session{Outputs: [][]float32{nil, make([]float32, n)}}
	h := Session{HalfOutputs: [][]uint16{nil, make([]uint16, n)}}
	for _, x := range []*Session{&s, &h} {
		assert.True(t, x.finite(0))
		assert.True(t, x.finite(1))
	}
	for _, bad := range []struct {
		v float64
		h uint16
	}{{math.Inf(1), 0x7c00}, {math.Inf(-1), 0xfc00}, {math.NaN(), 0x7e00}} {
		for i := range 5000 { // a channel
			s.Outputs[1][5000+i], h.HalfOutputs[1][5000+i] = float32(bad.v), bad.h
		}
		assert.False(t, s.finite(1), "%v", bad.v)
		assert.False(t, h.finite(1), "%v", bad.v)
	}
	for i := range n {
		s.Outputs[1][i], h.HalfOutputs[1][i] = math.MaxFloat32, 0xfbff
	}
	assert.True(t, s.finite(1))
	assert.True(t, h.finite(1), "-65504 is the last")
}

// The texts are ONNX Runtime's own, from its issues and from this project's runs.
func TestRuntimeError(t *testing.T) {
	for _, c := range []struct {
		text, want string
		kind       fault.Kind
	}{
		{"Error running network: Non-zero status code returned while running ReduceSum node. Name:'x' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*, bool, onnxruntime::WaitNotificationFn) Failed to allocate memory for requested buffer of size 939524096",
			"of size 939524096", fault.Memory},
		{"Non-zero status code returned while running Conv node. Name:'c' Status Message: Available memory of 1048576 is smaller than requested bytes of 83886080", "83886080", fault.Memory},
		{"std::bad_alloc", "std::bad_alloc", fault.Memory},
		{"/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:121 std::conditional_t<...> CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; file=/onnxruntime_src/x.cc ; line=47 ; expr=cudaMalloc((void**)&p, size);", "device cuda failed: CUDA failure 2: out of memory", fault.Memory},
		{"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:342 Failed to find a free memory block despite calling Extend. rounded_bytes=1024", "rounded_bytes=1024", fault.Memory},
		{"CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=h ; expr=cudnnCreate(&cudnn_handle_);", "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED", fault.Memory},
		{"CUDNN failure 4004: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0 ; hostname=h ; expr=cudnnCreate(&cudnn_handle_);", "CUDNN failure 4004: CUDNN_STATUS_INTERNAL", fault.Memory},
		{"CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0 ; hostname=h ; file=cuda_execution_provider.cc ; line=172 ; expr=cudnnCreate(&cudnn_handle_);", "device cuda failed: CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR", fault.Device},
		{"CUFFT failure 2: CUFFT_ALLOC_FAILED ; GPU=0 ; hostname=h ; expr=cufftPlan1d();", "CUFFT_ALLOC_FAILED", fault.Memory},
		{"CUDA failure 100: no CUDA-capable device is detected ; GPU=32712 ; hostname=h ; file=cuda_execution_provider.cc ; line=245 ; expr=cudaSetDevice(info_.device_id);", "device cuda failed: CUDA failure 100: no CUDA-capable device is detected", fault.Device},
		{"CUDA failure 46: all CUDA-capable devices are busy or unavailable ; GPU=0 ; hostname=h ; expr=cudaSetDevice(info_.device_id);", "CUDA failure 46", fault.Device},
		{"CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=h ; expr=cudaStreamSynchronize(stream);", "CUDA failure 700: an illegal memory access", fault.Device},
		{"Exception from src/inference/src/dev/plugin.cpp: clEnqueueNDRangeKernel, error code: -5 CL_OUT_OF_RESOURCES", "CL_OUT_OF_RESOURCES", fault.Memory},
		{"CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=h ; file=x.cc ; line=168 ; expr=cublasCreate(&cublas_handle_);", "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", fault.Memory},
		{"[ONNXRuntimeError] : 1 : FAIL : CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=h ; file=gpu_data_transfer.cc ; line=73 ; expr=cudaMemcpyAsync(...);", "device cuda failed: CUDA failure 719: unspecified launch failure", fault.Device},
		{"CUDA failure 999: unknown error ; GPU=32766 ; hostname=h ; expr=cudaSetDevice(info_.device_id);", "CUDA failure 999: unknown error", fault.Device},
		{"CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=h ; file=x.cc ; line=334 ; expr=cudaSetDevice(info_.device_id);", "CUDA failure 35: CUDA driver version", fault.Device},
		{"Non-zero status code returned while running Conv node. Name:'Conv_0' Status Message: CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED ; GPU=0 ; hostname=h ; file=conv.cc ; line=483 ; expr=s_.cudnn_fe_graph->execute(...);", "CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED", fault.Device},
		{"This is an invalid model. In Node, (\"x\", Foo, \"\", -1) : no Op registered for Foo\nwith domain_version of 17", "Op registered for Foo", fault.Model},
	} {
		err := runtimeError(fault.Model, "device %s failed: %s", "cuda", errors.New(c.text))
		assert.Equal(t, c.kind, fault.KindOf(err), c.text)
		assert.ErrorContains(t, err, c.want)
		assert.NotContains(t, err.Error(), "hostname", "nothing of the machine")
		assert.NotContains(t, err.Error(), "\n")
	}
}
