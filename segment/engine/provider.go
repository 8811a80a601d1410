package engine

import (
	"errors"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/libflare/libflare/segment/internal/fault"
)

// The precisions that a session reports.
const (
	fp32 = "fp32"
	bf16 = "bf16"
	fp16 = "fp16"
	tf32 = "tf32" // products of 10 bits of mantissa, sums and range of fp32: NVIDIA's tensor cores
)

// provider is the runtime's options for one device.
type provider struct {
	options   *ort.SessionOptions // the caller destroys them
	precision string              // of the device's arithmetic
	note      string              // why fast is not faster here, or ""
}

// newProvider returns the runtime's options for one device. o.Cache, for Intel GPUs,
// is a folder for OpenVINO's compiled kernels.
func newProvider(device string, o Options) (p *provider, err error) {
	p = &provider{precision: fp32}
	if p.options, err = ort.NewSessionOptions(); err != nil {
		return nil, fault.New(fault.Runtime, "ONNX Runtime: %w", err)
	}
	set := func(e error) {
		if err == nil {
			err = e
		}
	}
	set(p.options.SetLogSeverityLevel(ort.LoggingLevelFatal))
	set(p.options.SetIntraOpNumThreads(o.Threads))
	set(p.options.SetInterOpNumThreads(1))
	// A host's cores are not ours between calls: no spinning.
	set(p.options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"))
	if device != ORT {
		// The whole network or nothing: a silent fall-back of some operators to
		// another provider would make the reported device untrue.
		set(p.options.AddSessionConfigEntry("session.disable_cpu_ep_fallback", "1"))
	}
	switch {
	case device == CUDA:
		if o.Fast {
			p.precision = tf32
		}
		set(appendCUDA(p.options, cudaOptions(o)))
	case device == ORT:
		if o.Fast {
			p.note = "fast mode gains nothing on device ort, which computes in fp32 only"
		}
	default:
		set(p.options.AppendExecutionProviderOpenVINO(p.openVINO(device, o)))
	}
	if err != nil {
		p.options.Destroy()
		if onGPU(device) && strings.Contains(err.Error(), "Failed to load shared library") {
			err = errors.New("the provider does not find it")
		}
		return nil, runtimeError(fault.Device, "device %s is not available: %s", device, err)
	}
	return p, nil
}

// openVINO returns the OpenVINO provider's options and sets the precision that they
// mean.
func (p *provider) openVINO(device string, o Options) map[string]string {
	options := map[string]string{"device_type": "CPU", "num_of_threads": strconv.Itoa(o.Threads), "precision": "FP32"}
	// Without a hint, processors with bf16 units would silently compute in bf16, and
	// GPUs in fp16.
	hint := "f32"
	if onGPU(device) {
		options["device_type"] = strings.TrimPrefix(device, "openvino:")
		if o.Fast {
			p.precision, options["precision"], hint = fp16, "FP16", "f16"
		}
		properties := `"INFERENCE_PRECISION_HINT":"` + hint + `"`
		if o.Cache != "" {
			properties += `,"CACHE_DIR":` + strconv.Quote(o.Cache)
		}
		options["load_config"] = `{"GPU":{` + properties + `}}`
		return options
	}
	if o.Fast && bfloat16() {
		p.precision, options["precision"], hint = bf16, "ACCURACY", "bf16"
	} else if o.Fast {
		p.note = "fast mode gains nothing from this processor: it has no bf16 units (AVX512-BF16, AMX); it computes in fp32"
	}
	options["load_config"] = `{"CPU":{"INFERENCE_PRECISION_HINT":"` + hint + `"}}`
	return options
}

// cudaOptions are the CUDA provider's, as its documentation names them
// (onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html).
func cudaOptions(o Options) map[string]string {
	options := map[string]string{
		// cuDNN's best guess by its heuristics. Trying all algorithms costs seconds at
		// the first tile; the default takes a fall-back that is up to four times slower.
		"cudnn_conv_algo_search":    "HEURISTIC",
		"do_copy_in_default_stream": "1",
		// The next power of two would double what volumes take.
		"arena_extend_strategy": "kSameAsRequested",
		"use_tf32":              "0", // exact mode is fp32, not 10 bits of mantissa
	}
	if o.Fast {
		options["use_tf32"] = "1"
	}
	if o.GPUMemory > 0 {
		options["gpu_mem_limit"] = strconv.FormatInt(o.GPUMemory, 10)
		// Else convolutions ask for as much as would be fastest, gigabytes in 3-D.
		options["cudnn_conv_use_max_workspace"] = "0"
	}
	return options
}

func appendCUDA(o *ort.SessionOptions, options map[string]string) error {
	cuda, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer cuda.Destroy()
	if err := cuda.Update(options); err != nil {
		return err
	}
	return o.AppendExecutionProviderCUDA(cuda)
}
