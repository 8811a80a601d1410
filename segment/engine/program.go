package engine

import (
	"context"
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
	Precision string   // of the device's arithmetic: fp32, bf16 or tf32
	Threads   int      // of a run
	Notes     []string // as of a Session

	in, out []ort.Value
	run     *ort.DynamicAdvancedSession
}

// OpenProgram loads the runtime and prepares the graph, encoded, on the first device
// that runs it; graph is not used afterwards. Of o, Cache, GPUMemory and Slots have no
// meaning; Fast is bf16 on processors that compute with it, TF32 on CUDA. Errors: as of
// Open, and Argument (a port whose memory is not of its shape).
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

// Close frees what the runtime holds, unless the device was lost; the ports' memory stays.
func (p *Program) Close() {
	guarded(p.Device, p.close)
	trim()
}

func (p *Program) close() {
	if p.run != nil && !left(p.Device) {
		p.run.Destroy()
	}
	for _, tensor := range slices.Concat(p.in, p.out) {
		tensor.Destroy()
	}
	*p = Program{}
}
