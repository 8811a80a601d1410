// Package preprocess takes an image to the network's grid as nnU-Net's
// DefaultPreprocessor does: orient, transpose, crop to nonzero, normalise, resample.
package preprocess

import (
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// Config is what a model asks of its images.
type Config struct {
	Orientation string          // such as "LPS"; "" as stored
	Transpose   [3]int          // nnU-Net's transpose_forward
	Spacing     []float64       // mm, in transposed order; two entries: in-plane only (2-D networks)
	Channels    []Normalization // one per channel
	Image       resample.Method // resampling_fn_data

	// Of the second stage of a cascade, else nil: the labels of the first stage that
	// enter, each as a channel of zeros and ones, and resampling_fn_seg.
	Previous []int
	Seg      resample.Method
}

// Case is an image on the network's grid and the way back.
type Case struct {
	Data  []float32   // channels (then those of Previous) x Shape, row-major; C memory
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

// Grid returns the view in which a network of this configuration sees the whole of a
// volume, the spacing of the view's axes and that of the network's grid, in mm.
func (c *Config) Grid(g *volume.Geometry) (view volume.View, from, to [3]float64, err error) {
	full, spacing := g.Full(), [3]float64{g.Spacing[2], g.Spacing[1], g.Spacing[0]}
	if c.Orientation != "" {
		if full, spacing, err = g.Reorient(c.Orientation); err != nil {
			return view, from, to, err
		}
	}
	for i, axis := range c.Transpose {
		from[i] = spacing[axis]
	}
	to = from // 2-D networks leave the slices as they are
	copy(to[3-len(c.Spacing):], c.Spacing)
	return full.Transpose(c.Transpose), from, to, nil
}

// Run prepares an image; previous is the label map of a cascade's first stage on the
// image's grid, or nil. Voxels that are NaN or infinite are refused, for they would
// spread through resampling and normalisation over the whole image.
func Run(image, previous *volume.Volume, c Config, threads int) (*Case, error) {
	if image.Channels != len(c.Channels) {
		return nil, fault.New(fault.Model, "the image has %d channels, the model expects %d", image.Channels, len(c.Channels))
	}
	k := &Case{}
	var err error
	if k.View, k.From, k.To, err = c.Grid(&image.Geometry); err != nil {
		return nil, err
	}
	k.View = cropToNonzero(image, k.View, threads)
	if k.Shape, err = c.Image.Shape(k.View.Shape, k.From, k.To); err != nil {
		return nil, err
	}
	n := k.Shape[0] * k.Shape[1] * k.Shape[2]
	if k.Data, err = cmem.Alloc[float32]((image.Channels + len(c.Previous)) * n); err != nil {
		return nil, err
	}
	if err := k.fill(image, previous, c, n, threads); err != nil {
		k.Free()
		return nil, err
	}
	return k, nil
}

// fill normalises and resamples every channel.
func (k *Case) fill(image, previous *volume.Volume, c Config, n, threads int) (err error) {
	var mask []byte
	defer func() { cmem.Free(mask) }()
	masked := len(c.Previous) > 0
	for _, scheme := range c.Channels {
		masked = masked || scheme.Scheme == ZScore && scheme.Mask
	}
	if masked {
		if mask, err = nonzeroMask(image, k.View, threads); err != nil {
			return err
		}
	}
	bytes := len(image.Data) / image.Channels
	for channel, scheme := range c.Channels {
		source := resample.Source{Data: image.Data[channel*bytes : (channel+1)*bytes], DType: image.DType, View: k.View}
		lo, hi, err := scheme.prepare(&source, k.Shape != k.View.Shape, threads)
		if err != nil {
			return err
		}
		var own []float32
		if scheme.Scheme == ZScore && scheme.Mask {
			if source, own, err = maskedZScore(source, mask, threads); err != nil {
				return err
			}
			lo, hi = resample.Extremes(own)
		}
		err = c.Image.Image(k.Data[channel*n:(channel+1)*n], k.Shape, source, k.From, k.To, lo, hi, threads)
		cmem.Free(own)
		if err != nil {
			return err
		}
	}
	if len(c.Previous) == 0 {
		return nil
	}
	return k.previous(k.Data[image.Channels*n:], previous, mask, c, threads)
}

// previous resamples the labels of a cascade's first stage and writes each of
// c.Previous as a channel of zeros and ones (nnU-Net's convert_labelmap_to_one_hot).
func (k *Case) previous(dst []float32, labels *volume.Volume, mask []byte, c Config, threads int) error {
	shape := k.View.Shape
	source, err := cmem.Alloc[int16](k.View.Voxels())
	if err != nil {
		return err
	}
	defer cmem.Free(source)
	row := make([]float32, shape[1]*shape[2])
	from := resample.Source{Data: labels.Data, DType: labels.DType, View: k.View}
	for i := range shape[0] {
		kernel.Load(row, from.Plane(i), kernel.Identity)
		for j, v := range row {
			at := i*len(row) + j
			source[at] = int16(v)
			if v == 0 && mask[at] == 0 {
				source[at] = -1 // as crop_to_nonzero marks what lies outside the nonzero mask
			}
		}
	}
	n := k.Shape[0] * k.Shape[1] * k.Shape[2]
	resampled, err := cmem.Alloc[int16](n)
	if err != nil {
		return err
	}
	defer cmem.Free(resampled)
	if err := c.Seg.Seg(resampled, k.Shape, source, shape, k.From, k.To, threads); err != nil {
		return err
	}
	return parallel.For(len(c.Previous), threads, func(_, i int) error {
		channel, value := dst[i*n:(i+1)*n], int16(c.Previous[i])
		for j, v := range resampled {
			channel[j] = 0
			if v == value {
				channel[j] = 1
			}
		}
		return nil
	})
}
