package engine

import (
	"regexp"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// The texts by which the runtime and its providers say that memory ran out: C++, ONNX
// Runtime's arena (with and without a limit), CUDA, cuBLAS, cuFFT and cuDNN (before and since
// version 9), OpenCL.
var memorySigns = []string{
	"bad_alloc", "bad allocation", "Failed to allocate", "Cannot allocate", "out of memory", "is smaller than requested bytes",
	"Failed to find a free memory block", "ALLOC_FAILED", "ALLOCATION_FAILED", "cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY",
	"CL_OUT_OF_RESOURCES", "CL_OUT_OF_HOST_MEMORY", "CL_MEM_OBJECT_ALLOCATION_FAILURE",
}

// cudaFailure is what is worth telling of a CUDA failure: "CUDA failure 2: out of
// memory ; GPU=0 ; hostname=... ; file=... ; line=... ; expr=cudaMalloc(...);".
var cudaFailure = regexp.MustCompile(`(?:CUDA|CUDNN|CUDNN_FE|CUBLAS|CURAND|CUFFT) (?:failure|error) -?\d+: [^;\n]*`)

// runtimeError gives a failure inside the runtime its kind, k for most: memory that
// ran out looks the same wherever it happens, and a device that fails or vanishes is
// not the fault of the network that is being opened.
func runtimeError(k fault.Kind, format, device string, err error) error {
	text := firstLine(err)
	if failures := cudaFailure.FindAllString(err.Error(), -1); failures != nil {
		k, text = fault.Device, strings.TrimSpace(failures[len(failures)-1])
	}
	for _, sign := range memorySigns {
		if strings.Contains(err.Error(), sign) {
			k = fault.Memory
		}
	}
	return fault.New(k, format, device, text)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return line
}
