package imageio

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// readNRRD reads a .nrrd file, or a .nhdr file and the one with its voxels.
func readNRRD(ctx context.Context, path string, _ bool) (*Image, error) {
	h, err := nrrdFields(path)
	if err != nil {
		return nil, err
	}
	s, err := h.parse()
	if err != nil {
		return nil, err
	}
	return s.read(ctx)
}

// parse reads the fields: ITK 5.4's view of them (itkNrrdImageIO.cxx).
func (h *nrrd) parse() (*stored, error) {
	n, err := integer(h.path, "dimension", h.fields["dimension"], 1, 16)
	if err != nil {
		return nil, err
	}
	sizes, err := sizesOf(h.path, "sizes", h.fields["sizes"], int(n))
	if err != nil {
		return nil, err
	}
	dim, flip, err := h.space()
	if err != nil {
		return nil, err
	}
	var directions [][]float64
	if text, ok := h.fields["spacedirections"]; ok {
		if dim == 0 {
			return nil, fault.New(fault.Format, "%s: space directions without a space or space dimension", h.path)
		}
		if directions, err = h.vectors("space directions", text, dim); err == nil && len(directions) != len(sizes) {
			err = fault.New(fault.Format, "%s: space directions are %d vectors, expected one for each of %d axes", h.path, len(directions), len(sizes))
		}
		if err != nil {
			return nil, err
		}
	}
	channel, err := h.channelAxis(len(sizes), directions)
	if err != nil {
		return nil, err
	}
	s := &stored{inner: 1}
	var axes, domain []int // sizes and numbers of the others
	beside := 1
	for i, size := range sizes {
		switch {
		case i != channel:
			axes, domain = append(axes, size), append(domain, i)
			if channel < 0 || i < channel {
				s.inner *= size
			}
		default:
			beside = size
		}
	}
	if err := s.grid(h.path, axes, beside); err != nil {
		return nil, err
	}
	if dim > 0 && dim != len(axes) {
		return nil, fault.New(fault.Unsupported, "%s: %d axes in a space of %d dimensions (ITK refuses that too)", h.path, len(axes), dim)
	}
	if dim > 0 {
		err = h.inSpace(s, domain, directions, dim, flip)
	} else {
		err = h.withoutSpace(s, len(sizes), domain)
	}
	if err == nil {
		err = s.place(h.path)
	}
	if err == nil {
		err = h.layout(s)
	}
	return s, err
}

// space returns the space's dimension, 0 without one, and the signs that turn its first
// three axes to LPS. As in ITK, spaces without a place in the patient count as LPS.
func (h *nrrd) space() (dim int, flip [3]float64, err error) {
	flip = [3]float64{1, 1, 1}
	if text, ok := h.fields["spacedimension"]; ok {
		n, err := integer(h.path, "space dimension", text, 1, 8)
		return int(n), flip, err
	}
	text, ok := h.fields["space"]
	if !ok {
		return 0, flip, nil
	}
	switch name := strings.ToLower(text); name {
	case "left-posterior-superior", "lps", "scanner-xyz", "3d-right-handed", "3d-left-handed":
		return 3, flip, nil
	case "right-anterior-superior", "ras":
		return 3, [3]float64{-1, -1, 1}, nil
	case "left-anterior-superior", "las":
		return 3, [3]float64{1, -1, 1}, nil
	case "left-posterior-superior-time", "lpst", "scanner-xyz-time", "3d-right-handed-time", "3d-left-handed-time":
		return 4, flip, nil
	case "right-anterior-superior-time", "rast", "left-anterior-superior-time", "last":
		return 0, flip, fault.New(fault.Unsupported, "%s: space is %s, which SimpleITK takes for left-posterior-superior-time; expected that", h.path, text)
	}
	return 0, flip, fault.New(fault.Format, "%s: space is %.80q, which is not one of NRRD's", h.path, text)
}

