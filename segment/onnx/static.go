package onnx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// The opsets that Static accepts, of those that exporters write today.
const (
	oldestOpset = 11
	newestOpset = 21
)

// Static returns a model that computes the logits of one patch, made of a model
// that others have exported: one float32 input of shape 1 x channels x patch and
// one float32 output of shape 1 x heads x patch, all sizes fixed, whatever their
// names. Of several outputs (deep supervision) it keeps the one at the patch's
// resolution, and only what is needed to compute it. Where that output comes from
// a Softmax over the channels or a Sigmoid, their input is the output: logits.
// notes say what was changed. Nodes and weights are shared with m.
//
// Errors: Unsupported (opset, other types than float32, several inputs, several
// outputs of the same resolution, a fixed batch size above 1, weights in another
// file: see LoadExternal), Model (sizes that contradict patch or channels, no
// output of the patch's size); they name inputs and outputs with their shapes.
func (m *Model) Static(patch []int, channels int) (static *Model, notes []string, err error) {
	if v := m.Opset(); v < oldestOpset || v > newestOpset {
		return nil, nil, fault.New(fault.Unsupported, "the model uses version %d of ONNX's operators (opset), supported are %d to %d", v, oldestOpset, newestOpset)
	}
	for _, t := range m.Graph.Initializers {
		if t.external() != nil {
			return nil, nil, fault.New(fault.Unsupported, "the weights (%.80q and others) lie in another file; export the model as one file", t.Name)
		}
	}
	fixed := append([]int64{1, int64(channels)}, int64s(patch)...)
	input, err := m.Graph.staticInput(fixed)
	if err != nil {
		return nil, nil, err
	}
	c := &chooser{m: m, shapes: infer(m, input.Name, fixed), producers: map[string]*Node{}, want: fixed}
	for _, n := range m.Graph.Nodes {
		for _, v := range n.Outputs {
			if v != "" {
				c.producers[v] = n
			}
		}
	}
	output, err := c.choose()
	if err != nil {
		return nil, nil, err
	}
	out := *m
	out.Metadata = slices.Clone(m.Metadata)
	out.Graph = m.Graph.only(input, output)
	return &out, c.notes, nil
}

// staticInput returns the graph's one input with fixed sizes.
func (g *Graph) staticInput(fixed []int64) (*ValueInfo, error) {
	inputs := g.DataInputs()
	if len(inputs) != 1 {
		return nil, fault.New(fault.Unsupported, "the network has %d inputs (%s), expected one image", len(inputs), list(inputs))
	}
	in := inputs[0]
	if in.Type != Float {
		return nil, fault.New(fault.Unsupported, "input %s is not float32", describe(in))
	}
	if in.Dims != nil {
		if len(in.Dims) != len(fixed) {
			return nil, fault.New(fault.Model, "input %s has %d dimensions, the plans ask for %v (batch, channels, patch)", describe(in), len(in.Dims), fixed)
		}
		if in.Dims[0].Value > 1 {
			return nil, fault.New(fault.Unsupported, "input %s has a fixed batch size of %d, expected 1 or any", describe(in), in.Dims[0].Value)
		}
		for i, d := range in.Dims {
			if d.Value > 0 && d.Value != fixed[i] {
				return nil, fault.New(fault.Model, "input %s does not take what the plans ask for, %v (batch, channels, patch)", describe(in), fixed)
			}
		}
	}
	return &ValueInfo{Name: in.Name, Type: Float, Dims: fixedDims(fixed), extra: in.extra}, nil
}

// chooser finds the output that holds the logits.
type chooser struct {
	m         *Model
	shapes    map[string][]int64
	producers map[string]*Node // of each value
	want      []int64          // 1, channels, patch...
	notes     []string
}

// candidate is an output that may hold the logits.
type candidate struct {
	output *ValueInfo
	value  string  // where its logits are
	shape  []int64 // 0: unknown
	note   string
}

