package onnx

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/libflare/libflare/segment/internal/fault"
)

// maxItems bounds the nodes, tensors, attributes and values of a model: a
// message of two bytes becomes a struct of some hundred. The largest networks
// have some thousand.
const maxItems = 1 << 19

// Parse reads a model. Tensors' Raw are views of data, which must stay
// unchanged while they are used. Subgraphs (If, Loop) and types other than
// tensors are kept as bytes. Errors are of kind Format.
func Parse(data []byte) (*Model, error) {
	p := &parser{}
	m := &Model{}
	err := p.fields(data, &m.extra, func(f field) error {
		switch f.num {
		case 1:
			return f.int64(&m.IRVersion)
		case 2:
			return f.text(&m.ProducerName)
		case 3:
			return f.text(&m.ProducerVersion)
		case 7:
			if m.Graph == nil {
				m.Graph = &Graph{}
			}
			return f.message(func(b []byte) error { return p.graph(b, m.Graph) })
		case 8:
			m.Opsets = append(m.Opsets, Opset{})
			o := &m.Opsets[len(m.Opsets)-1]
			return f.message(func(b []byte) error { return p.opset(b, o) })
		case 14:
			m.Metadata = append(m.Metadata, Property{})
			o := &m.Metadata[len(m.Metadata)-1]
			return f.message(func(b []byte) error { return p.property(b, o) })
		}
		return keep
	})
	switch {
	case err != nil:
		return nil, fault.New(fault.Format, "not a readable ONNX model: %v", err)
	case m.Graph == nil || len(m.Opsets) == 0:
		return nil, fault.New(fault.Format, "not an ONNX model: it has no graph or names no operator set")
	}
	return m, nil
}

type parser struct{ items int }

// field is one field of a message.
type field struct {
	num    protowire.Number
	typ    protowire.Type
	varint uint64 // of VarintType, Fixed32Type and Fixed64Type
	bytes  []byte // of BytesType
}

// keep, returned for a field, puts its encoding among the extra bytes.
var keep = errors.New("keep")

// fields calls each for every field of a message.
func (p *parser) fields(data []byte, extra *[]byte, each func(field) error) error {
	if p.items++; p.items > maxItems {
		return fmt.Errorf("it has more than %d parts", maxItems)
	}
	for rest := data; len(rest) > 0; {
		var f field
		var n, m int
		f.num, f.typ, n = protowire.ConsumeTag(rest)
		if n < 0 {
			return protowire.ParseError(n)
		}
		body := rest[n:]
		switch f.typ {
		case protowire.VarintType:
			f.varint, m = protowire.ConsumeVarint(body)
		case protowire.Fixed32Type:
			var v uint32
			v, m = protowire.ConsumeFixed32(body)
			f.varint = uint64(v)
		case protowire.Fixed64Type:
			f.varint, m = protowire.ConsumeFixed64(body)
		case protowire.BytesType:
			f.bytes, m = protowire.ConsumeBytes(body)
		default:
			return fmt.Errorf("field %d has wire type %d, which ONNX does not use", f.num, f.typ)
		}
		if m < 0 {
			return protowire.ParseError(m)
		}
		switch err := each(f); err {
		case nil:
		case keep:
			*extra = append(*extra, rest[:n+m]...)
		default:
			return err
		}
		rest = rest[n+m:]
	}
	return nil
}

func (f field) wrongType() error {
	return fmt.Errorf("field %d has wire type %d", f.num, f.typ)
}

func (f field) int64(dst *int64) error {
	if f.typ != protowire.VarintType {
		return f.wrongType()
	}
	*dst = int64(f.varint)
	return nil
}

func (f field) text(dst *string) error {
	if f.typ != protowire.BytesType {
		return f.wrongType()
	}
	*dst = string(f.bytes)
	return nil
}

func (f field) texts(dst *[]string) error {
	*dst = append(*dst, "")
	return f.text(&(*dst)[len(*dst)-1])
}

func (f field) message(parse func([]byte) error) error {
	if f.typ != protowire.BytesType {
		return f.wrongType()
	}
	return parse(f.bytes)
}

// int64s takes one value, or a packed list of them.
func (f field) int64s(dst *[]int64) error {
	if f.typ == protowire.VarintType {
		*dst = append(*dst, int64(f.varint))
		return nil
	}
	return f.message(func(b []byte) error {
		for len(b) > 0 {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			*dst = append(*dst, int64(v))
			b = b[n:]
		}
		return nil
	})
}

func (f field) float(dst *float32) error {
	if f.typ != protowire.Fixed32Type {
		return f.wrongType()
	}
	*dst = math.Float32frombits(uint32(f.varint))
	return nil
}

