// Package component finds the connected components of label maps.
package component

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// Runs are the runs of voxels of one class along x in a box, in the order of their
// rows, with a union-find forest over them: a run is connected to those of its class in
// the rows before it that it touches (He, Chao, Suzuki: A run-based two-scan
// labeling algorithm, IEEE Trans. Image Process. 17(5), 2008; here in 3-D). Voxels touch
// by faces, edges and corners: 26 neighbours, 8 in a slice. In C memory; the caller
// calls Free.
type Runs struct {
	First    []int32  // of each row (z, y in the box) and one more: its first run
	From, To []int32  // voxels along x in the box: from, below to
	Class    []uint16 // not 0

	parent []int32 // an earlier run of the same component, or the run itself
	ny, nz int
}

// Voxel is a type of labels.
type Voxel interface{ uint8 | uint16 }

// Find finds the runs in a box of nz x ny rows, all as long as row gives them. class[v]
// is the class of label v; voxels of class 0 are left out. Errors: Memory. Runs are counted
// and then noted, so that their memory (14 bytes each) is asked for once.
func Find[T Voxel](ny, nz, threads int, row func(z, y int) []T, class []uint16) (*Runs, error) {
	r := &Runs{ny: ny, nz: nz}
	var err error
	if r.First, err = cmem.Alloc[int32](ny*nz + 1); err != nil {
		return nil, err
	}
	var total atomic.Int64
	parallel.For(nz, threads, func(_, z int) error { // returns nil always
		sum := int64(0)
		for y := range ny {
			n := int32(0)
			each(row(z, y), class, func(int, int, uint16) { n++ })
			r.First[z*ny+y+1] = n
			sum += int64(n)
		}
		total.Add(sum)
		return nil
	})
	n := int(total.Load())
	if n > math.MaxInt32 {
		r.Free()
		return nil, fault.New(fault.Memory, "components of %d runs of voxels are refused: more than 2^31", n)
	}
	r.First[0] = 0
	for i := range ny * nz {
		r.First[i+1] += r.First[i]
	}
	for _, s := range []*[]int32{&r.From, &r.To, &r.parent} {
		if *s, err = cmem.Alloc[int32](n); err != nil {
			r.Free()
			return nil, err
		}
	}
	if r.Class, err = cmem.Alloc[uint16](n); err != nil {
		r.Free()
		return nil, err
	}
	return r, parallel.For(nz, threads, func(_, z int) error {
		for y := range ny {
			i := r.First[z*ny+y]
			each(row(z, y), class, func(from, to int, c uint16) {
				r.From[i], r.To[i], r.Class[i], r.parent[i] = int32(from), int32(to), c, i
				i++
			})
		}
		return nil
	})
}

// each tells of the runs of a row. Where label 0 has no class, as the background has
// none, eight bytes of it are passed over at a time.
func each[T Voxel](voxels []T, class []uint16, found func(from, to int, class uint16)) {
	size := int(unsafe.Sizeof(T(0)))
	bytes := cmem.Bytes(voxels)
	for x := 0; x < len(voxels); x++ {
		if class[0] == 0 {
			for x*size+8 <= len(bytes) && binary.LittleEndian.Uint64(bytes[x*size:]) == 0 {
				x += 8 / size
			}
			if x == len(voxels) {
				return
			}
		}
		c := class[voxels[x]]
		if c == 0 {
			continue
		}
		start := x
		for x++; x < len(voxels) && class[voxels[x]] == c; x++ {
		}
		found(start, x, c)
		x-- // what ended the run may begin another
	}
}

// Free gives the memory back.
func (r *Runs) Free() {
	cmem.Free(r.First)
	cmem.Free(r.From)
	cmem.Free(r.To)
	cmem.Free(r.Class)
	cmem.Free(r.parent)
}

// Connect unites the runs that touch: slabs of slices side by side, then
// across their borders.
func (r *Runs) Connect(threads int) {
	within := func(z int) {
		for y := 1; y < r.ny; y++ {
			r.touch(z*r.ny+y-1, z*r.ny+y)
		}
	}
	below := func(z int) { // slice z with slice z-1
		for y := range r.ny {
			for neighbour := max(y-1, 0); neighbour <= min(y+1, r.ny-1); neighbour++ {
				r.touch((z-1)*r.ny+neighbour, z*r.ny+y)
			}
		}
	}
	slabs := max(1, min(threads, r.nz/4))
	parallel.For(slabs, slabs, func(_, s int) error { // returns nil always
		start := s * r.nz / slabs
		for z := start; z < (s+1)*r.nz/slabs; z++ {
			if within(z); z > start {
				below(z)
			}
		}
		return nil
	})
	for s := 1; s < slabs; s++ {
		below(s * r.nz / slabs)
	}
}

// touch unites the runs of two rows that share a face, an edge or a corner:
// [from, to) of one reaches to the other's, or ends just before it.
func (r *Runs) touch(rowA, rowB int) {
	a, endA := r.First[rowA], r.First[rowA+1]
	b, endB := r.First[rowB], r.First[rowB+1]
	meet := func(a, b int32) {
		if r.From[a] <= r.To[b] && r.From[b] <= r.To[a] && r.Class[a] == r.Class[b] {
			r.unite(a, b)
		}
	}
	for a < endA && b < endB {
		meet(a, b)
		switch {
		case r.To[a] < r.To[b]:
			a++
		case r.To[a] == r.To[b] && a+1 < endA: // the next of a may begin right there
			meet(a+1, b)
			fallthrough
		default:
			b++
		}
	}
}

// Root returns the first run of i's component, halving the path to it.
func (r *Runs) Root(i int32) int32 {
	for r.parent[i] != i {
		r.parent[i] = r.parent[r.parent[i]]
		i = r.parent[i]
	}
	return i
}

func (r *Runs) unite(a, b int32) {
	a, b = r.Root(a), r.Root(b)
	if a < b {
		r.parent[b] = a
	} else {
		r.parent[a] = b
	}
}

// Sizes returns the voxels of each component at its first run, 0 at others. The caller
// gives the C memory back. Errors: Memory.
func (r *Runs) Sizes() ([]int64, error) {
	sizes, err := cmem.AllocZero[int64](len(r.From))
	if err != nil {
		return nil, err
	}
	for i := range r.From {
		sizes[r.Root(int32(i))] += int64(r.To[i] - r.From[i])
	}
	return sizes, nil
}
