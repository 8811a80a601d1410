package imageio

import (
	"encoding/binary"
	"math"
	"math/bits"
	"unsafe"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// voxelType is a voxel type of NIfTI (nifti1.h, NIFTI_TYPE_*).
type voxelType struct {
	name  string
	size  int          // bytes on disk; 0: not read here
	dtype volume.DType // what it is read as; 0: int32, or float64 where that is too small
}

var voxelTypes = map[int16]voxelType{
	2: {"uint8", 1, volume.Uint8}, 4: {"int16", 2, volume.Int16}, 8: {"int32", 4, volume.Int32},
	16: {"float32", 4, volume.Float32}, 64: {"float64", 8, volume.Float64},
	256: {"int8", 1, volume.Int16}, 512: {"uint16", 2, volume.Uint16},
	768: {"uint32", 4, 0}, 1024: {"int64", 8, 0}, 1280: {"uint64", 8, 0},
	1: {name: "binary"}, 32: {name: "complex64"}, 128: {name: "RGB24"}, 1536: {name: "float128"},
	1792: {name: "complex128"}, 2048: {name: "complex256"}, 2304: {name: "RGBA32"},
}

// findType returns the voxel type of a datatype code, or an error of kind
// Unsupported for the types that are not grey values of 64 bits at most.
func findType(path string, code int16) (voxelType, error) {
	t, known := voxelTypes[code]
	switch {
	case !known:
		return t, fault.New(fault.Format, "%s: datatype %d is not one of NIfTI's", path, code)
	case t.size == 0:
		return t, fault.New(fault.Unsupported, "%s: datatype %d (%s) is not supported, expected integers or floats of 8 to 64 bits", path, code, t.name)
	}
	return t, nil
}

// scaling is value = stored*slope + inter.
type scaling struct {
	slope, inter float64
	any          bool // differs from 1 and 0
}

// scale returns the header's scaling as ITK applies it: a slope of 0 or one that
// is not finite counts as 1, but the intercept is still added (nifti1.h would
// drop both); an intercept that is not finite counts as 0.
func (h *header) scale() scaling {
	const epsilon = 0x1p-52 // of double, ITK's bound for "equal"
	s := scaling{slope: number(h.SclSlope), inter: number(h.SclInter)}
	if math.Abs(s.slope) < epsilon {
		s.slope = 1
	}
	s.any = math.Abs(s.slope-1) > epsilon || math.Abs(s.inter) > epsilon
	return s
}

// block is how many bytes are read, turned and converted at a time, so that they
// stay in the cache in between.
const block = 1 << 18

// hostOrder is the byte order of this machine.
var hostOrder = func() binary.ByteOrder {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return binary.LittleEndian
	}
	return binary.BigEndian
}()

type real interface {
	int8 | uint8 | int16 | uint16 | int32 | uint32 | int64 | uint64 | float32 | float64
}

// decode reads the voxels of type t from s, which stands at the first, into a
// new volume: channels x z x y x x, as they lie in the file.
func decode(s *source, g volume.Geometry, channels int, t voxelType, order binary.ByteOrder, sc scaling) (v *volume.Volume, err error) {
	d := t.dtype
	switch {
	case sc.any && d != volume.Float64: // ITK makes scaled integers of any width float32
		d = volume.Float32
	case d == 0:
		d = volume.Int32
	}
	if v, err = volume.New(g, channels, d); err != nil {
		return nil, fault.New(fault.KindOf(err), "%s: %w", s.path, err)
	}
	defer func() {
		if err != nil {
			v.Free()
			v = nil
		}
	}()
	swap := t.size > 1 && order != hostOrder
	switch t.name {
	case "float32":
		err = inPlace(s, v.Data, t.size, swap, func(b []byte) { s.notFinite += tidy(cmem.Cast[float32](b), sc) })
	case "float64":
		err = inPlace(s, v.Data, t.size, swap, func(b []byte) { s.notFinite += tidy(cmem.Cast[float64](b), sc) })
	case "int8":
		err = convert[int8](s, v, swap, sc)
	case "uint32":
		v, err = narrowest[uint32](s, v, swap, sc)
	case "int64":
		v, err = narrowest[int64](s, v, swap, sc)
	case "uint64":
		v, err = narrowest[uint64](s, v, swap, sc)
	case "uint8":
		err = native[uint8](s, v, swap, sc)
	case "int16":
		err = native[int16](s, v, swap, sc)
	case "uint16":
		err = native[uint16](s, v, swap, sc)
	case "int32":
		err = native[int32](s, v, swap, sc)
	}
	return v, err
}

