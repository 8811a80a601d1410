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

// Session is a group of networks of the same shapes (folds) on one device, with
// one input and one output buffer in C memory. It is used by one goroutine at a
// time.
type Session struct {
	Device  string // the device that runs: openvino, ort, cuda
	Threads int
	Notes   []string // devices tried before and why they do not run it

	Input  []float32 // shared by all networks; filled by the caller before Run
	Output []float32 // what the last Run gave; overwritten by the next

	in, out *ort.Tensor[float32]
	runs    []*ort.AdvancedSession
}

// Open loads the runtime and makes a session of the networks on the first device
// that runs them; device is a name as in Auto. Errors are of kind Runtime (no
// library), Device (device absent) or Model (the runtime refuses a network).
func Open(networks []Network, device string, threads int, option string) (*Session, error) {
	candidates, err := resolve(device)
	if err != nil {
		return nil, err
	}
	if _, err := Load(option); err != nil {
		return nil, err
	}
	var failures []error
	for _, d := range candidates {
		var s *Session
		keepingAltstack(func() { s, err = open(networks, d, Threads(threads)) })
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

func open(networks []Network, device string, threads int) (s *Session, err error) {
	s = &Session{Device: device, Threads: threads}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	options, err := sessionOptions(device, threads)
	if err != nil {
		return s, err
	}
	defer options.Destroy()
	first := networks[0]
	if s.Input, err = cmem.AllocZero[float32](elements(first.InputShape)); err != nil {
		return s, err
	}
	if s.Output, err = cmem.AllocZero[float32](elements(first.OutputShape)); err != nil {
		return s, err
	}
	if s.in, err = ort.NewTensor(ort.Shape(first.InputShape), s.Input); err != nil {
		return s, fault.New(fault.Runtime, "input tensor: %w", err)
	}
	if s.out, err = ort.NewTensor(ort.Shape(first.OutputShape), s.Output); err != nil {
		return s, fault.New(fault.Runtime, "output tensor: %w", err)
	}
	for _, n := range networks {
		run, err := ort.NewAdvancedSessionWithONNXData(n.ONNX, []string{n.Input}, []string{n.Output},
			[]ort.Value{s.in}, []ort.Value{s.out}, options)
		if err != nil {
			return s, runtimeError(fault.Model, "device %s does not take the network: %s", device, err)
		}
		s.runs = append(s.runs, run)
	}
	return s, nil
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

// Run runs network i on Input into Output. When ctx is cancelled during the run
// the device is asked to stop (between operators, where it can) and the error is
// of kind Cancelled; the session stays usable.
func (s *Session) Run(ctx context.Context, i int) error {
	options, err := ort.NewRunOptions()
	if err != nil {
		return fault.New(fault.Runtime, "ONNX Runtime: %w", err)
	}
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { options.Terminate(); close(terminated) })
	err = s.runs[i].RunWithOptions(options)
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
	if s.in != nil {
		s.in.Destroy()
	}
	if s.out != nil {
		s.out.Destroy()
	}
	cmem.Free(s.Input)
	cmem.Free(s.Output)
	*s = Session{}
}

func elements(shape []int64) int {
	n := 1
	for _, d := range shape {
		n *= int(d)
	}
	return n
}
