package onnx

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/libflare/libflare/segment/internal/fault"
)

// CutHead takes the network's last layer off where that is a convolution with a
// kernel of one voxel, as the segmentation layer of nnU-Net's networks is: what it
// does to a voxel, logits = weights x features + bias, can as well be done later, and
// with many classes it is cheaper to accumulate the features. The graph's output
// becomes the convolution's input, of shape 1 x features x patch.
//
// weights is heads x features, row-major; bias has one number per head, zeros where
// the convolution has none. ok is false, and m unchanged, for graphs of another kind,
// and where the weights cannot be read. Graphs that share nodes with m, or that m was
// copied from, do not change.
func (m *Model) CutHead() (weights, bias []float32, features int, ok bool) {
	g := m.Graph
	inputs := g.DataInputs()
	if len(inputs) != 1 || len(g.Outputs) != 1 {
		return nil, nil, 0, false
	}
	output := g.Outputs[0]
	var head *Node
	made := map[string]bool{}
	for _, n := range g.Nodes {
		if slices.ContainsFunc(n.Attributes, func(a *Attribute) bool { return a.Type == attrGraph || a.Type == attrGraphs }) ||
			slices.Contains(n.Inputs, output.Name) {
			return nil, nil, 0, false // the logits are, or may be, used by others
		}
		for _, v := range n.Outputs {
			made[v] = true
		}
		if slices.Contains(n.Outputs, output.Name) {
			head = n
		}
	}
	if head == nil || !made[head.input(0)] || !head.pointwise() || len(output.Dims) < 3 {
		return nil, nil, 0, false
	}
	w, b := g.Initializer(head.input(1)), g.Initializer(head.input(2))
	if w == nil || len(w.Dims) != len(output.Dims) || b == nil && head.input(2) != "" {
		return nil, nil, 0, false
	}
	heads, channels := w.Dims[0], w.Dims[1]
	for _, d := range w.Dims[2:] {
		if d != 1 {
			return nil, nil, 0, false
		}
	}
	weights, err := w.floats()
	if err != nil || heads < 1 || channels < 1 {
		return nil, nil, 0, false
	}
	bias = make([]float32, heads)
	if b != nil {
		if bias, err = b.floats(); err != nil || len(b.Dims) != 1 || b.Dims[0] != heads {
			return nil, nil, 0, false
		}
	}
	dims := slices.Clone(output.Dims)
	dims[1] = Dim{Value: channels}
	m.Graph = g.only(inputs[0], &ValueInfo{Name: head.input(0), Type: Float, Dims: dims})
	return weights, bias, int(channels), true
}

// pointwise reports whether n is a convolution that takes each voxel by itself; the
// size of its kernel is the weights'.
func (n *Node) pointwise() bool {
	if n.OpType != "Conv" || n.Domain != "" && n.Domain != "ai.onnx" || len(n.Outputs) != 1 {
		return false
	}
	for _, a := range n.Attributes {
		switch a.Name {
		case "strides", "kernel_shape":
			if slices.ContainsFunc(a.Ints, func(v int64) bool { return v != 1 }) {
				return false
			}
		case "pads":
			if slices.ContainsFunc(a.Ints, func(v int64) bool { return v != 0 }) {
				return false
			}
		case "group":
			if a.I != 1 {
				return false
			}
		}
	}
	return true
}

// input returns the name of input i, "" where it is left out.
func (n *Node) input(i int) string {
	if i < len(n.Inputs) {
		return n.Inputs[i]
	}
	return ""
}

// floats returns the numbers of a float32 tensor, wherever the model keeps them.
// Errors: Unsupported (another type, another file), Format (a number of elements that
// is not the shape's), and those of Load.
func (t *Tensor) floats() ([]float32, error) {
	if t.Type != Float || t.external() != nil {
		return nil, fault.New(fault.Unsupported, "weight %.80q is of ONNX type %d, expected float32 (1) in the model's own file", t.Name, t.Type)
	}
	n, fits := 1, true
	for _, d := range t.Dims {
		if fits = fits && d >= 0 && d <= maxModel; fits {
			n *= int(d)
			fits = n <= maxModel
		}
	}
	raw := t.Raw
	if size := t.loadSize(); size > 0 && fits && size == 4*n {
		raw = make([]byte, size)
		if err := t.Load(raw); err != nil {
			return nil, err
		}
	}
	var out []float32
	if raw == nil {
		(&parser{}).fields(t.extra, new([]byte), func(f field) error {
			if f.num == fieldFloats {
				return f.floats(&out)
			}
			return nil
		})
	} else {
		out = make([]float32, len(raw)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	}
	if !fits || len(out) != n || len(raw)%4 != 0 {
		return nil, fault.New(fault.Format, "weight %.80q holds %d numbers, its shape is %v", t.Name, len(out), t.Dims)
	}
	return out, nil
}
