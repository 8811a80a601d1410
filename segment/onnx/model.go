// Package onnx writes and reads ONNX models. It knows the file format and
// nnU-Net's network architectures, and nothing of the runtimes that execute
// models.
//
// The structs mirror the messages of onnx.proto (github.com/onnx/onnx), as far
// as nnU-Net's networks need them. Parse keeps the bytes of every other field
// and Marshal writes them again, so that a model from elsewhere survives being
// read, given metadata and written.
package onnx

import "strings"

// What this package writes: opset 17 has all operators needed, and runtimes
// since 2022 read it.
const (
	IRVersion    = 8
	OpsetVersion = 17
)

// Model is a ModelProto.
type Model struct {
	IRVersion       int64
	ProducerName    string
	ProducerVersion string
	Opsets          []Opset
	Metadata        []Property // metadata_props, in order
	Graph           *Graph

	extra []byte // fields not listed above, as encoded
}

// Opset is a version of a set of operators; Domain is empty for ONNX's own.
type Opset struct {
	Domain  string
	Version int64
}

// Property is one entry of a model's metadata.
type Property struct{ Key, Value string }

// Graph is a GraphProto. Nodes are in an order in which they can be computed.
type Graph struct {
	Name         string
	Nodes        []*Node
	Initializers []*Tensor
	Inputs       []*ValueInfo // may list initializers, too: see DataInputs
	Outputs      []*ValueInfo

	extra []byte
}

// Node is a NodeProto: one operator. Inputs and Outputs name values; an empty
// name is an optional one left out.
type Node struct {
	Name, OpType, Domain string
	Inputs, Outputs      []string
	Attributes           []*Attribute

	extra []byte
}

// AttributeType says which field of an Attribute counts.
type AttributeType int32

// The types that an Attribute holds as a value; others keep their bytes.
const (
	AttrFloat  AttributeType = 1
	AttrInt    AttributeType = 2
	AttrString AttributeType = 3
	AttrFloats AttributeType = 6
	AttrInts   AttributeType = 7
)

// Attribute is an AttributeProto.
type Attribute struct {
	Name   string
	Type   AttributeType
	F      float32
	I      int64
	S      []byte
	Floats []float32
	Ints   []int64

	extra []byte
}

// DType is an element type (TensorProto.DataType).
type DType int32

// Some of the element types.
const (
	Float   DType = 1
	Int64   DType = 7
	Float16 DType = 10
)

// Tensor is a TensorProto: a constant. Its numbers are little-endian in C
// order (last axis fastest).
type Tensor struct {
	Name string
	Type DType
	Dims []int64

	// Raw holds the numbers; after Parse it is a view of the parsed bytes.
	// It is nil where a foreign model stores them in another field.
	Raw []byte

	// Load, where Raw is nil, fills dst with the LoadSize bytes of Raw when
	// the model is marshalled, so that weights go from their file into the
	// model without a copy between. It may be called several times.
	Load     func(dst []byte) error
	LoadSize int

	extra []byte
}

// ValueInfo is a ValueInfoProto: a value with its type.
type ValueInfo struct {
	Name string
	Type DType // 0 if the value is not a tensor
	Dims []Dim // nil if the file gives no shape

	opaque []byte // the type's encoding where the value is not a tensor
	extra  []byte
}

// Dim is the size of one axis: Value if it is fixed (above 0), otherwise
// unknown, and Param is the name of the unknown, which may be empty.
type Dim struct {
	Value int64
	Param string
}

// Fixed returns the dims of a value of the given sizes.
func Fixed(sizes ...int) []Dim {
	out := make([]Dim, len(sizes))
	for i, n := range sizes {
		out[i].Value = int64(n)
	}
	return out
}

// Opset returns the version of ONNX's own operators that the model uses, 0 if
// it names none.
func (m *Model) Opset() int64 {
	for _, o := range m.Opsets {
		if o.Domain == "" || o.Domain == "ai.onnx" {
			return o.Version
		}
	}
	return 0
}

// Meta returns the metadata at key and whether it is there.
func (m *Model) Meta(key string) (string, bool) {
	for _, p := range m.Metadata {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// SetMeta replaces the metadata at key in its place, or appends it.
func (m *Model) SetMeta(key, value string) {
	for i := range m.Metadata {
		if m.Metadata[i].Key == key {
			m.Metadata[i].Value = value
			return
		}
	}
	m.Metadata = append(m.Metadata, Property{key, value})
}

// DataInputs returns the graph's inputs that are not initializers: up to IR
// version 3, initializers had to be inputs as well.
func (g *Graph) DataInputs() []*ValueInfo {
	constant := make(map[string]bool, len(g.Initializers))
	for _, t := range g.Initializers {
		constant[t.Name] = true
	}
	var out []*ValueInfo
	for _, v := range g.Inputs {
		if !constant[v.Name] {
			out = append(out, v)
		}
	}
	return out
}

// Initializer returns the initializer called name, or nil.
func (g *Graph) Initializer(name string) *Tensor {
	for _, t := range g.Initializers {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Parameters returns the number of elements of all initializers whose name
// begins with prefix.
func (g *Graph) Parameters(prefix string) int64 {
	var total int64
	for _, t := range g.Initializers {
		if strings.HasPrefix(t.Name, prefix) {
			n := int64(1)
			for _, d := range t.Dims {
				n *= d
			}
			total += n
		}
	}
	return total
}

// Attribute returns the attribute called name, or nil.
func (n *Node) Attribute(name string) *Attribute {
	for _, a := range n.Attributes {
		if a.Name == name {
			return a
		}
	}
	return nil
}
