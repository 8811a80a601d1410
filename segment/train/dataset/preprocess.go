package dataset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/filelock"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/volume"
)

// Options is what Preprocess works on and with.
type Options struct {
	Cases         []nnunet.RawCase
	Plans         *nnunet.Plans
	Dataset       *nnunet.Dataset
	Fingerprint   []byte // text of dataset_fingerprint.json, or nil
	Configuration string // name in the plans
	Threads       int    // cases at a time

	// Progress is nil or told of each case when it is there; kept says that it was there
	// before.
	Progress func(name string, kept bool, done, total int)
}

// Preprocess fills the cache in a folder, which is made where it does not exist. Cases
// that are there, made in the same way of the same files (name, size and time of change;
// wherever they lie now) and whole, are kept; so an interrupted call goes on where it was. Errors name the case's
// file: those of OpenLabelled and preprocess.OpenLabelled.
func Preprocess(ctx context.Context, folder string, o Options) (*Cache, error) {
	c, err := o.Plans.Configuration(o.Configuration)
	if err != nil {
		return nil, err
	}
	if c.PreviousStage != "" {
		return nil, fault.New(fault.Unsupported, "configuration %s is the second stage of a cascade: training it is not supported", c.Name)
	}
	if n := len(o.Dataset.Channels); n != len(c.Normalization) {
		return nil, fault.New(fault.Model, "%s names %d channels, the plans' configuration %s normalises %d", o.Dataset.File, n, c.Name, len(c.Normalization))
	}
	if len(o.Cases) == 0 {
		return nil, fault.New(fault.Model, "there is no case to preprocess")
	}
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, fault.File(folder, err)
	}
	m := maker{folder: folder, dataset: o.Dataset, config: preprocess.Of(o.Plans, c), classes: classes(o.Dataset)}
	m.digest = m.fingerprint()
	d := description{Format: cacheFormat, Configuration: c.Name, Digest: m.digest, Classes: m.classes, Spacing: c.Spacing}
	for _, k := range o.Cases {
		path, err := filepath.Abs(k.Label)
		if err != nil {
			return nil, fault.File(k.Label, err)
		}
		d.Cases, d.Labels = append(d.Cases, k.Name), append(d.Labels, path)
	}
	held, err := filelock.Lock(filepath.Join(folder, "lock"), "another process preprocesses here: wait for it")
	if err != nil {
		return nil, err
	}
	defer held.Close()
	// What is there of another preprocessing must not pass for this one's.
	index := filepath.Join(folder, "cache.json")
	if there, _ := os.ReadFile(index); !bytes.Equal(there, marshal(d)) {
		if err := os.Remove(index); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fault.File(index, err)
		}
	}
	var mu sync.Mutex
	done := 0
	err = parallel.For(len(o.Cases), max(1, o.Threads), func(_, i int) error {
		if ctx.Err() != nil {
			return fault.New(fault.Cancelled, "preprocessing was cancelled; what is finished stays")
		}
		kept, err := m.make(ctx, o.Cases[i])
		if err != nil {
			return fault.New(fault.KindOf(err), "case %s: %w", o.Cases[i].Name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if done++; o.Progress != nil {
			o.Progress(o.Cases[i].Name, kept, done, len(o.Cases))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var b imageio.Batch
	defer b.Discard()
	for _, f := range []struct {
		name string
		text []byte
	}{{"plans.json", o.Plans.Raw}, {"dataset.json", o.Dataset.Raw}, {"dataset_fingerprint.json", o.Fingerprint}, {"cache.json", marshal(d)}} {
		if f.text == nil {
			continue
		}
		if err := b.AddText(filepath.Join(folder, f.name), f.text); err != nil {
			return nil, err
		}
	}
	if err := b.Commit(); err != nil {
		return nil, err
	}
	return Open(folder)
}

// maker makes the cases of one cache.
type maker struct {
	folder  string
	dataset *nnunet.Dataset
	config  preprocess.Config
	classes [][]int
	digest  string
}

// fingerprint digests all that decides how a case comes out.
func (m *maker) fingerprint() string {
	type channel struct {
		Scheme preprocess.Scheme
		Mask   bool
		CT     [4]float64 // of CT only: others may lack them
	}
	all := struct {
		Format   int
		Config   preprocess.Config
		Channels []channel
		Labels   []int
		Classes  [][]int
		Ignore   int
	}{cacheFormat, m.config, nil, m.dataset.Values(), m.classes, m.dataset.IgnoreLabel}
	for _, c := range m.config.Channels {
		k := channel{Scheme: c.Scheme, Mask: c.Mask}
		if c.Scheme == preprocess.CT {
			k.CT = [4]float64{c.Lower, c.Upper, c.Mean, c.StdDev}
		}
		all.Channels = append(all.Channels, k)
	}
	all.Config.Channels = nil
	text, err := json.Marshal(all)
	if err != nil {
		panic(err) // numbers of plans are finite
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// make makes one case unless it is there; kept says that it is.
func (m *maker) make(ctx context.Context, c nnunet.RawCase) (kept bool, err error) {
	var sources []sourceFile
	files := append(slices.Clone(c.Images), c.Label)
	if c.Weight != "" {
		files = append(files, c.Weight)
	}
	for _, path := range files {
		if path, err = filepath.Abs(path); err != nil {
			return false, fault.File(path, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			return false, fault.File(path, err)
		}
		sources = append(sources, sourceFile{path, info.Size(), info.ModTime().UnixNano()})
	}
	if there, err := m.there(c.Name, sources); there || err != nil {
		return true, err
	}
	l, err := OpenLabelled(ctx, m.dataset, c)
	if err != nil {
		return false, err
	}
	defer l.Free()
	image := l.Image
	k, data, seg, err := m.prepare(ctx, l, c)
	if err != nil {
		return false, err
	}
	defer k.Close()
	defer cmem.Free(data)
	defer cmem.Free(seg)
	p := Properties{Name: c.Name, Digest: m.digest, Sources: sources, Size: image.Size, Spacing: image.Spacing, Origin: image.Origin,
		Direction: image.Direction, Channels: k.Channels, Shape: k.Shape, Cropped: k.View.Shape, GridSpacing: k.To}
	full, _, _, err := m.config.Grid(&image.Geometry)
	if err != nil {
		return false, err
	}
	p.Transposed, p.CropFrom = full.Shape, cropFrom(full, k.View)
	doubt, err := doubts(ctx, c, &image.Geometry, k)
	if err != nil {
		return false, err
	}
	defer cmem.Free(doubt)
	return false, m.write(&p, data, seg, locate(seg, k.Shape, m.classes), doubt)
}

// doubts reads a case's weights and brings them to its grid, each voxel's from the nearest:
// 1 - weight, in C memory that the caller frees; nil without. What is outside of a case has no
// doubt, as zeros are what samples are filled up with there. Errors: those of imageio.Read and,
// of kind Format, another grid or type.
func doubts(ctx context.Context, c nnunet.RawCase, g *volume.Geometry, k *preprocess.Case) (_ []float32, err error) {
	if c.Weight == "" {
		return nil, nil
	}
	w, err := imageio.Read(ctx, c.Weight)
	if err != nil {
		return nil, err
	}
	defer w.Free()
	if w.Size != g.Size || w.Channels != 1 || w.DType != volume.Uint8 {
		return nil, fault.New(fault.Format, "%s: %v voxels (x, y, z) of %d channels and type %s, expected %v of uint8, 255 being the weight 1",
			c.Weight, w.Size, w.Channels, w.DType, g.Size)
	}
	doubt, err := cmem.Alloc[float32](k.Shape[0] * k.Shape[1] * k.Shape[2])
	if err != nil {
		return nil, err
	}
	near := func(axis, i int) int {
		return (2*i + 1) * k.View.Shape[axis] / (2 * k.Shape[axis]) * k.View.Stride[axis]
	}
	at := 0
	for z := range k.Shape[0] {
		for y := range k.Shape[1] {
			row := k.View.Offset + near(0, z) + near(1, y)
			for x := range k.Shape[2] {
				doubt[at] = 1 - float32(w.Data[row+near(2, x)])/255
				at++
			}
		}
	}
	return doubt, nil
}

// prepare preprocesses a case: channels x Shape and Shape, in C memory that the caller
// frees. c names the volumes in messages.
func (m *maker) prepare(ctx context.Context, l *Labelled, c nnunet.RawCase) (_ *preprocess.Case, data []float32, seg []int16, err error) {
	k, seg, err := preprocess.OpenLabelled(ctx, l.Image.Volume, l.Label.Volume, m.config, 1)
	if err != nil {
		return nil, nil, nil, fault.New(fault.KindOf(err), "%s: %w", c.Images[0], err)
	}
	voxels, plane := k.Shape[0]*k.Shape[1]*k.Shape[2], k.Shape[1]*k.Shape[2]
	if data, err = cmem.Alloc[float32](k.Channels * voxels); err == nil {
		err = k.Next(ctx, k.Shape[0], func(channel, i int) []float32 {
			at := channel*voxels + i*plane
			return data[at : at+plane]
		})
	}
	if err != nil {
		k.Close()
		cmem.Free(data)
		cmem.Free(seg)
		return nil, nil, nil, err
	}
	return k, data, seg, nil
}

// Prepare preprocesses a case in memory, as Preprocess does: an image and labels on its
// grid, which are only read. Free gives its memory back. Errors as of Preprocess, but
// Model for what would be Format in a file.
func Prepare(ctx context.Context, name string, image, labels *volume.Volume, p *nnunet.Plans, d *nnunet.Dataset, configuration string) (*Case, error) {
	c, err := p.Configuration(configuration)
	if err != nil {
		return nil, err
	}
	m := maker{dataset: d, config: preprocess.Of(p, c), classes: classes(d)}
	l := &Labelled{Image: &imageio.Image{Volume: image, Dims: 3}, Label: &imageio.Image{Volume: labels, Dims: 3}}
	switch image.DType {
	case volume.Float32:
		l.Image.NotFinite = notFinite(volume.As[float32](image))
	case volume.Float64:
		l.Image.NotFinite = notFinite(volume.As[float64](image))
	}
	of := nnunet.RawCase{Name: name, Images: []string{name + " (image)"}, Label: name + " (labels)"}
	if err := l.verify(d, of); fault.KindOf(err) == fault.Format {
		return nil, fault.New(fault.Model, "%w", err)
	} else if err != nil {
		return nil, err
	}
	k, data, seg, err := m.prepare(ctx, l, of)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	return &Case{Properties: Properties{Name: name, Channels: k.Channels, Shape: k.Shape}, Image: data, Labels: seg, Locations: locate(seg, k.Shape, m.classes)}, nil
}

// Free frees a case that Prepare made.
func (k *Case) Free() {
	cmem.Free(k.Image)
	cmem.Free(k.Labels)
	k.Image, k.Labels = nil, nil
}

func notFinite[T float32 | float64](data []T) (n int) {
	for _, v := range data {
		if v-v != 0 {
			n++
		}
	}
	return n
}

// there says whether a case made of these files is in the cache, whole, and notes where they
// lie now.
func (m *maker) there(name string, sources []sourceFile) (bool, error) {
	k, err := openCase(m.folder, name, m.digest)
	if err != nil {
		return false, nil
	}
	defer k.unmap()
	if k.Verify() != nil || len(k.Sources) != len(sources) {
		return false, nil
	}
	for i, s := range sources {
		had := k.Sources[i]
		if filepath.Base(had.Path) != filepath.Base(s.Path) || had.Size != s.Size || had.Modified != s.Modified {
			return false, nil
		}
	}
	if slices.Equal(k.Sources, sources) {
		return true, nil
	}
	k.Sources = sources
	return true, imageio.WriteFileAtomic(filepath.Join(m.folder, name+".json"), func(w io.Writer) error {
		_, err := w.Write(marshal(&k.Properties))
		return err
	})
}

// cropFrom returns the first voxel of a crop of full, axis by axis.
func cropFrom(full, crop volume.View) (from [3]int) {
	abs := func(v int) int { return max(v, -v) }
	a, b := full.Offset, crop.Offset
	axes := []int{0, 1, 2}
	slices.SortFunc(axes, func(i, j int) int { return abs(full.Stride[j]) - abs(full.Stride[i]) })
	for _, i := range axes {
		if s := abs(full.Stride[i]); full.Shape[i] > 1 {
			from[i] = abs(b/s - a/s)
			a, b = a%s, b%s
		}
	}
	return from
}

// write writes the files of a case.
func (m *maker) write(p *Properties, image []float32, labels []int16, locations [][]int32, doubt []float32) error {
	var all []int32
	for _, l := range locations {
		all = append(all, l...)
		p.ClassVoxels = append(p.ClassVoxels, len(l)/3)
	}
	z, y, x := p.Shape[0], p.Shape[1], p.Shape[2]
	var b imageio.Batch
	defer b.Discard()
	add := func(name string, header, data []byte, crc *uint32) error {
		*crc = crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, data)
		return b.AddText(filepath.Join(m.folder, p.Name+name), header, data)
	}
	if err := add(".image.npy", npy.Header("<f4", p.Channels, z, y, x), cmem.Bytes(image), &p.ImageCRC); err != nil {
		return err
	}
	if err := add(".labels.npy", npy.Header("<i2", z, y, x), cmem.Bytes(labels), &p.LabelsCRC); err != nil {
		return err
	}
	if err := add(".locations.npy", npy.Header("<i4", len(all)/3, 3), cmem.Bytes(all), &p.LocationsCRC); err != nil {
		return err
	}
	if doubt != nil {
		p.DoubtCRC = new(uint32)
		if err := add(doubtFile, npy.Header("<f4", z, y, x), cmem.Bytes(doubt), p.DoubtCRC); err != nil {
			return err
		}
	}
	var none uint32
	if err := add(".json", nil, marshal(p), &none); err != nil {
		return err
	}
	return b.Commit()
}
