package imageio

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// maxText bounds a header of text: 4 MiB.
const maxText = 1 << 22

// stored is what a header of text (NRRD's, MetaImage's) says of the voxels.
type stored struct {
	geometry volume.Geometry
	channels int
	dims     int // Image.Dims
	// inner is how many voxels of one channel lie together in the file, which goes on with as
	// many of the next channel: all, or 1 where the channels of a voxel lie side by side.
	inner int
	voxel voxelType
	order binary.ByteOrder

	file         string // that holds the voxels; the header's own or another
	from, length int64  // the place of their bytes in it; length 0: to its end
	skip         int64  // bytes to leave out in front, once inflated
	atEnd        bool   // instead of all these: the voxels are the file's last bytes
	packed       string // as openAt takes it
}

// read reads the voxels. Nothing is allocated before the file is found large enough.
func (h *stored) read(ctx context.Context) (*Image, error) {
	s, err := openAt(ctx, h.file, h.from, h.length, h.packed)
	if err != nil {
		return nil, err
	}
	defer s.close()
	g := h.geometry
	place := h.from + h.skip
	switch {
	case h.packed != "":
		place = h.skip
	case h.atEnd:
		place = max(h.from, s.size-int64(g.Voxels())*int64(h.channels)*int64(h.voxel.size))
	}
	if err := s.holds(g.Size, h.channels, h.voxel, place); err != nil {
		return nil, err
	}
	if err := s.skip(place); err != nil {
		return nil, err
	}
	var v *volume.Volume
	if h.inner == g.Voxels() || h.channels == 1 {
		v, err = decode(s, g, h.channels, h.voxel, h.order, scaling{})
	} else {
		v, err = gather(s, g, h.channels, h.inner, h.voxel, h.order)
	}
	if err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		v.Free()
		return nil, err
	}
	return &Image{Volume: v, Dims: h.dims, NotFinite: s.notFinite}, nil
}

// lines hands out the text at the start of a file line by line, without line ends, until
// each says that a line was the last. It returns how many bytes that were; last is false if
// the file ended before. A line is not handed out beyond maxText.
func lines(path string, each func(line string) (last bool, err error)) (n int64, last bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, fault.New(fault.IO, "%s: %w", path, reason(err))
	}
	defer f.Close()
	r := bufio.NewReader(io.LimitReader(f, maxText))
	for {
		line, err := r.ReadString('\n')
		n += int64(len(line))
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return n, false, fault.New(fault.IO, "%s: reading the header: %w", path, reason(err))
		case n >= maxText:
			return n, false, fault.New(fault.Format, "%s: the header does not end within %d bytes", path, maxText)
		case n == 0:
			return n, false, fault.New(fault.Format, "%s: the file is empty (0 bytes)", path)
		case err != nil && line == "":
			return n, false, nil
		}
		if last, err := each(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")); last || err != nil {
			return n, last, err
		}
	}
}

// numbers reads all the numbers of a field's text, between spaces.
func numbers(path, field, text string) ([]float64, error) {
	var all []float64
	for _, word := range strings.Fields(text) {
		v, err := strconv.ParseFloat(word, 64)
		if err != nil && !math.IsInf(v, 0) {
			return nil, fault.New(fault.Format, "%s: %s is %.80q, expected numbers", path, field, text)
		}
		all = append(all, v)
	}
	return all, nil
}

// exactly is numbers of a known count.
func exactly(path, field, text string, n int) ([]float64, error) {
	all, err := numbers(path, field, text)
	if err == nil && len(all) != n {
		err = fault.New(fault.Format, "%s: %s is %.80q: %d numbers, expected %d", path, field, text, len(all), n)
	}
	return all, err
}

// integer reads one whole number from least to most.
func integer(path, field, text string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, fault.New(fault.Format, "%s: %s is %.80q, expected a whole number from %d to %d", path, field, text, least, most)
	}
	return n, nil
}

// sizesOf reads n axis sizes of 1 or more, together at most 2^40.
func sizesOf(path, field, text string, n int) ([]int, error) {
	words := strings.Fields(text)
	if len(words) != n {
		return nil, fault.New(fault.Format, "%s: %s is %.80q: %d sizes, expected %d", path, field, text, len(words), n)
	}
	sizes, voxels := make([]int, n), 1.0
	for i, word := range words {
		size, err := integer(path, field, word, 1, volume.MaxVoxels)
		if err != nil {
			return nil, err
		}
		sizes[i] = int(size)
		voxels *= float64(size)
	}
	if voxels > volume.MaxVoxels {
		return nil, fault.New(fault.Format, "%s: %s is %.80q: more than 2^40 voxels: taken for a damaged header", path, field, text)
	}
	return sizes, nil
}

