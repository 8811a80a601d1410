// Package engine runs networks with ONNX Runtime. It is the only room that knows
// the runtime: it finds its library, chooses the device, and holds sessions.
package engine

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/libflare/libflare/segment/internal/fault"
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

// folder is where the loaded runtime, and so what belongs to it, lies.
func folder() string {
	environment.Lock()
	defer environment.Unlock()
	if real, err := filepath.EvalSymlinks(environment.file); err == nil {
		return filepath.Dir(real)
	}
	return filepath.Dir(environment.file)
}

// Version returns the version of the loaded ONNX Runtime.
func Version() string { return ort.GetVersion() }

// slots returns how many slots a session gets: whether the rest of a call goes on beside
// the network (two) or in turn with it (one).
//
// A GPU leaves the processor free, so two, where the threads allow one that drives the GPU
// and one for the rest. On a processor one: the network and the rest both use all threads,
// so that taking turns leaves no core idle, and a thread that is taken away from n slows the
// network by 1/(n-1), which up to some 30 threads is more than all of the rest. Measured
// (./build.sh bench overlap: two cores, CT of 512x512x168, student-sized network): in turn,
// the rest takes 2 % of the network's time with one thread and 3 % with two. Beside the
// network, two threads in all take 87 % longer, for the network has one of them; and even
// with as many threads for each, more than a caller allowed, the gain is 2 % with one thread
// and none with two. Machines with many cores were not measured.
func slots(device string, threads int) int {
	if onGPU(device) && threads > 1 {
		return 2
	}
	return 1
}

// Threads returns the number of threads that an option of n means: n, or the
// number of usable cores for 0; never more than those, for more only fight.
func Threads(n int) int {
	if cores := runtime.GOMAXPROCS(0); n <= 0 || n > cores {
		return cores
	}
	return n
}

// onFirstDevice loads the runtime and calls open for the devices of o, best first, until
// it succeeds, with what the options that are left out mean. notes are the failures
// before that.
func onFirstDevice(o Options, open func(device string, o Options) error) (notes []string, err error) {
	if o.Threads < 0 {
		return nil, fault.New(fault.Argument, "%d threads; expected 0 (one per core) or more", o.Threads)
	}
	if _, err := Load(o.Runtime); err != nil {
		return nil, err
	}
	candidates, err := resolve(o.Device)
	if err != nil {
		return nil, err
	}
	o.Threads = Threads(o.Threads)
	var failures []error
	for _, d := range candidates {
		guarded(d, func() { err = open(d, o) })
		if err == nil {
			return notes, nil
		}
		if fault.KindOf(err) == fault.Memory && !onGPU(d) {
			return nil, err // another provider would find no more
		}
		failures, notes = append(failures, err), append(notes, err.Error())
	}
	if len(failures) == 1 {
		return nil, failures[0]
	}
	return nil, fault.New(fault.KindOf(failures[len(failures)-1]), "no device runs the network: %w", errors.Join(failures...))
}

// runWith calls run with options through which a cancelled ctx ends it.
func runWith(ctx context.Context, device string, run func(*ort.RunOptions) error) error {
	if ctx.Err() != nil {
		return fault.New(fault.Cancelled, "cancelled")
	}
	if device == CUDA {
		if err := wasLost(); err != nil {
			return err
		}
	}
	options, err := ort.NewRunOptions()
	if err != nil {
		return fault.New(fault.Runtime, "ONNX Runtime: %w", err)
	}
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { options.Terminate(); close(terminated) })
	err = run(options)
	if !stop() {
		<-terminated // its last touch of options
	}
	options.Destroy()
	if ctx.Err() != nil {
		return fault.New(fault.Cancelled, "cancelled")
	}
	if err != nil {
		if device == CUDA {
			if err := cudaLost(); err != nil {
				return err
			}
		}
		return runtimeError(fault.Device, "device %s failed: %s", device, err)
	}
	return nil
}