func (c *chooser) choose() (*ValueInfo, error) {
	var exact, perhaps []candidate
	var others []string
	for _, o := range c.m.Graph.Outputs {
		k, reason := c.consider(o)
		switch {
		case reason != "":
			others = append(others, fmt.Sprintf("%s %s", describe(o), reason))
		case slices.ContainsFunc(append(exact, perhaps...), func(e candidate) bool { return e.value == k.value }):
			// logits and their softmax
		case slices.Contains(k.shape[2:], 0):
			perhaps = append(perhaps, k)
		default:
			exact = append(exact, k)
		}
	}
	found := exact
	if len(exact) == 0 {
		found = perhaps
	}
	if len(found) > 1 {
		var names []string
		for _, k := range found {
			names = append(names, describe(k.output))
		}
		return nil, fault.New(fault.Unsupported, "%d outputs may hold the logits of the patch %v: %s; export one", len(found), c.want[2:], strings.Join(names, ", "))
	}
	if len(found) == 0 {
		if others == nil {
			others = []string{"there is no output"}
		}
		return nil, fault.New(fault.Model, "no output has the size of the patch %v: %s", c.want[2:], strings.Join(others, "; "))
	}
	k := found[0]
	if k.shape[1] < 1 || k.shape[1] > 1<<16 {
		return nil, fault.New(fault.Model, "output %s has an unknown number of channels, expected 1 to 65536", describe(k.output))
	}
	if len(c.m.Graph.Outputs) > 1 {
		c.notes = append(c.notes, fmt.Sprintf("of the network's outputs (%s) %q is used", list(c.m.Graph.Outputs), k.output.Name))
	}
	if k.note != "" {
		c.notes = append(c.notes, k.note)
	}
	return &ValueInfo{Name: k.value, Type: Float, Dims: fixedDims(append([]int64{1, k.shape[1]}, c.want[2:]...))}, nil
}

// consider returns an output as candidate, or the reason why it is none.
func (c *chooser) consider(o *ValueInfo) (candidate, string) {
	if o.Type != Float && (o.Type != 0 || o.opaque != nil) {
		return candidate{}, "is not float32"
	}
	k := candidate{output: o}
	k.value, k.note = c.logits(o.Name)
	shape := slices.Clone(c.shapes[o.Name])
	if shape == nil {
		shape = make([]int64, len(o.Dims))
	}
	if len(shape) != len(c.want) {
		if o.Dims == nil && c.shapes[o.Name] == nil {
			return candidate{}, "has no known number of dimensions"
		}
		return candidate{}, fmt.Sprintf("has %d dimensions, not %d", len(shape), len(c.want))
	}
	for i := range shape {
		if len(o.Dims) != len(shape) || o.Dims[i].Value < 1 {
			continue
		}
		if shape[i] == 0 {
			shape[i] = o.Dims[i].Value
		} else if shape[i] != o.Dims[i].Value {
			return candidate{}, fmt.Sprintf("has a size of %v by its operators", shape)
		}
	}
	if shape[0] > 1 {
		return candidate{}, fmt.Sprintf("has a batch size of %d", shape[0])
	}
	for i := 2; i < len(shape); i++ {
		if shape[i] != 0 && shape[i] != c.want[i] {
			return candidate{}, fmt.Sprintf("has a size of %v", shape)
		}
	}
	k.shape = shape
	return k, ""
}

// logits returns the value that an output is made of by Identity and at most one
// Softmax, LogSoftmax or Sigmoid over the channels, with a note in that case.
func (c *chooser) logits(name string) (value, note string) {
	value = name
	for range len(c.m.Graph.Nodes) { // more would be a circle
		n := c.producers[value]
		if n == nil || len(n.Inputs) == 0 {
			break
		}
		next := ""
		switch {
		case n.Domain != "" && n.Domain != "ai.onnx":
		case n.OpType == "Identity":
			next = n.Inputs[0]
		case note != "":
		case n.OpType == "Sigmoid" || c.overChannels(n):
			next, note = n.Inputs[0], c.noteOf(name, n)
		case n.OpType == "Transpose":
			// Before opset 13 Softmax over another axis than the last one is
			// written with the channels moved there and back.
			inner := c.producers[n.Inputs[0]]
			if inner == nil || inner.OpType != "Softmax" && inner.OpType != "LogSoftmax" || len(inner.Inputs) != 1 || c.axis(inner) != len(c.want)-1 {
				break
			}
			if before := c.producers[inner.Inputs[0]]; before != nil && before.OpType == "Transpose" && len(before.Inputs) == 1 && c.thereAndBack(before, n) {
				next, note = before.Inputs[0], c.noteOf(name, inner)
			}
		}
		if next == "" || c.producers[next] == nil {
			break
		}
		value = next
	}
	if value == name {
		note = ""
	}
	return value, note
}

