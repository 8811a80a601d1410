package imageio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zlib"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// writeMeta is Write for .mha and .mhd.
func writeMeta(ctx context.Context, b *Batch, path string, _ bool, v *volume.Volume) error {
	dims := 3
	if v.Channels > 1 {
		dims = 4
	}
	return putMeta(ctx, b, path, v, v.Geometry, dims, v.Data, "")
}

// labelMeta is WriteLabels for .mha and .mhd. Labels are packed, in memory, as the header in
// front of them gives their size: 310 kB of 44 MB with 13 organs.
func labelMeta(ctx context.Context, b *Batch, path string, _ bool, im *Image, labels *volume.Volume, _ []Segment) error {
	var packed bytes.Buffer
	z, err := zlib.NewWriterLevel(&packed, zlib.BestSpeed)
	if err == nil {
		err = writeAll(ctx, z, labels.Data)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return writing(path, err)
	}
	return putMeta(ctx, b, path, labels, im.Geometry, min(im.Dims, 3), packed.Bytes(),
		fmt.Sprintf("CompressedData = True\nCompressedDataSize = %d\n", packed.Len()))
}

// metaNames are MetaImage's names of the voxel types.
var metaNames = map[volume.DType]string{
	volume.Uint8: "MET_UCHAR", volume.Int16: "MET_SHORT", volume.Uint16: "MET_USHORT",
	volume.Int32: "MET_INT", volume.Float32: "MET_FLOAT", volume.Float64: "MET_DOUBLE",
}

// putMeta writes a header of dims axes (of 4 the last is the channels') and the bytes of
// the voxels; packing are the header's lines about them.
func putMeta(ctx context.Context, b *Batch, path string, v *volume.Volume, g volume.Geometry, dims int, voxels []byte, packing string) error {
	three := min(dims, 3)
	matrix, offset, spacing, sizes := make([]float64, dims*dims), make([]float64, dims), make([]float64, dims), make([]string, dims)
	for axis := range dims {
		matrix[dims*axis+axis], spacing[axis], sizes[axis] = 1, 1, strconv.Itoa(v.Channels)
		if axis == 3 {
			continue
		}
		offset[axis], spacing[axis], sizes[axis] = g.Origin[axis], g.Spacing[axis], strconv.Itoa(g.Size[axis])
		for row := range three {
			matrix[dims*axis+row] = g.Direction[3*row+axis]
		}
	}
	orientation := ""
	if dims == 3 { // by the letters from which the axes come, not to which they go
		from := strings.NewReplacer("L", "R", "R", "L", "P", "A", "A", "P", "S", "I", "I", "S").Replace(g.Orientation())
		orientation = "AnatomicalOrientation = " + from + "\n"
	}
	header := func(file string) []byte {
		return fmt.Appendf(nil, "ObjectType = Image\nNDims = %d\nBinaryData = True\nBinaryDataByteOrderMSB = False\n%s"+
			"TransformMatrix = %s\nOffset = %s\nCenterOfRotation = %s\n%sElementSpacing = %s\nDimSize = %s\nElementType = %s\nElementDataFile = %s\n",
			dims, packing, joined(matrix, " "), joined(offset, " "), joined(make([]float64, dims), " "), orientation,
			joined(spacing, " "), strings.Join(sizes, " "), metaNames[v.DType], file)
	}
	if !strings.EqualFold(filepath.Ext(path), ".mhd") {
		return b.Add(path, func(w io.Writer) error { return writeAll(ctx, w, header("LOCAL"), voxels) })
	}
	data := voxelFile(path, packing != "")
	if err := own(path, data); err != nil {
		return err
	}
	if err := b.Add(data, func(w io.Writer) error { return writeAll(ctx, w, voxels) }); err != nil {
		return err
	}
	return b.AddText(path, header(filepath.Base(data)))
}

// voxelFile returns where the voxels of a header at path go; "" for formats with one file.
func voxelFile(path string, packed bool) string {
	ending := filepath.Ext(path)
	name := strings.TrimSuffix(path, ending)
	switch ending = strings.ToLower(ending); {
	case ending == ".nhdr":
		return name + ".raw.gz"
	case ending == ".mhd" && packed:
		return name + ".zraw"
	case ending == ".mhd":
		return name + ".raw"
	}
	return ""
}

// own refuses a file for the voxels of the header at path that is there already, unless it
// holds those of the header that is replaced: it may be another image's. It also refuses
// names that readers would not find again.
func own(path, data string) error {
	if name := filepath.Base(data); strings.ContainsAny(name, "%\r\n") || name != strings.TrimSpace(name) {
		return fault.New(fault.Argument, "writing %s: the header cannot name a file %q: %% and spaces at the ends have another meaning there", path, name)
	}
	if _, err := os.Lstat(data); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	file := ""
	if strings.EqualFold(filepath.Ext(path), ".nhdr") {
		if h, err := nrrdFields(path); err == nil {
			file = h.fields["datafile"]
		}
	} else if h, err := metaFields(path); err == nil {
		file = h.fields["ElementDataFile"]
	}
	if file == "" || !Same(beside(path, file), data) {
		return fault.New(fault.IO, "writing %s: its voxels go to %s, which exists and is not its own: another name is needed", path, data)
	}
	return nil
}
