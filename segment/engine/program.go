package engine

import (
	"context"
	"errors"
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Port is an input or output of a Program: a tensor of float32 and its memory, which is
// C memory of the caller's and outlives the Program.
type Port struct {
	Name  string
	Shape []int64 // one axis or more
	Data  []float32
}

// Program is an ONNX graph with any number of inputs and outputs on one device: a
// training step, say. What inference needs is in Session. One Run is in progress at a time.
type Program struct {
	Device    string   // as of a Session
	Precision string   // of the device's arithmetic: fp32 or bf16
	Threads   int      // of a run
	Notes     []string // as of a Session

	in, out []ort.Value
	run     *ort.DynamicAdvancedSession
}

// OpenProgram loads the runtime and prepares the graph, encoded, on the first device
// that runs it; graph is not used afterwards. Of o, Cache, GPUMemory and Slots have no
// meaning, and Fast does nothing on CUDA. Errors: as of Open, and Argument (a port whose
// memory is not of its shape).
func OpenProgram(graph []byte, inputs, outputs []Port, o Options) (*Program, error) {
	var p *Program
	notes, err := onFirstDevice(o, func(device string, o Options) (err error) {
		p, err = openProgram(graph, inputs, outputs, device, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.Notes = slices.Concat(notes, p.Notes)
	return p, nil
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

// openProgram prepares the graph on one device.
func openProgram(graph []byte, inputs, outputs []Port, device string, o Options) (_ *Program, err error) {
	if err := available(device); err != nil {
		return nil, err
	}
	p := &Program{Device: device, Threads: o.Threads}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	var inNames, outNames []string
	if p.in, inNames, err = bind(inputs); err != nil {
		return nil, err
	}
	if p.out, outNames, err = bind(outputs); err != nil {
		return nil, err
	}
	o.Cache = ""
	provider, err := newProvider(device, o)
	if err != nil {
		return nil, err
	}
	defer provider.options.Destroy()
	if p.run, err = ort.NewDynamicAdvancedSessionWithONNXData(graph, inNames, outNames, provider.options); err != nil {
		return nil, runtimeError(fault.Model, "device %s does not take the graph: %s", device, err)
	}
	if p.Precision = provider.precision; provider.note != "" {
		p.Notes = append(p.Notes, provider.note)
	}
	return p, nil
}

// bind makes tensors over the ports' memory.
func bind(ports []Port) (values []ort.Value, names []string, err error) {
	for _, port := range ports {
		if elements(port.Shape) != len(port.Data) {
			err = fault.New(fault.Argument, "%s has %d numbers, its shape is %v", port.Name, len(port.Data), port.Shape)
			return values, names, err
		}
		tensor, err := ort.NewTensor(ort.Shape(port.Shape), port.Data)
		if err != nil {
			return values, names, fault.New(fault.Argument, "%s, of shape %v: %w", port.Name, port.Shape, err)
		}
		values, names = append(values, tensor), append(names, port.Name)
	}
	return values, names, nil
}

// Run computes the outputs from the inputs. When ctx is cancelled during the run the
// device is asked to stop (between operators, where it can) and the error is of kind
// Cancelled; outputs are then undefined, and the program stays usable. Other errors:
// Memory, Device (it failed).
func (p *Program) Run(ctx context.Context) error {
	return runWith(ctx, p.Device, func(options *ort.RunOptions) error { return p.run.RunWithOptions(p.in, p.out, options) })
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

// Close frees what the runtime holds; the ports' memory stays.
func (p *Program) Close() {
	guarded(p.Device, p.close)
	trim()
}

func (p *Program) close() {
	if p.run != nil {
		p.run.Destroy()
	}
	for _, tensor := range slices.Concat(p.in, p.out) {
		tensor.Destroy()
	}
	*p = Program{}
}
