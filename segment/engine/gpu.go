package engine

/*
#include <dlfcn.h>
#include <stdlib.h>
#cgo LDFLAGS: -ldl

// Keeps name loaded, so that libraries that need it find it whatever their search path.
static int library_loads(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL) != NULL; }

// cuda_driver starts NVIDIA's driver: CUDA driver API, cuda.h. Returns 0, or a CUresult
// whose name is then in *text; -1 where there is no driver (*text tells), -2 where it
// lacks these functions.
static int cuda_driver(int *version, int *devices, const char **text) {
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!lib) return *text = dlerror(), -1;
	int (*init)(unsigned) = (int (*)(unsigned))dlsym(lib, "cuInit");
	int (*driver_version)(int *) = (int (*)(int *))dlsym(lib, "cuDriverGetVersion");
	int (*count)(int *) = (int (*)(int *))dlsym(lib, "cuDeviceGetCount");
	int (*name)(int, const char **) = (int (*)(int, const char **))dlsym(lib, "cuGetErrorName");
	if (!init || !driver_version || !count || !name) return -2;
	int result = init(0);
	if (result == 0) result = driver_version(version);
	if (result == 0) result = count(devices);
	if (result != 0) name(result, text);
	return result;
}

// opencl_platforms returns the number of OpenCL's platforms (cl.h), -1 without OpenCL
// (*text tells).
static int opencl_platforms(const char **text) {
	void *lib = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!lib) return *text = dlerror(), -1;
	int (*platforms)(unsigned, void **, unsigned *) = (int (*)(unsigned, void **, unsigned *))dlsym(lib, "clGetPlatformIDs");
	unsigned n = 0;
	return platforms && platforms(0, NULL, &n) == 0 ? (int)n : 0;
}

// pin makes memory quick to copy from and to the GPU, or no longer so (size 0), with
// the CUDA runtime called name if that is loaded: cudaHostRegister, cuda_runtime_api.h.
// Returns whether it did.
static int pin(const char *name, void *p, size_t size) {
	void *lib = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
	if (!lib) return 0;
	int (*reg)(void *, size_t, unsigned) = (int (*)(void *, size_t, unsigned))dlsym(lib, "cudaHostRegister");
	int (*unreg)(void *) = (int (*)(void *))dlsym(lib, "cudaHostUnregister");
	int ok = reg && unreg && (size > 0 ? reg(p, size, 0) : unreg(p)) == 0;
	dlclose(lib);
	return ok;
}
*/
import "C"

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"unsafe"
)

const (
	cudaProviderName = "libonnxruntime_providers_cuda.so"
	intelGPUPlugin   = "libopenvino_intel_gpu_plugin.so"

	leastDriver = 12000 // CUDA 12.0: what ONNX Runtime 1.24's libraries ask of the driver
)

// cudaProvider returns the file of the loaded runtime's CUDA provider, "" without one.
func cudaProvider() string {
	file := filepath.Join(folder(), cudaProviderName)
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// cudaWorks asks the driver for a GPU, and loads what the CUDA provider in a file needs.
func cudaWorks(file string) error {
	if file == "" {
		return fmt.Errorf("the ONNX Runtime in %s has no CUDA provider (%s); ./build.sh --cuda fetches one that has", folder(), cudaProviderName)
	}
	if err := cudaDriver(); err != nil { // first, for the libraries are large
		return err
	}
	return cudaLibraries(file)
}

func cudaDriver() error {
	var version, devices C.int
	var text *C.char
	switch result := C.cuda_driver(&version, &devices, &text); {
	case result == -1:
		return fmt.Errorf("there is no NVIDIA driver (%s)", C.GoString(text))
	case result == -2:
		return fmt.Errorf("libcuda.so.1 is not NVIDIA's driver")
	case result != 0:
		return fmt.Errorf("NVIDIA's driver fails: %s (CUDA error %d)", C.GoString(text), result)
	case version < leastDriver:
		return fmt.Errorf("NVIDIA's driver is for CUDA %d.%d, needed is %d.0 or later", version/1000, version%1000/10, leastDriver/1000)
	case devices == 0:
		return fmt.Errorf("NVIDIA's driver finds no GPU")
	}
	return nil
}

func cudaLibraries(file string) error {
	missing, err := loadNeeded(file)
	if err != nil {
		return fmt.Errorf("%s is not a library: %w", file, err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s needs %s, which is neither beside it nor on the system; ./build.sh --cuda fetches CUDA's libraries",
			cudaProviderName, strings.Join(missing, ", "))
	}
	return nil
}

// loadNeeded loads the CUDA libraries that a provider needs from where they may lie, as
// the provider itself only looks in the system's folders. It returns those not found.
func loadNeeded(provider string) (missing []string, err error) {
	f, err := elf.Open(provider)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(provider)
	// cuDNN compiles with this one when it runs.
	compilers, _ := filepath.Glob(filepath.Join(dir, "libnvrtc.so.*"))
	for _, file := range compilers {
		loads(file)
	}
	for _, name := range needed {
		if !strings.HasPrefix(name, "libcu") && !strings.HasPrefix(name, "libnv") {
			continue
		}
		if strings.HasPrefix(name, "libcudart.") {
			cudaRuntime.Store(&name)
		}
		// Beside the provider, or as Python packages lie beside onnxruntime's.
		places, _ := filepath.Glob(filepath.Join(dir, "../../nvidia/*/lib", name))
		found := false
		for _, place := range append([]string{filepath.Join(dir, name)}, append(places, name)...) {
			if found = loads(place); found {
				break
			}
		}
		if !found {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

func loads(library string) bool {
	name := C.CString(library)
	defer C.free(unsafe.Pointer(name))
	return C.library_loads(name) == 1
}

// intelGPUWorks looks for the plugin and for OpenCL, through which it works.
func intelGPUWorks() error {
	if _, err := os.Stat(filepath.Join(folder(), intelGPUPlugin)); err != nil {
		return fmt.Errorf("the ONNX Runtime in %s has no OpenVINO plugin for Intel GPUs (%s); ./build.sh --intel-gpu fetches it", folder(), intelGPUPlugin)
	}
	var text *C.char
	switch n := C.opencl_platforms(&text); {
	case n < 0:
		return fmt.Errorf("OpenCL is missing (%s)", C.GoString(text))
	case n == 0:
		return fmt.Errorf("OpenCL finds no GPU driver; Intel's is the package intel-opencl-icd")
	}
	return nil
}

// cudaRuntime is the name of the CUDA runtime that the provider needs.
var cudaRuntime atomic.Pointer[string]

// pinned makes a buffer quick to copy from and to a CUDA device, or no longer so. Where
// that fails nothing is lost but speed.
func pinned[T any](s []T, on bool) bool {
	runtime := cudaRuntime.Load()
	if len(s) == 0 || runtime == nil {
		return false
	}
	name := C.CString(*runtime)
	defer C.free(unsafe.Pointer(name))
	size := C.size_t(0)
	if on {
		size = C.size_t(uintptr(len(s)) * unsafe.Sizeof(s[0]))
	}
	return C.pin(name, unsafe.Pointer(&s[0]), size) == 1
}
