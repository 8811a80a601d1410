// Package report tells what a label map says of an image: how much there is of each organ,
// and, in an HTML page that needs no other file and no network, how it looks.
package report

import (
	"math"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/component"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// Label is a number in the label map, not 0, and its name.
type Label struct {
	Value int
	Name  string
}

// Organ is what there is of a label. Without a voxel, all but Label and Name is 0 or empty.
type Organ struct {
	Label      int       `json:"label"`
	Name       string    `json:"name"`
	Voxels     int       `json:"voxels"`
	Volume     float64   `json:"volume_ml"`
	Mean       []float64 `json:"mean"`       // of the image's values, for each channel
	SD         []float64 `json:"sd"`         // their standard deviation, of all voxels as the population
	Box        [6]int    `json:"box"`        // x0, y0, z0, x1, y1, z1: voxels, half-open
	Centre     [3]int    `json:"centre"`     // x, y, z of the voxel of its largest part that is nearest to that part's centre of mass
	Border     []string  `json:"border"`     // sides of the image that it reaches: right, left, anterior ...
	Components int       `json:"components"` // parts that do not touch by faces, edges or corners
	Largest    float64   `json:"largest"`    // fraction of the voxels that is in the largest part
}

// slice is what one slice of the image adds to an organ.
type slice struct {
	voxels     int
	box        [6]int
	largest    int        // voxels of its largest part
	sum        [3]float64 // of their coordinates
	deviations []float64  // for each channel: sum and sum of squares of values less the organ's first
	centre     [3]int     // of them the nearest to their centre of mass, and its squared distance in mm
	distance   float64
}

// Measure measures the organs that names lists, in its order, at the image's full
// resolution. labels is one channel of uint8 or uint16, of the image's size. Two passes over the
// labels find the organs' runs along x (about 22 bytes of memory each); of the image only their
// voxels are read. Results do not depend on the number of threads. Errors: Memory.
func Measure(image, labels *volume.Volume, names []Label, threads int) ([]Organ, error) {
	nx, ny, nz := image.Size[0], image.Size[1], image.Size[2]
	class := make([]uint16, 1<<16)
	for i, l := range names {
		class[l.Value] = uint16(i + 1)
	}
	runs, err := find(labels, class, threads)
	if err != nil {
		return nil, err
	}
	defer runs.Free()
	runs.Connect(threads)
	sizes, err := runs.Sizes()
	if err != nil {
		return nil, err
	}
	defer cmem.Free(sizes)

	organs := make([]Organ, len(names))
	first := make([]int, len(names)) // voxel, whose values are taken off the others': sums stay small
	largest := make([]int64, len(names))
	for row := range ny * nz {
		for i := runs.First[row]; i < runs.First[row+1]; i++ {
			o := runs.Class[i] - 1
			if organs[o].Components == 0 {
				first[o] = row*nx + int(runs.From[i])
			}
			if sizes[i] > 0 {
				organs[o].Components++
				largest[o] = max(largest[o], sizes[i])
			}
		}
	}
	for i := range sizes { // of each run's part
		sizes[i] = sizes[runs.Root(int32(i))]
	}
	voxels := valuesOf(image)
	slices := make([][]slice, nz)
	each := func(z int, body func(s *slice, o, y, from, to int, largest bool)) {
		for y := range ny {
			for i := runs.First[z*ny+y]; i < runs.First[z*ny+y+1]; i++ {
				o := int(runs.Class[i] - 1)
				body(&slices[z][o], o, y, int(runs.From[i]), int(runs.To[i]), sizes[i] == largest[o])
			}
		}
	}
	_ = parallel.For(nz, threads, func(_, z int) error {
		slices[z] = make([]slice, len(names))
		each(z, func(s *slice, o, y, from, to int, largest bool) {
			box := [6]int{from, y, z, to, y + 1, z + 1}
			if s.voxels == 0 {
				s.box, s.deviations, s.distance = box, make([]float64, 2*image.Channels), math.Inf(1)
			}
			s.box = union(s.box, box)
			n := to - from
			s.voxels += n
			if largest {
				s.largest += n
				s.sum[0] += float64(n) * float64(from+to-1) / 2
				s.sum[1] += float64(n) * float64(y)
				s.sum[2] += float64(n) * float64(z)
			}
			for c := range image.Channels {
				shift := c * nx * ny * nz
				sum, squares := voxels.sums(shift+(z*ny+y)*nx+from, n, voxels.at(shift+first[o]))
				s.deviations[2*c] += sum
				s.deviations[2*c+1] += squares
			}
		})
		return nil
	})
	totals := make([]slice, len(names))
	for o := range organs {
		total := &totals[o]
		total.deviations = make([]float64, 2*image.Channels)
		for z := range slices {
			s := &slices[z][o]
			if s.voxels == 0 {
				continue
			}
			if total.voxels == 0 {
				total.box = s.box
			}
			total.box = union(total.box, s.box)
			total.voxels += s.voxels
			total.largest += s.largest
			for i := range s.sum {
				total.sum[i] += s.sum[i]
			}
			for i := range s.deviations {
				total.deviations[i] += s.deviations[i]
			}
		}
	}
	_ = parallel.For(nz, threads, func(_, z int) error {
		each(z, func(s *slice, o, y, from, to int, largest bool) {
			if !largest {
				return
			}
			t, n := &totals[o], float64(totals[o].largest)
			x := min(max(int(math.Round(t.sum[0]/n)), from), to-1)
			d := 0.0
			for i, at := range [3]int{x, y, z} {
				d += math.Pow((float64(at)-t.sum[i]/n)*image.Spacing[i], 2)
			}
			if d < s.distance {
				s.centre, s.distance = [3]int{x, y, z}, d
			}
		})
		return nil
	})
	for o := range organs {
		organ, t := &organs[o], &totals[o]
		*organ = Organ{Label: names[o].Value, Name: names[o].Name, Voxels: t.voxels, Box: t.box, Components: organ.Components,
			Mean: []float64{}, SD: []float64{}, Border: []string{}}
		if t.voxels == 0 {
			continue
		}
		n := float64(t.voxels)
		organ.Volume = n * image.Spacing[0] * image.Spacing[1] * image.Spacing[2] / 1000
		organ.Largest = float64(largest[o]) / n
		organ.Border = border(&image.Geometry, t.box)
		for c := range image.Channels {
			mean := t.deviations[2*c] / n
			organ.Mean = append(organ.Mean, mean+voxels.at(c*nx*ny*nz+first[o]))
			organ.SD = append(organ.SD, math.Sqrt(max(0, t.deviations[2*c+1]/n-mean*mean)))
		}
		nearest := math.Inf(1)
		for z := range slices {
			if s := &slices[z][o]; s.voxels > 0 && s.distance < nearest {
				organ.Centre, nearest = s.centre, s.distance
			}
		}
	}
	return organs, nil
}

// find finds the runs of labels.
func find(labels *volume.Volume, class []uint16, threads int) (*component.Runs, error) {
	nx, ny, nz := labels.Size[0], labels.Size[1], labels.Size[2]
	if labels.DType == volume.Uint8 {
		v := labels.Data
		return component.Find(ny, nz, threads, func(z, y int) []uint8 { return v[(z*ny+y)*nx:][:nx] }, class)
	}
	v := volume.As[uint16](labels)
	return component.Find(ny, nz, threads, func(z, y int) []uint16 { return v[(z*ny+y)*nx:][:nx] }, class)
}

func union(a, b [6]int) [6]int {
	for i := range 3 {
		a[i], a[3+i] = min(a[i], b[i]), max(a[3+i], b[3+i])
	}
	return a
}

var sides = map[byte]string{'R': "right", 'L': "left", 'A': "anterior", 'P': "posterior", 'I': "inferior", 'S': "superior"}

// border names the sides of the image that a box reaches, those of axes of one voxel, as a 2-D
// image has, left out. An oblique image's sides are named by the nearest axes.
func border(g *volume.Geometry, box [6]int) []string {
	found := []string{}
	opposite := map[byte]byte{'R': 'L', 'L': 'R', 'A': 'P', 'P': 'A', 'I': 'S', 'S': 'I'}
	for i, letter := range []byte(g.Orientation()) { // towards which voxel numbers grow
		if g.Size[i] == 1 {
			continue
		}
		if box[i] == 0 {
			found = append(found, sides[opposite[letter]])
		}
		if box[3+i] == g.Size[i] {
			found = append(found, sides[letter])
		}
	}
	return found
}

// values reads the voxels of an image, whatever their type.
type values interface {
	at(i int) float64
	sums(from, n int, less float64) (sum, squares float64) // of n values from a voxel on, each less a number
	addBlocks(sums []float32, from, n, factor int)
}

func valuesOf(v *volume.Volume) values {
	switch v.DType {
	case volume.Uint8:
		return typed[uint8](volume.As[uint8](v))
	case volume.Int16:
		return typed[int16](volume.As[int16](v))
	case volume.Uint16:
		return typed[uint16](volume.As[uint16](v))
	case volume.Int32:
		return typed[int32](volume.As[int32](v))
	case volume.Float32:
		return typed[float32](volume.As[float32](v))
	}
	return typed[float64](volume.As[float64](v))
}

type typed[T uint8 | int16 | uint16 | int32 | float32 | float64] []T

func (v typed[T]) at(i int) float64 { return float64(v[i]) }

func (v typed[T]) sums(from, n int, less float64) (sum, squares float64) {
	for _, one := range v[from:][:n] {
		d := float64(one) - less
		sum += d
		squares += d * d
	}
	return sum, squares
}
