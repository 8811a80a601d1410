package imageio

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// CaseFiles returns the files of the case whose first file is path: path, and where it
// ends in _0000 (before the file ending) also CASE_0001, CASE_0002, ... with the same
// ending in its folder, in order. That is what belongs to a case for nnU-Net
// (nnunetv2/utilities/utils.py, create_lists_from_splitted_dataset_folder).
func CaseFiles(path string) ([]string, error) {
	folder, name := filepath.Split(path)
	ending := name[len(name)-len(Ending(name)):]
	stem, numbered := strings.CutSuffix(strings.TrimSuffix(name, ending), "_0000")
	if !numbered {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(folder + ".")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.IO, "%s: looking for further channels: %w", path, err)
	}
	files := []string{path}
	for _, e := range entries { // sorted by name
		number, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ending), stem+"_")
		if ok && len(number) == 4 && strings.Trim(number, "0123456789") == "" && number != "0000" && strings.HasSuffix(e.Name(), ending) {
			files = append(files, folder+e.Name())
		}
	}
	return files, nil
}

// ReadCase reads the image of a case with the given number of channels: that of its one
// file, whose 4th axis holds them, or of one file for each, as CaseFiles lists them, each
// with one channel. Channels of different voxel types become float32. The files must agree
// in size and spacing, as nnU-Net's reader demands; geometry and header are the first
// file's.
//
// Errors are those of Read, and Model where the files contradict each other, are more than
// channels, or the file is a further channel's by its name and holds one where more are
// expected. A single file may have another number otherwise; whoever uses it finds out.
func ReadCase(ctx context.Context, path string, channels int) (*Image, error) {
	files, err := CaseFiles(path)
	if err != nil {
		return nil, err
	}
	first, err := Read(ctx, path)
	if err != nil {
		return nil, err
	}
	if all := first.Channels + len(files) - 1; len(files) > 1 && (all > channels || first.Channels > 1) {
		first.Free()
		return nil, fault.New(fault.Model, "%s: %d channels, the model expects %d: files up to %s belong to the case", path, all, channels, filepath.Base(files[len(files)-1]))
	}
	ending := path[len(path)-len(Ending(path)):]
	name := strings.TrimSuffix(path, ending)
	stem, numbered := strings.CutSuffix(name, "_0000")
	if at := len(name) - len("_0000"); !numbered && first.Channels == 1 && channels > 1 && at > 0 && name[at] == '_' && strings.Trim(name[at+1:], "0123456789") == "" {
		first.Free()
		return nil, fault.New(fault.Model, "%s: 1 channel, the model expects %d: by nnU-Net's naming a further channel's file; a case is named by its first, %s_0000%s",
			path, channels, name[:at], ending)
	}
	if !numbered || channels < 2 || first.Channels > 1 {
		return first, nil
	}
	files = files[:1]
	for i := 1; i < channels; i++ {
		files = append(files, fmt.Sprintf("%s_%04d%s", stem, i, ending))
	}
	return readOthers(ctx, first, files)
}

// ReadFiles reads the image whose channels are in files: one file with all of them, or one
// for each; otherwise it is as ReadCase. Errors are those of Read, and Model where the files
// contradict each other.
func ReadFiles(ctx context.Context, files []string) (*Image, error) {
	if len(files) == 0 {
		return nil, fault.New(fault.Argument, "no image file")
	}
	first, err := Read(ctx, files[0])
	if err != nil || len(files) == 1 {
		return first, err
	}
	if n := first.Channels; n > 1 {
		first.Free()
		return nil, fault.New(fault.Model, "%s: %d channels in one of %d files, expected one", files[0], n, len(files))
	}
	return readOthers(ctx, first, files)
}

// readOthers reads the files after the first, whose image has one channel, and joins the
// channels. It frees first.
func readOthers(ctx context.Context, first *Image, files []string) (*Image, error) {
	path := files[0]
	parts := []*Image{first}
	defer func() {
		for _, p := range parts {
			p.Free()
		}
	}()
	dtype, notFinite := first.DType, first.NotFinite
	for _, file := range files[1:] {
		p, err := Read(ctx, file)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
		if p.Channels != 1 || p.Size != first.Size {
			return nil, fault.New(fault.Model, "%s: %v voxels and %d channels, but %s has %v voxels: the channels of a case must have one size",
				file, p.Size, p.Channels, path, first.Size)
		}
		for axis := range 3 {
			if math.Abs(p.Spacing[axis]-first.Spacing[axis]) > 1e-5*first.Spacing[axis] {
				return nil, fault.New(fault.Model, "%s: spacing %v mm, but %s has %v mm: the channels of a case must have one spacing",
					file, p.Spacing, path, first.Spacing)
			}
		}
		if p.DType != dtype {
			dtype = volume.Float32
		}
		notFinite += p.NotFinite
	}
	whole, err := volume.New(first.Geometry, len(files), dtype)
	if err != nil {
		return nil, err
	}
	n := first.Voxels() * dtype.Size()
	for i, p := range parts {
		if err := stopped(ctx); err != nil {
			whole.Free()
			return nil, err
		}
		target := whole.Data[i*n : (i+1)*n]
		if p.DType == dtype {
			copy(target, p.Data)
		} else {
			toFloat32(target, p.Volume)
		}
		p.Free()
	}
	return &Image{Volume: whole, Dims: first.Dims, NotFinite: notFinite, header: first.header}, nil
}

// toFloat32 converts a volume's voxels.
func toFloat32(dst []byte, v *volume.Volume) {
	w, _ := volume.Wrap(v.Geometry, 1, volume.Float32, dst)
	out := volume.As[float32](w)
	switch v.DType {
	case volume.Uint8:
		convertTo(out, v.Data)
	case volume.Int16:
		convertTo(out, volume.As[int16](v))
	case volume.Uint16:
		convertTo(out, volume.As[uint16](v))
	case volume.Int32:
		convertTo(out, volume.As[int32](v))
	case volume.Float32:
		convertTo(out, volume.As[float32](v))
	case volume.Float64:
		convertTo(out, volume.As[float64](v))
	}
}

func convertTo[T uint8 | int16 | uint16 | int32 | float32 | float64](dst []float32, src []T) {
	for i, v := range src {
		dst[i] = float32(v)
	}
}
