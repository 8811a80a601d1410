package onnx

import "slices"

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
			t.add(inputs[2], t.overSamples(name+"/db", t.overVoxels(name+"/db/voxels", dy, 1, shape), shape))
		}
		dw := t.convWeightGradients(name+"/dw", parts, dy, c, shape)
		for i, part := range parts {
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

// convWeightGradients returns, for each of the values that x is joined of, dw (out x in x
// kernel), for dy of shape y, as products of matrices: dy by the part of x that each voxel
// of the kernel meets. Copies of those parts cost as much as the products. So
//
//   - channels come last: then a part is made of long rows;
//   - a stride along the last axis makes neighbours to channels of one voxel, and what is
//     left of the kernel along that axis is joined on the other side: dy is shifted, once
//     for all parts, and x is copied only for the other axes (nine times for 3x3x3);
//   - large volumes go sample by sample, so that a copy is still in the processor's cache
//     when the product reads it.
func (t *tape) convWeightGradients(name string, parts []string, dy string, c convolution, y []int) (dw []string) {
	if t.shapes[parts[0]][1] <= fewChannels {
		for _, x := range parts {
			dw = append(dw, t.fewWeightGradient(name, x, dy, c, y))
		}
		return dw
	}
	last := len(c.kernel) - 1
	n, out, size := y[0], y[1], y[2+last]
	lines := product(y[2 : 2+last]) // of size voxels, in a sample
	dy = t.reshape(name+"/dy/rows", t.channelsLast(name+"/dy/last", dy), n, lines*size, out)
	rows := make([]string, len(parts)) // n x (axes) x (last axis x in)
	for i, x := range parts {
		shape := t.shapes[x]
		x = t.channelsLast(name+"/x/last", x)
		rows[i] = t.reshape(name+"/x/rows", x, append(append([]int{n}, shape[2:2+last]...), shape[2+last]*shape[1])...)
	}
	samples := n
	if lines*size >= largeVolume {
		samples = 1
	}
	totals := make([]string, len(parts)) // taps x shifts x out x step x in
	for from := 0; from < n; from += samples {
		sample := func(v string) string {
			if samples == n {
				return v
			}
			return t.slice(name+"/sample", v, []int{0}, []int{from}, []int{samples}, []int{1})
		}
		left := t.shifted(name+"/dy", sample(dy), c, samples, y)
		for i, x := range parts {
			p := t.tapProducts(name, left, sample(rows[i]), c, samples, t.shapes[x], y)
			if from > 0 {
				p = t.plus(name+"/total", totals[i], p)
			}
			totals[i] = p
		}
	}
	for i, x := range parts {
		in, step, shifts, taps := t.shapes[x][1], c.stride[last], c.shifts(), product(c.kernel[:last])
		total := t.reshape(name+"/apart", totals[i], taps, shifts, out, step, in)
		total = t.reshape(name+"/whole", t.transpose(name+"/order", total, 2, 4, 0, 1, 3), out, in, taps, shifts*step)
		if shifts*step > c.kernel[last] {
			total = t.slice(name+"/kernel", total, []int{3}, []int{0}, []int{c.kernel[last]}, []int{1})
		}
		dw = append(dw, t.reshape(name+"/w", total, append([]int{out, in}, c.kernel...)...))
	}
	return dw
}

// shifts is the number of voxels that the kernel meets along the last axis, after each
// stride's voxels have become one.
func (c convolution) shifts() int {
	last := len(c.kernel) - 1
	return (c.kernel[last] + c.stride[last] - 1) / c.stride[last]
}

// shifted returns dy (samples x voxels x out) with its shifts along the last axis joined:
// samples x (shifts out) x voxels, where lines are longer by the shifts but one.
func (t *tape) shifted(name, dy string, c convolution, samples int, y []int) string {
	out, size := y[1], y[len(y)-1]
	lines, shifts := product(y[2:])/size, c.shifts()
	dy = t.transpose(name+"/first", dy, 0, 2, 1)
	if shifts == 1 {
		return dy
	}
	// With zeros between the lines, shifts are parts of one long row: a step beyond the
	// end of a line goes to a zero before the next one.
	dy = t.reshape(name+"/lines", dy, samples, out, lines, size)
	dy = t.op("Pad", name+"/apart", []string{dy, t.int64s(0, 0, 0, shifts-1, 0, 0, 1, 0)})
	size += shifts - 1
	dy = t.reshape(name+"/row", dy, samples, out, (lines+1)*size)
	var all []string
	for q := range shifts {
		all = append(all, t.slice(name+"/shift", dy, []int{2}, []int{shifts - 1 - q}, []int{lines * size}, []int{1}))
	}
	return t.op("Concat", name+"/shifts", all, integer("axis", 1))
}

// tapProducts returns the sums over samples of the products of left, which shifted made,
// with the parts of x (samples x (axes) x (last axis x in)) that the kernel meets along
// the other axes: taps x (shifts out) x (step in).
func (t *tape) tapProducts(name, left, x string, c convolution, samples int, shape, y []int) string {
	last := len(c.kernel) - 1
	in, size, step, shifts := shape[1], y[2+last], c.stride[last], c.shifts()
	width := size + shifts - 1
	before, after := []int{0}, []int{0}
	for i := range last {
		before, after = append(before, c.pads[i]), append(after, c.pads[i])
	}
	before = append(before, c.pads[last]*in)
	after = append(after, (width*step-shape[2+last]-c.pads[last])*in)
	if pads := append(before, after...); slices.ContainsFunc(pads, func(p int) bool { return p != 0 }) {
		x = t.op("Pad", name+"/x/pad", []string{x, t.int64s(pads...)})
	}
	var taps []string
	for k := range product(c.kernel[:last]) {
		right := t.slice(name+"/x/tap", x, span(1, 1+last), place(k, c.kernel[:last]), y[2:2+last], c.stride[:last])
		right = t.reshape(name+"/x/flat", right, samples, product(y[2:2+last])*width, step*in)
		p := t.op("MatMul", name+"/product", []string{left, right})
		if samples > 1 {
			p = t.sum(name+"/samples", p, true, 0)
		}
		taps = append(taps, p)
	}
	if len(taps) == 1 {
		return taps[0]
	}
	return t.op("Concat", name+"/taps", taps, integer("axis", 0))
}

const (
	fewChannels = 4    // up to so many, the parts of x are joined rather than shifts of dy
	largeVolume = 1024 // voxels from which on samples go one by one
)

// fewWeightGradient is convWeightGradients for few channels of x, an image's: all parts of
// x are copied and joined.
func (t *tape) fewWeightGradient(name, x, dy string, c convolution, y []int) string {
	shape, dims := t.shapes[x], len(c.kernel)
	n, in, out, voxels := shape[0], shape[1], y[1], product(y[2:])
	pads := append(append([]int{0, 0}, c.pads...), append([]int{0, 0}, c.pads...)...)
	x = t.op("Pad", name+"/x/pad", []string{x, t.int64s(pads...)})
	var taps []string // each n x in x voxels
	for k := range product(c.kernel) {
		tap := t.slice(name+"/x/tap", x, span(2, 2+dims), place(k, c.kernel), y[2:], c.stride)
		taps = append(taps, t.reshape(name+"/x/flat", tap, n, in, voxels))
	}
	all := taps[0]
	if len(taps) > 1 {
		all = t.op("Concat", name+"/x/taps", taps, integer("axis", 1))
	}
	dy = t.reshape(name+"/dy/rows", t.channelsLast(name+"/dy/last", dy), n, voxels, out)
	total := t.sum(name+"/samples", t.op("MatMul", name+"/product", []string{all, dy}), false, 0)
	total = t.transpose(name+"/order", t.reshape(name+"/apart", total, product(c.kernel), in, out), 2, 1, 0)
	return t.reshape(name+"/w", total, append([]int{out, in}, c.kernel...)...)
}

// channelsLast moves the channels of x behind the voxels' axes.
func (t *tape) channelsLast(name, x string) string {
	axes := len(t.shapes[InputName])
	return t.transpose(name, x, append(append([]int{0}, span(2, axes)...), 1)...)
}

// place returns the coordinates of element k of an array of the given size.
func place(k int, size []int) []int {
	at := make([]int, len(size))
	for i := len(size) - 1; i >= 0; i-- {
		at[i], k = k%size[i], k/size[i]
	}
	return at
}
