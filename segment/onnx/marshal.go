package onnx

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/libflare/libflare/segment/internal/fault"
)

// maxModel is protobuf's limit for a message; runtimes refuse larger files.
const maxModel = 1<<31 - 1

// Size returns the bytes that MarshalTo writes.
func (m *Model) Size() int {
	_, n := m.pieces()
	return n
}

// MarshalTo writes the encoded model to dst, whose length must be Size.
// Weights are written straight to their place. Errors: Argument (dst's
// length), Unsupported (above 2 GiB, protobuf's limit), and those of the
// tensors' Load.
func (m *Model) MarshalTo(dst []byte) error {
	pieces, size := m.pieces()
	if size > maxModel {
		return fault.New(fault.Unsupported, "the ONNX model has %d bytes, but the format ends at %d (2 GiB); use fewer folds", size, maxModel)
	}
	if len(dst) != size {
		return fault.New(fault.Argument, "the ONNX model has %d bytes, the buffer %d", size, len(dst))
	}
	for _, p := range pieces {
		dst = dst[copy(dst, p.bytes):]
		if p.load != nil {
			if err := p.load(dst[:p.size:p.size]); err != nil {
				return err
			}
			dst = dst[p.size:]
		}
	}
	return nil
}

// Marshal is MarshalTo a new buffer on the Go heap.
func (m *Model) Marshal() ([]byte, error) {
	size := m.Size()
	if size > maxModel {
		return nil, m.MarshalTo(nil)
	}
	dst := make([]byte, size)
	return dst, m.MarshalTo(dst)
}

// piece is a part of the encoding: bytes, then size bytes that load gives.
type piece struct {
	bytes []byte
	load  func([]byte) error
	size  int
}

// pieces returns the encoding with the tensors' contents left out, and its
// size with them.
func (m *Model) pieces() ([]piece, int) {
	var head, tail []byte
	head = appendInt(head, 1, m.IRVersion)
	head = appendText(head, 2, m.ProducerName)
	head = appendText(head, 3, m.ProducerVersion)
	for _, o := range m.Opsets {
		tail = appendBytes(tail, 8, appendInt(appendText(nil, 1, o.Domain), 2, o.Version))
	}
	for _, p := range m.Metadata {
		var b []byte
		b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), p.Key)
		b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), p.Value)
		tail = appendBytes(tail, 14, b)
	}
	tail = append(tail, m.extra...)

	graph, size := m.Graph.pieces()
	head = protowire.AppendTag(head, 7, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(size))
	out := append([]piece{{bytes: head}}, graph...)
	return append(out, piece{bytes: tail}), len(head) + size + len(tail)
}

func (g *Graph) pieces() (out []piece, size int) {
	var b []byte
	for _, n := range g.Nodes {
		b = appendBytes(b, 1, n.encode())
	}
	b = appendText(b, 2, g.Name)
	for _, t := range g.Initializers {
		head := t.encode()
		n := max(len(t.Raw), t.loadSize())
		if t.Raw != nil || t.Load != nil {
			head = protowire.AppendTag(head, 9, protowire.BytesType)
			head = protowire.AppendVarint(head, uint64(n))
		}
		b = protowire.AppendTag(b, 5, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(len(head)+n))
		b = append(b, head...)
		switch {
		case t.Raw != nil:
			out = append(out, piece{bytes: b}, piece{bytes: t.Raw})
			size += len(b) + n
			b = nil
		case t.Load != nil:
			out = append(out, piece{bytes: b, load: t.Load, size: n})
			size += len(b) + n
			b = nil
		}
	}
	for _, v := range g.Inputs {
		b = appendBytes(b, 11, v.encode())
	}
	for _, v := range g.Outputs {
		b = appendBytes(b, 12, v.encode())
	}
	b = append(b, g.extra...)
	return append(out, piece{bytes: b}), size + len(b)
}

func (t *Tensor) loadSize() int {
	if t.Raw != nil || t.Load == nil {
		return 0
	}
	return t.LoadSize
}

// encode gives everything but the contents.
func (t *Tensor) encode() []byte {
	var b []byte
	for _, d := range t.Dims {
		b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), uint64(d))
	}
	b = appendInt(b, 2, int64(t.Type))
	b = appendText(b, 8, t.Name)
	return append(b, t.extra...)
}

func (n *Node) encode() []byte {
	var b []byte
	for _, s := range n.Inputs { // empty names count
		b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), s)
	}
	for _, s := range n.Outputs {
		b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), s)
	}
	b = appendText(b, 3, n.Name)
	b = appendText(b, 4, n.OpType)
	for _, a := range n.Attributes {
		b = appendBytes(b, 5, a.encode())
	}
	b = appendText(b, 7, n.Domain)
	return append(b, n.extra...)
}

func (a *Attribute) encode() []byte {
	b := appendText(nil, 1, a.Name)
	switch a.Type { // a value of zero is written, too: checkers look for the field
	case AttrFloat:
		b = protowire.AppendFixed32(protowire.AppendTag(b, 2, protowire.Fixed32Type), math.Float32bits(a.F))
	case AttrInt:
		b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), uint64(a.I))
	case AttrString:
		b = appendBytes(b, 4, a.S)
	case AttrFloats:
		for _, v := range a.Floats {
			b = protowire.AppendFixed32(protowire.AppendTag(b, 7, protowire.Fixed32Type), math.Float32bits(v))
		}
	case AttrInts:
		for _, v := range a.Ints {
			b = protowire.AppendVarint(protowire.AppendTag(b, 8, protowire.VarintType), uint64(v))
		}
	}
	b = appendInt(b, 20, int64(a.Type))
	return append(b, a.extra...)
}

func (v *ValueInfo) encode() []byte {
	typ := v.opaque
	if v.Type != 0 {
		tensor := appendInt(nil, 1, int64(v.Type))
		if v.Dims != nil {
			var shape []byte
			for _, d := range v.Dims {
				var dim []byte
				if d.Param != "" {
					dim = appendText(dim, 2, d.Param)
				} else if d.Value > 0 {
					dim = appendInt(dim, 1, d.Value)
				}
				shape = appendBytes(shape, 1, dim)
			}
			tensor = appendBytes(tensor, 2, shape)
		}
		typ = appendBytes(nil, 1, tensor)
	}
	b := appendText(nil, 1, v.Name)
	if typ != nil {
		b = appendBytes(b, 2, typ)
	}
	return append(b, v.extra...)
}

// appendInt, appendText and appendBytes append a field; appendInt and
// appendText leave out zero values.
func appendInt(b []byte, num protowire.Number, v int64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v))
}

func appendText(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}