// channelAxis returns the axis that holds the values of a voxel, -1 if there is none: the
// one of a kind that is not in space or time, as in ITK; or without a kind the one whose
// direction is none.
func (h *nrrd) channelAxis(n int, directions [][]float64) (int, error) {
	kinds, err := h.words("kinds", n)
	if err != nil {
		return 0, err
	}
	found := -1
	for i := range n {
		kind := "???"
		if kinds != nil {
			kind = strings.ToLower(kinds[i])
		}
		switch kind {
		case "???", "none", "domain", "space", "time":
			if directions == nil || directions[i] != nil {
				continue
			}
		case "complex":
			return 0, fault.New(fault.Unsupported, "%s: axis %d is of kind complex, expected real values", h.path, i)
		}
		if found >= 0 {
			return 0, fault.New(fault.Unsupported, "%s: axes %d and %d both hold the values of a voxel (by their kinds, or direction none), expected one at most", h.path, found, i)
		}
		found = i
	}
	return found, nil
}

// inSpace sets the geometry from space directions and space origin.
func (h *nrrd) inSpace(s *stored, domain []int, directions [][]float64, dim int, flip [3]float64) error {
	if _, both := h.fields["spacings"]; both {
		return fault.New(fault.Unsupported, "%s: spacings in a space, expected space directions (ITK refuses that too)", h.path)
	}
	g := &s.geometry
	three := min(dim, 3)
	if directions != nil {
		for col, axis := range domain[:three] {
			length := 0.0
			for _, v := range directions[axis] {
				length = math.Hypot(length, v)
			}
			for row := range three {
				g.Direction[3*row+col] = flip[row]*directions[axis][row]/length + 0 // + 0: no -0
			}
			g.Spacing[col] = length
		}
	}
	text, ok := h.fields["spaceorigin"]
	if !ok {
		return nil
	}
	origin, err := h.vectors("space origin", text, dim)
	if err != nil {
		return err
	}
	if len(origin) != 1 {
		return fault.New(fault.Format, "%s: space origin is %.80q, expected one vector", h.path, text)
	}
	if o := origin[0]; o != nil && !math.IsNaN(o[0]) {
		for row := range three {
			g.Origin[row] = flip[row]*o[row] + 0
		}
	}
	return nil
}

// withoutSpace sets the geometry from spacings and, where there are both, axis mins, which are the edges of the first voxels unless axes are centred on nodes.
func (h *nrrd) withoutSpace(s *stored, n int, domain []int) error {
	g := &s.geometry
	var values [2][]float64 // spacings, mins
	for i, field := range []string{"spacings", "axismins"} {
		words, err := h.words(field, n)
		if err != nil {
			return err
		}
		if words == nil {
			continue
		}
		if values[i], err = numbers(h.path, field, strings.Join(words, " ")); err != nil {
			return err
		}
	}
	centerings, err := h.words("centerings", n)
	if err != nil {
		return err
	}
	if values[0] == nil { // mins alone are no place
		return nil
	}
	for col, axis := range domain[:min(len(domain), 3)] {
		if !math.IsNaN(values[0][axis]) {
			g.Spacing[col] = values[0][axis]
		}
		if values[1] == nil {
			continue
		}
		g.Origin[col] = values[1][axis]
		if centerings == nil || !strings.EqualFold(centerings[axis], "node") {
			g.Origin[col] += g.Spacing[col] / 2
		}
	}
	return nil
}

// skipLines returns the place behind n lines that begin at byte from of a file.
func skipLines(path string, from, n int64) (int64, error) {
	if err := regular(path); err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, fault.New(fault.IO, "%s: %w", path, reason(err))
	}
	defer f.Close()
	r := bufio.NewReader(io.NewSectionReader(f, from, 1<<62))
	for line := int64(0); line < n; {
		part, err := r.ReadSlice('\n')
		from += int64(len(part))
		switch {
		case err == nil:
			line++
		case errors.Is(err, io.EOF):
			return 0, fault.New(fault.Format, "%s: truncated: the file ends after %d of %d lines to skip", path, line, n)
		case !errors.Is(err, bufio.ErrBufferFull):
			return 0, fault.New(fault.IO, "%s: %w", path, reason(err))
		}
	}
	return from, nil
}
