package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// halfOperators compute in float16 once their inputs are float16: all inputs and the
// output of each have one type. InstanceNormalization is among them because runtimes
// take its statistics in float32 whatever its type: ONNX Runtime's CUDA provider gives
// cuDNN float32 statistics, scale and bias (providers/cuda/nn/instance_norm.cc), and its
// CPU provider, which has no float16 kernel, converts. BatchNormalization is not: its
// stored variances may be too small or too large for float16.
var halfOperators = strings.Fields("Conv ConvTranspose InstanceNormalization Relu LeakyRelu PRelu Elu Sigmoid Tanh Softplus Erf " +
	"Add Sub Mul Concat AveragePool MaxPool Identity")

// Half returns a model that computes in float16 what m computes in float32, for
// devices that are faster at it. Its outputs are float16, too, under other names: a tile
// of logits is the most that crosses the bus, and is widened where it is accumulated. Its
// inputs stay float32 and are converted on the device: an image has one channel where
// logits have ten or more, so that to halve it would save a percent or two of a tile's
// time, and the numbers would be the same. Weights are rounded to the nearest float16.
// What has no place there stays in float32 between conversions: operators other than
// those of convolutional networks, and those with weights beyond float16's range of
// 65504; notes name the latter.
//
// m does not change; nodes and weights that stay as they are are shared with it.
// Errors: Unsupported (graphs inside of nodes, an output that is not float32), Format
// (weights whose number contradicts their shape), and those of Load.
func (m *Model) Half() (half *Model, notes []string, err error) {
	h := &halving{old: m.Graph, float: map[string]bool{}, full: map[string]bool{}, half: map[string]bool{}, weights: map[string]*Tensor{}}
	for _, t := range m.Graph.Initializers {
		h.weights[t.Name] = t
		h.float[t.Name] = t.Type == Float
	}
	for _, v := range m.Graph.DataInputs() {
		h.full[v.Name] = true
		h.float[v.Name] = v.Type == Float
	}
	for _, n := range m.Graph.Nodes {
		if err := h.node(n); err != nil {
			return nil, nil, err
		}
	}
	var outputs []*ValueInfo
	for _, o := range m.Graph.Outputs {
		if o.Type != Float {
			return nil, nil, fault.New(fault.Unsupported, "output %.80q is not float32; such networks are not converted to float16", o.Name)
		}
		h.asHalf(o.Name)
		half := *o
		half.Name, half.Type = halfName(o.Name), Float16
		outputs = append(outputs, &half)
	}
	out := *m
	out.Metadata = slices.Clone(m.Metadata)
	// Notes on the types of values in between would now be wrong.
	out.Graph = &Graph{Name: m.Graph.Name, Nodes: h.nodes, Initializers: h.initializers, Outputs: outputs, extra: withoutField(m.Graph.extra, fieldValueInfo)}
	for _, v := range m.Graph.Inputs {
		if h.weights[v.Name] == nil || h.full[v.Name] {
			out.Graph.Inputs = append(out.Graph.Inputs, v)
		}
	}
	return &out, h.notes, nil
}

// halving is a graph on its way to float16. The float16 version of a value is called
// as the value with "/float16" added, so that values that are needed in both types
// exist in both.
type halving struct {
	old          *Graph
	nodes        []*Node
	initializers []*Tensor
	weights      map[string]*Tensor // of the old graph
	float        map[string]bool    // values known to be float32 in the old graph
	full, half   map[string]bool    // values that exist in the new graph, by their old name
	notes        []string
}

func halfName(v string) string { return v + "/float16" }

// node appends n in float16 or as it is.
func (h *halving) node(n *Node) error {
	if slices.ContainsFunc(n.Attributes, func(a *Attribute) bool { return a.Type == attrGraph || a.Type == attrGraphs }) {
		return fault.New(fault.Unsupported, "node %.80q (%.40s) holds a graph of its own; such networks are not converted to float16", n.Name, n.OpType)
	}
	ok, err := h.fits(n)
	if err != nil {
		return err
	}
	renamed := *n
	if !ok {
		for _, v := range n.Inputs {
			h.asFull(v)
		}
		for _, v := range n.Outputs {
			h.full[v], h.float[v] = true, h.stays(n)
		}
		h.nodes = append(h.nodes, &renamed)
		return nil
	}
	renamed.Inputs = slices.Clone(n.Inputs)
	for i, v := range n.Inputs {
		if v != "" {
			h.asHalf(v)
			renamed.Inputs[i] = halfName(v)
		}
	}
	renamed.Outputs = []string{halfName(n.Outputs[0])}
	h.half[n.Outputs[0]], h.float[n.Outputs[0]] = true, true
	h.nodes = append(h.nodes, &renamed)
	return nil
}

