// Package dataset keeps what a network is trained on: cases cropped, normalised and
// resampled once, in plain arrays on disk that are mapped into memory.
//
// A cache is a folder with plans.json, dataset.json, dataset_fingerprint.json, cache.json
// and for every case
//
//	CASE.json           shapes, geometry before, crop box, checksums
//	CASE.image.npy      float32, channels x z x y x x
//	CASE.labels.npy     int16, z x y x x; -1 where all is zero outside the image
//	CASE.locations.npy  int32, n x 3: voxels (z,y,x) of each class, drawn at random
//	CASE.doubt.npy      float32, z x y x x: 1 - the voxels' weights, where the case has such
//
// (axes in the plans' transposed order). CASE.json appears last, with the others: a case
// is there whole or not at all.
package dataset

import (
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/nnunet"
)

const (
	cacheFormat = 1
	doubtFile   = ".doubt.npy"
)

// description is cache.json.
type description struct {
	Format        int       `json:"format"`
	Configuration string    `json:"configuration"`
	Digest        string    `json:"digest"` // of all that decides how cases come out
	Cases         []string  `json:"cases"`
	Labels        []string  `json:"labels"` // file of each case's reference labels
	Classes       [][]int   `json:"classes"`
	Spacing       []float64 `json:"spacing"`
}

// Properties is CASE.json.
type Properties struct {
	Name    string       `json:"name"`
	Digest  string       `json:"digest"`
	Sources []sourceFile `json:"sources"`

	Size      [3]int     `json:"size"` // of the image file, x,y,z; so are the next three
	Spacing   [3]float64 `json:"spacing"`
	Origin    [3]float64 `json:"origin"`
	Direction [9]float64 `json:"direction"`

	Transposed   [3]int     `json:"shape_before_cropping"` // voxels, transposed z,y,x; so are the next ones
	CropFrom     [3]int     `json:"crop_from"`             // first voxel of the crop to nonzero
	Cropped      [3]int     `json:"shape_after_cropping_and_before_resampling"`
	Channels     int        `json:"channels"`
	Shape        [3]int     `json:"shape"` // of the arrays
	GridSpacing  [3]float64 `json:"grid_spacing"`
	ClassVoxels  []int      `json:"class_locations"` // rows of locations for each class
	ImageCRC     uint32     `json:"image_crc32c"`    // of the array files, CRC-32C
	LabelsCRC    uint32     `json:"labels_crc32c"`
	LocationsCRC uint32     `json:"locations_crc32c"`
	DoubtCRC     *uint32    `json:"doubt_crc32c,omitempty"`
}

