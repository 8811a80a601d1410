package nnunet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// unpickle returns what a checkpoint's data.pkl describes: Dict, OrderedDict,
// List, Tuple of gopickle's package types, string, int, float64, bool, nil,
// *Tensor without contents, and *inert for everything else. Nothing is
// executed: a class or function named in the pickle is looked up in the table
// of findClass and is inert when it is not there.
func unpickle(data []byte) (value any, err error) {
	defer func() {
		// gopickle trusts its input in places, for example popping from a
		// stack that is empty.
		if r := recover(); r != nil {
			value, err = nil, fmt.Errorf("malformed pickle: %v", r)
		}
	}()
	if err := scanPickle(data); err != nil {
		return nil, err
	}
	u := pickle.NewUnpickler(bytes.NewReader(data))
	u.FindClass = findClass
	u.PersistentLoad = persistentLoad
	return u.Load()
}

// function is a Python callable for which we have a stand-in.
type function func(args []any) (any, error)

// Call implements types.Callable.
func (f function) Call(args ...any) (any, error) { return f(args) }

// findClass gives the stand-in for a global name, or an inert object.
func findClass(module, name string) (any, error) {
	switch module {
	case "torch":
		if d, ok := storageTypes[name]; ok {
			return storageClass{d}, nil
		}
		if name == "Size" {
			return function(func(args []any) (any, error) { return args[0], nil }), nil
		}
	case "torch._utils":
		switch name {
		case "_rebuild_tensor_v2":
			return function(rebuildTensor), nil
		case "_rebuild_parameter", "_rebuild_parameter_with_state":
			return function(func(args []any) (any, error) { return args[0], nil }), nil
		}
	case "numpy":
		if name == "dtype" {
			return function(newDType), nil
		}
	case "numpy.core.multiarray", "numpy._core.multiarray": // before and since numpy 2
		if name == "scalar" {
			return function(newScalar), nil
		}
	case "_codecs":
		if name == "encode" {
			return function(encode), nil
		}
	}
	return &inert{module + "." + name}, nil
}

// inert stands for any object that we have no use for. It accepts whatever a
// pickle does to an object, keeps none of it, and stands for its instances,
// too.
type inert struct{ name string }

// The methods of gopickle's interfaces.
func (o *inert) Call(...any) (any, error)    { return o, nil }
func (o *inert) PyNew(...any) (any, error)   { return o, nil }
func (o *inert) PySetState(any) error        { return nil }
func (o *inert) PyDictSet(_, _ any) error    { return nil }
func (o *inert) PySetAttr(string, any) error { return nil }
func (o *inert) Set(_, _ any)                {}
func (o *inert) Append(any)                  {}
func (o *inert) Add(any)                     {}

var (
	_ types.Callable        = (*inert)(nil)
	_ types.PyNewable       = (*inert)(nil)
	_ types.PyStateSettable = (*inert)(nil)
	_ types.DictSetter      = (*inert)(nil)
	_ types.ListAppender    = (*inert)(nil)
	_ types.SetAdder        = (*inert)(nil)
)

// storageTypes are PyTorch's storage classes (torch/storage.py).
var storageTypes = map[string]DType{
	"FloatStorage": Float32, "HalfStorage": Float16, "BFloat16Storage": BFloat16, "DoubleStorage": Float64,
	"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
	"ByteStorage": "uint8", "BoolStorage": "bool",
}

type storageClass struct{ dtype DType }

// storage is a block of numbers: the zip entry data/key.
type storage struct {
	key   string
	dtype DType
}

// persistentLoad reads the persistent id ('storage', class, key, location,
// number of elements) (torch/serialization.py, persistent_load). The number of
// elements is not used: the zip entry's size is the truth.
func persistentLoad(id any) (any, error) {
	t, ok := id.(*types.Tuple)
	if !ok || t.Len() < 3 || t.Get(0) != "storage" {
		return nil, fmt.Errorf("malformed pickle: a persistent id is not a storage")
	}
	key, ok := t.Get(2).(string)
	if !ok {
		return nil, fmt.Errorf("malformed pickle: a storage's key is not a text")
	}
	class, ok := t.Get(1).(storageClass)
	if !ok {
		return &inert{"storage of an unsupported type"}, nil
	}
	return &storage{key, class.dtype}, nil
}

