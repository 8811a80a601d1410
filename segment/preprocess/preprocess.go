// Package preprocess takes an image to the network's grid as nnU-Net's
// DefaultPreprocessor does: orient, transpose, crop to nonzero, normalise, resample.
package preprocess

import (
	"context"
	"slices"

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

// Case is an image on its way to the network's grid, plane by plane, as often as wanted,
// and the way back.
type Case struct {
	Channels int         // the image's, then those of Config.Previous
	Shape    [3]int      // the network's grid, slowest axis first
	View     volume.View // the image's voxels that the grid covers
	From     [3]float64  // mm, spacing of the view's axes
	To       [3]float64  // mm, spacing of the grid

	image, labels *volume.Volume // labels: of a cascade's first stage, or nil
	config        Config
	threads       int

	rows     [2]int // of planes (the middle axis), from before to: what Next writes
	next     int    // the next plane
	streams  []*resample.Stream
	own      [][]float32 // of channels that were normalised beforehand
	previous []int16     // labels of a cascade's first stage on the grid, or nil
}

// Close frees the case.
func (k *Case) Close() {
	for _, s := range k.streams {
		s.Close()
	}
	for _, o := range k.own {
		cmem.Free(o)
	}
	cmem.Free(k.previous)
	k.streams, k.own, k.previous = nil, nil, nil
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

// Open finds the grid of an image; previous is the label map of a cascade's first stage on
// the image's grid, or nil. Both must stay as they are until Close, which the caller calls.
func Open(image, previous *volume.Volume, c Config, threads int) (*Case, error) {
	if image.Channels != len(c.Channels) {
		return nil, fault.New(fault.Model, "the image has %d channels, the model expects %d", image.Channels, len(c.Channels))
	}
	k := &Case{Channels: image.Channels + len(c.Previous), image: image, labels: previous, config: c, threads: threads}
	var err error
	if k.View, k.From, k.To, err = c.Grid(&image.Geometry); err != nil {
		return nil, err
	}
	k.View = CropToNonzero(image, k.View, threads)
	if k.Shape, err = c.Image.Shape(k.View.Shape, k.From, k.To); err != nil {
		return nil, err
	}
	return k, nil
}

// Begin makes the first plane the next one, and the rows (of the middle axis) from to
// before to what Next writes of each. The first time it prepares the channels: voxels that
// are NaN or infinite are refused, for they would spread through resampling and
// normalisation over the whole image. After an error only Close is left.
func (k *Case) Begin(ctx context.Context, from, to int) error {
	if k.streams == nil {
		if err := k.prepare(ctx); err != nil {
			return err
		}
	}
	k.rows, k.next = [2]int{from, to}, 0
	for _, s := range k.streams {
		s.Rows(from, to)
	}
	return nil
}

// Memory returns the bytes that a case takes at most once it has begun with so many rows,
// where a grid of shape out lies on a view of shape in; from and to are their spacings in mm.
func (c *Config) Memory(in, out [3]int, from, to [3]float64, rows, threads int) (int64, error) {
	one, err := c.Image.StreamMemory(in, out, from, to, rows, threads)
	if err != nil {
		return 0, err
	}
	voxels := int64(in[0]) * int64(in[1]) * int64(in[2])
	memory := one * int64(len(c.Channels))
	if c.masked() {
		memory += voxels
	}
	for _, n := range c.Channels {
		if n.own() {
			memory += 4 * voxels
		}
	}
	if len(c.Previous) > 0 {
		seg, err := c.Seg.SegMemory(in, out, from, to, threads)
		if err != nil {
			return 0, err
		}
		memory += 2*voxels + 2*int64(out[0])*int64(out[1])*int64(out[2]) + seg
	}
	return memory, nil
}

// masked reports whether the nonzero mask is needed.
func (c *Config) masked() bool {
	return len(c.Previous) > 0 || slices.ContainsFunc(c.Channels, Normalization.own)
}

// prepare prepares every channel.
func (k *Case) prepare(ctx context.Context) (err error) {
	var mask []byte
	defer func() { cmem.Free(mask) }()
	if k.config.masked() {
		if mask, err = nonzeroMask(k.image, k.View, k.threads); err != nil {
			return err
		}
	}
	if err = k.open(ctx, mask); err == nil && len(k.config.Previous) > 0 {
		k.previous, err = k.toGrid(k.labels, mask)
	}
	return err
}

// OpenLabelled is Open and Begin with all rows for training: labels, a label map on the
// image's grid with whole numbers that fit int16, comes back on the network's grid,
// resampled by c.Seg, of k.Shape and in C memory which the caller frees. As in nnU-Net,
// background outside the image's nonzero mask becomes -1, and what is labelled counts as
// inside the mask.
func OpenLabelled(ctx context.Context, image, labels *volume.Volume, c Config, threads int) (_ *Case, grid []int16, err error) {
	k, err := Open(image, nil, c, threads)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			k.Close()
		}
	}()
	mask, err := nonzeroMask(image, k.View, threads)
	if err != nil {
		return nil, nil, err
	}
	defer cmem.Free(mask)
	row := make([]float32, k.View.Shape[1]*k.View.Shape[2])
	from := resample.Source{Data: labels.Data, DType: labels.DType, View: k.View}
	for i := range k.View.Shape[0] {
		kernel.Load(row, from.Plane(i), kernel.Identity)
		for j, v := range row {
			if v != 0 {
				mask[i*len(row)+j] = 1
			}
		}
	}
	if err = k.open(ctx, mask); err != nil {
		return nil, nil, err
	}
	if err = k.Begin(ctx, 0, k.Shape[1]); err != nil {
		return nil, nil, err
	}
	grid, err = k.toGrid(labels, mask)
	return k, grid, err
}

