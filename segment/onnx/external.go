package onnx

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/libflare/libflare/segment/internal/fault"
)

// LoadExternal makes the weights that a model keeps in files beside it part of
// the model, as PyTorch's exporter writes them (name.onnx.data). dir is the
// model's folder. The numbers are read when the model is marshalled; the files
// must stay until then. Errors: Unsupported (a file outside dir), NotFound, IO,
// Format (a place outside the file).
func (m *Model) LoadExternal(dir string) error {
	for _, t := range m.Graph.Initializers {
		where := t.external()
		if where == nil {
			continue
		}
		name := filepath.FromSlash(where["location"])
		if !filepath.IsLocal(name) {
			return fault.New(fault.Unsupported, "weight %.80q lies in %.120q, expected a file beside the model", t.Name, name)
		}
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if os.IsNotExist(err) {
			return fault.New(fault.NotFound, "%s: no such file, but the model's weights are in it", path)
		} else if err != nil {
			return fault.New(fault.IO, "%w", err)
		}
		offset, ok := number(where, "offset", 0)
		length, ok1 := number(where, "length", info.Size()-offset)
		if !ok || !ok1 || !info.Mode().IsRegular() || offset > info.Size() || length > info.Size()-offset {
			return fault.New(fault.Format, "%s: weight %.80q lies at offset %.20q, length %.20q, outside the file's %d bytes",
				path, t.Name, where["offset"], where["length"], info.Size())
		}
		t.extra = withoutField(withoutField(t.extra, fieldExternal), fieldLocation)
		t.LoadSize = int(length)
		t.Load = func(dst []byte) error {
			f, err := os.Open(path)
			if err == nil {
				_, err = f.ReadAt(dst, offset)
				f.Close()
			}
			if err != nil {
				return fault.New(fault.IO, "%s: %w", path, err)
			}
			return nil
		}
	}
	return nil
}

// Fields of a TensorProto that Tensor keeps encoded, and one that Graph does.
const (
	fieldFloats    = 4
	fieldInts      = 7
	fieldExternal  = 13
	fieldLocation  = 14
	fieldValueInfo = 13
)

// external returns where a tensor's numbers lie if that is another file:
// location, offset, length; else nil.
func (t *Tensor) external() map[string]string {
	if t.Raw != nil || t.Load != nil {
		return nil
	}
	where := map[string]string{}
	outside := false
	p := &parser{}
	p.fields(t.extra, new([]byte), func(f field) error {
		switch f.num {
		case fieldLocation:
			outside = f.varint == 1
		case fieldExternal:
			var entry Property
			if f.message(func(b []byte) error { return p.property(b, &entry) }) == nil {
				where[entry.Key] = entry.Value
			}
		}
		return nil
	})
	if !outside {
		return nil
	}
	return where
}

// number reads a whole number of an external tensor's place.
func number(where map[string]string, key string, def int64) (int64, bool) {
	text := strings.TrimSpace(where[key])
	if text == "" {
		return def, def >= 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// withoutField drops every field of that number from encoded fields.
func withoutField(data []byte, num protowire.Number) []byte {
	var out []byte
	for len(data) > 0 {
		n, _, size := protowire.ConsumeField(data)
		if size < 0 {
			return append(out, data...)
		}
		if n != num {
			out = append(out, data[:size]...)
		}
		data = data[size:]
	}
	return out
}