// floats takes one value, or a packed list of them.
func (f field) floats(dst *[]float32) error {
	if f.typ == protowire.Fixed32Type {
		*dst = append(*dst, math.Float32frombits(uint32(f.varint)))
		return nil
	}
	return f.message(func(b []byte) error {
		for len(b) > 0 {
			v, n := protowire.ConsumeFixed32(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			*dst = append(*dst, math.Float32frombits(v))
			b = b[n:]
		}
		return nil
	})
}

func (p *parser) opset(data []byte, o *Opset) error {
	var dropped []byte
	return p.fields(data, &dropped, func(f field) error {
		switch f.num {
		case 1:
			return f.text(&o.Domain)
		case 2:
			return f.int64(&o.Version)
		}
		return keep
	})
}

func (p *parser) property(data []byte, o *Property) error {
	var dropped []byte
	return p.fields(data, &dropped, func(f field) error {
		switch f.num {
		case 1:
			return f.text(&o.Key)
		case 2:
			return f.text(&o.Value)
		}
		return keep
	})
}

func (p *parser) graph(data []byte, g *Graph) error {
	return p.fields(data, &g.extra, func(f field) error {
		switch f.num {
		case 1:
			n := &Node{}
			g.Nodes = append(g.Nodes, n)
			return f.message(func(b []byte) error { return p.node(b, n) })
		case 2:
			return f.text(&g.Name)
		case 5:
			t := &Tensor{}
			g.Initializers = append(g.Initializers, t)
			return f.message(func(b []byte) error { return p.tensor(b, t) })
		case 11, 12:
			list := &g.Inputs
			if f.num == 12 {
				list = &g.Outputs
			}
			v := &ValueInfo{}
			*list = append(*list, v)
			return f.message(func(b []byte) error { return p.valueInfo(b, v) })
		}
		return keep
	})
}

func (p *parser) node(data []byte, n *Node) error {
	return p.fields(data, &n.extra, func(f field) error {
		switch f.num {
		case 1:
			return f.texts(&n.Inputs)
		case 2:
			return f.texts(&n.Outputs)
		case 3:
			return f.text(&n.Name)
		case 4:
			return f.text(&n.OpType)
		case 5:
			a := &Attribute{}
			n.Attributes = append(n.Attributes, a)
			return f.message(func(b []byte) error { return p.attribute(b, a) })
		case 7:
			return f.text(&n.Domain)
		}
		return keep
	})
}

func (p *parser) attribute(data []byte, a *Attribute) error {
	var seen AttributeType // for models before IR version 2, which give no type
	err := p.fields(data, &a.extra, func(f field) error {
		switch f.num {
		case 1:
			return f.text(&a.Name)
		case 2:
			seen = AttrFloat
			return f.float(&a.F)
		case 3:
			seen = AttrInt
			return f.int64(&a.I)
		case 4:
			seen = AttrString
			return f.message(func(b []byte) error { a.S = b; return nil })
		case 7:
			seen = AttrFloats
			return f.floats(&a.Floats)
		case 8:
			seen = AttrInts
			return f.int64s(&a.Ints)
		case 20:
			a.Type = AttributeType(f.varint)
			return nil
		}
		return keep
	})
	if a.Type == 0 {
		a.Type = seen
	}
	return err
}

func (p *parser) tensor(data []byte, t *Tensor) error {
	return p.fields(data, &t.extra, func(f field) error {
		switch f.num {
		case 1:
			return f.int64s(&t.Dims)
		case 2:
			t.Type = DType(f.varint)
			return nil
		case 8:
			return f.text(&t.Name)
		case 9:
			return f.message(func(b []byte) error { t.Raw = b[:len(b):len(b)]; return nil })
		}
		return keep
	})
}

func (p *parser) valueInfo(data []byte, v *ValueInfo) error {
	return p.fields(data, &v.extra, func(f field) error {
		switch f.num {
		case 1:
			return f.text(&v.Name)
		case 2:
			return f.message(func(b []byte) error { return p.valueType(b, v) })
		}
		return keep
	})
}

// valueType reads a TypeProto. Annotations of axes (denotation) are dropped.
func (p *parser) valueType(data []byte, v *ValueInfo) error {
	var dropped []byte
	v.opaque = data
	return p.fields(data, &dropped, func(f field) error {
		if f.num != 1 {
			return keep
		}
		v.opaque = nil
		return f.message(func(b []byte) error {
			return p.fields(b, &dropped, func(f field) error {
				switch f.num {
				case 1:
					v.Type = DType(f.varint)
					return nil
				case 2:
					v.Dims = []Dim{}
					return f.message(func(b []byte) error { return p.shape(b, v) })
				}
				return keep
			})
		})
	})
}

func (p *parser) shape(data []byte, v *ValueInfo) error {
	var dropped []byte
	return p.fields(data, &dropped, func(f field) error {
		if f.num != 1 {
			return keep
		}
		v.Dims = append(v.Dims, Dim{})
		d := &v.Dims[len(v.Dims)-1]
		return f.message(func(b []byte) error {
			return p.fields(b, &dropped, func(f field) error {
				switch f.num {
				case 1:
					return f.int64(&d.Value)
				case 2:
					return f.text(&d.Param)
				}
				return keep
			})
		})
	})
}
