package engine

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/onnx/onnxtest"
)

// Every device says why it is not available, at its listing and when it is asked for.
func TestDevices(t *testing.T) {
	runtime := testenv.Runtime(t)
	_, devices, err := Devices(runtime)
	require.NoError(t, err)
	var names []string
	for _, d := range devices {
		names = append(names, d.Name)
		c := golden(t, "plain3d")
		s, err := Open([]Network{network(t, c)}, Options{Device: d.Name, Runtime: runtime})
		if d.Err == nil {
			if assert.NoError(t, err) {
				assert.Equal(t, d.Name, s.Device)
				s.Close()
			}
			continue
		}
		assert.Equal(t, fault.Device, fault.KindOf(d.Err))
		assert.Equal(t, fault.Device, fault.KindOf(err))
		assert.ErrorContains(t, err, "device "+d.Name+" is not available: ")
		assert.Equal(t, d.Err.Error(), err.Error())
	}
	assert.Equal(t, []string{OpenVINO, ORT, CUDA, OpenVINOGPU}, names)
}

func TestResolve(t *testing.T) {
	_, err := Load(testenv.Runtime(t))
	require.NoError(t, err)
	for name, want := range map[string][]string{
		"cpu": {OpenVINO, ORT}, "OpenVINO": {OpenVINO}, "ort": {ORT}, "CUDA": {CUDA},
		"openvino:gpu": {OpenVINOGPU}, "openvino:GPU.1": {"openvino:GPU.1"},
	} {
		got, err := resolve(name)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	auto, err := resolve("")
	require.NoError(t, err)
	assert.Equal(t, cudaProvider() != "", auto[0] == CUDA, "auto tries CUDA where the runtime has it")
	for _, name := range []string{"gpu", "openvino:GPU.", "openvino:GPU.x", "openvino:GPU1", "openvino:NPU", "cuda:0"} {
		_, err := resolve(name)
		assert.Equal(t, fault.Argument, fault.KindOf(err), name)
	}
}

func TestOpenVINOOptions(t *testing.T) {
	p := &provider{precision: fp32}
	assert.Equal(t, map[string]string{"device_type": "CPU", "num_of_threads": "3", "precision": "FP32", "load_config": `{"CPU":{"INFERENCE_PRECISION_HINT":"f32"}}`},
		p.openVINO(OpenVINO, Options{Threads: 3, Cache: "not for CPUs"}))
	assert.Equal(t, fp32, p.precision)
	assert.Equal(t, map[string]string{"device_type": "GPU.1", "num_of_threads": "1", "precision": "FP16",
		"load_config": `{"GPU":{"INFERENCE_PRECISION_HINT":"f16","CACHE_DIR":"/a \"b\""}}`}, p.openVINO(OpenVINOGPU+".1", Options{Threads: 1, Fast: true, Cache: `/a "b"`}))
	assert.Equal(t, fp16, p.precision)
	p.precision = fp32
	assert.Equal(t, `{"GPU":{"INFERENCE_PRECISION_HINT":"f32"}}`, p.openVINO(OpenVINOGPU, Options{})["load_config"])
	assert.Equal(t, fp32, p.precision)
}

func TestCUDAOptions(t *testing.T) {
	o := cudaOptions(Options{})
	assert.Equal(t, "HEURISTIC", o["cudnn_conv_algo_search"])
	assert.Equal(t, "0", o["use_tf32"], "exact is fp32")
	assert.NotContains(t, o, "gpu_mem_limit")
	o = cudaOptions(Options{GPUMemory: 2 << 30, Fast: true})
	assert.Equal(t, "2147483648", o["gpu_mem_limit"])
	assert.Equal(t, "0", o["cudnn_conv_use_max_workspace"])
	assert.Equal(t, "1", o["use_tf32"])

	_, err := Load(testenv.Runtime(t))
	require.NoError(t, err)
	if cudaProvider() == "" {
		t.Skip("whether ONNX Runtime knows these options needs its CUDA build: ./build.sh --cuda and FLARE_ONNXRUNTIME=build/lib/flare-runtime-cuda")
	}
	if err := cudaLibraries(cudaProvider()); err != nil {
		t.Skip(err)
	}
	keepingHandlers(func() {
		p, err := newProvider(CUDA, Options{Threads: 1, GPUMemory: 2 << 30})
		if assert.NoError(t, err, "all options are known, even without a GPU") {
			p.options.Destroy()
		}
	})
}

// compile makes a shared library of a line of C.
func compile(t *testing.T, file, code string, flags ...string) {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("this test needs a C compiler called cc")
	}
	source := filepath.Join(t.TempDir(), "x.c")
	require.NoError(t, os.WriteFile(source, []byte(code), 0o600))
	out, err := exec.Command(cc, append([]string{"-shared", "-fPIC", "-o", file, source}, flags...)...).CombinedOutput()
	require.NoError(t, err, string(out))
}