// rebuildTensor is torch._utils._rebuild_tensor_v2(storage, storage_offset,
// size, stride, requires_grad, backward_hooks, metadata).
func rebuildTensor(args []any) (any, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("malformed pickle: a tensor of %d arguments", len(args))
	}
	s, ok := args[0].(*storage)
	if !ok {
		return &inert{"tensor of an unsupported type"}, nil
	}
	offset, ok := args[1].(int)
	shape, ok1 := integers(args[2])
	stride, ok2 := integers(args[3])
	if !ok || !ok1 || !ok2 || len(shape) != len(stride) {
		return nil, fmt.Errorf("malformed pickle: a tensor's offset, shape or stride")
	}
	return &Tensor{Shape: shape, DType: s.dtype, key: s.key, offset: offset, stride: stride}, nil
}

// integers returns the whole numbers of a Python tuple or list.
func integers(v any) ([]int, bool) {
	items, ok := sequence(v)
	out := make([]int, len(items))
	for i := 0; ok && i < len(items); i++ {
		out[i], ok = items[i].(int)
	}
	return out, ok
}

func sequence(v any) ([]any, bool) {
	switch v := v.(type) {
	case *types.Tuple:
		return *v, true
	case *types.List:
		return *v, true
	}
	return nil, false
}

// dtype is a numpy.dtype: a kind and a size such as f4, in a byte order.
type dtype struct {
	name string
	big  bool
}

func newDType(args []any) (any, error) {
	name, _ := args[0].(string)
	return &dtype{name: name}, nil
}

// PySetState takes the dtype's state (version, byte order, ...).
func (d *dtype) PySetState(state any) error {
	items, _ := sequence(state)
	d.big = len(items) > 1 && items[1] == ">"
	return nil
}

// encode is _codecs.encode(text, 'latin1'), which stands for bytes in pickles
// of protocol 2.
func encode(args []any) (any, error) {
	text, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("malformed pickle: bytes that are not a text")
	}
	b := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 255 {
			return &inert{"text in another encoding than latin1"}, nil
		}
		b = append(b, byte(r))
	}
	return b, nil
}

// newScalar is numpy's scalar(dtype, bytes): an int, float64 or bool, or an
// inert object for other types.
func newScalar(args []any) (any, error) {
	if len(args) != 2 {
		return &inert{"numpy scalar"}, nil
	}
	d, ok := args[0].(*dtype)
	b, ok1 := args[1].([]byte)
	if !ok || !ok1 {
		return &inert{"numpy scalar"}, nil
	}
	var order binary.ByteOrder = binary.LittleEndian
	if d.big {
		order = binary.BigEndian
	}
	if len(d.name) != 2 || int(d.name[1]-'0') != len(b) {
		return &inert{"numpy scalar"}, nil
	}
	var bits uint64
	switch len(b) {
	case 1:
		bits = uint64(b[0])
	case 2:
		bits = uint64(order.Uint16(b))
	case 4:
		bits = uint64(order.Uint32(b))
	case 8:
		bits = order.Uint64(b)
	default:
		return &inert{"numpy scalar"}, nil
	}
	shift := 64 - 8*len(b)
	switch d.name {
	case "i1", "i2", "i4", "i8":
		return int(int64(bits<<shift) >> shift), nil
	case "u1", "u2", "u4":
		return int(bits), nil
	case "b1":
		return bits != 0, nil
	case "f2":
		return float64(halfToFloat(uint16(bits))), nil
	case "f4":
		return float64(math.Float32frombits(uint32(bits))), nil
	case "f8":
		return math.Float64frombits(bits), nil
	}
	return &inert{"numpy scalar"}, nil
}
