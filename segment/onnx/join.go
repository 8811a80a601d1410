package onnx

// add appends a + b.
func (u *unet) add(name, a, b string) string {
	if u.tape == nil {
		return u.node("Add", name, []string{a, b})
	}
	t := u.tape
	return t.note(t.plus(name, a, b), t.shapes[a], func(dy string) {
		t.add(a, dy)
		t.add(b, dy)
	})
}

// concat joins a and b along the channels. In training nothing is appended: whatever
// takes the joined value, which in these networks is a convolution, takes its parts.
func (u *unet) concat(name, a, b string) string {
	if u.tape == nil {
		return u.node("Concat", name, []string{a, b}, integer("axis", 1))
	}
	u.tape.pairs[name] = []string{a, b}
	return name
}

// parts returns what x is joined of.
func (t *tape) parts(x string) []string {
	if p := t.pairs[x]; p != nil {
		return p
	}
	return []string{x}
}

// channels returns the number of channels of each value.
func (t *tape) channels(values []string) (out []int) {
	for _, v := range values {
		out = append(out, t.shapes[v][1])
	}
	return out
}

// averagePool takes the means of blocks of the size of stride.
func (u *unet) averagePool(name, x string, stride []int) string {
	attributes := []*Attribute{ints("kernel_shape", stride), ints("strides", stride)}
	if u.tape == nil {
		return u.node("AveragePool", name, []string{x}, attributes...)
	}
	t := u.tape
	from := t.shapes[x]
	shape := append([]int{}, from[:2]...)
	scales := []float32{1, 1}
	for i, s := range stride {
		shape = append(shape, from[2+i]/s)
		scales = append(scales, float32(s))
	}
	return t.note(t.op("AveragePool", name, []string{x}, attributes...), shape, func(dy string) {
		part := t.mul(name+"/part", dy, t.floats(u.ones(), 1/float32(product(stride))))
		// Each gradient repeated over its block. A product with ones of a block's shape says the same, in eight
		// dimensions, which OpenVINO multiplies at a tenth of memory's speed.
		t.add(x, t.op("Resize", name+"/dx", []string{part, "", t.floats([]int{len(scales)}, scales...)}, word("mode", "nearest"),
			word("coordinate_transformation_mode", "asymmetric"), word("nearest_mode", "floor")))
	})
}

// MaskKind is what a random mask of a training graph is for.
type MaskKind int

// The kinds of masks.
const (
	Dropout  MaskKind = iota // channels of a convolution's output: nn.Dropout2d and 3d
	DropPath                 // a residual block's convolutions, for a whole sample: stochastic depth
)

// drop multiplies x by a random mask, which is an input of the graph.
func (u *unet) drop(name, x string, kind MaskKind) string {
	t := u.tape
	if t == nil || !t.drops[kind] {
		return x
	}
	shape := append([]int{t.shapes[x][0], 1}, u.ones()...)
	if kind == Dropout {
		shape[1] = t.shapes[x][1]
	}
	t.masks = append(t.masks, Mask{Name: "mask/" + name, Kind: kind, Shape: shape})
	mask := "mask/" + name
	return t.note(t.mul(name, x, mask), t.shapes[x], func(dy string) {
		t.add(x, t.mul(name+"/dx", dy, mask))
	})
}
