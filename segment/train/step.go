package train

import (
	"context"
	"math"
	"math/rand/v2"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
)

// Config describes a training step.
type Config struct {
	Arch     *nnunet.Architecture
	Channels int   // of the images
	Heads    int   // of the network's output: classes with the background, or regions
	Patch    []int // voxels, of the transposed axes
	Batch    int   // samples in a batch
	Loss     onnx.Loss

	NoDeepSupervision bool    // the loss takes the full resolution only
	Dropout           float64 // probability that a channel is dropped after a convolution
	StochasticDepth   float64 // probability that a residual block is skipped; 0 for networks without

	Device  string // as engine.Options
	Threads int
	Runtime string
	Fast    bool
}

// Step is nnU-Net's training step for batches of one size: forward, loss and backward as
// one graph on one device. The caller fills Images and the target, calls Backward, and
// applies Gradients to Parameters with an Optimizer. A Step is used by one goroutine at a
// time.
type Step struct {
	Config
	Device    string // that runs
	Precision string // of its arithmetic: fp32, bf16 or tf32
	Notes     []string

	Images  []float32 // batch x channels x patch
	Labels  []float32 // batch x patch: labels, whole numbers; nil with Loss.Soft
	Soft    []float32 // batch x heads x patch: probabilities, with Loss.Soft
	Weights []float32 // batch x patch: of the voxels' losses, with Loss.Weighted; first all 1
	Masks   []Mask    // of dropout and stochastic depth: DrawMasks fills them; first all 1

	Parameters *Parameters // first all 0
	Gradients  *Parameters // of the loss, of the last Backward

	loss, counts      []float32 // loss, ce, dice; 3 x heads
	kept              []float32 // gradients that Backward adds to
	backward, forward *engine.Program
	graph             onnx.Training
}

// Mask holds the random factors of one place in the network: 0, or 1/p where p is the
// probability of not being 0.
type Mask struct {
	onnx.Mask
	Data []float32
}

// Result is what a step tells about a batch.
type Result struct {
	Loss, CE, Dice float64   // Loss = CE + Dice; Dice is the negative of a mean of Dice coefficients
	TP, FP, FN     []float64 // voxels by head: hard decisions at full resolution, over the whole batch
}

// NewStep builds the graph, allocates all buffers, and prepares the device. Errors: Argument
// (probabilities; stochastic depth without residual blocks), those of onnx.Training.Graph and
// engine.OpenProgram, and Memory.
func NewStep(c Config) (_ *Step, err error) {
	training, graph, err := c.training()
	if err != nil {
		return nil, err
	}
	s := &Step{Config: c, graph: training}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := s.allocate(graph); err != nil {
		return nil, err
	}
	if s.backward, err = s.open(graph); err != nil {
		return nil, err
	}
	s.Device, s.Precision, s.Notes = s.backward.Device, s.backward.Precision, s.backward.Notes
	return s, nil
}

// training describes and builds the graph.
func (c *Config) training() (onnx.Training, *onnx.TrainingGraph, error) {
	for _, p := range []float64{c.Dropout, c.StochasticDepth} {
		if !(p >= 0 && p < 1) {
			return onnx.Training{}, nil, fault.New(fault.Argument, "%g is no probability of dropping; expected 0 or more and less than 1", p)
		}
	}
	if c.StochasticDepth > 0 && !c.Arch.Residual() {
		return onnx.Training{}, nil, fault.New(fault.Argument, "stochastic_depth is %g, but a %s has no residual blocks to skip: "+
			"expected 0, or the plans of a residual network, such as the planner ResEncM makes", c.StochasticDepth, c.Arch.Class)
	}
	t := onnx.Training{Arch: c.Arch, Channels: c.Channels, Heads: c.Heads, Batch: c.Batch, Patch: c.Patch, Loss: c.Loss,
		DeepSupervision: !c.NoDeepSupervision, Dropout: c.Dropout > 0, StochasticDepth: c.StochasticDepth > 0, Gradients: true}
	graph, err := t.Graph()
	return t, graph, err
}

// allocate makes the buffers.
func (s *Step) allocate(graph *onnx.TrainingGraph) (err error) {
	alloc := func(n int, v float32) []float32 {
		var data []float32
		if err == nil {
			data, err = cmem.Alloc[float32](n)
		}
		for i := range data {
			data[i] = v
		}
		return data
	}
	voxels := s.Batch * elements(s.Patch)
	s.Images = alloc(voxels*s.Channels, 0)
	if s.Loss.Soft {
		s.Soft = alloc(voxels*s.Heads, 0)
	} else {
		s.Labels = alloc(voxels, 0)
	}
	if s.Loss.Weighted {
		s.Weights = alloc(voxels, 1)
	}
	for _, m := range graph.Masks {
		s.Masks = append(s.Masks, Mask{m, alloc(elements(m.Shape), 1)})
	}
	s.loss, s.counts = alloc(3, 0), alloc(3*s.Heads, 0)
	if err == nil {
		s.Parameters, err = newParameters(graph.Parameters)
	}
	if err == nil {
		s.Gradients, err = newParameters(graph.Parameters)
	}
	return err
}

