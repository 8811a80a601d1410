package imageio

import (
	"encoding/binary"
	"math"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// The sizes of the two headers, which their first field gives and by which the
// version and the byte order are told.
const (
	size1 = 348
	size2 = 540
)

// header is a NIfTI-2 header as in nifti2.h, field by field. A NIfTI-1 header is
// widened to it on reading and narrowed on writing; SizeofHdr tells which it
// was. Field meanings: nifti1.h, https://nifti.nimh.nih.gov/nifti-1.
type header struct {
	SizeofHdr        int32
	Magic            [8]byte
	Datatype, Bitpix int16
	Dim              [8]int64 // Dim[0] axes, then their sizes, x first
	IntentP          [3]float64
	Pixdim           [8]float64 // Pixdim[0] is qfac; then voxel sizes
	VoxOffset        int64      // bytes from the start of the file to the voxels
	SclSlope         float64
	SclInter         float64
	CalMax, CalMin   float64
	SliceDuration    float64
	Toffset          float64
	SliceStart       int64
	SliceEnd         int64
	Descrip          [80]byte
	AuxFile          [24]byte
	QformCode        int32
	SformCode        int32
	Quatern          [3]float64 // b, c, d
	Qoffset          [3]float64
	Srow             [3][4]float64
	SliceCode        int32
	XyztUnits        int32
	IntentCode       int32
	IntentName       [16]byte
	DimInfo          uint8
	_                [15]byte
}

// header1 is a NIfTI-1 header as in nifti1.h.
type header1 struct {
	SizeofHdr                     int32
	_                             [34]byte
	Regular, DimInfo              uint8
	Dim                           [8]int16
	IntentP                       [3]float32
	IntentCode, Datatype          int16
	Bitpix, SliceStart            int16
	Pixdim                        [8]float32
	VoxOffset, SclSlope, SclInter float32
	SliceEnd                      int16
	SliceCode, XyztUnits          uint8
	CalMax, CalMin                float32
	SliceDuration, Toffset        float32
	_                             [8]byte
	Descrip                       [80]byte
	AuxFile                       [24]byte
	QformCode, SformCode          int16
	Quatern, Qoffset              [3]float32
	Srow                          [3][4]float32
	IntentName                    [16]byte
	Magic                         [4]byte
}

// widen returns the header as NIfTI-2 holds it, with SizeofHdr still 348.
// VoxOffset is left out: NIfTI-1 stores it as a float, which may be anything.
func (n *header1) widen() header {
	h := header{
		SizeofHdr: n.SizeofHdr, Datatype: n.Datatype, Bitpix: n.Bitpix,
		SclSlope: float64(n.SclSlope), SclInter: float64(n.SclInter),
		CalMax: float64(n.CalMax), CalMin: float64(n.CalMin),
		SliceDuration: float64(n.SliceDuration), Toffset: float64(n.Toffset),
		SliceStart: int64(n.SliceStart), SliceEnd: int64(n.SliceEnd),
		Descrip: n.Descrip, AuxFile: n.AuxFile,
		QformCode: int32(n.QformCode), SformCode: int32(n.SformCode),
		SliceCode: int32(n.SliceCode), XyztUnits: int32(n.XyztUnits),
		IntentCode: int32(n.IntentCode), IntentName: n.IntentName, DimInfo: n.DimInfo,
	}
	copy(h.Magic[:], n.Magic[:])
	for i := range h.Dim {
		h.Dim[i], h.Pixdim[i] = int64(n.Dim[i]), float64(n.Pixdim[i])
	}
	for i := range 3 {
		h.IntentP[i] = float64(n.IntentP[i])
		h.Quatern[i], h.Qoffset[i] = float64(n.Quatern[i]), float64(n.Qoffset[i])
		for j := range 4 {
			h.Srow[i][j] = float64(n.Srow[i][j])
		}
	}
	return h
}

// narrow is the reverse of widen. The values must fit, as they do when they come
// from widen or from newHeader.
func (h *header) narrow() header1 {
	n := header1{
		SizeofHdr: size1, Regular: 'r', // as Analyze readers want it
		Datatype: h.Datatype, Bitpix: h.Bitpix, VoxOffset: float32(h.VoxOffset),
		SclSlope: float32(h.SclSlope), SclInter: float32(h.SclInter),
		CalMax: float32(h.CalMax), CalMin: float32(h.CalMin),
		SliceDuration: float32(h.SliceDuration), Toffset: float32(h.Toffset),
		SliceStart: int16(h.SliceStart), SliceEnd: int16(h.SliceEnd),
		Descrip: h.Descrip, AuxFile: h.AuxFile,
		QformCode: int16(h.QformCode), SformCode: int16(h.SformCode),
		SliceCode: uint8(h.SliceCode), XyztUnits: uint8(h.XyztUnits),
		IntentCode: int16(h.IntentCode), IntentName: h.IntentName, DimInfo: h.DimInfo,
	}
	copy(n.Magic[:], h.Magic[:])
	for i := range h.Dim {
		n.Dim[i], n.Pixdim[i] = int16(h.Dim[i]), float32(h.Pixdim[i])
	}
	for i := range 3 {
		n.IntentP[i] = float32(h.IntentP[i])
		n.Quatern[i], n.Qoffset[i] = float32(h.Quatern[i]), float32(h.Qoffset[i])
		for j := range 4 {
			n.Srow[i][j] = float32(h.Srow[i][j])
		}
	}
	return n
}

// version tells from the first four bytes of a file how many bytes its header
// has and in which order; size 0 means that it is no NIfTI header.
func version(first []byte) (size int, order binary.ByteOrder) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if n := order.Uint32(first); n == size1 || n == size2 {
			return int(n), order
		}
	}
	return 0, nil
}

