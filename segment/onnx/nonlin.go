package onnx

import (
	"encoding/binary"
	"math"

	"github.com/libflare/libflare/segment/nnunet"
)

// nonlin appends the activation called name and returns its output; the last
// node has its name. PReLU's slope is the weight name.weight.
func (u *unet) nonlin(name, x string) string {
	if u.tape != nil {
		return u.tape.leakyReLU(name, x, u.Nonlin)
	}
	switch u.Nonlin.Kind {
	case nnunet.NonlinReLU:
		return u.node("Relu", name, []string{x})
	case nnunet.NonlinLeakyReLU:
		return u.node("LeakyRelu", name, []string{x}, float("alpha", u.Nonlin.Slope))
	case nnunet.NonlinPReLU: // the slope has one number, which broadcasts
		return u.node("PRelu", name, []string{x, u.weight(name+".weight", 1)})
	case nnunet.NonlinELU:
		return u.node("Elu", name, []string{x}, float("alpha", u.Nonlin.Slope))
	case nnunet.NonlinSiLU:
		return u.product(name, x, u.node("Sigmoid", name+".sigmoid", []string{x}))
	case nnunet.NonlinMish: // x tanh(softplus(x))
		return u.product(name, x, u.node("Tanh", name+".tanh", []string{u.node("Softplus", name+".softplus", []string{x})}))
	case nnunet.NonlinGELU: // x/2 (1 + erf(x / sqrt 2))
		inner := u.product(name+".inner", x, u.number("sqrt_half", math.Sqrt(0.5)))
		return u.gelu(name, x, u.node("Erf", name+".erf", []string{inner}))
	case nnunet.NonlinGELUTanh: // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
		cubic := u.product(name+".cubic", u.product(name+".square", x, x), x)
		cubic = u.product(name+".scaled", cubic, u.number("gelu_cubic", 0.044715))
		inner := u.node("Add", name+".sum", []string{x, cubic})
		inner = u.product(name+".inner", inner, u.number("sqrt_2_pi", math.Sqrt(2/math.Pi)))
		return u.gelu(name, x, u.node("Tanh", name+".tanh", []string{inner}))
	}
	return x
}

// gelu is x (1 + inner) / 2.
func (u *unet) gelu(name, x, inner string) string {
	outer := u.node("Add", name+".add", []string{inner, u.number("one", 1)})
	return u.product(name, u.product(name+".half", x, u.number("half", 0.5)), outer)
}

func (u *unet) product(name, a, b string) string {
	return u.node("Mul", name, []string{a, b})
}

// number appends, once, a constant of one element and returns its name.
func (u *unet) number(name string, v float64) string {
	name = u.prefix + name
	if u.g.Initializer(name) == nil {
		raw := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v)))
		u.g.Initializers = append(u.g.Initializers, &Tensor{Name: name, Type: Float, Dims: []int64{1}, Raw: raw})
	}
	return name
}

// leakyReLU appends y = x where x > 0 and slope x elsewhere, and ReLU, whose slope is 0.
// Its gradient is told from y, which the next convolution keeps anyway: 1 or slope, by
// the sign of y; Clip is many times faster than a choice by Where.
func (t *tape) leakyReLU(name, x string, n nnunet.Nonlin) string {
	slope, y := n.Slope, ""
	switch n.Kind {
	case nnunet.NonlinNone:
		return x
	case nnunet.NonlinReLU:
		slope, y = 0, t.op("Relu", name, []string{x})
	default:
		y = t.op("LeakyRelu", name, []string{x}, float("alpha", slope))
	}
	return t.note(y, t.shapes[x], func(dy string) {
		mask := t.clip(name+"/mask", t.mul(name+"/large", y, t.late(1e30)), slope, 1)
		t.add(x, t.mul(name+"/dx", dy, mask))
	})
}