// sourceFile recognises a file that a case was made of.
type sourceFile struct {
	Path     string `json:"path"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // ns since 1970
}

// Cache is an open cache. It may be used from many goroutines.
type Cache struct {
	Path          string
	Plans         *nnunet.Plans
	Dataset       *nnunet.Dataset
	Configuration *nnunet.Configuration
	Fingerprint   []byte // dataset_fingerprint.json, nil where there is none
	Cases         []string
	Classes       [][]int // labels of each entry of Case.Locations

	description description
	mu          sync.Mutex
	open        map[string]*Case
}

// Case is a case of a cache, its arrays mapped and read-only until Cache.Close.
type Case struct {
	Properties
	Image     []float32 // Channels x Shape
	Labels    []int16   // Shape
	Locations [][]int32 // of each class, z,y,x of one voxel after the other
	Doubt     []float32 // Shape: 1 - a voxel's weight in training; nil: all weights are 1

	mapped [][]byte
	unsure []unsure
	verify sync.Once
	damage error
}

// unsure is a mapped file whose checksum was not looked at yet.
type unsure struct {
	path string
	data []byte
	crc  uint32
}

// Open opens a cache made by Preprocess. Errors: NotFound, IO, Format, Unsupported
// (another version's), and those of the plans.
func Open(path string) (*Cache, error) {
	c := &Cache{Path: path, open: map[string]*Case{}}
	file := filepath.Join(path, "cache.json")
	text, err := nnunet.ReadJSON(file)
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			return nil, fault.New(fault.NotFound, "%s: not a cache of preprocessed cases (there is no complete cache.json): run flare preprocess", path)
		}
		return nil, err
	}
	if err := json.Unmarshal(text, &c.description); err != nil {
		return nil, fault.New(fault.Format, "%s: %v", file, err)
	}
	d := &c.description
	if d.Format != cacheFormat {
		return nil, fault.New(fault.Unsupported, "%s: a cache of format %d, this library reads format %d: preprocess again", file, d.Format, cacheFormat)
	}
	if len(d.Labels) != len(d.Cases) {
		return nil, fault.New(fault.Format, "%s: %d cases and %d label files", file, len(d.Cases), len(d.Labels))
	}
	c.Cases, c.Classes = d.Cases, d.Classes
	file = filepath.Join(path, "plans.json")
	if text, err = nnunet.ReadJSON(file); err != nil {
		return nil, err
	}
	if c.Plans, err = nnunet.ParsePlans(text, file); err != nil {
		return nil, err
	}
	if c.Configuration, err = c.Plans.Configuration(d.Configuration); err != nil {
		return nil, err
	}
	file = filepath.Join(path, "dataset.json")
	if text, err = nnunet.ReadJSON(file); err != nil {
		return nil, err
	}
	if c.Dataset, err = nnunet.ParseDataset(text, file); err != nil {
		return nil, err
	}
	if c.Fingerprint, err = nnunet.ReadJSON(filepath.Join(path, "dataset_fingerprint.json")); err != nil {
		c.Fingerprint = nil
	}
	return c, nil
}

// Digest identifies the preprocessing that made the cases.
func (c *Cache) Digest() string { return c.description.Digest }

// Reference returns the file of a case's labels, "" for a case that is not there.
func (c *Cache) Reference(name string) string {
	for i, n := range c.Cases {
		if n == name {
			return c.description.Labels[i]
		}
	}
	return ""
}

// Sourced returns nil where the files that these cases were made of, and the labels they are
// compared with, are where they were. Errors: NotFound of the first that is not, and as of Case.
func (c *Cache) Sourced(cases []string) error {
	for _, name := range cases {
		k, err := c.Case(name)
		if err != nil {
			return err
		}
		for _, s := range k.Sources {
			if _, err := os.Stat(s.Path); err != nil {
				err = fault.File(s.Path, err)
				return fault.New(fault.KindOf(err), "case %s of %s was made of %w", name, c.Path, err)
			}
		}
	}
	return nil
}

// Close unmaps all cases.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.open {
		k.unmap()
	}
	clear(c.open)
}

// Case returns a case; Verify, which reads all of it, is left to its user. Errors:
// NotFound, IO, Format (a truncated file, or one of another preprocessing).
func (c *Cache) Case(name string) (*Case, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.open[name]; k != nil {
		return k, nil
	}
	k, err := openCase(c.Path, name, c.description.Digest)
	if err != nil {
		return nil, err
	}
	if len(k.ClassVoxels) != len(c.Classes) {
		k.unmap()
		return nil, fault.New(fault.Format, "%s: case %s has locations of %d classes, expected %d", c.Path, name, len(k.ClassVoxels), len(c.Classes))
	}
	c.open[name] = k
	return k, nil
}

// Verify compares the arrays with their checksums, the first time that it is called, and
// returns what it found then: an error of kind Format, or nil. Any number of goroutines
// may call it.
func (k *Case) Verify() error {
	k.verify.Do(func() {
		for _, u := range k.unsure {
			if found := crc32.Checksum(u.data, castagnoli); found != u.crc && k.damage == nil {
				k.damage = fault.New(fault.Format, "%s: damaged (checksum %08x, expected %08x): preprocess again", u.path, found, u.crc)
			}
		}
	})
	return k.damage
}

// openCase maps the case of a cache folder.
func openCase(folder, name, digest string) (_ *Case, err error) {
	k := &Case{}
	file := filepath.Join(folder, name+".json")
	text, err := nnunet.ReadJSON(file)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &k.Properties); err != nil {
		return nil, fault.New(fault.Format, "%s: %v", file, err)
	}
	if k.Digest != digest || k.Name != name {
		return nil, fault.New(fault.Format, "%s: was preprocessed in another way than the cache says: preprocess again", file)
	}
	defer func() {
		if err != nil {
			k.unmap()
		}
	}()
	rows := 0
	for _, n := range k.ClassVoxels {
		if n < 0 || n > 1<<40 {
			return nil, fault.New(fault.Format, "%s: %d locations", file, n)
		}
		rows += n
	}
	voxels := 1
	for _, n := range append(k.Shape[:], k.Channels) {
		if n < 1 || n > 1<<31 || voxels > 1<<40/n {
			return nil, fault.New(fault.Format, "%s: an image of %d channels of %v voxels", file, k.Channels, k.Shape)
		}
		voxels *= n
	}
	z, y, x := k.Shape[0], k.Shape[1], k.Shape[2]
	image, err := k.mapFile(filepath.Join(folder, name+".image.npy"), npy.Header("<f4", k.Channels, z, y, x), 4*voxels, k.ImageCRC)
	if err != nil {
		return nil, err
	}
	labels, err := k.mapFile(filepath.Join(folder, name+".labels.npy"), npy.Header("<i2", z, y, x), 2*z*y*x, k.LabelsCRC)
	if err != nil {
		return nil, err
	}
	locations, err := k.mapFile(filepath.Join(folder, name+".locations.npy"), npy.Header("<i4", rows, 3), 12*rows, k.LocationsCRC)
	if err != nil {
		return nil, err
	}
	if k.DoubtCRC != nil {
		doubt, err := k.mapFile(filepath.Join(folder, name+doubtFile), npy.Header("<f4", z, y, x), 4*z*y*x, *k.DoubtCRC)
		if err != nil {
			return nil, err
		}
		k.Doubt = cmem.Cast[float32](doubt)
	}
	k.Image, k.Labels = cmem.Cast[float32](image), cmem.Cast[int16](labels)
	rest := cmem.Cast[int32](locations)
	for _, n := range k.ClassVoxels {
		k.Locations = append(k.Locations, rest[:3*n:3*n])
		rest = rest[3*n:]
	}
	return k, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// mapFile maps an array file, which must begin with header and hold size bytes more, and
// returns those; its checksum is left to Verify.
func (k *Case) mapFile(path string, header []byte, size int, crc uint32) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fault.File(path, err)
	}
	if info.Size() != int64(len(header)+size) {
		return nil, fault.New(fault.Format, "%s: has %d bytes, expected %d: preprocess again", path, info.Size(), len(header)+size)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, len(header)+size, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fault.New(fault.IO, "%s: mapping it into memory: %w", path, err)
	}
	k.mapped = append(k.mapped, data)
	k.unsure = append(k.unsure, unsure{path, data, crc})
	if string(data[:len(header)]) != string(header) {
		return nil, fault.New(fault.Format, "%s: begins as no such array does: preprocess again", path)
	}
	return data[len(header):], nil
}

func (k *Case) unmap() {
	for _, m := range k.mapped {
		_ = unix.Munmap(m)
	}
	k.mapped, k.unsure, k.Image, k.Labels, k.Locations, k.Doubt = nil, nil, nil, nil, nil, nil
}