// grid sets size, channels and dims from the axes in space (2, 3, or 4, the last of which
// is then the channels'; x first), and the channels beside them, which is 1 where there is
// no axis for them.
func (h *stored) grid(path string, axes []int, beside int) error {
	if len(axes) < 2 || len(axes) > 4 || len(axes) == 4 && beside > 1 {
		return fault.New(fault.Unsupported, "%s: the image has %d axes and %d values a voxel, expected 2, 3 or 4 axes, or 2 or 3 and several values", path, len(axes), beside)
	}
	h.geometry = volume.Geometry{Size: [3]int{1, 1, 1}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	copy(h.geometry.Size[:], axes[:min(len(axes), 3)])
	h.channels, h.dims = beside, min(len(axes), 3)
	if len(axes) == 4 {
		h.channels = axes[3]
		h.inner = h.geometry.Voxels()
	}
	if h.channels > 1 && h.dims == 3 {
		h.dims = 4
	}
	return nil
}

// place turns axes with a negative spacing round, as ITK does (itkImageFileReader.hxx), and
// checks the geometry.
func (h *stored) place(path string) error {
	g := &h.geometry
	for col := range 3 {
		if g.Spacing[col] < 0 {
			g.Spacing[col] = -g.Spacing[col]
			for row := range 3 {
				g.Direction[3*row+col] = -g.Direction[3*row+col] + 0 // + 0: no -0 in the matrix
			}
		}
	}
	if m := matrix(g.Direction); finite(m) && math.Abs(det(m)) > 1e-6 && !orthogonal(m, 1e-3) {
		return fault.New(fault.Unsupported, "%s: the directions %v of the axes (columns) are not at right angles: resample the image", path, g.Direction)
	}
	if err := g.Validate(); err != nil {
		return fault.New(fault.Format, "%s: unusable geometry: %w", path, err)
	}
	return nil
}

// beside returns the path of a file that the header at path names.
func beside(path, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(path), name)
}

// gather reads voxels of which inner of a channel lie together, then as many of the next
// channel, into channels x z x y x x.
func gather(s *source, g volume.Geometry, channels, inner int, t voxelType, order binary.ByteOrder) (v *volume.Volume, err error) {
	d := t.dtype
	if d == 0 {
		d = volume.Float64
	}
	if v, err = volume.New(g, channels, d); err != nil {
		return nil, fault.New(fault.KindOf(err), "%s: %w", s.path, err)
	}
	swap := t.size > 1 && order != hostOrder
	switch t.name {
	case "uint8":
		err = scatter[uint8](s, volume.As[uint8](v), channels, inner, swap)
	case "int8":
		err = scatter[int8](s, volume.As[int16](v), channels, inner, swap)
	case "int16":
		err = scatter[int16](s, volume.As[int16](v), channels, inner, swap)
	case "uint16":
		err = scatter[uint16](s, volume.As[uint16](v), channels, inner, swap)
	case "int32":
		err = scatter[int32](s, volume.As[int32](v), channels, inner, swap)
	case "uint32":
		err = scatter[uint32](s, volume.As[float64](v), channels, inner, swap)
	case "int64":
		err = scatter[int64](s, volume.As[float64](v), channels, inner, swap)
	case "uint64":
		err = scatter[uint64](s, volume.As[float64](v), channels, inner, swap)
	case "float32":
		err = scatter[float32](s, volume.As[float32](v), channels, inner, swap)
	case "float64":
		err = scatter[float64](s, volume.As[float64](v), channels, inner, swap)
	}
	if err != nil {
		v.Free()
		return nil, err
	}
	return v, nil
}

// scatter is gather for one pair of types. Values that are not finite become 0 and are counted.
func scatter[S, D real](s *source, to []D, channels, inner int, swap bool) error {
	n := len(to) / channels // voxels of a channel
	i, c, first := 0, 0, 0  // within the inner voxels, their channel, the first of them
	return blocks(s, len(to), swap, func(_ int, x []S) error {
		for _, value := range x {
			if value-value != 0 { // NaN or infinite
				value = 0
				s.notFinite++
			}
			to[c*n+first+i] = D(value)
			if i++; i < inner {
				continue
			}
			i = 0
			if c++; c == channels {
				c, first = 0, first+inner
			}
		}
		return nil
	})
}
