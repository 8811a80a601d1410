// Package volume holds voxels and where they are in space.
//
// Voxel arrays are C-contiguous with index order channel, z, y, x: x varies
// fastest. Geometry is ITK's: Size, Spacing, Origin and Direction in the order
// x, y, z, positions in millimetres in the LPS system (x to the patient's left,
// y to posterior, z to superior).
package volume

import (
	"math"
	"unsafe"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
)

// DType is the type of a voxel. The numbers are flare.h's.
type DType int32

// The voxel types.
const (
	Uint8   DType = 1
	Int16   DType = 2
	Uint16  DType = 3
	Int32   DType = 4
	Float32 DType = 5
	Float64 DType = 6
)

var dtypes = map[DType]struct {
	name string
	size int
}{
	Uint8: {"uint8", 1}, Int16: {"int16", 2}, Uint16: {"uint16", 2},
	Int32: {"int32", 4}, Float32: {"float32", 4}, Float64: {"float64", 8},
}

// String returns the type's numpy name.
func (d DType) String() string {
	if t, ok := dtypes[d]; ok {
		return t.name
	}
	return "invalid dtype"
}

// Size returns the bytes of one voxel, 0 for an invalid type.
func (d DType) Size() int { return dtypes[d].size }

// MaxVoxels bounds a volume (channels included): 2^40. Larger sizes are taken
// for a corrupt header.
const MaxVoxels = 1 << 40

// Geometry places a grid of voxels in space.
type Geometry struct {
	Size      [3]int     // voxels along x, y, z
	Spacing   [3]float64 // mm between voxel centres along x, y, z
	Origin    [3]float64 // mm, LPS: centre of voxel (0,0,0)
	Direction [9]float64 // row-major 3x3; column i is the unit vector of axis i in LPS
}

// Identity is the direction matrix of an axial volume stored in LPS order.
var Identity = [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}

// Voxels returns the number of voxels of one channel.
func (g *Geometry) Voxels() int { return g.Size[0] * g.Size[1] * g.Size[2] }

// straight is how far the columns of a direction may be from length 1 and from right
// angles (their dot products): float32 headers and rounded DICOM tags stay far below it,
// a matrix that holds the spacing too, or is sheared, does not.
const straight = 1e-3

// Validate reports the first thing that makes a geometry unusable: a size below
// 1 or too large, a spacing that is not positive and finite, an origin or
// direction that is not finite, a direction whose columns are not of length 1 and at
// right angles.
func (g *Geometry) Validate() error {
	total := 1.0
	for i, axis := range "xyz" {
		if g.Size[i] < 1 {
			return fault.New(fault.Argument, "size along %c is %d, must be at least 1", axis, g.Size[i])
		}
		if g.Size[i] > math.MaxInt32 {
			return fault.New(fault.Memory, "size along %c is %d: refused, must be below 2^31 (and all voxels at most 2^40)", axis, g.Size[i])
		}
		total *= float64(g.Size[i])
		if s := g.Spacing[i]; !(s > 0) || math.IsInf(s, 0) {
			return fault.New(fault.Argument, "spacing along %c is %g mm, must be positive and finite", axis, s)
		}
		if o := g.Origin[i]; math.IsNaN(o) || math.IsInf(o, 0) {
			return fault.New(fault.Argument, "origin along %c is %g mm, must be finite", axis, o)
		}
	}
	if total > MaxVoxels {
		return fault.New(fault.Memory, "a volume of %d x %d x %d voxels is refused: more than 2^40", g.Size[0], g.Size[1], g.Size[2])
	}
	d := g.Direction
	det := d[0]*(d[4]*d[8]-d[5]*d[7]) - d[1]*(d[3]*d[8]-d[5]*d[6]) + d[2]*(d[3]*d[7]-d[4]*d[6])
	if !(math.Abs(det) > 1e-6) || math.IsInf(det, 0) { // also catches NaN
		return fault.New(fault.Argument, "direction matrix %v is singular (determinant %g)", d, det)
	}
	for i := range 3 {
		for j := range i + 1 {
			dot := d[i]*d[j] + d[3+i]*d[3+j] + d[6+i]*d[6+j]
			if i == j && math.Abs(math.Sqrt(dot)-1) > straight {
				return fault.New(fault.Argument, "direction matrix %v: column %d, the direction of axis %c, has length %.6g, must be 1 (spacing is given apart)",
					d, i, "xyz"[i], math.Sqrt(dot))
			} else if i != j && math.Abs(dot) > straight {
				return fault.New(fault.Argument, "direction matrix %v: columns %d and %d, the directions of axes %c and %c, must be at right angles, their dot product is %.6g",
					d, j, i, "xyz"[j], "xyz"[i], dot)
			}
		}
	}
	return nil
}

