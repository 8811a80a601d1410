package nnunet

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
)

// DType is the type of a tensor's numbers, as PyTorch calls it.
type DType string

// The types that Tensor.Float32 converts; checkpoints hold others (int64, ...)
// that no network needs.
const (
	Float32  DType = "float32"
	Float16  DType = "float16"
	BFloat16 DType = "bfloat16"
	Float64  DType = "float64"
)

// size returns the bytes of one number.
func (d DType) size() int64 {
	switch d {
	case Float64, "int64":
		return 8
	case Float32, "int32":
		return 4
	case Float16, BFloat16, "int16":
		return 2
	}
	return 1
}

// Tensor is a tensor in a checkpoint. Its numbers stay in the file until
// Float32 asks for them, so they can be read while the Checkpoint is open.
type Tensor struct {
	Name  string
	Shape []int // empty for a scalar
	DType DType

	file   *torchZip
	key    string // of the storage
	offset int    // of the first number in the storage, in numbers
	stride []int  // in numbers
	base   int64  // of the storage in the file, in bytes
}

// Len returns the number of elements, 1 for a scalar.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// place checks shape and stride against the storage's size and finds the
// storage in the file. Afterwards every element lies inside the storage and
// Len is no larger than the file.
func (t *Tensor) place(z *torchZip) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Format, "%s: tensor %.120q: "+format, append([]any{z.path, t.Name}, args...)...)
	}
	f, ok := z.data[t.key]
	if !ok {
		return bad("its storage data/%.40s is missing", t.key)
	}
	base, size, err := z.section(f)
	if err != nil {
		return err
	}
	have := size / t.DType.size()
	if len(t.Shape) > 8 {
		return bad("has %d axes, expected 8 at most", len(t.Shape))
	}
	n, last := int64(1), int64(t.offset)
	if slices.Contains(t.Shape, 0) {
		n = 0
	}
	for i, d := range t.Shape {
		if n == 0 {
			if d < 0 {
				return bad("has a negative size in shape %v", t.Shape)
			}
			continue
		}
		s := int64(t.stride[i])
		// Products are kept below the storage's size, so that none
		// overflows; a tensor of more elements than its storage repeats
		// them (stride 0), which no weight does.
		if d < 1 || s < 0 || int64(d) > have || s > have || d > 1 && s > 0 && int64(d-1) > have/s {
			return bad("shape %v, stride %v exceed its storage of %d numbers", t.Shape, t.stride, have)
		}
		if n > have/int64(d) {
			return bad("shape %v exceeds its storage of %d numbers", t.Shape, have)
		}
		n *= int64(d)
		last += int64(d-1) * s
	}
	if t.offset < 0 || int64(t.offset) > have || n > 0 && last >= have {
		return bad("offset %d, shape %v, stride %v exceed its storage of %d numbers", t.offset, t.Shape, t.stride, have)
	}
	t.file, t.base = z, base
	return nil
}

func (t *Tensor) contiguous() bool {
	n := 1
	for i := len(t.Shape) - 1; i >= 0; i-- {
		if t.Shape[i] != 1 && t.stride[i] != n {
			return false
		}
		n *= t.Shape[i]
	}
	return true
}

// Float32 reads the tensor's numbers into dst, in C order (last axis
// fastest), converted to float32. dst must have Len elements. Errors: IO,
// Unsupported (not a floating-point tensor), Argument (dst's length).
func (t *Tensor) Float32(dst []float32) error {
	if len(dst) != t.Len() {
		return fault.New(fault.Argument, "%s: tensor %.120q has %d elements, the buffer %d", t.file.path, t.Name, t.Len(), len(dst))
	}
	convert, ok := converters[t.DType]
	if !ok {
		return fault.New(fault.Unsupported, "%s: tensor %.120q is %s, expected a floating-point type", t.file.path, t.Name, t.DType)
	}
	if len(dst) == 0 {
		return nil
	}
	es := t.DType.size()
	if !t.contiguous() {
		return t.gather(dst, convert)
	}
	at := t.base + int64(t.offset)*es
	if t.DType == Float32 && littleEndian {
		return t.file.readAt(cmem.Bytes(dst), at)
	}
	const chunk = 1 << 18 // numbers; 2 MiB at most
	buf := make([]byte, int64(min(chunk, len(dst)))*es)
	for len(dst) > 0 {
		n := min(chunk, len(dst))
		b := buf[:int64(n)*es]
		if err := t.file.readAt(b, at); err != nil {
			return err
		}
		convert(dst[:n], b)
		dst, at = dst[n:], at+int64(len(b))
	}
	return nil
}

// gather reads a tensor whose elements do not lie one after the other: the
// span that holds them all, then element by element.
func (t *Tensor) gather(dst []float32, convert func([]float32, []byte)) error {
	es := t.DType.size()
	span := 1
	for i, d := range t.Shape {
		span += (d - 1) * t.stride[i]
	}
	raw := make([]byte, int64(span)*es)
	if err := t.file.readAt(raw, t.base+int64(t.offset)*es); err != nil {
		return err
	}
	index := make([]int, len(t.Shape))
	at := 0
	for i := range dst {
		b := raw[int64(at)*es:]
		convert(dst[i:i+1], b[:es])
		for a := len(index) - 1; a >= 0; a-- {
			index[a]++
			at += t.stride[a]
			if index[a] < t.Shape[a] {
				break
			}
			at -= index[a] * t.stride[a]
			index[a] = 0
		}
	}
	return nil
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// converters turn the bytes of one type into float32.
var converters = map[DType]func(dst []float32, b []byte){
	Float32: func(dst []float32, b []byte) {
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	},
	Float64: func(dst []float32, b []byte) {
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:])))
		}
	},
	Float16: func(dst []float32, b []byte) {
		for i := range dst {
			dst[i] = halfToFloat(binary.LittleEndian.Uint16(b[2*i:]))
		}
	},
	// bfloat16 is the upper half of a float32.
	BFloat16: func(dst []float32, b []byte) {
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		}
	},
}

// halfToFloat converts an IEEE 754 binary16: 1 sign bit, 5 bits of exponent
// with bias 15, 10 bits of fraction.
func halfToFloat(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exp {
	case 0: // zero and subnormal numbers: frac * 2^-24
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 31: // infinity and NaN
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}
