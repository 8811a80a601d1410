package evaluate

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// value is the type of a label here: one byte, or two where a label is above 255.
type value interface{ uint8 | uint16 }

// maxLabel is the highest label that a map may hold.
const maxLabel = 65535

// highest returns the highest label of a map of any voxel type. An error of kind Argument
// names the first voxel whose value is no label: negative, above maxLabel or no integer.
func highest(v *volume.Volume, threads int) (int, error) {
	if v.Channels != 1 {
		return 0, fault.New(fault.Argument, "it has %d channels, a label map has one", v.Channels)
	}
	switch v.DType {
	case volume.Uint8:
		return highestOf(volume.As[uint8](v), v, threads)
	case volume.Uint16:
		return highestOf(volume.As[uint16](v), v, threads)
	case volume.Int16:
		return highestOf(volume.As[int16](v), v, threads)
	case volume.Int32:
		return highestOf(volume.As[int32](v), v, threads)
	case volume.Float32:
		return highestOf(volume.As[float32](v), v, threads)
	case volume.Float64:
		return highestOf(volume.As[float64](v), v, threads)
	}
	return 0, notLabels(v.DType)
}

type voxel interface {
	uint8 | uint16 | int16 | int32 | float32 | float64
}

func highestOf[T voxel](x []T, v *volume.Volume, threads int) (int, error) {
	most := make([]T, max(1, min(threads, v.Size[2])))
	plane := v.Size[0] * v.Size[1]
	err := parallel.For(v.Size[2], threads, func(worker, z int) error {
		m := most[worker]
		for i, l := range x[z*plane : (z+1)*plane] {
			if !(l >= 0) || float64(l) > maxLabel || T(int32(l)) != l {
				return fault.New(fault.Argument, "voxel (%d, %d, %d) (x, y, z) is %v, which is no label: expected an integer from 0 to %d",
					i%v.Size[0], i/v.Size[0], z, l, maxLabel)
			}
			m = max(m, l)
		}
		most[worker] = m
		return nil
	})
	all := most[0]
	for _, m := range most {
		all = max(all, m)
	}
	return int(all), err
}

// narrowed returns the labels of a map as type T, which holds them all: the volume's own
// memory where it has that type, else C memory that free gives back.
func narrowed[T value](v *volume.Volume, threads int) (out []T, free func(), err error) {
	free = func() {}
	switch v.DType {
	case volume.Uint8:
		if same, ok := any(volume.As[uint8](v)).([]T); ok {
			return same, free, nil
		}
	case volume.Uint16:
		if same, ok := any(volume.As[uint16](v)).([]T); ok {
			return same, free, nil
		}
	}
	if out, err = cmem.Alloc[T](v.Voxels()); err != nil {
		return nil, free, err
	}
	switch v.DType {
	case volume.Uint8:
		narrow(out, volume.As[uint8](v), v, threads)
	case volume.Uint16:
		narrow(out, volume.As[uint16](v), v, threads)
	case volume.Int16:
		narrow(out, volume.As[int16](v), v, threads)
	case volume.Int32:
		narrow(out, volume.As[int32](v), v, threads)
	case volume.Float32:
		narrow(out, volume.As[float32](v), v, threads)
	case volume.Float64:
		narrow(out, volume.As[float64](v), v, threads)
	}
	return out, func() { cmem.Free(out) }, nil
}

func narrow[T value, S voxel](dst []T, src []S, v *volume.Volume, threads int) {
	plane := v.Size[0] * v.Size[1]
	_ = parallel.For(v.Size[2], threads, func(_, z int) error {
		from := src[z*plane : (z+1)*plane]
		for i := range dst[z*plane : (z+1)*plane] {
			dst[z*plane+i] = T(from[i])
		}
		return nil
	})
}

// extent is where a label is, in either map, and how often.
type extent struct {
	lo, hi              [3]int // x, y, z of the voxels that have it in either map: from lo to before hi
	predicted, expected int    // voxels in the prediction and in the reference
	zLo, zHi            int    // slices of the reference that have it: from zLo to before zHi
}

// add counts a run of voxels from..to of row y in slice z.
func (e *extent) add(from, to, y, z int) {
	if e.hi[0] == 0 {
		e.lo, e.hi = [3]int{from, y, z}, [3]int{to, y + 1, z + 1}
		return
	}
	e.lo = [3]int{min(e.lo[0], from), min(e.lo[1], y), min(e.lo[2], z)}
	e.hi = [3]int{max(e.hi[0], to), max(e.hi[1], y+1), max(e.hi[2], z+1)}
}

