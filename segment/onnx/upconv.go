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
			t.add(inputs[2], t.overSamples(name+"/db", t.overVoxels(name+"/db/voxels", dy, 1, shape), shape))
		}
		t.add(x, t.op("Conv", name+"/dx", []string{dy, w}, attributes...))
		// dy as n x voxels of x x (stride x out): its blocks in rows.
		blocks, voxels, block := []int{n}, []int{0}, []int{}
		for i, s := range stride {
			blocks = append(blocks, size[i], s)
			voxels, block = append(voxels, 1+2*i), append(block, 2+2*i)
		}
		rows := t.reshape(name+"/dw/apart", t.channelsLast(name+"/dw/dy/last", dy), append(blocks, out)...)
		rows = t.transpose(name+"/dw/blocks", rows, append(append(voxels, block...), 1+2*dims)...)
		rows = t.reshape(name+"/dw/rows", rows, n, product(size), product(stride)*out)
		left := t.reshape(name+"/dw/x/rows", t.channelsLast(name+"/dw/x/last", x), n, product(size), in)
		dw := t.op("MatMul", name+"/dw", []string{t.transpose(name+"/dw/x", left, 0, 2, 1), rows})
		dw = t.sum(name+"/dw/sum", dw, false, 0)
		dw = t.transpose(name+"/dw/order", t.reshape(name+"/dw/whole", dw, in, product(stride), out), 0, 2, 1)
		t.add(w, t.reshape(name+"/dw/w", dw, append([]int{in, out}, stride...)...))
	})
}
