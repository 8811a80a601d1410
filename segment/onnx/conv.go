package onnx

import "fmt"

// convolution is the geometry of one: kernel, stride and padding on both sides of each
// axis, (kernel-1)/2.
type convolution struct{ kernel, stride, pads []int }

func (c convolution) attributes() []*Attribute {
	return []*Attribute{ints("kernel_shape", c.kernel), ints("strides", c.stride), ints("pads", append(append([]int{}, c.pads...), c.pads...))}
}

// output is the size that the convolution makes of size.
func (c convolution) output(size []int) []int {
	out := make([]int, len(size))
	for i := range out {
		out[i] = (size[i]+2*c.pads[i]-c.kernel[i])/c.stride[i] + 1
	}
	return out
}

// conv pads each axis by (kernel-1)/2 on both sides; stride nil is 1.
// Weight: out x in x kernel.
func (u *unet) conv(name, x string, in, out int, kernel, stride []int, bias bool) string {
	c := convolution{kernel, stride, make([]int, u.Dims)}
	for i, k := range kernel {
		c.pads[i] = (k - 1) / 2
	}
	if stride == nil {
		c.stride = u.ones()
	}
	inputs := []string{x, u.weight(name+".weight", append([]int{out, in}, kernel...)...)}
	if bias {
		inputs = append(inputs, u.weight(name+".bias", out))
	}
	if u.tape != nil {
		return u.tape.conv(name, inputs, c)
	}
	return u.node("Conv", name, inputs, c.attributes()...)
}

// conv appends a convolution of x (n x in x size) with w (out x in x kernel) and
// perhaps a bias (out). Where x is joined of several values along the channels, the
// convolution is a sum of theirs, each with its part of w: neither the values nor their
// gradients are ever joined.
func (t *tape) conv(name string, inputs []string, c convolution) string {
	x, w := inputs[0], inputs[1]
	weight := t.shapes[w]
	parts := t.parts(x)
	size := t.shapes[parts[0]]
	shape := append([]int{size[0], weight[0]}, c.output(size[2:])...)
	weights := []string{w}
	if len(parts) > 1 {
		weights = t.cut(name+"/w", w, 1, t.channels(parts))
	}
	var y string
	for i, part := range parts {
		from := append([]string{part, weights[i]}, inputs[2:]...)
		if i > 0 {
			from = from[:2] // one bias is enough
		}
		product := t.op("Conv", name, from, c.attributes()...)
		if i > 0 {
			product = t.plus(name+"/join", y, product)
		}
		y = product
	}
	return t.note(y, shape, func(dy string) {
		if len(inputs) > 2 {
			t.add(inputs[2], t.sum(name+"/db", dy, false, append([]int{0}, span(2, len(shape))...)...))
		}
		var dw []string
		for i, part := range parts {
			dw = append(dw, t.convWeightGradient(name+"/dw", part, dy, c, shape))
			if t.flows(part) {
				t.add(part, t.convInputGradient(name+"/dx", weights[i], dy, c, t.shapes[part], shape))
			}
		}
		if len(dw) > 1 {
			dw = []string{t.op("Concat", name+"/dw", dw, integer("axis", 1))}
		}
		t.add(w, dw[0])
	})
}

// cut takes the constant or parameter v, whose gradient is not asked for, apart along an
// axis.
func (t *tape) cut(name, v string, axis int, sizes []int) (parts []string) {
	start := 0
	for _, n := range sizes {
		parts = append(parts, t.slice(name, v, []int{axis}, []int{start}, []int{n}, []int{1}))
		start += n
	}
	return parts
}

// convInputGradient returns dx, of shape x, for dy of shape y and weights w (out x in x
// kernel). With stride 1 it is a convolution of dy with w mirrored along its axes and
// its channels exchanged; runtimes are many times slower at the transposed convolution
// that is the same. With other strides it is that one.
func (t *tape) convInputGradient(name, w, dy string, c convolution, x, y []int) string {
	dims, size := len(c.kernel), product(c.kernel)
	if strided(c.stride) {
		more := make([]int, dims)
		for i := range more {
			more[i] = x[2+i] - ((y[2+i]-1)*c.stride[i] + c.kernel[i] - 2*c.pads[i])
		}
		return t.op("ConvTranspose", name, []string{dy, w}, append(c.attributes(), ints("output_padding", more))...)
	}
	out, in := y[1], x[1]
	if size > 1 {
		back := make([]int, size)
		for i := range back {
			back[i] = size - 1 - i
		}
		w = t.reshape(name+"/flat", w, out, in, size)
		w = t.op("Gather", name+"/mirror", []string{w, t.int64s(back...)}, integer("axis", 2))
		w = t.transpose(name+"/exchange", w, 1, 0, 2)
		w = t.reshape(name+"/w", w, append([]int{in, out}, c.kernel...)...)
	} else {
		w = t.transpose(name+"/exchange", w, append([]int{1, 0}, span(2, 2+dims)...)...)
	}
	return t.op("Conv", name, []string{dy, w}, c.attributes()...)
}

// convWeightGradient returns dw (out x in x kernel), for x of its shape and dy of shape y:
// for each voxel of the kernel a product of matrices, dy by the part of x that it meets.
func (t *tape) convWeightGradient(name, x, dy string, c convolution, y []int) string {
	dims, shape := len(c.kernel), t.shapes[x]
	n, in, out, voxels := shape[0], shape[1], y[1], product(y[2:])
	last := t.transpose(name+"/last", t.reshape(name+"/flat", dy, n, out, voxels), 0, 2, 1) // n x voxels x out
	if product(c.kernel) == 1 && !strided(c.stride) {
		p := t.op("MatMul", name, []string{t.reshape(name+"/x", x, n, in, voxels), last}) // n x in x out
		p = t.transpose(name+"/exchange", t.sum(name+"/sum", p, false, 0), 1, 0)
		return t.reshape(name+"/w", p, append([]int{out, in}, c.kernel...)...)
	}
	pads := make([]int, 2*len(shape))
	for i, p := range c.pads {
		pads[2+i], pads[2+i+len(shape)] = p, p
	}
	x = t.op("Pad", name+"/pad", []string{x, t.int64s(pads...)})
	var taps []string // each in x out
	at := make([]int, dims)
	for k := range product(c.kernel) {
		for i, rest := dims-1, k; i >= 0; i-- {
			at[i], rest = rest%c.kernel[i], rest/c.kernel[i]
		}
		tap := fmt.Sprintf("%s/tap%d", name, k)
		part := t.slice(tap+"/x", x, span(2, 2+dims), append([]int{}, at...), y[2:], c.stride)
		p := t.op("MatMul", tap, []string{t.reshape(tap+"/flat", part, n, in, voxels), last})
		taps = append(taps, t.reshape(tap+"/one", t.sum(tap+"/sum", p, false, 0), 1, in, out))
	}
	p := t.op("Concat", name+"/taps", taps, integer("axis", 0))
	return t.reshape(name+"/w", t.transpose(name+"/order", p, 2, 1, 0), append([]int{out, in}, c.kernel...)...)
}
