package onnx

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// infer returns the sizes of the values of a model's graph for an input of the
// given sizes; 0 is an unknown size, and a value of unknown rank is absent. It
// knows the operators of convolutional networks (github.com/onnx/onnx,
// docs/Operators.md); what depends on others is unknown. Its one use is to tell
// the outputs of a network with deep supervision apart: exporters give dynamic
// sizes names that say nothing, or the same to all outputs.
func infer(m *Model, input string, sizes []int64) map[string][]int64 {
	in := &inference{g: m.Graph, shapes: map[string][]int64{input: sizes}, values: map[string][]int64{}, scales: map[string][]float64{}}
	for _, t := range m.Graph.Initializers {
		in.constant(t.Name, t)
	}
	for _, n := range m.Graph.Nodes {
		if (n.Domain == "" || n.Domain == "ai.onnx") && len(n.Outputs) > 0 {
			in.node(n)
		}
	}
	return in.shapes
}

type inference struct {
	g      *Graph
	shapes map[string][]int64
	values map[string][]int64   // of small vectors of whole numbers
	scales map[string][]float64 // of small vectors of float32
}

const (
	maxVector = 16 // the longest vector whose values are followed
	maxRank   = 8  // the most axes of a constant
)

// constant notes the shape of a tensor, and its values if it is a small vector.
func (in *inference) constant(name string, t *Tensor) {
	if len(t.Dims) > maxRank || slices.ContainsFunc(t.Dims, func(d int64) bool { return d < 0 }) {
		return
	}
	in.shapes[name] = slices.Clone(t.Dims)
	n := int64(1)
	for _, d := range t.Dims {
		if d > maxVector || n*d > maxVector {
			return
		}
		n *= d
	}
	if len(t.Dims) > 1 || t.Type != Int64 && t.Type != Float {
		return
	}
	var ints []int64
	var floats []float32
	for b := t.Raw; t.Type == Int64 && len(b) >= 8; b = b[8:] {
		ints = append(ints, int64(binary.LittleEndian.Uint64(b)))
	}
	for b := t.Raw; t.Type == Float && len(b) >= 4; b = b[4:] {
		floats = append(floats, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	if t.Raw == nil {
		(&parser{}).fields(t.extra, new([]byte), func(f field) error {
			switch f.num {
			case fieldInts:
				return f.int64s(&ints)
			case fieldFloats:
				return f.floats(&floats)
			}
			return nil
		})
	}
	switch {
	case t.Type == Int64 && int64(len(ints)) == n:
		in.values[name] = ints
	case t.Type == Float && int64(len(floats)) == n:
		var s []float64
		for _, v := range floats {
			s = append(s, float64(v))
		}
		in.scales[name] = s
	}
}

// unary operators keep the shape of their first input.
var unary = strings.Fields("Identity Relu LeakyRelu PRelu Elu Selu Celu Gelu Sigmoid HardSigmoid HardSwish Mish Tanh Erf Softplus " +
	"Softsign Softmax LogSoftmax Exp Log Sqrt Abs Neg Reciprocal Clip Dropout Cast Floor Ceil InstanceNormalization " +
	"BatchNormalization GroupNormalization LayerNormalization LpNormalization LRN")

// broadcasting operators follow numpy.
var broadcasting = strings.Fields("Add Sub Mul Div Pow Max Min Mean Sum")

func (in *inference) node(n *Node) {
	out := n.Outputs[0]
	var x []int64
	known := false
	if len(n.Inputs) > 0 {
		x, known = in.shapes[n.Inputs[0]]
	}
	shape := []int64(nil)
	switch {
	case n.OpType == "Constant":
		in.constantNode(n)
		return
	case in.vector(n), !known:
		return
	case slices.Contains(unary, n.OpType):
		shape = slices.Clone(x)
	case slices.Contains(broadcasting, n.OpType):
		shape = in.broadcast(n.Inputs)
	default:
		shape = in.spatial(n, x)
	}
	if shape != nil {
		in.shapes[out] = shape
	}
}

func (in *inference) constantNode(n *Node) {
	for _, a := range n.Attributes {
		t := &Tensor{Type: Int64, Dims: []int64{int64(len(a.Ints))}}
		switch a.Name {
		case "value":
			p := &parser{}
			p.fields(a.extra, new([]byte), func(f field) error {
				if f.num == 5 { // AttributeProto.t
					return f.message(func(b []byte) error { return p.tensor(b, t) })
				}
				return nil
			})
			in.constant(n.Outputs[0], t)
		case "value_ints":
			in.shapes[n.Outputs[0]], in.values[n.Outputs[0]] = t.Dims, a.Ints
		case "value_int":
			in.shapes[n.Outputs[0]], in.values[n.Outputs[0]] = []int64{}, []int64{a.I}
		}
	}
}

// broadcast gives the shape of an operation of several values, nil if one is
// unknown.
func (in *inference) broadcast(names []string) []int64 {
	var out []int64
	for _, name := range names {
		s, ok := in.shapes[name]
		if !ok {
			return nil
		}
		for len(out) < len(s) {
			out = append([]int64{1}, out...)
		}
		for i := range s {
			switch d := &out[len(out)-len(s)+i]; {
			case *d == 1:
				*d = s[i]
			case *d == 0 && s[i] > 1:
				*d = s[i]
			}
		}
	}
	if out == nil {
		out = []int64{}
	}
	return out
}

// spatial gives the shape of an operator that changes sizes; x is the shape of
// its first input.
func (in *inference) spatial(n *Node, x []int64) []int64 {
	arg := func(i int) string {
		if i < len(n.Inputs) {
			return n.Inputs[i]
		}
		return ""
	}
	switch n.OpType {
	case "Conv", "ConvTranspose":
		w, ok := in.shapes[arg(1)]
		if !ok || len(w) != len(x) || len(x) < 3 {
			return nil
		}
		out := []int64{x[0], w[0]}
		if n.OpType == "ConvTranspose" {
			out[1] = w[1] * ints64(n, "group", 1, 0)
		}
		return append(out, window(n, x[2:], w[2:])...)
	case "MaxPool", "AveragePool":
		if len(x) < 3 {
			return nil
		}
		return append(slices.Clone(x[:2]), window(n, x[2:], nil)...)
	case "GlobalAveragePool", "GlobalMaxPool":
		out := slices.Clone(x)
		for i := 2; i < len(out); i++ {
			out[i] = 1
		}
		return out
	case "Concat":
		return in.concat(n, x)
	case "Transpose":
		a := n.Attribute("perm")
		if a == nil || len(a.Ints) != len(x) {
			return nil
		}
		var out []int64
		for _, i := range a.Ints {
			if i < 0 || i >= int64(len(x)) {
				return nil
			}
			out = append(out, x[i])
		}
		return out
	case "Resize", "Upsample":
		scales, sizes := in.scales[arg(1)], in.values[arg(3)]
		if n.OpType == "Resize" {
			scales = in.scales[arg(2)]
		}
		if n.Attribute("axes") != nil {
			return make([]int64, len(x))
		}
		if len(sizes) == len(x) {
			return slices.Clone(sizes)
		}
		out := make([]int64, len(x))
		for i := range out {
			if len(scales) == len(x) {
				out[i] = int64(math.Floor(float64(x[i]) * scales[i]))
			}
		}
		return out
	case "Pad":
		pads := in.values[arg(1)]
		out := make([]int64, len(x))
		for i := range out {
			if len(pads) == 2*len(x) && arg(3) == "" && x[i] > 0 {
				out[i] = x[i] + pads[i] + pads[i+len(x)]
			}
		}
		return out
	case "Reshape":
		return reshape(x, in.values[arg(1)])
	}
	return nil
}

func (in *inference) concat(n *Node, x []int64) []int64 {
	out := slices.Clone(x)
	axis := ints64(n, "axis", 0, 0)
	if axis < 0 {
		axis += int64(len(x))
	}
	if axis < 0 || axis >= int64(len(x)) {
		return nil
	}
	for _, name := range n.Inputs[1:] {
		s, ok := in.shapes[name]
		if !ok || len(s) != len(x) {
			return nil
		}
		for i := range out {
			switch {
			case int64(i) != axis && out[i] == 0:
				out[i] = s[i]
			case int64(i) == axis && (s[i] == 0 || out[i] == 0):
				out[i] = 0
			case int64(i) == axis:
				out[i] += s[i]
			}
		}
	}
	return out
}

// reshape follows -1 (the rest) and 0 (as before).
func reshape(x, to []int64) []int64 {
	if to == nil {
		return nil
	}
	out := slices.Clone(to)
	total, rest := int64(1), -1
	for _, d := range x {
		total *= d
	}
	for i, d := range out {
		if d == 0 && i < len(x) {
			out[i] = x[i]
		}
		if d < 0 {
			rest, out[i] = i, 0
			continue
		}
		if out[i] > 0 && total%out[i] == 0 {
			total /= out[i]
		}
	}
	if rest >= 0 {
		out[rest] = total // 0 if a size is unknown
	}
	return out
}
