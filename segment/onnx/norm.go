package onnx

import (
	"github.com/libflare/libflare/segment/nnunet"
)

// norm has weight and bias of one number per channel, BatchNorm also
// running_mean and running_var; without affine, weight is 1 and bias 0.
func (u *unet) norm(name, x string, channels int) string {
	if u.Norm.Kind == nnunet.NormNone {
		return x
	}
	var inputs []string
	if u.Norm.Affine {
		inputs = []string{x, u.weight(name+".weight", channels), u.weight(name+".bias", channels)}
	} else if u.tape != nil {
		inputs = []string{x}
	} else {
		inputs = []string{x, u.constant("ones", channels, 1), u.constant("zeros", channels, 0)}
	}
	if u.tape != nil {
		return u.tape.instanceNorm(name, inputs, u.Norm.Eps)
	}
	eps := float("epsilon", u.Norm.Eps)
	if u.Norm.Kind == nnunet.NormBatch {
		inputs = append(inputs, u.weight(name+".running_mean", channels), u.weight(name+".running_var", channels))
		return u.node("BatchNormalization", name, inputs, eps)
	}
	return u.node("InstanceNormalization", name, inputs, eps)
}

// instanceNorm appends y = weight z + bias, z = (x - mean) / sqrt(var + eps) with the
// statistics of each channel of each sample; x is n x c x size, weight and bias are of
// one number per channel and may be absent. z is kept for the gradient rather than x,
// and 1/sqrt(var + eps).
func (t *tape) instanceNorm(name string, inputs []string, eps float64) string {
	x := inputs[0]
	shape := t.shapes[x]
	c, dims := shape[1], len(shape)-2
	size := span(2, len(shape))
	perChannel := append([]int{1, c}, ones(dims)...)
	z := t.op("InstanceNormalization", name+"/z", []string{x, t.filled(c, 1), t.filled(c, 0)}, float("epsilon", eps))
	deviation := ""
	if t.gradient {
		deviation = t.deviation(name, x, z, eps, product(shape[2:]))
	}
	y := z
	if len(inputs) == 3 {
		y = t.mul(name+"/scaled", z, t.reshape(name+"/weight", inputs[1], perChannel...))
		y = t.plus(name, y, t.reshape(name+"/bias", inputs[2], perChannel...))
	}
	return t.note(y, shape, func(dy string) {
		// With the means over the voxels of each sample's channel,
		// dx = weight / sqrt(var + eps) (dy - mean(dy) - z mean(dy z)).
		sum := t.sum(name+"/dy/sum", dy, true, size...) // n x c x 1
		dot := t.sum(name+"/dyz/sum", t.mul(name+"/dyz", dy, z), true, size...)
		scale := t.op("Reciprocal", name+"/scale", []string{deviation}) // n x c x 1
		if len(inputs) == 3 {
			over := append([]int{0}, size...)
			t.add(inputs[1], t.sum(name+"/dweight", dot, false, over...))
			t.add(inputs[2], t.sum(name+"/dbias", sum, false, over...))
			scale = t.mul(name+"/scale/weight", scale, t.reshape(name+"/scale/channel", inputs[1], perChannel...))
		}
		part := t.mul(name+"/scale/part", scale, t.scalar(-1/float64(product(shape[2:]))))
		dx := t.mul(name+"/dx/dy", dy, scale)
		dx = t.plus(name+"/dx/most", dx, t.mul(name+"/dx/z", z, t.mul(name+"/dx/dot", dot, part)))
		t.add(x, t.plus(name+"/dx", dx, t.mul(name+"/dx/sum", sum, part)))
	})
}

// deviation returns sqrt(var + eps), n x c x 1, from x and what normalising made of it,
// in one pass over both: the mean of x z is var / sqrt(var + eps) = s, so
// var = (s^2 + sqrt(s^4 + 4 s^2 eps)) / 2. s, not negative, is never far from the root of
// var, and mean and variance need not be computed a second time.
func (t *tape) deviation(name, x, z string, eps float64, voxels int) string {
	shape := t.shapes[x]
	s := t.sum(name+"/xz/sum", t.mul(name+"/xz", x, z), true, span(2, len(shape))...)
	s = t.mul(name+"/s", s, t.scalar(1/float64(voxels)))
	s2 := t.mul(name+"/s2", s, s)
	root := t.op("Sqrt", name+"/root", []string{t.mul(name+"/s4", s2, t.plus(name+"/s2eps", s2, t.scalar(4*eps)))})
	variance := t.mul(name+"/var", t.plus(name+"/2var", s2, root), t.scalar(0.5))
	return t.op("Sqrt", name+"/deviation", []string{t.plus(name+"/vareps", variance, t.scalar(eps))})
}

func ones(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = 1
	}
	return out
}
