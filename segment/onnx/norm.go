package onnx

import (
	"slices"

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

// instanceNorm appends y = weight (x - mean) / d + bias, d = sqrt(var + eps), with the
// statistics of each channel of each sample; x is n x c x size, weight and bias are of one
// number per channel and may be absent. Only x is kept for the gradient.
func (t *tape) instanceNorm(name string, inputs []string, eps float64) string {
	x := inputs[0]
	shape := t.shapes[x]
	size := span(2, len(shape))
	perChannel := append([]int{1, shape[1]}, ones(len(size))...)
	mean := func(what, v string) string {
		return t.overVoxels(name+what, v, 1/float64(product(shape[2:])), shape) // n x c x 1
	}
	// The variance in two passes: in one, as the mean of squares less the square of the
	// mean, it has an error a hundred times larger.
	center := mean("/mean", x)
	off := t.op("Sub", name+"/off", []string{x, center})
	variance := mean("/variance", t.mul(name+"/square", off, off))
	scale := t.op("Reciprocal", name+"/1/d", []string{t.op("Sqrt", name+"/d", []string{t.plus(name+"/eps", variance, t.scalar(eps))})})
	weighted := scale
	if len(inputs) == 3 {
		weighted = t.mul(name+"/scale", scale, t.reshape(name+"/weight", inputs[1], perChannel...))
	}
	y := t.mul(name+"/scaled", off, weighted)
	if len(inputs) == 3 {
		y = t.plus(name, y, t.reshape(name+"/bias", inputs[2], perChannel...))
	}
	return t.note(y, shape, func(dy string) {
		// With z = (x - mean) / d and the means over the voxels of each sample's channel,
		// dx = weight / d (dy - mean(dy) - z mean(dy z)).
		z := t.mul(name+"/z", t.op("Sub", name+"/off/again", []string{x, t.mul(name+"/mean/late", center, t.late(1))}), scale)
		sum := mean("/dy/mean", dy)
		dot := mean("/dyz/mean", t.mul(name+"/dyz", dy, z))
		if len(inputs) == 3 {
			voxels := t.scalar(float64(product(shape[2:])))
			t.add(inputs[1], t.overSamples(name+"/dweight", t.mul(name+"/dweight/each", dot, voxels), shape))
			t.add(inputs[2], t.overSamples(name+"/dbias", t.mul(name+"/dbias/each", sum, voxels), shape))
		}
		dx := t.op("Sub", name+"/dx/off", []string{dy, sum})
		dx = t.op("Sub", name+"/dx/rest", []string{dx, t.mul(name+"/dx/z", z, dot)})
		t.add(x, t.mul(name+"/dx", dx, weighted))
	})
}

// overSamples adds up the samples of v (n x c x 1, of sums over the voxels of values of
// the given shape). It is a product of matrices for the sake of OpenVINO, which computes
// in bf16, if asked to, only what lies before such an operator.
func (t *tape) overSamples(name, v string, shape []int) string {
	n, c := shape[0], shape[1]
	row := t.floats([]int{1, n}, slices.Repeat([]float32{1}, n)...)
	return t.reshape(name+"/c", t.op("MatMul", name, []string{row, t.reshape(name+"/nc", v, n, c)}), c)
}

func ones(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = 1
	}
	return out
}
