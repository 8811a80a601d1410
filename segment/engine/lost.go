package engine

/*
#include <dlfcn.h>
#include <stdlib.h>

// cuda_failure asks the CUDA runtime called name, if that is loaded, how the device does:
// cudaDeviceSynchronize, cuda_runtime_api.h. Returns 0 or a cudaError_t, whose words are
// then in *text.
static int cuda_failure(const char *name, const char **text) {
	void *lib = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
	if (!lib) return 0;
	int (*synchronize)(void) = (int (*)(void))dlsym(lib, "cudaDeviceSynchronize");
	const char *(*words)(int) = (const char *(*)(int))dlsym(lib, "cudaGetErrorString");
	int failure = synchronize && words ? synchronize() : 0;
	if (failure != 0) *text = words(failure);
	dlclose(lib);
	return failure;
}
*/
import "C"

import (
	"sync/atomic"
	"unsafe"

	"github.com/libflare/libflare/segment/internal/fault"
)

// A CUDA device that fails in a kernel, is unplugged, or falls off the bus is lost to the
// process: every call of CUDA fails from then on, whatever model it is for. ONNX Runtime
// says so in its errors, if not always (its arena takes any failure to allocate as a lack
// of memory), but its destructors throw: CUDAPinnedAllocator::Free and ~CudaNotification
// (providers/cuda/cuda_allocator.cc, cuda_stream_handle.cc), which ends the process. So
// after a failure the device itself is asked, and sessions on a lost device are left where
// they are: what they hold of it is gone anyway.

// lost is the error that tells how the process's CUDA device was lost, nil while it was not.
var lost atomic.Pointer[error]

// outOfMemory is cudaErrorMemoryAllocation, which a device survives.
const outOfMemory = 2

// cudaLost asks the device and returns an error of kind Device if it is lost.
func cudaLost() error {
	runtime := cudaRuntime.Load()
	if err := wasLost(); err != nil || runtime == nil {
		return err
	}
	name := C.CString(*runtime)
	defer C.free(unsafe.Pointer(name))
	var text *C.char
	code := C.cuda_failure(name, &text)
	if code == 0 || code == outOfMemory {
		return nil
	}
	err := fault.New(fault.Device, "device cuda is lost to this process: CUDA failure %d: %s", code, C.GoString(text))
	lost.CompareAndSwap(nil, &err)
	return wasLost()
}

// wasLost is cudaLost without asking.
func wasLost() error {
	if err := lost.Load(); err != nil {
		return *err
	}
	return nil
}

// left reports whether what a device holds has to be left where it is: the device was lost.
func left(device string) bool { return device == CUDA && cudaLost() != nil }
