// Package train trains nnU-Net's networks: a training step is one ONNX graph (package
// onnx) that package engine runs, and an optimizer in Go.
package train

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
)

// Parameters are tensors by state-dict name in one buffer: those of a network, or their
// gradients, which have the same layout. One buffer is what a collective operation
// between processes takes.
type Parameters struct {
	// Values holds all tensors in C memory, each from a multiple of 64 bytes on; what lies
	// between them is 0.
	Values  []float32
	Tensors []Tensor
}

// Tensor is one of the Parameters.
type Tensor struct {
	onnx.Parameter
	Data []float32 // a view of Values, in C order
}

// alignment is what tensors begin at multiples of, in numbers: vector units and runtimes
// like cache lines.
const alignment = 16

// newParameters allocates the tensors of a list, all 0. Error: Memory.
func newParameters(list []onnx.Parameter) (*Parameters, error) {
	total := 0
	for _, p := range list {
		total += aligned(elements(p.Shape))
	}
	values, err := cmem.AllocZero[float32](total)
	if err != nil {
		return nil, err
	}
	out := &Parameters{Values: values}
	for _, p := range list {
		n := elements(p.Shape)
		out.Tensors = append(out.Tensors, Tensor{p, values[:n:n]})
		values = values[aligned(n):]
	}
	return out, nil
}

func aligned(n int) int { return (n + alignment - 1) / alignment * alignment }

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// free gives the memory back.
func (p *Parameters) free() {
	if p != nil {
		cmem.Free(p.Values)
		p.Values, p.Tensors = nil, nil
	}
}

// Count returns the number of parameters.
func (p *Parameters) Count() int {
	n := 0
	for _, t := range p.Tensors {
		n += len(t.Data)
	}
	return n
}

// Find returns the tensor called name, nil if there is none.
func (p *Parameters) Find(name string) *Tensor {
	i := slices.IndexFunc(p.Tensors, func(t Tensor) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return &p.Tensors[i]
}

// Initialize draws the parameters of a new network as nnU-Net does
// (dynamic_network_architectures/initialization/weight_init.py): weights of convolutions
// from He et al.'s normal distribution for a LeakyReLU of slope 0.01, biases 0, norms 1
// and 0; the last norm of a residual block begins with 0, so that the block begins as
// the identity. The numbers are a function of seed and the order of the tensors.
func (p *Parameters) Initialize(arch *nnunet.Architecture, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0x6e6e552d4e6574))
	last := ".conv2.norm."
	if arch.Bottleneck != nil {
		last = ".conv3.norm."
	}
	for _, t := range p.Tensors {
		clear(t.Data)
		switch {
		case len(t.Shape) > 1:
			// Fan-in as PyTorch counts it: of the second axis, for transposed convolutions, too.
			fan := elements(t.Shape[1:])
			deviation := math.Sqrt(2 / (1 + 0.01*0.01) / float64(fan))
			for i := range t.Data {
				t.Data[i] = float32(random.NormFloat64() * deviation)
			}
		case strings.HasSuffix(t.Name, ".norm.weight") && !(arch.Residual() && lastNorm(t.Name, last)):
			for i := range t.Data {
				t.Data[i] = 1
			}
		}
	}
}

// lastNorm reports whether a norm is the last of a residual block. The decoder of
// ResidualUNet has blocks of two convolutions whatever the encoder's are.
func lastNorm(name, last string) bool {
	if strings.HasPrefix(name, "decoder.") {
		last = ".conv2.norm."
	}
	return strings.Contains(name, last)
}

// Load copies weights into the parameters: of a checkpoint (onnx.CheckpointWeights) or of
// a bundle (onnx.Model.FoldWeights). Heads of deep supervision that the weights lack keep
// what they have. Errors: Model (weights that are missing, have another shape, or that
// the network does not have), and those of reading them; the parameters are then
// undefined.
func (p *Parameters) Load(w onnx.Weights) error {
	final := p.finalHead()
	var problems []string
	for _, t := range p.Tensors {
		source, err := w.Tensor(t.Name, t.Shape)
		switch {
		case err != nil && strings.HasPrefix(t.Name, "decoder.seg_layers.") && !strings.HasPrefix(t.Name, final) && strings.Contains(err.Error(), "is missing"):
		case err != nil:
			problems = append(problems, err.Error())
		case problems == nil:
			if err := source.Load(cmem.Bytes(t.Data)); err != nil {
				return err
			}
		}
	}
	for _, name := range w.Unused() {
		problems = append(problems, name+" is not part of the network")
	}
	if problems != nil {
		const most = 12
		more := ""
		if len(problems) > most {
			problems, more = problems[:most], "; and more"
		}
		source := w.Source()
		if source != "" {
			source = " of " + source
		}
		return fault.New(fault.Model, "the weights%s do not fit the network: %s%s", source, strings.Join(problems, "; "), more)
	}
	return nil
}

// finalHead is the prefix of the head at full resolution, the one that inference uses.
func (p *Parameters) finalHead() string {
	head := ""
	for _, t := range p.Tensors {
		if strings.HasPrefix(t.Name, "decoder.seg_layers.") {
			head = t.Name[:strings.LastIndexByte(t.Name, '.')+1]
		}
	}
	return head
}

// Weights returns the parameters as weights for onnx.Network: the values that they have
// when the model is marshalled.
func (p *Parameters) Weights() *onnx.StateDict {
	s := onnx.NewStateDict()
	for _, t := range p.Tensors {
		s.Add(t.Name, t.Shape, func(dst []float32) error {
			copy(dst, t.Data)
			return nil
		})
	}
	return s
}
