package engine

import (
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// The devices by the names that callers use.
const (
	Auto        = "auto"         // the fastest that works here: CUDA where the runtime has it, else CPU
	CPU         = "cpu"          // OpenVINO where it loads, otherwise ORT
	OpenVINO    = "openvino"     // ONNX Runtime's OpenVINO execution provider on the CPU
	OpenVINOGPU = "openvino:GPU" // the same on an Intel GPU; "openvino:GPU.1" is the second one
	ORT         = "ort"          // ONNX Runtime's own CPU execution provider
	CUDA        = "cuda"         // ONNX Runtime's CUDA execution provider, the first NVIDIA GPU
)

// Device is a device and whether it works here.
type Device struct {
	Name, Description string
	Err               error // nil where it works
}

// Devices loads the runtime and tries every device. What a device computes in is said
// as exact mode, then fast mode.
func Devices(option string) (file string, devices []Device, err error) {
	if file, err = Load(option); err != nil {
		return "", nil, err
	}
	cpu := "fp32"
	if bfloat16() {
		cpu = "fp32 or bf16"
	}
	for _, d := range []Device{
		{Name: OpenVINO, Description: "OpenVINO execution provider, CPU, " + cpu},
		{Name: ORT, Description: "ONNX Runtime CPU execution provider, fp32"},
		{Name: CUDA, Description: "CUDA execution provider, NVIDIA GPU, fp32 or fp16"},
		{Name: OpenVINOGPU, Description: "OpenVINO execution provider, Intel GPU, fp32 or fp16"},
	} {
		guarded(d.Name, func() {
			if d.Err = available(d.Name); d.Err != nil {
				return
			}
			p, err := newProvider(d.Name, Options{Threads: 1})
			if d.Err = err; err == nil {
				p.options.Destroy()
			}
		})
		devices = append(devices, d)
	}
	return file, devices, nil
}

// resolve lists the devices to try for a name, best first; the runtime is loaded.
func resolve(name string) ([]string, error) {
	switch lower := strings.ToLower(name); lower {
	case "", Auto:
		// A runtime without the provider is no reason for a note at every opening.
		if cudaProvider() != "" {
			return []string{CUDA, OpenVINO, ORT}, nil
		}
		return []string{OpenVINO, ORT}, nil
	case CPU:
		return []string{OpenVINO, ORT}, nil
	case OpenVINO, ORT, CUDA:
		return []string{lower}, nil
	default:
		if number, ok := strings.CutPrefix(lower, strings.ToLower(OpenVINOGPU)); ok && isNumber(number) {
			return []string{OpenVINOGPU + number}, nil
		}
	}
	return nil, fault.New(fault.Argument, "device %q is not one of auto, cpu, openvino, ort, cuda, openvino:GPU", name)
}

// isNumber reports whether text is empty or a dot and some digits.
func isNumber(text string) bool {
	if text == "" {
		return true
	}
	digits, ok := strings.CutPrefix(text, ".")
	return ok && digits != "" && len(digits) < 3 && strings.Trim(digits, "0123456789") == ""
}

// onGPU reports whether a device is a graphics card: its drivers are guests with
// manners of their own.
func onGPU(device string) bool { return device == CUDA || strings.HasPrefix(device, OpenVINOGPU) }

// available looks for what a device needs besides its provider. The runtime says little
// more than "failed to load" where something is missing.
func available(device string) error {
	var err error
	switch {
	case device == CUDA:
		if err := wasLost(); err != nil {
			return err
		}
		err = cudaWorks(cudaProvider())
	case onGPU(device):
		err = intelGPUWorks()
	}
	if err != nil {
		return fault.New(fault.Device, "device %s is not available: %w", device, err)
	}
	return nil
}
