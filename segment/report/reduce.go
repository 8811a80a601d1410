package report

import (
	"bytes"
	"math"
	"slices"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/component"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// maxVoxels bounds the image in a page: about 8 MB of text for a CT.
const maxVoxels = 12 << 20

// reduced is an image and its organs as a page has them: blocks of voxels became one, values
// one of 256.
type reduced struct {
	geometry volume.Geometry
	factor   [3]int // voxels of the image along x, y, z in one

	values [256]float64 // that the codes stand for, ascending
	lo, hi float64      // what is shown black and white at first
	image  []uint8      // codes; z y x; C memory
	organs []uint16     // 1 + the organ's place in the list; 0: none; C memory
}

func (r *reduced) free() {
	cmem.Free(r.image)
	cmem.Free(r.organs)
}

// reduce makes blocks of voxels, of the finest axis first, until there are no more than
// most. A block of the image, its first channel, is the mean; of the labels the organ that
// has most of it, if organs have half of it. The caller calls free. Errors: Memory.
func reduce(image, labels *volume.Volume, names []Label, ct bool, most, threads int) (*reduced, error) {
	r := &reduced{geometry: image.Geometry, factor: [3]int{1, 1, 1}}
	g := &r.geometry
	for g.Voxels() > most {
		finest := 0
		for i := range 3 {
			if g.Size[i] > 1 && (g.Size[finest] == 1 || g.Spacing[i] < g.Spacing[finest]) {
				finest = i
			}
		}
		r.factor[finest]++
		n := r.factor[finest]
		g.Size[finest], g.Spacing[finest] = (image.Size[finest]+n-1)/n, image.Spacing[finest]*float64(n)
	}
	for row := range 3 { // the first block's centre
		for i, n := range r.factor {
			g.Origin[row] += image.Direction[3*row+i] * image.Spacing[i] * float64(n-1) / 2
		}
	}
	voxels := valuesOf(image)
	code := r.hounsfield()
	if !ct {
		code = r.scale(voxels, image.Voxels())
	}
	var err error
	if r.image, err = cmem.Alloc[uint8](g.Voxels()); err != nil {
		return nil, err
	}
	if r.organs, err = cmem.AllocZero[uint16](g.Voxels()); err != nil {
		r.free()
		return nil, err
	}
	organ := make([]uint16, 1<<16)
	for i, l := range names {
		organ[l.Value] = uint16(i + 1)
	}
	_ = parallel.For(g.Size[2], threads, func(_, z int) error {
		sums := make([]float32, g.Size[0])
		for y := range g.Size[1] {
			clear(sums)
			rows := r.rows(image, z, y)
			for _, row := range rows {
				voxels.addBlocks(sums, row, image.Size[0], r.factor[0])
			}
			to := r.image[(z*g.Size[1]+y)*g.Size[0]:]
			for x, sum := range sums {
				n := len(rows) * (min((x+1)*r.factor[0], image.Size[0]) - x*r.factor[0])
				to[x] = code(sum / float32(n))
			}
		}
		return nil
	})
	if labels.DType == volume.Uint8 {
		vote(r, labels, labels.Data, organ, threads)
	} else {
		vote(r, labels, volume.As[uint16](labels), organ, threads)
	}
	return r, nil
}

// rows returns where the rows of a row of blocks begin.
func (r *reduced) rows(image *volume.Volume, z, y int) (starts []int) {
	for k := z * r.factor[2]; k < min((z+1)*r.factor[2], image.Size[2]); k++ {
		for j := y * r.factor[1]; j < min((y+1)*r.factor[1], image.Size[1]); j++ {
			starts = append(starts, (k*image.Size[1]+j)*image.Size[0])
		}
	}
	return starts
}

// addBlocks adds each block of a row of n values to its sum.
func (v typed[T]) addBlocks(sums []float32, from, n, factor int) {
	row := v[from:][:n]
	if factor == 2 && n%2 == 0 { // most CTs
		for x := range sums {
			sums[x] += float32(row[2*x]) + float32(row[2*x+1])
		}
		return
	}
	for x := range sums {
		for _, one := range row[x*factor : min((x+1)*factor, n)] {
			sums[x] += float32(one)
		}
	}
}

// vote fills in the organs.
func vote[T component.Voxel](r *reduced, labels *volume.Volume, v []T, organ []uint16, threads int) {
	nx, size := labels.Size[0], labels.DType.Size()
	nothing := make([]byte, nx*size)
	_ = parallel.For(r.geometry.Size[2], threads, func(_, z int) error {
		type candidate struct {
			organ uint16
			n     int
		}
		var found []candidate
		for y := range r.geometry.Size[1] {
			rows := r.rows(labels, z, y)
			if !slices.ContainsFunc(rows, func(row int) bool { return !bytes.Equal(labels.Data[row*size:][:nx*size], nothing) }) {
				continue
			}
			to := r.organs[(z*r.geometry.Size[1]+y)*r.geometry.Size[0]:]
			for x := range r.geometry.Size[0] {
				x0, x1 := x*r.factor[0], min((x+1)*r.factor[0], nx)
				first, same := v[rows[0]+x0], true
				for _, row := range rows {
					for _, l := range v[row+x0 : row+x1] {
						same = same && l == first
					}
				}
				if to[x] = organ[first]; same {
					continue
				}
				found = found[:0]
				background := 0
				for _, row := range rows {
					for _, l := range v[row+x0 : row+x1] {
						o := organ[l]
						if o == 0 {
							background++
						} else if i := slices.IndexFunc(found, func(c candidate) bool { return c.organ == o }); i >= 0 {
							found[i].n++
						} else {
							found = append(found, candidate{o, 1})
						}
					}
				}
				if to[x] = 0; 2*background <= len(rows)*(x1-x0) && len(found) > 0 {
					to[x] = slices.MaxFunc(found, func(a, b candidate) int { return a.n - b.n }).organ
				}
			}
		}
		return nil
	})
}

// hounsfield makes the codes of a CT: fine steps of 4 HU where soft tissues are, coarser ones in
// lungs, bone and metal.
func (r *reduced) hounsfield() func(float32) uint8 {
	n := 0
	for _, part := range [][3]float64{{-1024, -200, 16}, {-200, 300, 4}, {300, 1000, 16}, {1000, 3072, 64}} {
		for v := part[0]; v < part[1]; v += part[2] {
			r.values[n] = v
			n++
		}
	}
	for ; n < len(r.values); n++ {
		r.values[n] = 3071
	}
	r.lo, r.hi = -160, 240
	return r.coder(1)
}

// scale makes the codes of other images: even steps over all but the last of the values, of
// which up to about a million are looked at.
func (r *reduced) scale(voxels values, n int) func(float32) uint8 {
	var found []float64
	step := max(1, n>>20) | 1 // odd, so that it does not fall on the same columns of every row
	for i := 0; i < n; i += step {
		found = append(found, voxels.at(i))
	}
	slices.Sort(found)
	at := func(part float64) float64 { return found[int(math.Round(part*float64(len(found)-1)))] }
	lo, hi := at(0.0005), at(0.9995)
	if hi <= lo {
		lo, hi = found[0], max(found[len(found)-1], math.Nextafter(found[0], math.Inf(1)))
	}
	for i := range r.values {
		r.values[i] = lo + (hi-lo)*float64(i)/255
	}
	if r.lo, r.hi = at(0.01), at(0.99); r.hi <= r.lo {
		r.lo, r.hi = lo, hi
	}
	return r.coder((hi - lo) / 4095)
}

// coder returns what finds the code with the nearest value, through a table of values step
// apart.
func (r *reduced) coder(step float64) func(float32) uint8 {
	lo := r.values[0]
	table := make([]uint8, 4096)
	for i, c := 0, 0; i < len(table); i++ {
		v := lo + float64(i)*step
		for c < 255 && r.values[c+1]-v <= v-r.values[c] {
			c++
		}
		table[i] = uint8(c)
	}
	less, scale := float32(lo), float32(1/step)
	return func(v float32) uint8 {
		return table[int(min(max((v-less)*scale+0.5, 0), 4095))&4095]
	}
}
