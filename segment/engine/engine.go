// Package engine runs networks with ONNX Runtime. It is the only room that knows
// the runtime: it finds its library, chooses the device, and holds sessions.
package engine

import (
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/libflare/libflare/segment/internal/fault"
)

// The devices by the names that callers use.
const (
	Auto     = "auto"     // the fastest that works here; today the same as CPU
	CPU      = "cpu"      // OpenVINO where it loads, otherwise ORT
	OpenVINO = "openvino" // ONNX Runtime's OpenVINO execution provider, CPU, fp32
	ORT      = "ort"      // ONNX Runtime's own CPU execution provider, fp32
	CUDA     = "cuda"     // NVIDIA GPU
)

// environment is the process's one ONNX Runtime; it stays loaded once loaded.
var environment struct {
	sync.Mutex
	file string
}

// Load loads ONNX Runtime, once per process, and returns the library's file. A
// second call that names another file is refused: two runtimes do not fit in one
// process-wide environment. option is as for Find.
func Load(option string) (string, error) {
	environment.Lock()
	defer environment.Unlock()
	if environment.file != "" && option == "" {
		return environment.file, nil
	}
	file, err := Find(option)
	if err != nil {
		return "", err
	}
	if environment.file != "" {
		if !sameFile(file, environment.file) {
			return "", fault.New(fault.Runtime, "%s: this process already uses %s", file, environment.file)
		}
		return environment.file, nil
	}
	ort.SetSharedLibraryPath(file)
	// Fatal: the runtime writes its log to stderr, which belongs to the host; what
	// matters comes back as an error.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		text := err.Error()
		if strings.Contains(text, "ORT API base") {
			text = "too old: version 1.24 or later is needed"
		}
		return "", fault.New(fault.Runtime, "%s: %s", file, text)
	}
	environment.file = file
	return file, nil
}

func sameFile(a, b string) bool {
	ra, err1 := filepath.EvalSymlinks(a)
	rb, err2 := filepath.EvalSymlinks(b)
	return err1 == nil && err2 == nil && ra == rb
}

// Version returns the version of the loaded ONNX Runtime.
func Version() string { return ort.GetVersion() }

// Device is a device and whether it works here.
type Device struct {
	Name, Description string
	Err               error // nil where it works
}

// Devices loads the runtime and tries every device.
func Devices(option string) (file string, devices []Device, err error) {
	if file, err = Load(option); err != nil {
		return "", nil, err
	}
	for _, d := range []Device{
		{Name: OpenVINO, Description: "OpenVINO execution provider, CPU, fp32"},
		{Name: ORT, Description: "ONNX Runtime CPU execution provider, fp32"},
		{Name: CUDA, Description: "CUDA execution provider, NVIDIA GPU"},
	} {
		keepingAltstack(func() {
			options, _, err := sessionOptions(d.Name, Options{Threads: 1})
			if d.Err = err; err == nil {
				options.Destroy()
			}
		})
		devices = append(devices, d)
	}
	return file, devices, nil
}

// Threads returns the number of threads that an option of n means: n, or the
// number of usable cores for 0; never more than those, for more only fight.
func Threads(n int) int {
	if cores := runtime.GOMAXPROCS(0); n <= 0 || n > cores {
		return cores
	}
	return n
}

// resolve lists the devices to try for a name, best first.
func resolve(name string) ([]string, error) {
	switch strings.ToLower(name) {
	case "", Auto, CPU:
		return []string{OpenVINO, ORT}, nil
	case OpenVINO:
		return []string{OpenVINO}, nil
	case ORT:
		return []string{ORT}, nil
	case CUDA:
		return []string{CUDA}, nil
	}
	return nil, fault.New(fault.Argument, "device %q is not one of auto, cpu, openvino, ort, cuda", name)
}

// sessionOptions returns the runtime's options for one device, and the precision of its
// arithmetic.
func sessionOptions(device string, wanted Options) (o *ort.SessionOptions, precision string, err error) {
	precision = "fp32"
	threads := wanted.Threads
	if o, err = ort.NewSessionOptions(); err != nil {
		return nil, "", fault.New(fault.Runtime, "ONNX Runtime: %w", err)
	}
	set := func(e error) {
		if err == nil {
			err = e
		}
	}
	set(o.SetLogSeverityLevel(ort.LoggingLevelFatal))
	set(o.SetIntraOpNumThreads(threads))
	set(o.SetInterOpNumThreads(1))
	// A host's cores are not ours between calls: no spinning.
	set(o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"))
	switch device {
	case OpenVINO:
		// The whole network or nothing: a silent fall-back of some operators to
		// another provider would make the reported device untrue.
		set(o.AddSessionConfigEntry("session.disable_cpu_ep_fallback", "1"))
		provider := map[string]string{
			"device_type":    "CPU",
			"num_of_threads": strconv.Itoa(threads),
			"precision":      "FP32",
			// Without the hint, CPUs with bf16 units would silently compute in bf16.
			"load_config": `{"CPU":{"INFERENCE_PRECISION_HINT":"f32"}}`,
		}
		if wanted.Fast && bfloat16() {
			precision = "bf16"
			provider["precision"], provider["load_config"] = "ACCURACY", `{"CPU":{"INFERENCE_PRECISION_HINT":"bf16"}}`
		}
		if wanted.Cache != "" {
			provider["cache_dir"] = wanted.Cache
		}
		set(o.AppendExecutionProviderOpenVINO(provider))
	case CUDA:
		cuda, e := ort.NewCUDAProviderOptions()
		set(e)
		if e == nil {
			set(o.AppendExecutionProviderCUDA(cuda))
			cuda.Destroy()
		}
	}
	if err != nil {
		o.Destroy()
		return nil, "", fault.New(fault.Device, "device %s is not available: %s", device, firstLine(err))
	}
	return o, precision, nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
