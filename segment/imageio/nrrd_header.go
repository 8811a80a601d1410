package imageio

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// nrrd holds a header's fields (http://teem.sourceforge.net/nrrd/format.html) by their names
// in lower case without spaces, as teem takes "data file" and "datafile" for one.
type nrrd struct {
	path   string
	fields map[string]string
	end    int64 // bytes of the header with the empty line behind it
	whole  bool  // there is such a line
}

// nrrdFields reads the header of a .nrrd or .nhdr file. Comments and key/value pairs (:=)
// are left out.
func nrrdFields(path string) (*nrrd, error) {
	h := &nrrd{path: path, fields: map[string]string{}}
	first := true
	var err error
	h.end, h.whole, err = lines(path, func(line string) (bool, error) {
		switch name, value, found := strings.Cut(line, ": "); {
		case first:
			first = false
			if len(line) != 8 || line[:7] != "NRRD000" || line[7] < '1' || line[7] > '5' {
				return false, fault.New(fault.Format, "%s: not an NRRD file: the first line is %.40q, expected NRRD0001 to NRRD0005", path, line)
			}
		case line == "":
			return true, nil
		case line[0] == '#':
		case strings.Contains(line, ":=") && (!found || strings.Index(line, ":=") < len(name)):
		case !found:
			return false, fault.New(fault.Format, "%s: the header's line %.80q is no field (name: value)", path, line)
		default:
			name = strings.ToLower(strings.ReplaceAll(name, " ", ""))
			if _, twice := h.fields[name]; twice {
				return false, fault.New(fault.Format, "%s: the header has the field %.40q twice", path, name)
			}
			h.fields[name] = strings.TrimSpace(value)
			return name == "datafile" && strings.HasPrefix(h.fields[name], "LIST"), nil // files follow, not fields
		}
		return false, nil
	})
	return h, err
}

// nrrdTypes are the names of the voxel types.
var nrrdTypes = func() map[string]string {
	types := map[string]string{"float": "float32", "double": "float64", "signed char": "int8"}
	for name, list := range map[string]string{
		"uint8": "uchar,unsigned char,uint8,uint8_t", "int8": "int8,int8_t",
		"int16":  "short,short int,signed short,signed short int,int16,int16_t",
		"uint16": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
		"int32":  "int,signed int,int32,int32_t", "uint32": "uint,unsigned int,uint32,uint32_t",
		"int64":  "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
		"uint64": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
	} {
		for _, word := range strings.Split(list, ",") {
			types[word] = name
		}
	}
	return types
}()

// layout returns the voxels' type, byte order and encoding, and where they lie.
func (h *nrrd) layout(s *stored) (err error) {
	text := h.fields["type"]
	name, known := nrrdTypes[strings.ToLower(text)]
	switch {
	case strings.EqualFold(text, "block"):
		return fault.New(fault.Unsupported, "%s: type is block, expected integers or floats of 8 to 64 bits", h.path)
	case !known:
		return fault.New(fault.Format, "%s: type is %.40q, which is not one of NRRD's", h.path, text)
	}
	s.voxel = typeNamed(name)
	switch text = h.fields["endian"]; {
	case strings.EqualFold(text, "little") || s.voxel.size == 1:
		s.order = binary.LittleEndian
	case strings.EqualFold(text, "big"):
		s.order = binary.BigEndian
	default:
		return fault.New(fault.Format, "%s: endian is %.40q, expected little or big for voxels of %s", h.path, text, name)
	}
	switch text = strings.ToLower(h.fields["encoding"]); text {
	case "raw":
	case "gzip", "gz":
		s.packed = "gzip"
	case "txt", "text", "ascii", "hex", "bz2", "bzip2", "zrl":
		return fault.New(fault.Unsupported, "%s: encoding is %s, expected raw or gzip", h.path, text)
	default:
		return fault.New(fault.Format, "%s: encoding is %.40q, expected raw or gzip", h.path, text)
	}
	return h.data(s)
}

// data finds the voxels' file and place: after the header or in the file that it names,
// behind the lines and the bytes to skip. Bytes are skipped of what gzip inflates to.
func (h *nrrd) data(s *stored) (err error) {
	s.file, s.from = h.path, h.end
	if name := h.fields["datafile"]; name != "" {
		if words := strings.Fields(name); words[0] == "LIST" || strings.Contains(words[0], "%") && len(words) >= 4 {
			return fault.New(fault.Unsupported, "%s: data file is %.80q: voxels in several files, expected one", h.path, name)
		}
		s.file, s.from = beside(h.path, name), 0
	} else if !h.whole {
		return fault.New(fault.Format, "%s: truncated: the header ends after %d bytes without an empty line, and names no data file", h.path, h.end)
	}
	if text, ok := h.fields["lineskip"]; ok {
		n, err := integer(h.path, "line skip", text, 0, math.MaxInt32)
		if err != nil {
			return err
		}
		if s.from, err = skipLines(s.file, s.from, n); err != nil {
			return err
		}
	}
	if text, ok := h.fields["byteskip"]; ok {
		if s.skip, err = integer(h.path, "byte skip", text, -1, 1<<50); err != nil {
			return err
		}
		if s.skip < 0 {
			if s.packed != "" {
				return fault.New(fault.Unsupported, "%s: byte skip is -1 with encoding gzip, expected 0 or more", h.path)
			}
			s.skip, s.atEnd = 0, true
		}
	}
	return nil
}

// words returns a field with a word for each of n axes; nil if it is not there.
func (h *nrrd) words(field string, n int) ([]string, error) {
	text, ok := h.fields[field]
	if !ok {
		return nil, nil
	}
	words := strings.Fields(text)
	if len(words) != n {
		return nil, fault.New(fault.Format, "%s: %s is %.80q: %d words, expected one for each of %d axes", h.path, field, text, len(words), n)
	}
	return words, nil
}

// vectors reads a field of vectors with dim numbers, "(1,0,0)", some of which may be "none"
// (nil).
func (h *nrrd) vectors(field, text string, dim int) (all [][]float64, err error) {
	bad := func() error {
		return fault.New(fault.Format, "%s: %s is %.120q, expected vectors of %d numbers such as (1,0,0), or none", h.path, field, text, dim)
	}
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		if after, none := strings.CutPrefix(rest, "none"); none {
			all, rest = append(all, nil), after
			continue
		}
		inside, after, closed := strings.Cut(strings.TrimPrefix(rest, "("), ")")
		parts := strings.Split(inside, ",")
		if rest[0] != '(' || !closed || len(parts) != dim {
			return nil, bad()
		}
		v := make([]float64, dim)
		for i, p := range parts {
			if v[i], err = strconv.ParseFloat(strings.TrimSpace(p), 64); err != nil {
				return nil, bad()
			}
		}
		all, rest = append(all, v), after
	}
	return all, nil
}