// parse makes a header of raw, which has the size and order that version told.
func parse(path string, raw []byte, order binary.ByteOrder) (h header, err error) {
	var offset float64
	want := "n+1\x00"
	if len(raw) == size1 {
		var n header1
		if _, err := binary.Decode(raw, order, &n); err != nil {
			return h, fault.New(fault.Internal, "%s: %w", path, err)
		}
		h, offset = n.widen(), float64(n.VoxOffset)
	} else {
		if _, err := binary.Decode(raw, order, &h); err != nil {
			return h, fault.New(fault.Internal, "%s: %w", path, err)
		}
		offset, want = float64(h.VoxOffset), "n+2\x00"
	}
	switch magic := string(h.Magic[:4]); magic {
	case want:
	case "ni1\x00", "ni2\x00":
		return h, fault.New(fault.Unsupported, "%s: the header (magic %q) belongs to a .hdr/.img pair; convert the pair to one .nii file", path, magic[:3])
	default:
		return h, fault.New(fault.Format, "%s: not a NIfTI file: magic is %q, expected %q", path, magic, want)
	}
	// The voxels follow the header and four bytes that announce extensions.
	// Writers that leave vox_offset 0 put them right there.
	least := float64(len(raw) + 4)
	if offset == 0 {
		offset = least
	}
	if !(offset >= least) || offset > 1<<62 || offset != math.Trunc(offset) {
		return h, fault.New(fault.Format, "%s: vox_offset is %g, expected a whole number of at least %g, or 0", path, offset, least)
	}
	h.VoxOffset = int64(offset)
	return h, nil
}

// shape checks Dim and returns the grid's size x, y, z, the channels, and the
// image's dimensions (2, 3 or 4).
func (h *header) shape(path string) (size [3]int, channels, dims int, err error) {
	n := h.Dim[0]
	if n < 1 || n > 7 {
		return size, 0, 0, fault.New(fault.Format, "%s: dim[0] is %d, expected 1 to 7 axes", path, n)
	}
	dim := [8]int64{1, 1, 1, 1, 1, 1, 1, 1}
	voxels := 1.0
	for i := 1; i <= int(n); i++ {
		dim[i] = h.Dim[i]
		if dim[i] == 0 && i > 3 {
			dim[i] = 1 // as niftilib: writers leave unused axes 0
		}
		if dim[i] < 1 {
			return size, 0, 0, fault.New(fault.Format, "%s: dim[%d] is %d, expected at least 1", path, i, dim[i])
		}
		voxels *= float64(dim[i])
	}
	switch {
	case n == 1:
		return size, 0, 0, fault.New(fault.Unsupported, "%s: the image has 1 axis, expected 2, 3 or 4", path)
	case dim[5] > 1 || dim[6] > 1 || dim[7] > 1:
		return size, 0, 0, fault.New(fault.Unsupported, "%s: the image has more than 4 axes (dim is %v), expected 2, 3 or 4", path, h.Dim)
	case voxels > volume.MaxVoxels:
		return size, 0, 0, fault.New(fault.Format, "%s: the header announces %d x %d x %d x %d voxels, more than 2^40: taken for a damaged header",
			path, dim[1], dim[2], dim[3], dim[4])
	}
	size = [3]int{int(dim[1]), int(dim[2]), int(dim[3])}
	dims = min(int(n), 3)
	if dim[4] > 1 {
		dims = 4
	}
	return size, int(dim[4]), dims, nil
}

// readHeader reads and parses the header at the start of s.
func (s *source) readHeader() (header, binary.ByteOrder, error) {
	raw := make([]byte, size2)
	if err := s.fill(raw[:4], "the NIfTI header"); err != nil {
		return header{}, nil, err
	}
	size, order := version(raw)
	if size == 0 {
		return header{}, nil, fault.New(fault.Format, "%s: not a NIfTI file: the first four bytes (sizeof_hdr) are %d, expected %d or %d in either byte order",
			s.path, int32(binary.LittleEndian.Uint32(raw)), size1, size2)
	}
	raw = raw[:size]
	if err := s.fill(raw[4:], "the NIfTI header"); err != nil {
		return header{}, nil, err
	}
	h, err := parse(s.path, raw, order)
	return h, order, err
}