// open makes the stream of every channel of the image.
func (k *Case) open(ctx context.Context, mask []byte) error {
	image := k.image
	bytes := len(image.Data) / image.Channels
	for channel, scheme := range k.config.Channels {
		source := resample.Source{Data: image.Data[channel*bytes : (channel+1)*bytes], DType: image.DType, View: k.View}
		lo, hi, err := scheme.prepare(ctx, &source, k.Shape != k.View.Shape, k.threads)
		if err != nil {
			return err
		}
		if scheme.own() {
			var own []float32
			if source, own, err = maskedZScore(source, mask, k.threads); err != nil {
				return err
			}
			k.own = append(k.own, own)
			lo, hi = resample.Extremes(own)
		}
		stream, err := k.config.Image.Stream(k.Shape, source, k.From, k.To, lo, hi, k.threads)
		if err != nil {
			return err
		}
		k.streams = append(k.streams, stream)
	}
	return nil
}

// toGrid takes a label map to the network's grid, in C memory that the caller frees;
// background outside the mask becomes -1.
func (k *Case) toGrid(labels *volume.Volume, mask []byte) ([]int16, error) {
	shape := k.View.Shape
	source, err := cmem.Alloc[int16](k.View.Voxels())
	if err != nil {
		return nil, err
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
	out, err := cmem.Alloc[int16](k.Shape[0] * k.Shape[1] * k.Shape[2])
	if err != nil {
		return nil, err
	}
	if err := k.config.Seg.Seg(out, k.Shape, source, shape, k.From, k.To, k.threads); err != nil {
		cmem.Free(out)
		return nil, err
	}
	return out, nil
}

// Next writes the next n planes of every channel, of each the rows that Begin named: plane
// counts from 0 to n-1. The previous stage's labels each become a channel of zeros and ones
// (nnU-Net's convert_labelmap_to_one_hot). Errors: Cancelled, Memory.
func (k *Case) Next(ctx context.Context, n int, dst func(channel, plane int) []float32) error {
	planes := make([][]float32, n)
	for channel, stream := range k.streams {
		for i := range planes {
			planes[i] = dst(channel, i)
		}
		if err := stream.Next(ctx, planes); err != nil {
			return err
		}
	}
	first, columns := k.next, k.Shape[2]
	k.next += n
	return parallel.For(len(k.config.Previous)*n, k.threads, func(_, i int) error {
		value, plane := int16(k.config.Previous[i/n]), i%n
		channel := dst(len(k.streams)+i/n, plane)
		at := (first + plane) * k.Shape[1]
		for j, v := range k.previous[(at+k.rows[0])*columns : (at+k.rows[1])*columns] {
			channel[j] = 0
			if v == value {
				channel[j] = 1
			}
		}
		return nil
	})
}
