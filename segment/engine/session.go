package engine

import (
	"context"
	"fmt"
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/onnx"
)

// Network is what a session runs: an ONNX model and the names and shapes of its
// one input and one output, float32, fixed sizes. ONNX is not used after Open.
type Network struct {
	ONNX        []byte
	Input       string
	InputShape  []int64 // 1, channels, patch...
	Output      string
	OutputShape []int64 // 1, heads, patch...
}

// Options chooses where and how networks run. The zero value is the default.
type Options struct {
	Device  string // a name as in Auto
	Threads int    // bound on the threads of a run; 0, or more than there are: one per core
	Runtime string // as for Find
	Fast    bool   // bf16 on processors that compute with it, fp16 on GPUs (TF32 on NVIDIA's where a network cannot be fp16)

	// Cache is "" or a folder that the session may keep prepared networks in, made
	// where it does not exist; any number of processes may share one. It is an aid:
	// a folder that is full, unreadable or damaged costs a note and time. Its files may
	// be removed while nothing is being opened.
	Cache string

	GPUMemory int64 // bound in bytes on the memory that a CUDA device gives its arena; 0: none
	Slots     int   // pairs of input and output buffers; 0: as many as gain (slots)
}

// Session is a group of networks of the same shapes (folds) on one device, with
// slots, pairs of an input and an output buffer in C memory. Weights and
// activations exist once, whatever the number of slots. One Run is in progress at a
// time; meanwhile other slots may be filled and read by other goroutines.
type Session struct {
	Device    string // the device that runs: openvino, openvino:GPU, ort, cuda
	Precision string // of the device's arithmetic: fp32, bf16, fp16 or tf32
	Threads   int
	Notes     []string // devices tried before and why they do not run it, and wishes not granted

	// By slot, and shared by all networks: what the caller fills before Run, and what the
	// last Run gave and the next overwrites. Networks that compute in float16 on a CUDA device
	// give HalfOutputs, the bits of float16 (IEEE 754 binary16), and others Outputs; the one
	// that there is not is nil.
	Inputs      [][]float32
	Outputs     [][]float32
	HalfOutputs [][]uint16

	in, out []ort.Value
	runs    []*ort.DynamicAdvancedSession
}

