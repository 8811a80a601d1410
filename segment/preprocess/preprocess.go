// Package preprocess takes an image to the network's grid as nnU-Net's
// DefaultPreprocessor does: orient, transpose, crop to nonzero, normalise, resample.
package preprocess

import (
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// Config is what a model asks of its images.
type Config struct {
	Orientation   string          // such as "LPS"; "" as stored
	Transpose     [3]int          // nnU-Net's transpose_forward
	Spacing       []float64       // mm, in transposed order; two entries: in-plane only (2-D networks)
	Channels      []Normalization // one per channel
	SeparateImage *bool           // resampling_fn_data_kwargs.force_separate_z
}

// Case is an image on the network's grid and the way back.
type Case struct {
	Data  []float32   // channels x Shape, row-major; C memory
	Shape [3]int      // the network's grid, slowest axis first
	View  volume.View // the image's voxels that the grid covers
	From  [3]float64  // mm, spacing of the view's axes
	To    [3]float64  // mm, spacing of the grid
}

// Free gives the data back.
func (c *Case) Free() {
	cmem.Free(c.Data)
	c.Data = nil
}

// Run prepares an image. Voxels that are NaN or infinite are refused, for they would
// spread through resampling and normalisation over the whole image.
func Run(image *volume.Volume, c Config, threads int) (*Case, error) {
	if image.Channels != len(c.Channels) {
		return nil, fault.New(fault.Model, "the image has %d channels, the model expects %d", image.Channels, len(c.Channels))
	}
	view, spacing := image.Full(), [3]float64{image.Spacing[2], image.Spacing[1], image.Spacing[0]}
	if c.Orientation != "" {
		var err error
		if view, spacing, err = image.Reorient(c.Orientation); err != nil {
			return nil, err
		}
	}
	k := &Case{View: view.Transpose(c.Transpose)}
	for i, axis := range c.Transpose {
		k.From[i] = spacing[axis]
	}
	k.View = cropToNonzero(image, k.View, threads)
	k.To = k.From // 2-D networks leave the slices as they are
	copy(k.To[3-len(c.Spacing):], c.Spacing)
	var err error
	if k.Shape, err = resample.Shape(k.View.Shape, k.From, k.To); err != nil {
		return nil, err
	}
	n := k.Shape[0] * k.Shape[1] * k.Shape[2]
	if k.Data, err = cmem.Alloc[float32](image.Channels * n); err != nil {
		return nil, err
	}
	if err := k.fill(image, c, n, threads); err != nil {
		k.Free()
		return nil, err
	}
	return k, nil
}

// fill normalises and resamples every channel.
func (k *Case) fill(image *volume.Volume, c Config, n, threads int) error {
	separate := resample.SeparateAxis(k.From, k.To, c.SeparateImage)
	bytes := len(image.Data) / image.Channels
	var mask []byte
	defer func() { cmem.Free(mask) }()
	for channel, scheme := range c.Channels {
		source := resample.Source{Data: image.Data[channel*bytes : (channel+1)*bytes], DType: image.DType, View: k.View}
		lo, hi, err := scheme.prepare(&source, k.Shape != k.View.Shape, threads)
		if err != nil {
			return err
		}
		var masked []float32
		if scheme.Scheme == ZScore && scheme.Mask {
			if mask == nil {
				if mask, err = nonzeroMask(image, k.View, threads); err != nil {
					return err
				}
			}
			if source, masked, err = maskedZScore(source, mask, threads); err != nil {
				return err
			}
			lo, hi = extremes(masked)
		}
		err = resample.Image(k.Data[channel*n:(channel+1)*n], k.Shape, source, separate, lo, hi, threads)
		cmem.Free(masked)
		if err != nil {
			return err
		}
	}
	return nil
}

func extremes(s []float32) (lo, hi float32) {
	lo, hi = s[0], s[0]
	for _, v := range s {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

// Identity reports whether the grid is the view itself.
func (c *Case) Identity() bool { return c.Shape == c.View.Shape }

// plane returns slice i of the slowest axis of a view of one channel.
func plane(data []byte, d volume.DType, v volume.View, i int) kernel.Plane {
	return kernel.Plane{Data: data, DType: int32(d), Offset: v.Offset + i*v.Stride[0],
		Stride: [2]int{v.Stride[1], v.Stride[2]}, Shape: [2]int{v.Shape[1], v.Shape[2]}}
}
