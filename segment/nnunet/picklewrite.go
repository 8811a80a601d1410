package nnunet

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/libflare/libflare/segment/internal/fault"
)

// pickler writes Python objects in pickle's protocol 2, as PyTorch's files have it. It
// knows no more than checkpoints need: None, booleans, whole and real numbers, texts,
// lists, tuples, dicts, tensors, and calls of named classes.
type pickler struct {
	bytes.Buffer
}

func (p *pickler) start() { p.WriteString("\x80\x02") }
func (p *pickler) stop()  { p.WriteByte('.') }
func (p *pickler) none()  { p.WriteByte('N') }
func (p *pickler) mark()  { p.WriteByte('(') }

func (p *pickler) boolean(v bool) {
	if v {
		p.WriteByte(0x88)
	} else {
		p.WriteByte(0x89)
	}
}

func (p *pickler) text(s string) {
	p.WriteByte('X')
	p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
	p.WriteString(s)
}

func (p *pickler) integer(v int64) {
	if v == int64(int32(v)) {
		p.WriteByte('J')
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(v)))
		return
	}
	p.WriteString("\x8a\x08") // LONG1 of 8 bytes
	p.Write(binary.LittleEndian.AppendUint64(nil, uint64(v)))
}

func (p *pickler) real(v float64) {
	p.WriteByte('G')
	p.Write(binary.BigEndian.AppendUint64(nil, math.Float64bits(v)))
}

// list and tuple write what items writes.
func (p *pickler) list(items func()) {
	p.WriteByte(']')
	p.mark()
	items()
	p.WriteByte('e')
}

func (p *pickler) tuple(items func()) {
	p.mark()
	items()
	p.WriteByte('t')
}

// dict writes keys and values, one after the other.
func (p *pickler) dict(items func()) {
	p.WriteByte('}')
	p.mark()
	items()
	p.WriteByte('u')
}

// call writes module.name(*args).
func (p *pickler) call(module, name string, args func()) {
	fmt.Fprintf(p, "c%s\n%s\n", module, name)
	p.tuple(args)
	p.WriteByte('R')
}

// ordered writes a collections.OrderedDict.
func (p *pickler) ordered(items func()) {
	p.call("collections", "OrderedDict", func() {})
	p.mark()
	items()
	p.WriteByte('u')
}

// tensor writes a float32 tensor whose numbers are the storage called key.
func (p *pickler) tensor(key string, shape []int) {
	n := 1
	strides := make([]int, len(shape))
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i] = n
		n *= shape[i]
	}
	sizes := func(v []int) {
		p.tuple(func() {
			for _, d := range v {
				p.integer(int64(d))
			}
		})
	}
	p.call("torch._utils", "_rebuild_tensor_v2", func() {
		p.tuple(func() {
			p.text("storage")
			p.WriteString("ctorch\nFloatStorage\n")
			p.text(key)
			p.text("cpu")
			p.integer(int64(n))
		})
		p.WriteByte('Q')
		p.integer(0)
		sizes(shape)
		sizes(strides)
		p.boolean(false)
		p.ordered(func() {})
	})
}

// json writes the objects of a JSON text, in its order, as Python's json module reads
// them.
func (p *pickler) json(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	d.UseNumber()
	return p.jsonValue(d)
}

func (p *pickler) jsonValue(d *json.Decoder) error {
	t, err := d.Token()
	if err != nil {
		return fault.New(fault.Format, "not JSON: %w", err)
	}
	switch v := t.(type) {
	case nil:
		p.none()
	case bool:
		p.boolean(v)
	case string:
		p.text(v)
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			p.integer(n)
		} else if f, err := v.Float64(); err == nil {
			p.real(f)
		} else {
			return fault.New(fault.Format, "not JSON: %w", err)
		}
	case json.Delim:
		items := func() {
			for err == nil && d.More() {
				err = p.jsonValue(d)
				if v == '{' && err == nil {
					err = p.jsonValue(d)
				}
			}
		}
		if v == '{' {
			p.dict(items)
		} else {
			p.list(items)
		}
		if err == nil {
			_, err = d.Token() // the end
		}
		return err
	}
	return nil
}
