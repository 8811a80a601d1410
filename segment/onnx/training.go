package onnx

import (
	"slices"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

// Names of a training graph's inputs and outputs besides InputName, those of its
// parameters (their state-dict names), their gradients (GradientPrefix + name) and its
// masks.
const (
	TargetName     = "target"
	WeightName     = "weight"
	LossName       = "loss"   // CEName + DiceName; all three of one number
	CEName         = "ce"     // the part of the cross-entropy
	DiceName       = "dice"   // the part of the Dice loss, which is negative
	CountsName     = "counts" // see Training
	GradientPrefix = "gradient/"
)

// Training describes a training step: one batch forward through a network, nnU-Net's
// loss, and back.
type Training struct {
	Arch     *nnunet.Architecture
	Channels int   // of the images
	Heads    int   // of the logits: classes with the background, or regions
	Batch    int   // samples
	Patch    []int // voxels, of the transposed axes
	Loss     Loss

	DeepSupervision          bool // the loss counts lower scales, too
	Dropout, StochasticDepth bool // the graph takes random masks
	Gradients                bool // else forward only
	Target                   Target
}

// Loss says what the logits are compared with: nnU-Net's DC_and_CE_loss or, with
// Regions, DC_and_BCE_loss (nnunetv2/training/loss/compound_losses.py), of weight 1 each.
type Loss struct {
	BatchDice bool    // one Dice for the whole batch rather than one for each sample
	Regions   [][]int // the labels of each head; nil: head c is label c
	Soft      bool    // the target holds probabilities, one channel for each head
	Ignore    int     // the label that does not count; 0: none
	Weighted  bool    // every voxel has a weight
}

// Parameter is a tensor of the state dict that a training graph takes.
type Parameter struct {
	Name     string
	Shape    []int
	Gradient GradientKind
}

// GradientKind says what a training graph has to tell of a parameter's gradient.
type GradientKind int

// The kinds of gradients.
const (
	GradientOutput GradientKind = iota // an output of the graph
	GradientZero                       // zero whatever the values: a bias that the norm takes out again
	GradientNone                       // the loss does not see the parameter: PyTorch's optimizers leave it alone
)

// Mask is an input of random numbers: 0, or 1/p where p is the probability of not being 0.
type Mask struct {
	Name  string
	Kind  MaskKind
	Shape []int
}

// TrainingGraph is a training step as an ONNX model.
//
// Inputs, float32: InputName (batch x channels x patch), TargetName (batch x 1 x patch,
// labels; with Loss.Soft batch x heads x patch, probabilities), with Loss.Weighted
// WeightName (batch x 1 x patch), all Parameters, and all Masks.
//
// Outputs, float32: LossName, CEName, DiceName; CountsName, 3 x heads: true positives,
// false positives and false negatives of the hard decisions at full resolution, summed
// over the batch; and the gradients of the loss by the Parameters of GradientOutput.
type TrainingGraph struct {
	Model      *Model
	Parameters []Parameter
	Masks      []Mask
}

// Graph builds the graph. Errors: Model (a patch that the strides do not divide,
// heads that are not the regions'), Unsupported (layers whose gradient is not known, by
// name), Argument (sizes that make no sense).
func (c Training) Graph() (*TrainingGraph, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	g := &Graph{Name: c.Arch.Class}
	t := newTape(g, c.Target)
	t.gradient = c.Gradients
	t.drops = map[MaskKind]bool{Dropout: c.Dropout, DropPath: c.StochasticDepth}
	t.weights = deepSupervision(c.Arch.Stages-1, c.DeepSupervision)
	u := &unet{g: g, Architecture: c.Arch, tape: t}
	t.shapes[InputName] = append([]int{c.Batch, c.Channels}, c.Patch...)
	skips := u.encoder(InputName, c.Channels)
	logits := u.decoder(skips, c.Heads)
	slices.Reverse(logits) // now the finest first
	t.loss(c, logits)
	out := &TrainingGraph{Masks: t.masks}
	if c.Gradients {
		t.backward()
	}
	for i, p := range t.parameters {
		if gradient := t.gradients[p.Name]; gradient != "" {
			g.rename(gradient, GradientPrefix+p.Name)
		} else if p.Gradient == GradientOutput && c.Gradients {
			return nil, fault.New(fault.Internal, "parameter %s has no gradient", p.Name)
		}
		t.parameters[i] = p
	}
	out.Parameters = t.parameters
	t.ports(c)
	out.Model = &Model{IRVersion: IRVersion, ProducerName: "libflare", Opsets: []Opset{{"", OpsetVersion}}, Graph: g}
	return out, nil
}

func (c Training) check() error {
	if err := checkPatch(c.Arch, c.Patch); err != nil {
		return err
	}
	switch {
	case c.Channels < 1 || c.Heads < 1 || c.Batch < 1:
		return fault.New(fault.Argument, "%d channels, %d heads, a batch of %d; expected 1 or more of each", c.Channels, c.Heads, c.Batch)
	case c.Loss.Regions != nil && len(c.Loss.Regions) != c.Heads:
		return fault.New(fault.Model, "%d regions for %d heads", len(c.Loss.Regions), c.Heads)
	case c.Loss.Regions == nil && c.Heads < 2:
		return fault.New(fault.Model, "%d head; a network without regions has one for the background and one or more for labels", c.Heads)
	case c.Loss.Soft && c.Loss.Ignore != 0:
		return fault.New(fault.Argument, "probabilities have no ignore label; weights of 0 do the same")
	case c.Arch.Norm.Kind == nnunet.NormBatch:
		return fault.New(fault.Unsupported, "training of networks with BatchNorm is not supported, only with InstanceNorm")
	}
	switch c.Arch.Nonlin.Kind {
	case nnunet.NonlinNone, nnunet.NonlinReLU, nnunet.NonlinLeakyReLU:
	default:
		return fault.New(fault.Unsupported, "training is supported with LeakyReLU and ReLU only")
	}
	return nil
}

// deepSupervision returns the weight of each scale's loss, the full resolution first:
// each half of the one before, the coarsest 0, of sum 1 (nnUNetTrainer._build_loss).
func deepSupervision(scales int, on bool) []float64 {
	w := make([]float64, scales)
	w[0] = 1
	if !on || scales == 1 {
		return w
	}
	sum := 0.0
	for i := range scales - 1 {
		w[i] = 1 / float64(int(1)<<i)
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}

// Target says which of several forms of the same gradient the graph has: the fastest ones
// differ between runtimes.
type Target int

// parameter adds an input that is a parameter.
func (t *tape) parameter(name string, shape ...int) string {
	t.parameters = append(t.parameters, Parameter{Name: name, Shape: slices.Clone(shape)})
	t.shapes[name] = slices.Clone(shape)
	return name
}

// still adds a parameter that changes nothing, idle one that is not used.
func (t *tape) still(name string, shape ...int) {
	t.parameters = append(t.parameters, Parameter{name, slices.Clone(shape), GradientZero})
}

func (t *tape) idle(name string, shape ...int) {
	t.parameters = append(t.parameters, Parameter{name, slices.Clone(shape), GradientNone})
}

// supervised reports whether the loss counts the logits of a stage of the decoder.
func (t *tape) supervised(stage int) bool {
	return t != nil && t.weights[len(t.weights)-1-stage] != 0
}

// ports lists the graph's inputs and outputs.
func (t *tape) ports(c Training) {
	in := func(name string, shape []int) {
		t.g.Inputs = append(t.g.Inputs, &ValueInfo{Name: name, Type: Float, Dims: Fixed(shape...)})
	}
	out := func(name string, shape []int) {
		t.g.Outputs = append(t.g.Outputs, &ValueInfo{Name: name, Type: Float, Dims: Fixed(shape...)})
	}
	for _, name := range []string{InputName, TargetName, WeightName} {
		if shape := t.shapes[name]; shape != nil {
			in(name, shape)
		}
	}
	for _, p := range t.parameters {
		if p.Gradient == GradientOutput {
			in(p.Name, p.Shape)
		}
	}
	for _, m := range t.masks {
		in(m.Name, m.Shape)
	}
	for _, name := range []string{LossName, CEName, DiceName} {
		out(name, []int{1})
	}
	out(CountsName, []int{3, c.Heads})
	for _, p := range t.parameters {
		if p.Gradient == GradientOutput && c.Gradients {
			out(GradientPrefix+p.Name, p.Shape)
		}
	}
}

// rename gives a value that no node takes another name.
func (g *Graph) rename(from, to string) {
	for _, n := range slices.Backward(g.Nodes) {
		if n.Outputs[0] == from {
			n.Outputs[0] = to
			return
		}
	}
}
