package onnx

import "slices"

// window gives the sizes that a convolution, a transposed convolution or a
// pooling makes of sizes x. kernel is nil for pooling, whose attribute has it.
func window(n *Node, x, kernel []int64) []int64 {
	if kernel == nil {
		if a := n.Attribute("kernel_shape"); a != nil {
			kernel = a.Ints
		}
	}
	out := make([]int64, len(x))
	if len(kernel) != len(x) {
		return out
	}
	auto := ""
	if a := n.Attribute("auto_pad"); a != nil {
		auto = string(a.S)
	}
	fixed := n.Attribute("output_shape")
	for i, size := range x {
		stride, dilation := ints64(n, "strides", 1, i), ints64(n, "dilations", 1, i)
		if size == 0 || stride < 1 || kernel[i] < 1 || dilation < 1 {
			continue
		}
		pads := ints64(n, "pads", 0, i) + ints64(n, "pads", 0, i+len(x))
		if auto == "VALID" {
			pads = 0
		}
		extent := dilation*(kernel[i]-1) + 1
		same := auto == "SAME_UPPER" || auto == "SAME_LOWER"
		switch {
		case n.OpType == "ConvTranspose" && fixed != nil:
			if len(fixed.Ints) == len(x) {
				out[i] = fixed.Ints[i]
			}
		case n.OpType == "ConvTranspose" && same:
			out[i] = size * stride
		case n.OpType == "ConvTranspose":
			out[i] = stride*(size-1) + ints64(n, "output_padding", 0, i) + extent - pads
		case same:
			out[i] = (size + stride - 1) / stride
		case ints64(n, "ceil_mode", 0, 0) != 0:
			out[i] = (size+pads-extent+stride-1)/stride + 1
		default:
			out[i] = (size+pads-extent)/stride + 1
		}
		out[i] = max(out[i], 0)
	}
	return out
}

// ints64 returns number i of an attribute of whole numbers, or of one, def if the
// node lacks it.
func ints64(n *Node, name string, def int64, i int) int64 {
	a := n.Attribute(name)
	switch {
	case a == nil:
		return def
	case a.Type == AttrInt:
		return a.I
	case i < len(a.Ints):
		return a.Ints[i]
	}
	return def
}

// vector follows the small vectors of sizes that exporters compute with (Shape,
// Gather, ...); false if the node is not about one.
func (in *inference) vector(n *Node) bool {
	var args [][]int64
	for _, name := range n.Inputs {
		v, ok := in.values[name]
		if !ok && n.OpType != "Shape" && name != "" {
			return false
		}
		args = append(args, v)
	}
	if len(args) == 0 {
		return false
	}
	out := args[0]
	switch n.OpType {
	case "Shape":
		s, ok := in.shapes[n.Inputs[0]]
		if !ok || slices.Contains(s, 0) {
			return true
		}
		lo, hi := bounds(ints64(n, "start", 0, 0), ints64(n, "end", int64(len(s)), 0), len(s))
		out = s[lo:hi]
	case "Identity", "Cast", "Unsqueeze", "Squeeze":
	case "Concat":
		out = slices.Concat(args...)
	case "Gather":
		if len(args) < 2 {
			return true
		}
		out = nil
		for _, i := range args[1] {
			if i < 0 {
				i += int64(len(args[0]))
			}
			if i < 0 || i >= int64(len(args[0])) {
				return true
			}
			out = append(out, args[0][i])
		}
	case "Slice":
		step := len(args) < 5 || len(args[4]) == 1 && args[4][0] == 1
		if len(args) < 3 || len(args[1]) != 1 || len(args[2]) != 1 || !step {
			return true
		}
		lo, hi := bounds(args[1][0], args[2][0], len(out))
		out = out[lo:hi]
	case "Add", "Sub", "Mul", "Div":
		if len(args) < 2 {
			return true
		}
		if out = arithmetic(n.OpType, args[0], args[1]); out == nil {
			return true
		}
	default:
		return false
	}
	if len(out) > 0 && len(out) <= maxVector {
		in.values[n.Outputs[0]] = out
		in.shapes[n.Outputs[0]] = []int64{int64(len(out))}
	}
	return true
}

// bounds gives a slice's ends as ONNX counts them, within 0 and n.
func bounds(lo, hi int64, n int) (int, int) {
	clip := func(i int64) int {
		if i < 0 {
			i += int64(n)
		}
		return int(max(0, min(i, int64(n))))
	}
	l, h := clip(lo), clip(hi)
	return min(l, h), h
}

// arithmetic is elementwise; a vector of one number goes with any.
func arithmetic(op string, a, b []int64) []int64 {
	if len(a) != len(b) && len(a) != 1 && len(b) != 1 || len(a) == 0 || len(b) == 0 {
		return nil
	}
	out := make([]int64, max(len(a), len(b)))
	for i := range out {
		x, y := a[min(i, len(a)-1)], b[min(i, len(b)-1)]
		switch op {
		case "Add":
			out[i] = x + y
		case "Sub":
			out[i] = x - y
		case "Mul":
			out[i] = x * y
		case "Div":
			if y == 0 {
				return nil
			}
			out[i] = x / y
		}
	}
	return out
}