// addSlice widens zLo..zHi.
func (e *extent) addSlice(lo, hi int) {
	if e.zHi == 0 {
		e.zLo, e.zHi = lo, hi
	}
	e.zLo, e.zHi = min(e.zLo, lo), max(e.zHi, hi)
}

// extents finds all labels up to highest of two maps of the same size (x, y, z) in one pass;
// entry i of the result is label i, entry 0 stays empty. Label maps are long runs of equal pairs, of
// which eight bytes are compared at a time.
func extents[T value](p, r []T, size [3]int, highest, threads int) []extent {
	found := make([][]extent, max(1, min(threads, size[2])))
	_ = parallel.For(size[2], len(found), func(worker, z int) error {
		if found[worker] == nil {
			found[worker] = make([]extent, highest+1)
		}
		e := found[worker]
		for y := range size[1] {
			start := (z*size[1] + y) * size[0]
			p, r := p[start:start+size[0]], r[start:start+size[0]]
			for i := 0; i < size[0]; {
				from, a, b := i, p[i], r[i]
				i = runEnd(p, r, i)
				if a != 0 {
					e[a].predicted += i - from
					e[a].add(from, i, y, z)
				}
				if b != 0 {
					e[b].expected += i - from
					e[b].addSlice(z, z+1)
					if a != b {
						e[b].add(from, i, y, z)
					}
				}
			}
		}
		return nil
	})
	all := make([]extent, highest+1)
	for _, part := range found {
		for label, e := range part {
			sum := &all[label]
			sum.predicted += e.predicted
			sum.expected += e.expected
			if e.hi[0] > 0 {
				sum.add(e.lo[0], e.hi[0], e.lo[1], e.lo[2])
				sum.add(e.lo[0], e.hi[0], e.hi[1]-1, e.hi[2]-1)
			}
			if e.zHi > 0 {
				sum.addSlice(e.zLo, e.zHi)
			}
		}
	}
	return all
}

// runEnd returns where the run of equal pairs that begins at voxel i of a row ends.
func runEnd[T value](p, r []T, i int) int {
	size := int(unsafe.Sizeof(p[0]))
	each := 8 / size
	a, b := repeated(p[i]), repeated(r[i])
	pb, rb := cmem.Bytes(p), cmem.Bytes(r)
	for ; i+each <= len(p); i += each {
		differ := (binary.LittleEndian.Uint64(pb[i*size:]) ^ a) | (binary.LittleEndian.Uint64(rb[i*size:]) ^ b)
		if differ != 0 {
			return i + bits.TrailingZeros64(differ)/(8*size)
		}
	}
	for ; i < len(p) && p[i] == T(a) && r[i] == T(b); i++ {
	}
	return i
}

// repeated fills eight bytes with a label.
func repeated[T value](label T) uint64 {
	if unsafe.Sizeof(label) == 1 {
		return uint64(label) * 0x0101010101010101
	}
	return uint64(label) * 0x0001000100010001
}

// pack sets bit i of dst where row[i] is the label, and returns how many there are. dst has
// a bit more than row at least; bits past the row become 0.
func pack[T value](dst []uint64, row []T, label T) (n int) {
	for w := range dst {
		part := row[min(64*w, len(row)):min(64*w+64, len(row))]
		var word uint64
		i := 0
		if unsafe.Sizeof(label) == 1 {
			each, b := repeated(label), cmem.Bytes(part)
			for ; i+8 <= len(part); i += 8 {
				// A byte is 0 where the label is; its high bit is set then (Warren, Hacker's Delight, 6-1),
				// and the product gathers the eight bits in the highest byte.
				x := binary.LittleEndian.Uint64(b[i:]) ^ each
				const low = 0x7f7f7f7f7f7f7f7f
				zero := ^(x&low + low | x | low)
				word |= zero >> 7 * 0x0102040810204080 >> 56 << i
			}
		}
		for ; i < len(part); i++ {
			if part[i] == label {
				word |= 1 << i
			}
		}
		dst[w] = word
		n += bits.OnesCount64(word)
	}
	return n
}