func (c *chooser) noteOf(name string, n *Node) string {
	return fmt.Sprintf("output %q is a %s; its input is used as logits", name, n.OpType)
}

// overChannels says whether n is a Softmax or LogSoftmax over the channels alone.
func (c *chooser) overChannels(n *Node) bool {
	return (n.OpType == "Softmax" || n.OpType == "LogSoftmax") && c.m.Opset() >= 13 && c.axis(n) == 1
}

// axis returns the axis of a softmax. Before opset 13 it means all axes from
// there on.
func (c *chooser) axis(n *Node) int {
	axis := int64(-1)
	if c.m.Opset() < 13 {
		axis = 1
	}
	if a := n.Attribute("axis"); a != nil {
		axis = a.I
	}
	if axis < 0 {
		axis += int64(len(c.want))
	}
	return int(axis)
}

// thereAndBack says whether two transpositions undo each other and the first
// moves the channels to the end.
func (c *chooser) thereAndBack(there, back *Node) bool {
	p, q := there.Attribute("perm"), back.Attribute("perm")
	rank := len(c.want)
	if p == nil || q == nil || len(p.Ints) != rank || len(q.Ints) != rank || p.Ints[rank-1] != 1 {
		return false
	}
	for i, from := range q.Ints {
		if from < 0 || from >= int64(rank) || p.Ints[from] != int64(i) {
			return false
		}
	}
	return true
}

// only returns a graph of what output needs. Notes on other values' types
// (value_info) are left out: they may contradict the fixed sizes.
func (g *Graph) only(input, output *ValueInfo) *Graph {
	out := &Graph{Name: g.Name, Outputs: []*ValueInfo{output}, extra: withoutField(g.extra, fieldValueInfo)}
	needed := map[string]bool{output.Name: true}
	all := false // a node with graphs inside (If, Loop) uses values that it does not list
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n := g.Nodes[i]
		for _, a := range n.Attributes {
			all = all || a.Type == attrGraph || a.Type == attrGraphs
		}
		if slices.ContainsFunc(n.Outputs, func(v string) bool { return needed[v] }) {
			for _, v := range n.Inputs {
				needed[v] = true
			}
		}
	}
	for _, n := range g.Nodes {
		if all || slices.ContainsFunc(n.Outputs, func(v string) bool { return v != "" && needed[v] }) {
			out.Nodes = append(out.Nodes, n)
		}
	}
	for _, t := range g.Initializers {
		if all || needed[t.Name] {
			out.Initializers = append(out.Initializers, t)
		}
	}
	for _, v := range g.Inputs {
		switch {
		case v.Name == input.Name:
			out.Inputs = append(out.Inputs, input)
		case all || needed[v.Name]: // an initializer of IR version 3
			out.Inputs = append(out.Inputs, v)
		}
	}
	return out
}

// The types of attributes that hold graphs.
const (
	attrGraph  AttributeType = 5
	attrGraphs AttributeType = 10
)

func fixedDims(sizes []int64) []Dim {
	out := make([]Dim, len(sizes))
	for i, n := range sizes {
		out[i].Value = n
	}
	return out
}

// describe gives a value with its shape for a message: "logits" [N 3 16 32 32].
func describe(v *ValueInfo) string {
	if v.Dims == nil {
		return fmt.Sprintf("%.80q", v.Name)
	}
	var sizes []string
	for _, d := range v.Dims[:min(len(v.Dims), 8)] {
		switch {
		case d.Param != "":
			sizes = append(sizes, fmt.Sprintf("%.20s", d.Param))
		case d.Value > 0:
			sizes = append(sizes, fmt.Sprint(d.Value))
		default:
			sizes = append(sizes, "?")
		}
	}
	return fmt.Sprintf("%.80q [%s]", v.Name, strings.Join(sizes, " "))
}

func list(values []*ValueInfo) string {
	var names []string
	for _, v := range values[:min(len(values), 12)] {
		names = append(names, describe(v))
	}
	return strings.Join(names, ", ")
}
