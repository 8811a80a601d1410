package onnx

// transposedConv upsamples by stride with a kernel of the same size.
// Weight: in x out x stride.
func (u *unet) transposedConv(name, x string, in, out int, stride []int) string {
	inputs := []string{x, u.weight(name+".weight", append([]int{in, out}, stride...)...)}
	if u.ConvBias {
		inputs = append(inputs, u.weight(name+".bias", out))
	}
	if u.tape != nil {
		return u.tape.transposedConv(name, inputs, stride)
	}
	return u.node("ConvTranspose", name, inputs, ints("kernel_shape", stride), ints("strides", stride))
}

// transposedConv appends what the unet's does for x (n x in x size), w (in x out x
// stride) and perhaps a bias (out); kernels do not overlap, so each of x's voxels makes
// a block of its own.
func (t *tape) transposedConv(name string, inputs []string, stride []int) string {
	x, w := inputs[0], inputs[1]
	from, out := t.shapes[x], t.shapes[w][1]
	n, in, size, dims := from[0], from[1], from[2:], len(stride)
	shape := []int{n, out}
	for i, s := range stride {
		shape = append(shape, size[i]*s)
	}
	attributes := []*Attribute{ints("kernel_shape", stride), ints("strides", stride)}
	return t.note(t.op("ConvTranspose", name, inputs, attributes...), shape, func(dy string) {
		if len(inputs) > 2 {
			t.add(inputs[2], t.sum(name+"/db", dy, false, append([]int{0}, span(2, len(shape))...)...))
		}
		t.add(x, t.op("Conv", name+"/dx", []string{dy, w}, attributes...))
		// dy as n x voxels of x x (out x stride): its blocks in rows.
		blocks, voxels, block := []int{n, out}, []int{0}, []int{1}
		for i, s := range stride {
			blocks = append(blocks, size[i], s)
			voxels, block = append(voxels, 2+2*i), append(block, 3+2*i)
		}
		rows := t.transpose(name+"/dw/blocks", t.reshape(name+"/dw/apart", dy, blocks...), append(voxels, block...)...)
		rows = t.reshape(name+"/dw/rows", rows, n, product(size), out*product(stride))
		dw := t.op("MatMul", name+"/dw", []string{t.reshape(name+"/dw/x", x, n, in, product(size)), rows})
		dw = t.sum(name+"/dw/sum", dw, false, 0)
		t.add(w, t.reshape(name+"/dw/w", dw, append([]int{in, out}, stride[:dims]...)...))
	})
}