// Volume is a grid of voxels with one or more channels.
type Volume struct {
	Geometry
	Channels int
	DType    DType
	Data     []byte // Channels x Size[2] x Size[1] x Size[0] voxels, host byte order

	owned bool // Data is C memory that Free gives back
}

// New allocates a volume in C memory; the voxels are undefined. The caller
// calls Free. The geometry is checked before anything is allocated.
func New(g Geometry, channels int, d DType) (*Volume, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	if d.Size() == 0 {
		return nil, fault.New(fault.Argument, "dtype %d is not one of uint8, int16, uint16, int32, float32, float64", d)
	}
	if channels < 1 || float64(channels)*float64(g.Voxels()) > MaxVoxels {
		return nil, fault.New(fault.Argument, "%d channels of %d voxels: must be at least 1 channel and at most 2^40 voxels", channels, g.Voxels())
	}
	data, err := cmem.Alloc[byte](channels * g.Voxels() * d.Size())
	if err != nil {
		return nil, err
	}
	return &Volume{Geometry: g, Channels: channels, DType: d, Data: data, owned: true}, nil
}

// Wrap makes a volume of the caller's memory without copying it. len(data) must
// be exactly channels x voxels x the size of d.
func Wrap(g Geometry, channels int, d DType, data []byte) (*Volume, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	if d.Size() == 0 {
		return nil, fault.New(fault.Argument, "dtype %d is not one of uint8, int16, uint16, int32, float32, float64", d)
	}
	if channels < 1 || channels > MaxVoxels/g.Voxels() || channels*g.Voxels()*d.Size() != len(data) {
		return nil, fault.New(fault.Argument, "%d channels of %d x %d x %d %s voxels need another number of bytes than the %d given",
			channels, g.Size[0], g.Size[1], g.Size[2], d, len(data))
	}
	return &Volume{Geometry: g, Channels: channels, DType: d, Data: data}, nil
}

// Check reports whether the volume can be used: a sound geometry and as many bytes as
// its voxels need. Volumes of New and Wrap are sound; this guards those that a caller
// filled in or freed. A nil volume is an error.
func (v *Volume) Check() error {
	if v == nil {
		return fault.New(fault.Argument, "no volume (nil)")
	}
	_, err := Wrap(v.Geometry, v.Channels, v.DType, v.Data)
	return err
}

// Overlaps reports whether two volumes share memory.
func (v *Volume) Overlaps(w *Volume) bool {
	a, b := uintptr(unsafe.Pointer(unsafe.SliceData(v.Data))), uintptr(unsafe.Pointer(unsafe.SliceData(w.Data)))
	return a < b+uintptr(len(w.Data)) && b < a+uintptr(len(v.Data))
}

// Free gives the memory of New back; it does nothing for wrapped memory, for
// nil and when called again.
func (v *Volume) Free() {
	if v != nil && v.owned {
		cmem.Free(v.Data)
		v.Data, v.owned = nil, false
	}
}

// As views the voxels as elements of type T, which must fit v.DType; nil for nil.
func As[T uint8 | int16 | uint16 | int32 | float32 | float64](v *Volume) []T {
	if v == nil {
		return nil
	}
	return cmem.Cast[T](v.Data)
}