// A provider whose CUDA libraries are missing, beside it, and where Python keeps them.
func TestCUDALibraries(t *testing.T) {
	assert.ErrorContains(t, cudaWorks(""), "has no CUDA provider (libonnxruntime_providers_cuda.so); ./build.sh --cuda fetches one that has")

	dir := t.TempDir()
	site := filepath.Join(dir, "site-packages")
	capi, nvidia := filepath.Join(site, "onnxruntime/capi"), filepath.Join(site, "nvidia/made_up/lib")
	require.NoError(t, os.MkdirAll(capi, 0o700))
	require.NoError(t, os.MkdirAll(nvidia, 0o700))
	libraries := []string{"libcuflare_a.so.12", "libcuflare_b.so.9"}
	var needed []string
	for _, name := range libraries {
		compile(t, filepath.Join(dir, name), "int "+name[2:11]+";", "-Wl,-soname,"+name)
		needed = append(needed, filepath.Join(dir, name))
	}
	provider := filepath.Join(capi, cudaProviderName)
	compile(t, provider, "int x;", append([]string{"-Wl,--no-as-needed"}, needed...)...)

	missing, err := loadNeeded(provider)
	require.NoError(t, err)
	assert.Equal(t, libraries, missing)
	assert.ErrorContains(t, cudaLibraries(provider), "libonnxruntime_providers_cuda.so needs libcuflare_a.so.12, libcuflare_b.so.9, which is neither beside it nor on the system")
	require.NoError(t, os.Rename(needed[0], filepath.Join(capi, libraries[0])))
	require.NoError(t, os.Rename(needed[1], filepath.Join(nvidia, libraries[1])))
	missing, err = loadNeeded(provider)
	require.NoError(t, err)
	assert.Empty(t, missing)

	require.NoError(t, os.WriteFile(provider, []byte("garbage"), 0o600))
	assert.ErrorContains(t, cudaLibraries(provider), provider+" is not a library")
}

// Drivers that are missing, find nothing, fail, are too old or something else: what the
// loader calls libcuda.so.1 is this test's own.
func TestCUDADriver(t *testing.T) {
	if want := os.Getenv("FLARE_TEST_DRIVER"); want != "" {
		err := cudaDriver()
		if want == "works" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, want)
		}
		return
	}
	functions := func(init, version, count string) string {
		return "int cuInit(unsigned x) { return " + init + "; } int cuDriverGetVersion(int *v) { *v = " + version + "; return 0; }" +
			"int cuDeviceGetCount(int *n) { *n = " + count + "; return 0; } int cuGetErrorName(int e, const char **s) { *s = \"CUDA_ERROR_NO_DEVICE\"; return 0; }"
	}
	for want, code := range map[string]string{
		"works":                          functions("0", "12080", "1"),
		"NVIDIA's driver finds no GPU":   functions("0", "12080", "0"),
		"is for CUDA 11.8, needed is 12": functions("0", "11080", "1"),
		"NVIDIA's driver fails: CUDA_ERROR_NO_DEVICE (CUDA error 100)": functions("100", "12080", "1"),
		"libcuda.so.1 is not NVIDIA's driver":                          "int x;",
		"there is no NVIDIA driver (libcuda.so.1: cannot open shared":  "",
		"there is no NVIDIA driver (" /* the loader's words follow */ : "garbage",
	} {
		dir := t.TempDir()
		driver := filepath.Join(dir, "libcuda.so.1")
		switch code {
		case "":
			if loads("libcuda.so.1") {
				continue // this machine has one
			}
		case "garbage":
			require.NoError(t, os.WriteFile(driver, []byte(code), 0o600))
		default:
			compile(t, driver, code)
		}
		child := exec.Command(os.Args[0], "-test.run=^TestCUDADriver$")
		child.Env = append(os.Environ(), "FLARE_TEST_DRIVER="+want, "LD_LIBRARY_PATH="+dir)
		out, err := child.CombinedOutput()
		assert.NoError(t, err, string(out))
	}
}

