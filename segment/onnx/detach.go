package onnx

import (
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// Detached is a weight that lies outside of its model.
type Detached struct {
	Offset int64  // in the file of weights, a multiple of alignment
	Raw    []byte // its numbers, shared with the model it comes from
}

// alignment of weights in a file: what the widest loads ask for.
const alignment = 64

// Detach returns a model whose weights of at least least bytes lie in a file called
// location beside the model, as ONNX's external data; runtimes map that file instead of
// copying it several times. weights are what the file of size bytes holds, in order of
// their places; what lies between is zero. Weights that m does not hold as Raw stay
// where they are. m does not change; the rest is shared with it.
func (m *Model) Detach(location string, least int) (model *Model, weights []Detached, size int64) {
	out, graph := *m, *m.Graph
	out.Graph = &graph
	graph.Initializers = slices.Clone(graph.Initializers)
	for i, t := range graph.Initializers {
		if t.Raw == nil || len(t.Raw) < max(least, 1) {
			continue
		}
		at := (size + alignment - 1) / alignment * alignment
		weights = append(weights, Detached{Offset: at, Raw: t.Raw})
		size = at + int64(len(t.Raw))

		moved := *t
		moved.Raw = nil
		moved.extra = slices.Clone(t.extra)
		for _, p := range []Property{{"location", location}, {"offset", strconv.FormatInt(at, 10)}, {"length", strconv.Itoa(len(t.Raw))}} {
			moved.extra = appendBytes(moved.extra, fieldExternal, appendText(appendText(nil, 1, p.Key), 2, p.Value))
		}
		moved.extra = protowire.AppendVarint(protowire.AppendTag(moved.extra, fieldLocation, protowire.VarintType), 1)
		graph.Initializers[i] = &moved
	}
	return &out, weights, size
}