// open prepares a graph, whose ports are bound to the step's buffers.
func (s *Step) open(graph *onnx.TrainingGraph) (*engine.Program, error) {
	buffers := map[string][]float32{
		onnx.InputName: s.Images, onnx.TargetName: s.Labels, onnx.WeightName: s.Weights, onnx.CountsName: s.counts,
		onnx.LossName: s.loss[:1], onnx.CEName: s.loss[1:2], onnx.DiceName: s.loss[2:3],
	}
	if s.Loss.Soft {
		buffers[onnx.TargetName] = s.Soft
	}
	for i, p := range s.Parameters.Tensors {
		buffers[p.Name], buffers[onnx.GradientPrefix+p.Name] = p.Data, s.Gradients.Tensors[i].Data
	}
	for _, m := range s.Masks {
		buffers[m.Name] = m.Data
	}
	ports := func(values []*onnx.ValueInfo) (out []engine.Port) {
		for _, v := range values {
			p := engine.Port{Name: v.Name, Data: buffers[v.Name]}
			for _, d := range v.Dims {
				p.Shape = append(p.Shape, d.Value)
			}
			out = append(out, p)
		}
		return out
	}
	data, err := graph.Model.Marshal()
	if err != nil {
		return nil, err
	}
	g := graph.Model.Graph
	device := s.Config.Device
	if s.Device != "" {
		device = s.Device // both graphs run on one device
	}
	return engine.OpenProgram(data, ports(g.Inputs), ports(g.Outputs),
		engine.Options{Device: device, Threads: s.Threads, Runtime: s.Runtime, Fast: s.Fast})
}

// Close frees everything; slices of the step must no longer be used.
func (s *Step) Close() {
	for _, p := range []*engine.Program{s.backward, s.forward} {
		if p != nil {
			p.Close()
		}
	}
	s.Parameters.free()
	s.Gradients.free()
	for _, m := range s.Masks {
		cmem.Free(m.Data)
	}
	for _, data := range [][]float32{s.Images, s.Labels, s.Soft, s.Weights, s.loss, s.counts, s.kept} {
		cmem.Free(data)
	}
	*s = Step{}
}

// Backward computes the loss of the batch and fills Gradients, or, with add, adds to
// what is there: so several batches make a larger one, whose gradient is the sum.
// Errors: Model (a loss that is NaN or infinite; Result holds it), and those of
// engine.Program.Run, after which Gradients are undefined.
func (s *Step) Backward(ctx context.Context, add bool) (Result, error) {
	if add {
		if s.kept == nil {
			var err error
			if s.kept, err = cmem.Alloc[float32](len(s.Gradients.Values)); err != nil {
				return Result{}, err
			}
		}
		copy(s.kept, s.Gradients.Values)
	}
	if err := s.backward.Run(ctx); err != nil {
		return Result{}, err
	}
	if add {
		accumulate(s.Gradients.Values, s.kept, s.backward.Threads)
	}
	return s.result()
}

// Forward computes the loss of the batch without gradients, for validation. The first
// call prepares a graph for it, which has no masks. Errors as of Backward and NewStep.
func (s *Step) Forward(ctx context.Context) (Result, error) {
	if s.forward == nil {
		c := s.graph
		c.Gradients, c.Dropout, c.StochasticDepth = false, false, false
		graph, err := c.Graph()
		if err != nil {
			return Result{}, err
		}
		if s.forward, err = s.open(graph); err != nil {
			return Result{}, err
		}
	}
	if err := s.forward.Run(ctx); err != nil {
		return Result{}, err
	}
	return s.result()
}

// result reads the outputs.
func (s *Step) result() (Result, error) {
	r := Result{Loss: float64(s.loss[0]), CE: float64(s.loss[1]), Dice: float64(s.loss[2])}
	for i, v := range s.counts {
		switch i / s.Heads {
		case 0:
			r.TP = append(r.TP, float64(v))
		case 1:
			r.FP = append(r.FP, float64(v))
		case 2:
			r.FN = append(r.FN, float64(v))
		}
	}
	if math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0) {
		return r, fault.New(fault.Model, "the loss is %g (cross-entropy %g, Dice %g)", r.Loss, r.CE, r.Dice)
	}
	return r, nil
}

// DrawMasks fills Masks for one step of training: a function of seed and step.
func (s *Step) DrawMasks(seed, step uint64) {
	random := rand.New(rand.NewPCG(seed, step))
	for _, m := range s.Masks {
		drop := s.Dropout
		if m.Kind == onnx.DropPath {
			drop = s.StochasticDepth
		}
		for i := range m.Data {
			if m.Data[i] = float32(1 / (1 - drop)); random.Float64() < drop {
				m.Data[i] = 0
			}
		}
	}
}
