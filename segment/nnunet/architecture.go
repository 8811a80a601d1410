package nnunet

import (
	"fmt"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Architecture describes a U-Net as plain data: the arguments of
// dynamic_network_architectures/architectures/unet.py, with a list per stage
// wherever that accepts one number. Axes are in transposed order.
type Architecture struct {
	Class   string  // PlainConvUNet, ResidualEncoderUNet or ResidualUNet
	Dims    int     // 2 or 3
	Stages  int     // resolutions, bottleneck included
	Kernels [][]int // Stages x Dims, odd
	Strides [][]int // Stages x Dims

	Features        []int // channels of each stage
	BlocksPerStage  []int // encoder: convolutions (PlainConvUNet) or residual blocks
	DecoderPerStage []int // decoder, Stages-1, coarsest first: convolutions or residual blocks (ResidualUNet)
	ConvBias        bool
	Norm            Norm
	Nonlin          Nonlin
	NonlinFirst     bool // conv, nonlin, norm instead of conv, norm, nonlin

	// Of ResidualEncoderUNet and ResidualUNet only.
	StemChannels int
	Bottleneck   []int // of the encoder; nil: BasicBlockD; else BottleneckD's inner channels of each stage
}

// classes are the networks that package onnx builds.
var classes = []string{"PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"}

// Residual says whether the encoder is made of residual blocks.
func (a *Architecture) Residual() bool { return a.Class != "PlainConvUNet" }

const (
	maxStages   = 16
	maxFeatures = 4096
	maxBlocks   = 64
	maxKernel   = 33
	maxStride   = 64
)

// Architecture returns the network that nnU-Net's default trainer builds for the
// configuration called name; older plans without an "architecture" block are
// converted as nnU-Net does. Errors as for Configuration; Unsupported names the
// class, layer or argument.
func (p *Plans) Architecture(name string) (*Architecture, error) {
	return p.ArchitectureOf(name, "")
}

// ArchitectureOf is Architecture for a trainer (Checkpoint.TrainerName) that
// changes the network in code: nnUNetTrainerBN puts BatchNorm in place of the
// plans' norm. Of trainers that nnU-Net does not define nothing is known; where
// their networks differ from the plans, the weights' names do not fit.
func (p *Plans) ArchitectureOf(name, trainer string) (*Architecture, error) {
	o, err := p.resolve(name)
	if err != nil {
		return nil, err
	}
	a := o.network(trainer)
	if err := o.rep.err(); err != nil {
		return nil, err
	}
	return a, nil
}

// network reads the architecture in either form; nil after some of the notes.
func (o object) network(trainer string) *Architecture {
	var a *Architecture
	if o.has("architecture") {
		a = o.architecture(trainer)
	} else if a = o.oldArchitecture(); a != nil && trainer == trainerBN {
		a.Norm = batchNorm
	}
	if patch := o.patchSize(); a != nil && patch != nil && len(patch) != a.Dims {
		o.rep.add(fault.Model, "%skey \"conv_op\" is %d-dimensional, patch_size has %d axes", o.where, a.Dims, len(patch))
	}
	return a
}

// trainerBN is the one trainer of nnU-Net that changes a U-Net's layers
// (nnunetv2/training/nnUNetTrainer/variants/network_architecture/nnUNetTrainerBN.py).
const trainerBN = "nnUNetTrainerBN"

var batchNorm = Norm{NormBatch, 1e-5, true}

// className returns the last component of a dotted Python name.
func className(dotted string) string {
	return dotted[strings.LastIndexByte(dotted, '.')+1:]
}

// architecture reads the "architecture" block
// (nnunetv2/utilities/get_network_from_plans.py).
func (o object) architecture(trainer string) *Architecture {
	block, ok := o.child("architecture", o.where+"architecture: ")
	if !ok {
		return nil
	}
	a := &Architecture{Class: className(block.text("network_class_name"))}
	if !block.knownClass("network_class_name", a.Class, classes) {
		return nil
	}
	kw, ok := block.child("arch_kwargs", o.where+"arch_kwargs: ")
	if !ok {
		return nil
	}
	blocks := "n_conv_per_stage"
	if a.Residual() {
		blocks = "n_blocks_per_stage"
	}
	switch op := className(kw.text("conv_op")); op {
	case "Conv2d":
		a.Dims = 2
	case "Conv3d":
		a.Dims = 3
	default:
		kw.wrong(fault.Unsupported, "conv_op", "Conv2d or Conv3d")
		return nil
	}
	if a.Stages = kw.integer("n_stages", 2, maxStages); a.Stages == 0 {
		return nil
	}
	a.Features = kw.integersOrOne("features_per_stage", a.Stages, 1, maxFeatures)
	a.BlocksPerStage = kw.integersOrOne(blocks, a.Stages, 1, maxBlocks)
	a.DecoderPerStage = kw.integersOrOne("n_conv_per_stage_decoder", a.Stages-1, 1, maxBlocks)
	a.Kernels = kw.kernels("kernel_sizes", a.Stages, a.Dims)
	a.Strides = kw.tuples("strides", a.Stages, a.Dims, 1, maxStride)
	a.ConvBias = kw.optBool("conv_bias", false)
	if _, there := kw.fields["norm_op"]; trainer != trainerBN {
		a.Norm = kw.norm()
	} else if a.Norm = batchNorm; !there { // which the trainer asks for
		kw.wrong(fault.Model, "norm_op", "a layer that "+trainerBN+" replaces")
	}
	a.Nonlin = kw.nonlin()
	a.NonlinFirst = kw.optBool("nonlin_first", false)
	if a.Residual() {
		kw.residual(a)
	}
	for _, k := range kw.keys() {
		switch k {
		case "n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage_decoder",
			"conv_bias", "norm_op", "norm_op_kwargs", "nonlin", "nonlin_kwargs", blocks:
		case "dropout_op", "dropout_op_kwargs", "deep_supervision": // without effect on inference
		case "nonlin_first":
			if a.Residual() {
				kw.wrong(fault.Unsupported, k, "no such argument of "+a.Class)
			}
		case "block", "bottleneck_channels", "stem_channels":
			if !a.Residual() {
				kw.wrong(fault.Unsupported, k, "no such argument of "+a.Class)
			}
		default:
			kw.rep.add(fault.Unsupported, "%sargument %.80q is not supported", kw.where, k)
		}
	}
	return a
}

func (o object) knownClass(key, class string, known []string) bool {
	if slices.Contains(known, class) {
		return true
	}
	names := strings.Join(known, " or ")
	if o.has(key) {
		o.wrong(fault.Unsupported, key, names+" (other networks are not supported)")
	} else {
		o.wrong(fault.Model, key, names)
	}
	return false
}

// kernels reads kernel sizes. An even kernel is refused: with nnU-Net's padding
// (k-1)/2 it shrinks the image, and the skip connections no longer fit.
func (o object) kernels(key string, stages, dims int) [][]int {
	ks := o.tuples(key, stages, dims, 1, maxKernel)
	for _, k := range ks {
		for _, v := range k {
			if v%2 == 0 {
				o.wrong(fault.Unsupported, key, "odd sizes")
				return ks
			}
		}
	}
	return ks
}

// residual reads what only networks with a residual encoder have.
func (o object) residual(a *Architecture) {
	if len(a.Features) > 0 {
		a.StemChannels = a.Features[0]
	}
	if o.has("stem_channels") {
		a.StemChannels = o.integer("stem_channels", 1, maxFeatures)
	}
	switch block := className(o.optText("block")); block {
	case "", "BasicBlockD":
	case "BottleneckD":
		a.Bottleneck = o.integersOrOne("bottleneck_channels", a.Stages, 1, maxFeatures)
	default:
		o.wrong(fault.Unsupported, "block", "BasicBlockD or BottleneckD")
	}
}

// oldArchitecture converts the keys that plans had before nnU-Net 2.4
// (utilities/plans_handling/plans_handler.py, ConfigurationManager).
func (o object) oldArchitecture() *Architecture {
	if !o.has("UNet_class_name") {
		o.rep.add(fault.Model, "%skey \"architecture\" is missing, and so is \"UNet_class_name\" of older plans", o.where)
		return nil
	}
	a := &Architecture{Class: o.text("UNet_class_name"), ConvBias: true,
		Norm:   Norm{NormInstance, 1e-5, true},
		Nonlin: Nonlin{NonlinLeakyReLU, 0.01}}
	if !o.knownClass("UNet_class_name", a.Class, classes[:2]) {
		return nil
	}
	a.Dims = len(o.patchSize())
	a.BlocksPerStage = o.integers("n_conv_per_stage_encoder", 0, 1, maxBlocks)
	base := o.integer("UNet_base_num_features", 1, maxFeatures)
	most := o.integer("unet_max_num_features", 1, maxFeatures)
	if a.Dims == 0 || a.BlocksPerStage == nil {
		return nil
	}
	if a.Stages = len(a.BlocksPerStage); a.Stages < 2 || a.Stages > maxStages {
		o.wrong(fault.Format, "n_conv_per_stage_encoder", fmt.Sprintf("2 to %d stages", maxStages))
		return nil
	}
	for s := range a.Stages {
		a.Features = append(a.Features, min(base<<s, most))
	}
	a.StemChannels = a.Features[0]
	a.Kernels = o.kernels("conv_kernel_sizes", a.Stages, a.Dims)
	a.Strides = o.tuples("pool_op_kernel_sizes", a.Stages, a.Dims, 1, maxStride)
	a.DecoderPerStage = o.integers("n_conv_per_stage_decoder", a.Stages-1, 1, maxBlocks)
	return a
}
