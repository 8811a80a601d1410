package imageio

import (
	"context"
	"encoding/binary"
	"math"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// meta holds the fields of a MetaImage header (https://itk.org/Wiki/ITK/MetaIO/Documentation).
type meta struct {
	path   string
	fields map[string]string
	end    int64 // bytes of the header
}

// metaFields reads the header of a .mha or .mhd file, which ElementDataFile ends.
func metaFields(path string) (*meta, error) {
	h := &meta{path: path, fields: map[string]string{}}
	end, last, err := lines(path, func(line string) (bool, error) {
		at := strings.IndexAny(line, "=:")
		if strings.TrimSpace(line) == "" {
			return false, nil
		}
		if at < 0 {
			return false, fault.New(fault.Format, "%s: not a MetaImage file: the header's line %.40q is no field (Name = value)", path, line)
		}
		name := strings.TrimSpace(line[:at])
		h.fields[name] = strings.TrimSpace(line[at+1:])
		return name == "ElementDataFile", nil
	})
	if err == nil && !last {
		err = fault.New(fault.Format, "%s: not a MetaImage file, or truncated: the header ends after %d bytes without ElementDataFile", path, end)
	}
	h.end = end
	return h, err
}

// readMeta reads a .mha file, or a .mhd file and the one with its voxels.
func readMeta(ctx context.Context, path string, _ bool) (*Image, error) {
	h, err := metaFields(path)
	if err != nil {
		return nil, err
	}
	s, err := h.parse()
	if err != nil {
		return nil, err
	}
	return s.read(ctx)
}

// metaTypes are the voxel types; long has 4 bytes here (metaTypes.h).
var metaTypes = map[string]string{
	"MET_UCHAR": "uint8", "MET_CHAR": "int8", "MET_SHORT": "int16", "MET_USHORT": "uint16", "MET_INT": "int32", "MET_UINT": "uint32",
	"MET_LONG": "int32", "MET_ULONG": "uint32", "MET_LONG_LONG": "int64", "MET_ULONG_LONG": "uint64", "MET_FLOAT": "float32", "MET_DOUBLE": "float64",
}

// first returns the value of the first of these fields that is there, and its name.
func (h *meta) first(names ...string) (value, name string) {
	for _, name := range names {
		if v, ok := h.fields[name]; ok {
			return v, name
		}
	}
	return "", ""
}

// yes reads a truth value as MetaIO does: by its first letter.
func (h *meta) yes(names ...string) bool {
	v, _ := h.first(names...)
	return v != "" && strings.Contains("Tt1", v[:1])
}

// parse reads the fields: ITK 5.4's view of them. It ignores AnatomicalOrientation, which
// follows from TransformMatrix, CenterOfRotation, and the intensity function.
func (h *meta) parse() (*stored, error) {
	if v, ok := h.fields["ObjectType"]; ok && !strings.EqualFold(v, "Image") {
		return nil, fault.New(fault.Unsupported, "%s: ObjectType is %.40q, expected Image", h.path, v)
	}
	n, err := integer(h.path, "NDims", h.fields["NDims"], 1, 16)
	if err != nil {
		return nil, err
	}
	sizes, err := sizesOf(h.path, "DimSize", h.fields["DimSize"], int(n))
	if err != nil {
		return nil, err
	}
	values := int64(1)
	if text, ok := h.fields["ElementNumberOfChannels"]; ok {
		if values, err = integer(h.path, "ElementNumberOfChannels", text, 1, 1<<20); err != nil {
			return nil, err
		}
	}
	s := &stored{inner: 1}
	if err := s.grid(h.path, sizes, int(values)); err != nil {
		return nil, err
	}
	if float64(values)*float64(s.geometry.Voxels()) > 1<<40 {
		return nil, fault.New(fault.Format, "%s: %d values of each of %v voxels: more than 2^40: taken for a damaged header", h.path, values, s.geometry.Size)
	}
	if err := h.geometry(s, int(n)); err != nil {
		return nil, err
	}
	return s, h.layout(s)
}

// geometry sets where the grid lies. Row i of the matrix is the direction of axis i.
func (h *meta) geometry(s *stored, n int) error {
	g := &s.geometry
	three := min(n, 3)
	if text, field := h.first("ElementSpacing", "ElementSize"); field != "" {
		spacing, err := exactly(h.path, field, text, n)
		if err != nil {
			return err
		}
		copy(g.Spacing[:], spacing[:three])
	}
	if text, field := h.first("Offset", "Position", "Origin"); field != "" {
		origin, err := exactly(h.path, field, text, n)
		if err != nil {
			return err
		}
		copy(g.Origin[:], origin[:three])
	}
	if text, field := h.first("TransformMatrix", "Rotation", "Orientation"); field != "" {
		m, err := exactly(h.path, field, text, n*n)
		if err != nil {
			return err
		}
		for col := range three {
			for row := range three {
				g.Direction[3*row+col] = m[n*col+row] + 0 // + 0: no -0
			}
		}
	}
	return s.place(h.path)
}

// layout finds the voxels' type, byte order and packing, and where they lie.
func (h *meta) layout(s *stored) (err error) {
	text := h.fields["ElementType"]
	name, known := metaTypes[strings.TrimSuffix(text, "_ARRAY")]
	if !known {
		return fault.New(fault.Unsupported, "%s: ElementType is %.40q, expected integers or floats of 8 to 64 bits such as MET_SHORT", h.path, text)
	}
	s.voxel = typeNamed(name)
	s.order = binary.LittleEndian
	if h.yes("ElementByteOrderMSB", "BinaryDataByteOrderMSB") {
		s.order = binary.BigEndian
	}
	if _, said := h.fields["BinaryData"]; said && !h.yes("BinaryData") {
		return fault.New(fault.Unsupported, "%s: BinaryData is False: voxels as text, expected True", h.path)
	}
	if h.yes("CompressedData") {
		s.packed = "zlib"
		if text, ok := h.fields["CompressedDataSize"]; ok {
			if s.length, err = integer(h.path, "CompressedDataSize", text, 0, 1<<50); err != nil {
				return err
			}
		}
	}
	header := int64(0)
	if text, ok := h.fields["HeaderSize"]; ok {
		if header, err = integer(h.path, "HeaderSize", text, -1, math.MaxInt32); err != nil {
			return err
		}
		if header < 0 && s.packed != "" {
			return fault.New(fault.Unsupported, "%s: HeaderSize is -1 with CompressedData, expected 0 or more", h.path)
		}
	}
	s.atEnd = header < 0
	file := h.fields["ElementDataFile"]
	switch {
	case strings.EqualFold(file, "LOCAL"):
		if header > 0 { // ITK counts it from the beginning of the file, others from the header's end
			return fault.New(fault.Unsupported, "%s: HeaderSize is %d with ElementDataFile LOCAL, expected 0 or -1", h.path, header)
		}
		s.file, s.from = h.path, h.end
	case file == "":
		return fault.New(fault.Format, "%s: ElementDataFile is empty, expected LOCAL or a file", h.path)
	case file == "LIST" || strings.HasPrefix(file, "LIST ") || strings.Contains(file, "%"):
		return fault.New(fault.Unsupported, "%s: ElementDataFile is %.80q: voxels in several files, expected one", h.path, file)
	default:
		s.file, s.from = beside(h.path, file), max(header, 0)
	}
	return nil
}
