package imageio

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/volume"
)

// writeNRRD is Write for .nrrd and .nhdr.
func writeNRRD(ctx context.Context, b *Batch, path string, _ bool, v *volume.Volume) error {
	return putNRRD(ctx, b, path, v, v.Geometry, 3, "")
}

// labelNRRD is WriteLabels for .nrrd and .nhdr.
func labelNRRD(ctx context.Context, b *Batch, path string, _ bool, im *Image, labels *volume.Volume, _ []Segment) error {
	return putNRRD(ctx, b, path, labels, im.Geometry, min(im.Dims, 3), "")
}

// nrrdNames are NRRD's names of the voxel types.
var nrrdNames = map[volume.DType]string{
	volume.Uint8: "unsigned char", volume.Int16: "short", volume.Uint16: "unsigned short",
	volume.Int32: "int", volume.Float32: "float", volume.Float64: "double",
}

// putNRRD writes voxels on the first dims axes of a grid, channels last, with key/value lines
// in the header.
func putNRRD(ctx context.Context, b *Batch, path string, v *volume.Volume, g volume.Geometry, dims int, pairs string) error {
	var h strings.Builder
	axes := dims
	if v.Channels > 1 {
		axes++
	}
	fmt.Fprintf(&h, "NRRD0005\ntype: %s\ndimension: %d\n", nrrdNames[v.DType], axes)
	if dims == 3 {
		h.WriteString("space: left-posterior-superior\n")
	} else {
		fmt.Fprintf(&h, "space dimension: %d\n", dims)
	}
	var sizes, directions, kinds []string
	for col := range dims {
		var vector [3]float64
		for row := range dims {
			vector[row] = g.Direction[3*row+col] * g.Spacing[col]
		}
		sizes = append(sizes, strconv.Itoa(g.Size[col]))
		directions = append(directions, "("+joined(vector[:dims], ",")+")")
		kinds = append(kinds, "domain")
	}
	if v.Channels > 1 {
		sizes, directions, kinds = append(sizes, strconv.Itoa(v.Channels)), append(directions, "none"), append(kinds, "list")
	}
	fmt.Fprintf(&h, "sizes: %s\nspace directions: %s\nkinds: %s\nendian: little\nencoding: gzip\nspace origin: (%s)\n",
		strings.Join(sizes, " "), strings.Join(directions, " "), strings.Join(kinds, " "), joined(g.Origin[:dims], ","))
	if !strings.EqualFold(filepath.Ext(path), ".nhdr") {
		return b.Add(path, func(w io.Writer) error {
			if _, err := io.WriteString(w, h.String()+pairs+"\n"); err != nil {
				return err
			}
			return writeGzip(ctx, w, v.Data)
		})
	}
	data := voxelFile(path, true)
	if err := own(path, data); err != nil {
		return err
	}
	if err := b.Add(data, func(w io.Writer) error { return writeGzip(ctx, w, v.Data) }); err != nil {
		return err
	}
	fmt.Fprintf(&h, "data file: %s\n", filepath.Base(data))
	return b.AddText(path, []byte(h.String()+pairs))
}

// joined writes numbers so that they are read back bit by bit.
func joined(x []float64, between string) string {
	words := make([]string, len(x))
	for i, v := range x {
		words[i] = strconv.FormatFloat(v+0, 'g', -1, 64) // + 0: no -0
	}
	return strings.Join(words, between)
}