// native reads integers that a volume holds as they are, unless they are scaled.
func native[S real](s *source, v *volume.Volume, swap bool, sc scaling) error {
	if sc.any {
		return convert[S](s, v, swap, sc)
	}
	var zero S
	return inPlace(s, v.Data, int(unsafe.Sizeof(zero)), swap, nil)
}

// inPlace fills data straight from s; after, if not nil, sees each block once
// its bytes are in host order.
func inPlace(s *source, data []byte, size int, swap bool, after func([]byte)) error {
	for lo := 0; lo < len(data); lo += block {
		b := data[lo:min(lo+block, len(data))]
		if err := s.fill(b, "the voxels"); err != nil {
			return err
		}
		if swap {
			reverse(b, size)
		}
		if after != nil {
			after(b)
		}
	}
	return nil
}

// tidy sets NaN and infinities to 0, as niftilib does on reading
// (nifti_read_buffer), and applies the scaling in double precision. It returns
// how many were not finite.
func tidy[F float32 | float64](x []F, sc scaling) (notFinite int) {
	for i, v := range x {
		if v-v != 0 { // NaN or infinite
			x[i] = 0
			notFinite++
		}
	}
	if sc.any {
		for i, v := range x {
			x[i] = F(float64(float64(v)*sc.slope) + sc.inter) // no fused multiply-add
		}
	}
	return notFinite
}

// blocks reads n values of type S and hands them out block by block, with the
// index of the block's first.
func blocks[S real](s *source, n int, swap bool, each func(first int, x []S) error) error {
	var zero S
	size := int(unsafe.Sizeof(zero))
	buffer := cmem.Bytes(make([]uint64, block/8)) // aligned for every S
	for first := 0; first < n; first += block / size {
		b := buffer[:min(block, (n-first)*size)]
		if err := s.fill(b, "the voxels"); err != nil {
			return err
		}
		if swap {
			reverse(b, size)
		}
		if err := each(first, cmem.Cast[S](b)); err != nil {
			return err
		}
	}
	return nil
}

// convert reads integers of type S into a volume of int16 (for int8) or, scaled,
// of float32. ITK makes an integer float32 before it scales it.
func convert[S real](s *source, v *volume.Volume, swap bool, sc scaling) error {
	n := len(v.Data) / v.DType.Size()
	if !sc.any {
		to := volume.As[int16](v)
		return blocks(s, n, swap, func(first int, x []S) error {
			for i, value := range x {
				to[first+i] = int16(value)
			}
			return nil
		})
	}
	to := volume.As[float32](v)
	return blocks(s, n, swap, func(first int, x []S) error {
		for i, value := range x {
			to[first+i] = float32(float64(float64(float32(value))*sc.slope) + sc.inter)
		}
		return nil
	})
}

// narrowest reads integers of type S into v, a volume of int32, and moves to
// float64 at the first value that does not fit. It returns the volume it ended
// with, v or the one that took its place.
func narrowest[S uint32 | int64 | uint64](s *source, v *volume.Volume, swap bool, sc scaling) (*volume.Volume, error) {
	if sc.any {
		return v, convert[S](s, v, swap, sc)
	}
	small, large := volume.As[int32](v), []float64(nil)
	err := blocks(s, len(small), swap, func(first int, x []S) error {
		for i, value := range x {
			at := first + i
			if large == nil {
				if small[at] = int32(value); S(small[at]) == value && (small[at] < 0) == (value < 0) {
					continue
				}
				w, err := volume.New(v.Geometry, v.Channels, volume.Float64)
				if err != nil {
					return fault.New(fault.KindOf(err), "%s: %w", s.path, err)
				}
				large = volume.As[float64](w)
				for k, done := range small[:at] {
					large[k] = float64(done)
				}
				v.Free()
				v = w
			}
			large[at] = float64(value)
		}
		return nil
	})
	return v, err
}

// reverse turns the bytes of every value of the given size round.
func reverse(b []byte, size int) {
	switch size {
	case 2:
		x := cmem.Cast[uint16](b)
		for i, v := range x {
			x[i] = bits.ReverseBytes16(v)
		}
	case 4:
		x := cmem.Cast[uint32](b)
		for i, v := range x {
			x[i] = bits.ReverseBytes32(v)
		}
	case 8:
		x := cmem.Cast[uint64](b)
		for i, v := range x {
			x[i] = bits.ReverseBytes64(v)
		}
	}
}

// typeNamed returns the voxel type of that name, one of those that are read.
func typeNamed(name string) voxelType {
	for _, t := range voxelTypes {
		if t.name == name {
			return t
		}
	}
	return voxelType{}
}
