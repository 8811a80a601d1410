// Package imageio reads and writes the file formats of medical images: NIfTI-1 and NIfTI-2
// in one file, NRRD and MetaImage, each with the voxels in the same file or in one beside it.
//
// Geometry and voxel values are what SimpleITK (ITK 5.4) sees in the same file,
// because that is what nnU-Net trains and predicts on; where ITK guesses at a
// damaged header, Read refuses it. DICOM is not read: its voxels come in a
// dozen compressions; errors say how SimpleITK converts a series.
package imageio

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// Image is a volume and what is needed to write labels with the same header.
type Image struct {
	*volume.Volume // channels first; C memory, given back by Free

	// Dims is 2, 3 or 4, as the file says: the axes after which all sizes are 1
	// do not count beyond the third. In a 2-D image z has size 1 and spacing
	// 1 mm; in a 4-D image the 4th axis, or that of NRRD's and MetaImage's vectors, became
	// the channels.
	Dims int

	NotFinite int // voxels that were NaN or infinite in the file and are 0 here

	header header // a NIfTI file's own header, the pattern of WriteLabels; zero of other formats
}

// Segment is a label and its name, for formats that store names.
type Segment struct {
	Value int
	Name  string
}

// format is one way to store an image.
type format struct {
	ending string // lower case, with the dot
	gzip   bool
	read   func(ctx context.Context, path string, gz bool) (*Image, error)
	write  func(ctx context.Context, b *Batch, path string, gz bool, v *volume.Volume) error
	labels func(ctx context.Context, b *Batch, path string, gz bool, im *Image, labels *volume.Volume, segments []Segment) error
}

// formats lists what Read and Write know; an ending that ends in another one
// stands before it.
var formats = []format{
	{".nii.gz", true, readNIfTI, writeNIfTI, labelNIfTI},
	{".nii", false, readNIfTI, writeNIfTI, labelNIfTI},
	{".seg.nrrd", false, readNRRD, writeNRRD, labelSegmentation},
	{".nrrd", false, readNRRD, writeNRRD, labelNRRD},
	{".nhdr", false, readNRRD, writeNRRD, labelNRRD},
	{".mha", false, readMeta, writeMeta, labelMeta},
	{".mhd", false, readMeta, writeMeta, labelMeta},
}

// Endings lists the file endings of images that are read and written.
var Endings = func() (all []string) {
	for _, f := range formats {
		all = append(all, f.ending)
	}
	return all
}()

// find returns the format that path's ending names; ok is false if there is none.
func find(path string) (f format, ok bool) {
	for _, f := range formats {
		if len(path) >= len(f.ending) && strings.EqualFold(path[len(path)-len(f.ending):], f.ending) {
			return f, true
		}
	}
	return format{}, false
}

// Ending returns the file ending of path that names its format, in lower case, one of
// Endings; "" if no format has it. Case does not matter.
func Ending(path string) string {
	f, _ := find(path)
	return f.ending
}

// Known returns nil if path's ending names a format, or else an error of kind Unsupported,
// which for a DICOM file says how to convert it.
func Known(path string) error {
	if _, ok := find(path); ok {
		return nil
	}
	if isDICOM(path) {
		return dicom(path)
	}
	return fault.New(fault.Unsupported, "%s: the name ends in %q; image files end in %s (a .hdr/.img pair must be converted to one file)",
		path, filepath.Ext(path), strings.Join(Endings, ", "))
}

// Read reads an image file into C memory, which the caller gives back with Free.
//
// Voxels of type uint8, int16, uint16, int32, float32 and float64 come as they
// are stored. int8 becomes int16. uint32, int64 and uint64 become int32, or
// float64 if a value does not fit. Values with a slope or an intercept become
// float32 (float64 stays float64). NaN and infinite voxels become 0, as ITK's NIfTI reader
// makes them. uint32, int64 and uint64 with the channels of a voxel side by side become
// float64.
//
// Errors name the file, what was found and what was expected. Their kinds:
// NotFound, IO (also for a folder), Format (truncated, damaged or nonsensical
// content), Unsupported (an ending, voxel type, dimension or sheared geometry
// that the library does not read), Memory, Cancelled (ctx is done; noticed within a block
// of some 100 kB).
func Read(ctx context.Context, path string) (*Image, error) {
	if err := regular(path); err != nil {
		return nil, err
	}
	if err := Known(path); err != nil {
		return nil, err
	}
	f, _ := find(path)
	return f.read(ctx, path, f.gzip)
}

// regular checks that path is a regular file.
func regular(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "%s: no such file", path)
	case err != nil:
		return fault.New(fault.IO, "%s: %w", path, reason(err))
	case info.IsDir() && holdsDICOM(path):
		return dicom(path)
	case info.IsDir():
		return fault.New(fault.IO, "%s: is a folder, an image file is expected", path)
	case !info.Mode().IsRegular():
		return fault.New(fault.IO, "%s: is not a regular file (%s)", path, info.Mode().Type())
	}
	return nil
}

// Write writes a volume of any type with one or more channels, which become the
// 4th axis of a 4-D file. The header is made from the geometry alone. NIfTI: qform and
// sform with code 1 (scanner), millimetres; NIfTI-1, or NIfTI-2 if a dimension
// exceeds 32767. NRRD: left-posterior-superior, gzip; the 4th axis is of kind list.
// MetaImage: not compressed. The voxels of NAME.nhdr go to NAME.raw.gz, those of NAME.mhd to
// NAME.raw; a file of that name that is not the header's already is not replaced. The file
// appears complete or not at all; Batch tells what happens to one that exists.
//
// Errors are of kind Unsupported (ending), Argument (an unusable volume),
// NotFound (the folder), IO, or Cancelled once ctx is done.
func Write(ctx context.Context, path string, v *volume.Volume) error {
	return one(func(b *Batch) error { return b.Write(ctx, path, v) })
}

// Write is the function Write as part of a batch.
func (b *Batch) Write(ctx context.Context, path string, v *volume.Volume) error {
	if err := Known(path); err != nil {
		return err
	}
	if err := v.Check(); err != nil {
		return fault.New(fault.KindOf(err), "writing %s: %w", path, err)
	}
	f, _ := find(path)
	return f.write(ctx, b, path, f.gzip, v)
}

// stopped returns an error of kind Cancelled once ctx is done.
func stopped(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fault.New(fault.Cancelled, "cancelled: %w", context.Cause(ctx))
}

// reason strips the operation and path from an error of package os, which
// messages here name themselves.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}
