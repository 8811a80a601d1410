package postprocess

import (
	"math"
	"sync/atomic"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// runs are the runs of chosen voxels along x in a box, in the order of their
// rows, with a union-find forest over them: a run is connected to those of
// the rows before it that it touches (He, Chao, Suzuki: A run-based two-scan
// labeling algorithm, IEEE Trans. Image Process. 17(5), 2008; here in 3-D).
type runs struct {
	first    []int32 // of each row (z, y in the box) and one more: its first run
	from, to []int32 // voxels along x: from, below to
	parent   []int32 // an earlier run of the same component, or the run itself
}

func (r *runs) free() {
	cmem.Free(r.first)
	cmem.Free(r.from)
	cmem.Free(r.to)
	cmem.Free(r.parent)
}

// keepLargestComponent writes background to every chosen voxel outside the
// largest component of the chosen voxels, all of which lie in b.
func keepLargestComponent[T voxel](v []T, size [3]int, b box, chosen []bool, background T, threads int) error {
	ny, nz := int(b.hi[1]-b.lo[1]), int(b.hi[2]-b.lo[2])
	row := func(z, y int) []T {
		at := ((int(b.lo[2])+z)*size[1] + int(b.lo[1]) + y) * size[0]
		return v[at+int(b.lo[0]) : at+int(b.hi[0])]
	}
	r, err := findRuns(ny, nz, threads, row, chosen)
	if err != nil {
		return err
	}
	defer r.free()
	r.connect(ny, nz, threads)
	keep, err := r.largest()
	if err != nil {
		return err
	}
	defer cmem.Free(keep)
	return parallel.For(nz, threads, func(_, z int) error {
		for y := range ny {
			voxels := row(z, y)
			for i := r.first[z*ny+y]; i < r.first[z*ny+y+1]; i++ {
				if keep[i] == 0 {
					erased := voxels[r.from[i]:r.to[i]]
					for x := range erased {
						erased[x] = background
					}
				}
			}
		}
		return nil
	})
}

// findRuns counts the runs and then notes them, so that their memory is asked
// for once.
func findRuns[T voxel](ny, nz, threads int, row func(z, y int) []T, chosen []bool) (*runs, error) {
	r := &runs{}
	var err error
	if r.first, err = cmem.Alloc[int32](ny*nz + 1); err != nil {
		return nil, err
	}
	each := func(voxels []T, found func(from, to int)) {
		for x := 0; x < len(voxels); x++ {
			if !chosen[voxels[x]] {
				continue
			}
			start := x
			for x++; x < len(voxels) && chosen[voxels[x]]; x++ {
			}
			found(start, x)
		}
	}
	var total atomic.Int64
	parallel.For(nz, threads, func(_, z int) error { // returns nil always
		sum := int64(0)
		for y := range ny {
			n := int32(0)
			each(row(z, y), func(int, int) { n++ })
			r.first[z*ny+y+1] = n
			sum += int64(n)
		}
		total.Add(sum)
		return nil
	})
	n := int(total.Load())
	if n > math.MaxInt32 {
		r.free()
		return nil, fault.New(fault.Memory, "post-processing of %d runs of voxels is refused: more than 2^31", n)
	}
	r.first[0] = 0
	for i := range ny * nz {
		r.first[i+1] += r.first[i]
	}
	for _, s := range []*[]int32{&r.from, &r.to, &r.parent} {
		if *s, err = cmem.Alloc[int32](n); err != nil {
			r.free()
			return nil, err
		}
	}
	return r, parallel.For(nz, threads, func(_, z int) error {
		for y := range ny {
			i := r.first[z*ny+y]
			each(row(z, y), func(from, to int) {
				r.from[i], r.to[i], r.parent[i] = int32(from), int32(to), i
				i++
			})
		}
		return nil
	})
}

// connect unites the runs that touch: slabs of slices side by side, then
// across their borders.
func (r *runs) connect(ny, nz, threads int) {
	within := func(z int) {
		for y := 1; y < ny; y++ {
			r.touch(z*ny+y-1, z*ny+y)
		}
	}
	below := func(z int) { // slice z with slice z-1
		for y := range ny {
			for neighbour := max(y-1, 0); neighbour <= min(y+1, ny-1); neighbour++ {
				r.touch((z-1)*ny+neighbour, z*ny+y)
			}
		}
	}
	slabs := max(1, min(threads, nz/4))
	parallel.For(slabs, slabs, func(_, s int) error { // returns nil always
		start := s * nz / slabs
		for z := start; z < (s+1)*nz/slabs; z++ {
			if within(z); z > start {
				below(z)
			}
		}
		return nil
	})
	for s := 1; s < slabs; s++ {
		below(s * nz / slabs)
	}
}

// touch unites the runs of two rows that share a face, an edge or a corner:
// [from, to) of one reaches to the other's, or ends just before it.
func (r *runs) touch(rowA, rowB int) {
	a, endA := r.first[rowA], r.first[rowA+1]
	b, endB := r.first[rowB], r.first[rowB+1]
	for a < endA && b < endB {
		if r.from[a] <= r.to[b] && r.from[b] <= r.to[a] {
			r.unite(a, b)
		}
		if r.to[a] < r.to[b] {
			a++
		} else {
			b++
		}
	}
}

// root returns the first run of i's component, halving the path to it.
func (r *runs) root(i int32) int32 {
	for r.parent[i] != i {
		r.parent[i] = r.parent[r.parent[i]]
		i = r.parent[i]
	}
	return i
}

func (r *runs) unite(a, b int32) {
	a, b = r.root(a), r.root(b)
	if a < b {
		r.parent[b] = a
	} else {
		r.parent[a] = b
	}
}

// largest returns, for each run, 1 if it belongs to a largest component, else 0.
func (r *runs) largest() ([]uint8, error) {
	n := len(r.parent)
	keep, err := cmem.AllocZero[uint8](n)
	if err != nil {
		return nil, err
	}
	sizes, err := cmem.AllocZero[int64](n) // voxels, at the components' first runs
	if err != nil {
		cmem.Free(keep)
		return nil, err
	}
	defer cmem.Free(sizes)
	for i := range n {
		sizes[r.root(int32(i))] += int64(r.to[i] - r.from[i])
	}
	most := int64(0)
	for _, s := range sizes {
		most = max(most, s)
	}
	for i := range n {
		if sizes[r.root(int32(i))] == most {
			keep[i] = 1
		}
	}
	return keep, nil
}