// fits reports whether n computes in float32 in the old graph and can do so in float16.
func (h *halving) fits(n *Node) (bool, error) {
	if n.Domain != "" && n.Domain != "ai.onnx" || !slices.Contains(halfOperators, n.OpType) || len(n.Outputs) != 1 {
		return false, nil
	}
	// One input that is known to be float32 says that all are.
	if !slices.ContainsFunc(n.Inputs, func(v string) bool { return h.float[v] }) {
		return false, nil
	}
	for _, v := range n.Inputs {
		t := h.weights[v]
		if t == nil || h.half[v] {
			continue
		}
		numbers, err := t.floats()
		if err != nil {
			return false, err
		}
		for _, x := range numbers {
			if f := float16(x); f&0x7fff >= 0x7c00 && !math.IsInf(float64(x), 0) {
				h.notes = append(h.notes, fmt.Sprintf("%.40s %.80q stays float32: its weight %.80q holds %g, beyond float16", n.OpType, n.Name, v, x))
				return false, nil
			}
		}
	}
	return true, nil
}

// stays reports whether the output of n, which stays as it is, is known to be float32:
// it is of its first input's type.
func (h *halving) stays(n *Node) bool {
	switch n.OpType {
	case "Resize", "Upsample", "Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Pad", "Dropout", "BatchNormalization",
		"Softmax", "Clip", "Mean", "Div", "Pow", "GlobalAveragePool":
		return len(n.Inputs) > 0 && h.float[n.Inputs[0]]
	case "Cast":
		a := n.Attribute("to")
		return a != nil && DType(a.I) == Float
	}
	return slices.Contains(halfOperators, n.OpType) && slices.ContainsFunc(n.Inputs, func(v string) bool { return h.float[v] })
}

// asHalf makes the float16 version of a value exist.
func (h *halving) asHalf(v string) {
	if h.half[v] {
		return
	}
	h.half[v] = true
	if t := h.weights[v]; t != nil {
		h.initializers = append(h.initializers, t.half())
		return
	}
	h.cast(v, halfName(v), Float16)
}

// asFull makes a value exist as it was.
func (h *halving) asFull(v string) {
	if v == "" || h.full[v] {
		return
	}
	h.full[v] = true
	if t := h.weights[v]; t != nil {
		h.initializers = append(h.initializers, t)
	} else if h.half[v] {
		h.cast(halfName(v), v, Float)
	}
}

func (h *halving) cast(from, to string, d DType) {
	h.nodes = append(h.nodes, &Node{Name: to + "/cast", OpType: "Cast", Inputs: []string{from}, Outputs: []string{to}, Attributes: []*Attribute{integer("to", int64(d))}})
}

// half returns the float16 version of a float32 tensor, converted when the model is
// marshalled.
func (t *Tensor) half() *Tensor {
	size := 2
	for _, d := range t.Dims {
		size *= int(d)
	}
	return &Tensor{Name: halfName(t.Name), Type: Float16, Dims: t.Dims, LoadSize: size, Load: func(dst []byte) error {
		numbers, err := t.floats()
		if err != nil {
			return err
		}
		for i, v := range numbers {
			binary.LittleEndian.PutUint16(dst[2*i:], float16(v))
		}
		return nil
	}}
}

// float16 returns the bits of the float16 nearest to v, ties to even (IEEE 754-2019,
// section 4.3.1): 5 bits of exponent, 10 of mantissa; NaN stays NaN.
func float16(v float32) uint16 {
	bits := math.Float32bits(v)
	sign, magnitude := uint16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case magnitude > 0x7f800000:
		return sign | 0x7e00
	case magnitude >= 0x47800000: // 2^16 and above
		return sign | 0x7c00
	case magnitude < 0x38800000: // below 2^-14: a multiple of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(magnitude))*(1<<24)))
	}
	// The mantissa loses 13 bits; a carry runs into the exponent, as it should.
	rounded := magnitude + 0xfff + (magnitude >> 13 & 1)
	return sign | uint16(rounded>>13-(127-15)<<10)
}