// Open loads the runtime and makes a session of the networks on the first device
// that runs them. Errors are of kind Argument (device, threads), Runtime (no library),
// Device (device absent), Memory, or Model (the runtime refuses a network).
func Open(networks []Network, o Options) (*Session, error) {
	var s *Session
	notes, err := onFirstDevice(o, func(device string, o Options) (err error) {
		s, err = open(networks, device, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.Notes = slices.Concat(notes, s.Notes)
	return s, nil
}

// open makes a session on one device.
func open(networks []Network, device string, o Options) (s *Session, err error) {
	if err := available(device); err != nil {
		return nil, err
	}
	s = &Session{Device: device, Threads: o.Threads}
	if o.Slots == 0 {
		o.Slots = slots(device, o.Threads)
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	var halves []*onnx.Model
	if o.Fast && device == halfDevice {
		if halves, err = s.halve(networks); err != nil {
			return s, err
		}
	}
	for range o.Slots {
		if err := s.addSlot(networks[0].InputShape, networks[0].OutputShape, halves != nil); err != nil {
			return s, err
		}
	}
	var c *cache
	if o.Cache != "" {
		if c, err = openCache(o.Cache); err != nil {
			s.note("the cache %s is not used: %v", o.Cache, err)
		}
	}
	for i, n := range networks {
		if halves == nil {
			err = s.add(n, c, o)
		} else {
			err = s.addHalf(n, halves[i], c, o)
		}
		if err != nil {
			return s, err
		}
	}
	s.pin(true)
	return s, nil
}

// addSlot makes a pair of buffers in C memory and the runtime's values over them, which
// are all that Run hands over. Binding them (ONNX Runtime's IoBinding) would not do more:
// it copies an input from the host when it is bound, not when the network runs, an output
// in a slot is written in place either way, and onnxruntime_go's RunWithBinding takes no
// run options, without which a run cannot be stopped.
func (s *Session) addSlot(in, out []int64, half bool) error {
	data, value, err := buffer(in, float32Value)
	if err != nil {
		return err
	}
	s.Inputs, s.in = append(s.Inputs, data), append(s.in, value)
	if half {
		data, value, err := buffer(out, float16Value)
		if err != nil {
			return err
		}
		s.HalfOutputs, s.out = append(s.HalfOutputs, data), append(s.out, value)
		return nil
	}
	if data, value, err = buffer(out, float32Value); err != nil {
		return err
	}
	s.Outputs, s.out = append(s.Outputs, data), append(s.out, value)
	return nil
}

// pin makes the slots quick to copy from and to the GPU, or takes that back.
func (s *Session) pin(on bool) {
	if s.Device != CUDA {
		return
	}
	for _, data := range slices.Concat(s.Inputs, s.Outputs) {
		pinned(data, on)
	}
	for _, data := range s.HalfOutputs {
		pinned(data, on)
	}
}

// buffer makes C memory for a tensor and the runtime's value over it.
func buffer[T any](shape []int64, over func(ort.Shape, []T) (ort.Value, error)) ([]T, ort.Value, error) {
	data, err := cmem.Alloc[T](elements(shape))
	if err != nil {
		return nil, nil, err
	}
	value, err := over(ort.Shape(shape), data)
	if err != nil {
		cmem.Free(data)
		return nil, nil, fault.New(fault.Runtime, "tensor of shape %v: %w", shape, err)
	}
	return data, value, nil
}

func float32Value(shape ort.Shape, data []float32) (ort.Value, error) {
	return ort.NewTensor(shape, data)
}

func float16Value(shape ort.Shape, data []uint16) (ort.Value, error) {
	return ort.NewCustomDataTensor(shape, cmem.Bytes(data), ort.TensorElementDataTypeFloat16)
}

// add makes the runtime's session of a network, with the cache c where that works.
func (s *Session) add(n Network, c *cache, o Options) error {
	if c != nil {
		err := s.addCached(n, c, o)
		if err == nil {
			return nil
		}
		s.note("the cache %s is not used: %s", o.Cache, firstLine(err))
	}
	o.Cache = ""
	return s.create(n, o)
}

// addCached is add with a cache; any failure of the cache is an error.
func (s *Session) addCached(n Network, c *cache, o Options) error {
	graph, key, err := c.detach(n.ONNX)
	if err != nil {
		return err
	}
	n.ONNX = graph
	create := func(dir string) error {
		o.Cache = dir
		return s.create(n, o, setting{"session.model_external_initializers_file_folder_path", c.dir})
	}
	if s.Device == CUDA || !onGPU(s.Device) {
		return create("")
	}
	note, err := c.kernels(kernelKey(key, s.Device, o.Fast), create)
	if note != "" {
		s.note("the cache %s keeps no kernels: %s", c.dir, note)
	}
	return err
}

// setting is an entry of a session's configuration.
type setting struct{ key, value string }

// create makes the runtime's session of a network; o.Cache is as for newProvider.
func (s *Session) create(n Network, o Options, settings ...setting) error {
	p, err := newProvider(s.Device, o)
	if err != nil {
		return err
	}
	defer p.options.Destroy()
	for _, e := range settings {
		if err := p.options.AddSessionConfigEntry(e.key, e.value); err != nil {
			return fault.New(fault.Runtime, "%s: %w", e.key, err)
		}
	}
	run, err := ort.NewDynamicAdvancedSessionWithONNXData(n.ONNX, []string{n.Input}, []string{n.Output}, p.options)
	if err != nil {
		return runtimeError(fault.Model, "device %s does not take the network: %s", s.Device, err)
	}
	s.runs = append(s.runs, run)
	if s.Precision = p.precision; p.note != "" {
		s.note("%s", p.note)
	}
	return nil
}

// note adds a note, once.
func (s *Session) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.Notes, text) {
		s.Notes = append(s.Notes, text)
	}
}

// Networks returns how many networks the session holds.
func (s *Session) Networks() int { return len(s.runs) }

// Run runs a network on a slot's input into its output. When ctx is cancelled during the
// run the device is asked to stop (between operators, where it can) and the error is
// of kind Cancelled; the session stays usable. Other errors: Memory, after which it does,
// too; Device, and of a CUDA device that was lost, in every later run as well; Model (values
// beyond the range of fp16).
func (s *Session) Run(ctx context.Context, network, slot int) error {
	err := runWith(ctx, s.Device, func(options *ort.RunOptions) error {
		return s.runs[network].RunWithOptions(s.in[slot:slot+1], s.out[slot:slot+1], options)
	})
	if err != nil {
		return err
	}
	if s.Precision == fp16 && !s.finite(slot) {
		return fault.New(fault.Model, "values of this network are beyond the range of fp16 (65504); use exact mode")
	}
	return nil
}

// finite looks at some thousand of a slot's logits: an overflow spreads over whole channels.
func (s *Session) finite(slot int) bool {
	if s.HalfOutputs != nil {
		return sampled(s.HalfOutputs[slot], func(bits uint16) bool { return bits&0x7c00 != 0x7c00 })
	}
	return sampled(s.Outputs[slot], func(v float32) bool { return v-v == 0 })
}

// sampled reports whether some thousand elements, evenly spread, are as asked.
func sampled[T any](data []T, ok func(T) bool) bool {
	for i := 0; i < len(data); i += 1 + len(data)/4096 {
		if !ok(data[i]) {
			return false
		}
	}
	return true
}

// Close frees the networks and the buffers; where the device was lost, the buffers only.
func (s *Session) Close() {
	if len(s.runs) == 0 || !left(s.Device) {
		guarded(s.Device, func() {
			for _, r := range s.runs {
				r.Destroy()
			}
		})
		s.pin(false)
	}
	for _, tensor := range slices.Concat(s.in, s.out) {
		tensor.Destroy()
	}
	for _, data := range slices.Concat(s.Inputs, s.Outputs) {
		cmem.Free(data)
	}
	for _, data := range s.HalfOutputs {
		cmem.Free(data)
	}
	*s = Session{}
	trim()
}

func elements(shape []int64) int {
	n := 1
	for _, d := range shape {
		n *= int(d)
	}
	return n
}
