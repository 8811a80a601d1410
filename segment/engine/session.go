package engine

import (
	"context"
	"errors"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
)

// Network is what a session runs: an ONNX model and the names and shapes of its
// one input and one output, float32, fixed sizes.
type Network struct {
	ONNX        []byte
	Input       string
	InputShape  []int64 // 1, channels, patch...
	Output      string
	OutputShape []int64 // 1, heads, patch...
}

// Options chooses where and how networks run.
type Options struct {
	Device  string // a name as in Auto
	Threads int    // bound on the threads of a run; 0: one per core
	Runtime string // as for Find
	Fast    bool   // bfloat16 where the processor computes with it
	Cache   string // "" or a folder for compiled networks
	Slots   int    // pairs of input and output buffers; 0: one
}

// Session is a group of networks of the same shapes (folds) on one device, with
// slots, pairs of an input and an output buffer in C memory. One Run is in progress at a
// time; meanwhile other slots may be filled and read.
type Session struct {
	Device    string // the device that runs: openvino, ort, cuda
	Precision string // fp32 or bf16
	Threads   int
	Notes     []string // devices tried before and why they do not run it

	Inputs  [][]float32 // by slot; shared by all networks; filled by the caller before Run
	Outputs [][]float32 // by slot; what the last Run gave; overwritten by the next

	in, out []ort.Value
	runs    []*ort.DynamicAdvancedSession
}

// Open loads the runtime and makes a session of the networks on the first device
// that runs them. Errors are of kind Runtime (no library), Device (device absent) or
// Model (the runtime refuses a network).
func Open(networks []Network, o Options) (*Session, error) {
	candidates, err := resolve(o.Device)
	if err != nil {
		return nil, err
	}
	if _, err := Load(o.Runtime); err != nil {
		return nil, err
	}
	o.Threads, o.Slots = Threads(o.Threads), max(1, o.Slots)
	var failures []error
	for _, d := range candidates {
		var s *Session
		keepingAltstack(func() { s, err = open(networks, d, o) })
		if err == nil {
			for _, f := range failures {
				s.Notes = append(s.Notes, f.Error())
			}
			return s, nil
		}
		if fault.KindOf(err) == fault.Memory {
			return nil, err
		}
		failures = append(failures, err)
	}
	if len(failures) == 1 {
		return nil, failures[0]
	}
	return nil, fault.New(fault.KindOf(failures[len(failures)-1]), "no device runs the network: %w", errors.Join(failures...))
}

func open(networks []Network, device string, o Options) (s *Session, err error) {
	s = &Session{Device: device, Threads: o.Threads}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if o.Cache != "" {
		if o.Cache, err = usableFolder(o.Cache); err != nil {
			s.Notes, err = append(s.Notes, "no cache: "+err.Error()), nil
		}
	}
	options, precision, err := sessionOptions(device, o)
	if err != nil {
		return s, err
	}
	s.Precision = precision
	defer options.Destroy()
	first := networks[0]
	for range o.Slots {
		in, tensor, err := buffer(first.InputShape)
		if err != nil {
			return s, err
		}
		s.Inputs, s.in = append(s.Inputs, in), append(s.in, tensor)
		out, tensor, err := buffer(first.OutputShape)
		if err != nil {
			return s, err
		}
		s.Outputs, s.out = append(s.Outputs, out), append(s.out, tensor)
	}
	for _, n := range networks {
		run, err := ort.NewDynamicAdvancedSessionWithONNXData(n.ONNX, []string{n.Input}, []string{n.Output}, options)
		if err != nil {
			return s, runtimeError(fault.Model, "device %s does not take the network: %s", device, err)
		}
		s.runs = append(s.runs, run)
	}
	return s, nil
}

// buffer makes a tensor over C memory of its own.
func buffer(shape []int64) ([]float32, ort.Value, error) {
	data, err := cmem.AllocZero[float32](elements(shape))
	if err != nil {
		return nil, nil, err
	}
	tensor, err := ort.NewTensor(ort.Shape(shape), data)
	if err != nil {
		cmem.Free(data)
		return nil, nil, fault.New(fault.Runtime, "tensor of shape %v: %w", shape, err)
	}
	return data, tensor, nil
}

// runtimeError gives a failure inside the runtime its kind: memory that ran out
// looks the same wherever it happens.
func runtimeError(k fault.Kind, format, device string, err error) error {
	text := firstLine(err)
	for _, sign := range []string{"bad_alloc", "bad allocation", "Failed to allocate", "out of memory", "Cannot allocate"} {
		if strings.Contains(err.Error(), sign) {
			k = fault.Memory
		}
	}
	return fault.New(k, format, device, text)
}

// Networks returns how many networks the session holds.
func (s *Session) Networks() int { return len(s.runs) }

// Run runs network i on a slot's input into its output. When ctx is cancelled during the run
// the device is asked to stop (between operators, where it can) and the error is
// of kind Cancelled; the session stays usable.
func (s *Session) Run(ctx context.Context, i, slot int) error {
	options, err := ort.NewRunOptions()
	if err != nil {
		return fault.New(fault.Runtime, "ONNX Runtime: %w", err)
	}
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { options.Terminate(); close(terminated) })
	err = s.runs[i].RunWithOptions(s.in[slot:slot+1], s.out[slot:slot+1], options)
	if !stop() {
		<-terminated // its last touch of options
	}
	options.Destroy()
	if ctx.Err() != nil {
		return fault.New(fault.Cancelled, "cancelled")
	}
	if err != nil {
		return runtimeError(fault.Device, "device %s failed: %s", s.Device, err)
	}
	return nil
}

// Close frees the networks and the buffers.
func (s *Session) Close() {
	keepingAltstack(func() {
		for _, r := range s.runs {
			r.Destroy()
		}
	})
	for _, tensor := range append(s.in, s.out...) {
		tensor.Destroy()
	}
	for _, data := range append(s.Inputs, s.Outputs...) {
		cmem.Free(data)
	}
	*s = Session{}
}

func elements(shape []int64) int {
	n := 1
	for _, d := range shape {
		n *= int(d)
	}
	return n
}
