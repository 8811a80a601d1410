package onnx

import (
	"fmt"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

// UNet appends the network arch to g and returns the name of its logits: no
// softmax, of shape 1 x heads x patch. input names a value of shape
// 1 x inChannels x patch, in voxels of the transposed axes. Nodes and their
// outputs are called prefix + the module's path in PyTorch, initializers
// prefix + their state-dict name.
//
// Source: dynamic_network_architectures/architectures/unet.py and
// building_blocks/{plain_conv_encoder,residual_encoders,unet_decoder,
// unet_residual_decoder}.py.
//
// Errors: Model (weights that are missing, have another shape, or that the
// network does not have, all of them in one message; a patch that the strides
// do not divide), Unsupported (a stride in the first stage, whose output would
// be smaller than the patch).
func UNet(g *Graph, prefix string, arch *nnunet.Architecture, inChannels, heads int, input string, patch []int, w Weights) (string, error) {
	if err := checkPatch(arch, patch); err != nil {
		return "", err
	}
	u := &unet{g: g, prefix: prefix, Architecture: arch, w: w}
	logits := u.decoder(u.encoder(input, inChannels), heads)[0]
	for _, name := range w.Unused() {
		u.problems = append(u.problems, name+" is not part of the network")
	}
	if n := len(u.problems); n > 0 {
		const most = 12
		if n > most {
			u.problems = append(u.problems[:most], fmt.Sprintf("and %d more", n-most))
		}
		return "", fault.New(fault.Model, "the weights%s do not fit the %s of the plans: %s", from(w.Source()), arch.Class, strings.Join(u.problems, "; "))
	}
	return logits, nil
}

func from(source string) string {
	if source == "" {
		return ""
	}
	return " of " + source
}

// checkPatch makes sure that upsampled features fit the skip connections.
func checkPatch(arch *nnunet.Architecture, patch []int) error {
	if len(patch) != arch.Dims {
		return fault.New(fault.Model, "the patch %v has %d axes, the network %d", patch, len(patch), arch.Dims)
	}
	for axis, size := range patch {
		total := 1
		for stage, s := range arch.Strides {
			if stage == 0 && s[axis] != 1 {
				return fault.New(fault.Unsupported, "the network's first stage has strides %v, only 1 is supported", s)
			}
			total *= s[axis]
			if size%total != 0 {
				return fault.New(fault.Model, "the patch %v cannot be halved as the network does: axis %d of %d voxels is not a multiple of %d", patch, axis, size, total)
			}
		}
	}
	return nil
}

// unet is a network being appended to g.
type unet struct {
	*nnunet.Architecture
	g        *Graph
	prefix   string
	w        Weights
	problems []string

	tape *tape // of the gradients, where the graph is to train; else nil
}

// encoder returns the output of each stage; stage s is
// 1 x Features[s] x patch/strides, in training with more than one sample.
func (u *unet) encoder(x string, channels int) (skips []string) {
	if u.Residual() {
		return u.residualEncoder(x, channels)
	}
	return u.plainEncoder(x, channels)
}

// plainEncoder returns the output of each stage; stage s is
// 1 x Features[s] x patch/strides.
func (u *unet) plainEncoder(x string, channels int) (skips []string) {
	for s := range u.Stages {
		for i := range u.BlocksPerStage[s] {
			stride := u.Strides[s]
			if i > 0 {
				stride = nil
			}
			name := fmt.Sprintf("encoder.stages.%d.0.convs.%d", s, i)
			x = u.convBlock(name, x, channels, u.Features[s], u.Kernels[s], stride, activated|dropped)
			channels = u.Features[s]
		}
		skips = append(skips, x)
	}
	return skips
}

// residualEncoder returns the output of each stage as plainEncoder does.
func (u *unet) residualEncoder(x string, channels int) (skips []string) {
	x = u.convBlock("encoder.stem.convs.0", x, channels, u.StemChannels, u.Kernels[0], nil, activated|dropped)
	channels = u.StemChannels
	for s := range u.Stages {
		for i := range u.BlocksPerStage[s] {
			stride := u.Strides[s]
			if i > 0 {
				stride = nil
			}
			name := fmt.Sprintf("encoder.stages.%d.blocks.%d", s, i)
			inner := 0
			if u.Bottleneck != nil {
				inner = u.Bottleneck[s]
			}
			x = u.residualBlock(name, x, channels, inner, u.Features[s], u.Kernels[s], stride)
			channels = u.Features[s]
		}
		skips = append(skips, x)
	}
	return skips
}

// residualBlock is BasicBlockD, or BottleneckD with inner channels if inner is
// above 0 (building_blocks/residual.py).
func (u *unet) residualBlock(name, x string, in, inner, out int, kernel, stride []int) string {
	skip, place := x, 0
	if strided(stride) {
		skip = u.averagePool(name+".skip.0", x, stride)
		place = 1
	}
	if in != out {
		// This convolution never has a bias.
		path := fmt.Sprintf("%s.skip.%d", name, place)
		skip = u.conv(path+".conv", skip, in, out, u.ones(), nil, false)
		skip = u.norm(path+".norm", skip, out)
	}
	if inner > 0 {
		x = u.convBlock(name+".conv1", x, in, inner, u.ones(), nil, activated)
		x = u.convBlock(name+".conv2", x, inner, inner, kernel, stride, activated|dropped)
		x = u.convBlock(name+".conv3", x, inner, out, u.ones(), nil, 0)
	} else {
		x = u.convBlock(name+".conv1", x, in, out, kernel, stride, activated|dropped)
		x = u.convBlock(name+".conv2", x, out, out, kernel, nil, 0)
	}
	x = u.add(name+".add", u.drop(name+".drop_path", x, DropPath), skip)
	if inner > 0 {
		return u.nonlin(name+".nonlin3", x)
	}
	return u.nonlin(name+".nonlin2", x)
}

// decoder takes the encoder's outputs and returns the logits, in training those of
// every supervised stage, the coarsest first. Stage s works at the resolution of the
// encoder's stage Stages-2-s.
func (u *unet) decoder(skips []string, heads int) (logits []string) {
	x := skips[u.Stages-1]
	last := u.Stages - 2
	for s := range u.Stages - 1 {
		level := last - s
		below, features := u.Features[level+1], u.Features[level]
		x = u.transposedConv(fmt.Sprintf("decoder.transpconvs.%d", s), x, below, features, u.Strides[level+1])
		name := fmt.Sprintf("decoder.stages.%d", s)
		x = u.concat(name+".concat", x, skips[level])
		channels := 2 * features
		for i := range u.DecoderPerStage[s] {
			if u.Class == "ResidualUNet" { // BasicBlockD, whatever the encoder's blocks are
				x = u.residualBlock(fmt.Sprintf("%s.blocks.%d", name, i), x, channels, 0, features, u.Kernels[level], nil)
			} else {
				x = u.convBlock(fmt.Sprintf("%s.convs.%d", name, i), x, channels, features, u.Kernels[level], nil, activated|dropped)
			}
			channels = features
		}
		name = fmt.Sprintf("decoder.seg_layers.%d", s)
		if s == last || u.tape.supervised(s) {
			logits = append(logits, u.conv(name, x, features, heads, u.ones(), nil, true))
		} else if u.tape != nil {
			u.tape.idle(name+".weight", append([]int{heads, features}, u.ones()...)...)
			u.tape.idle(name+".bias", heads)
		}
	}
	return logits
}

// The parts of a convBlock besides convolution and norm.
const (
	activated = 1 << iota // has an activation
	dropped               // has dropout, in training
)

// convBlock is ConvDropoutNormReLU (building_blocks/simple_conv_blocks.py).
func (u *unet) convBlock(name, x string, in, out int, kernel, stride []int, parts int) string {
	nonlinFirst := u.NonlinFirst && u.Norm.Kind != nnunet.NormNone && parts&activated != 0
	bias := u.ConvBias
	if u.tape != nil && bias && u.Norm.Kind == nnunet.NormInstance && !nonlinFirst {
		// The norm takes out what a bias adds.
		bias = false
		defer u.tape.still(name+".conv.bias", out)
	}
	x = u.conv(name+".conv", x, in, out, kernel, stride, bias)
	if parts&dropped != 0 {
		x = u.drop(name+".dropout", x, Dropout)
	}
	switch {
	case parts&activated == 0:
		return u.norm(name+".norm", x, out)
	case nonlinFirst:
		return u.norm(name+".norm", u.nonlin(name+".nonlin", x), out)
	}
	return u.nonlin(name+".nonlin", u.norm(name+".norm", x, out))
}

// node appends an operator and returns its output, which has its name.
func (u *unet) node(op, name string, inputs []string, attributes ...*Attribute) string {
	name = u.prefix + name
	u.g.Nodes = append(u.g.Nodes, &Node{Name: name, OpType: op, Inputs: inputs, Outputs: []string{name}, Attributes: attributes})
	return name
}

// weight appends a parameter of the state dict and returns its name in the
// graph.
func (u *unet) weight(name string, shape ...int) string {
	if u.tape != nil {
		return u.tape.parameter(name, shape...)
	}
	t, err := u.w.Tensor(name, shape)
	if err != nil {
		u.problems = append(u.problems, err.Error())
		return u.prefix + name
	}
	t.Name = u.prefix + name
	u.g.Initializers = append(u.g.Initializers, t)
	return t.Name
}

// constant appends, once, a vector of n times v and returns its name.
func (u *unet) constant(kind string, n int, v float32) string {
	name := fmt.Sprintf("%s%s_%d", u.prefix, kind, n)
	if u.g.Initializer(name) == nil {
		t := floatTensor(name, []int{n}, func(dst []float32) error {
			for i := range dst {
				dst[i] = v
			}
			return nil
		})
		u.g.Initializers = append(u.g.Initializers, t)
	}
	return name
}

// ones is a kernel or stride of 1 along each axis.
func (u *unet) ones() []int {
	return []int{1, 1, 1}[:u.Dims]
}

func strided(stride []int) bool {
	for _, s := range stride {
		if s != 1 {
			return true
		}
	}
	return false
}

func ints(name string, v []int) *Attribute {
	return &Attribute{Name: name, Type: AttrInts, Ints: int64s(v)}
}

func integer(name string, v int64) *Attribute {
	return &Attribute{Name: name, Type: AttrInt, I: v}
}

func word(name, v string) *Attribute {
	return &Attribute{Name: name, Type: AttrString, S: []byte(v)}
}

func float(name string, v float64) *Attribute {
	return &Attribute{Name: name, Type: AttrFloat, F: float32(v)}
}
