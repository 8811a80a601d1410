package imageio

import (
	"fmt"
	"math"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// ReadCase reads the image of a case with the given number of channels. Where path
// ends in _0000 (before the file ending) and the file itself has one channel, the
// others are in _0001, _0002, ... beside it, as nnU-Net names them; otherwise the
// file's own channels (its 4th axis) are the image. Channels of different voxel
// types become float32. The files must agree in size and spacing, as nnU-Net's
// reader demands; geometry and header are the first file's.
func ReadCase(path string, channels int) (*Image, error) {
	first, err := Read(path)
	if err != nil {
		return nil, err
	}
	ending := Ending(path)
	stem, numbered := strings.CutSuffix(path[:len(path)-len(ending)], "_0000")
	if !numbered || channels < 2 || first.Channels > 1 {
		return first, nil
	}
	parts := []*Image{first}
	defer func() {
		for _, p := range parts {
			p.Free()
		}
	}()
	dtype := first.DType
	for i := 1; i < channels; i++ {
		file := fmt.Sprintf("%s_%04d%s", stem, i, path[len(path)-len(ending):])
		p, err := Read(file)
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
	}
	whole, err := volume.New(first.Geometry, channels, dtype)
	if err != nil {
		return nil, err
	}
	n := first.Voxels() * dtype.Size()
	for i, p := range parts {
		target := whole.Data[i*n : (i+1)*n]
		if p.DType == dtype {
			copy(target, p.Data)
		} else {
			toFloat32(target, p.Volume)
		}
		p.Free()
	}
	return &Image{Volume: whole, Dims: first.Dims, header: first.header}, nil
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