// Handlers that a driver installs are taken away again.
func TestHandlers(t *testing.T) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	assert.Zero(t, keepingHandlers(func() {}))
	// Go's own way to set SIG_IGN in the process behind the saved state's back.
	assert.Equal(t, 1, keepingHandlers(func() { signal.Ignore(syscall.SIGHUP) }))
	signal.Notify(got, syscall.SIGHUP)
	assert.Zero(t, keepingHandlers(func() {}), "the handler is Go's again")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	assert.Equal(t, syscall.SIGHUP, <-got)

	assert.Panics(t, func() { keepingHandlers(func() { signal.Ignore(syscall.SIGHUP); panic("x") }) })
	signal.Reset(syscall.SIGHUP)
}

// onGPUOrSkip skips where a GPU is missing, with the reason.
func onGPUOrSkip(t *testing.T, device string) {
	_, devices, err := Devices(testenv.Runtime(t))
	require.NoError(t, err)
	for _, d := range devices {
		if d.Name == device && d.Err != nil {
			t.Skipf("this test needs a GPU: %v", d.Err)
		}
	}
}

// On a GPU every golden network computes what it does elsewhere, in fp32 and in fp16;
// signals stay as they were; a limit on memory is an error of its own.
func TestGPU(t *testing.T) {
	for _, device := range []string{CUDA, OpenVINOGPU} {
		t.Run(device, func(t *testing.T) {
			onGPUOrSkip(t, device)
			cases, err := onnxtest.Cases("../onnx/testdata")
			require.NoError(t, err)
			dir := t.TempDir()
			for _, c := range cases {
				if c.Name == "old_plans_folds" {
					continue // CUDA has no Mean; the library takes folds apart and runs each
				}
				t.Run(c.Name, func(t *testing.T) {
					n := network(t, c)
					assert.Zero(t, keepingHandlers(func() {
						out, s := run(t, Options{Device: device}, c.Input.Data, n)
						assert.Equal(t, fp32, s.Precision)
						assert.Less(t, largestError(out, c.Output.Data), 1e-4, "fp32 without TF32")
					}), "handlers changed")
					out, s := run(t, Options{Device: device, Fast: true}, c.Input.Data, n)
					assert.Equal(t, fp16, s.Precision)
					assert.Less(t, largestError(out, c.Output.Data), 1e-2)
					for range 2 {
						again, s := run(t, Options{Device: device, Fast: true, Cache: dir}, c.Input.Data, n)
						assert.Empty(t, s.Notes)
						assert.Less(t, largestError(again, out), 1e-3, "with a cache")
					}
				})
			}
			if device != CUDA {
				return
			}
			c := golden(t, "residual3d")
			s, err := Open([]Network{network(t, c)}, Options{Device: CUDA, GPUMemory: 1 << 10, Runtime: testenv.Runtime(t)})
			if err == nil {
				err = s.Run(context.Background(), 0, 0)
				s.Close()
			}
			assert.Equal(t, fault.Memory, fault.KindOf(err), "%v", err)
		})
	}
}
