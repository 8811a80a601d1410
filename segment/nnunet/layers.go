package nnunet

import (
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// NormKind is a normalisation layer.
type NormKind int

// The normalisation layers, by what they do at inference.
const (
	NormNone     NormKind = iota
	NormInstance          // by the statistics of the patch
	NormBatch             // by running_mean and running_var
)

// Norm is the normalisation after a convolution.
type Norm struct {
	Kind   NormKind
	Eps    float64
	Affine bool // has weight and bias
}

// NonlinKind is an activation.
type NonlinKind int

// The activations.
const (
	NonlinNone NonlinKind = iota
	NonlinReLU
	NonlinLeakyReLU
	NonlinPReLU // its one slope is a weight
	NonlinELU
	NonlinGELU
	NonlinGELUTanh // approximate="tanh"
	NonlinSiLU
	NonlinMish
)

// Nonlin is the activation after a convolution.
type Nonlin struct {
	Kind  NonlinKind
	Slope float64 // LeakyReLU: negative_slope; ELU: alpha
}

// nonlins are the activations by the name of their class in torch.nn, with the
// argument that Slope holds and its default.
var nonlins = map[string]struct {
	kind NonlinKind
	key  string
	def  float64
}{
	"ReLU":      {NonlinReLU, "", 0},
	"LeakyReLU": {NonlinLeakyReLU, "negative_slope", 0.01},
	"PReLU":     {NonlinPReLU, "", 0},
	"ELU":       {NonlinELU, "alpha", 1},
	"GELU":      {NonlinGELU, "", 0},
	"SiLU":      {NonlinSiLU, "", 0},
	"Mish":      {NonlinMish, "", 0},
}

// norm reads norm_op and its arguments; defaults are PyTorch's.
func (o object) norm() Norm {
	op := className(o.optText("norm_op"))
	n := Norm{Eps: 1e-5}
	switch {
	case op == "":
		return Norm{}
	case strings.HasPrefix(op, "InstanceNorm"):
		n.Kind = NormInstance
	case strings.HasPrefix(op, "BatchNorm"):
		n.Kind, n.Affine = NormBatch, true
	default:
		o.wrong(fault.Unsupported, "norm_op", "InstanceNorm, BatchNorm or null")
		return n
	}
	if !o.has("norm_op_kwargs") {
		return n
	}
	kw, _ := o.child("norm_op_kwargs", o.where+"norm_op_kwargs: ")
	for _, k := range kw.keys() {
		switch k {
		case "eps":
			if n.Eps = kw.number(k); n.Eps < 0 || n.Eps > 1 {
				kw.wrong(fault.Format, k, "a number from 0 to 1")
			}
		case "affine":
			n.Affine = kw.optBool(k, n.Affine)
		case "momentum": // of training
		case "track_running_stats":
			// Both layers do the same at inference, by the running statistics
			// where there are some and else by those of the batch, which is one
			// patch (torch/nn/modules/batchnorm.py, instancenorm.py).
			if n.Kind = NormInstance; kw.optBool(k, strings.HasPrefix(op, "Batch")) {
				n.Kind = NormBatch
			}
		default:
			kw.rep.add(fault.Unsupported, "%sargument %.80q is not supported", kw.where, k)
		}
	}
	return n
}

// nonlin reads nonlin and its arguments; defaults are PyTorch's.
func (o object) nonlin() Nonlin {
	op := className(o.optText("nonlin"))
	if op == "" {
		return Nonlin{}
	}
	known, ok := nonlins[op]
	if !ok {
		o.wrong(fault.Unsupported, "nonlin", "ReLU, LeakyReLU, PReLU, ELU, GELU, SiLU, Mish or null")
		return Nonlin{}
	}
	n := Nonlin{known.kind, known.def}
	if !o.has("nonlin_kwargs") {
		return n
	}
	kw, _ := o.child("nonlin_kwargs", o.where+"nonlin_kwargs: ")
	for _, k := range kw.keys() {
		switch {
		case k == "inplace" && op != "GELU" && op != "PReLU":
		case k == known.key && k != "":
			n.Slope = kw.number(k)
		case k == "init" && op == "PReLU": // of training
		case k == "num_parameters" && op == "PReLU":
			if kw.integer(k, 1, maxFeatures) > 1 {
				kw.wrong(fault.Unsupported, k, "1")
			}
		case k == "approximate" && op == "GELU":
			switch kw.text(k) {
			case "none":
			case "tanh":
				n.Kind = NonlinGELUTanh
			default:
				kw.wrong(fault.Format, k, `"none" or "tanh"`)
			}
		default:
			kw.rep.add(fault.Unsupported, "%sargument %.80q is not supported", kw.where, k)
		}
	}
	return n
}
