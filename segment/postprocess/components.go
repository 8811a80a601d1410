package postprocess

import (
	"slices"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/component"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// keepLargestComponent writes background to every chosen voxel (those of class 1, not 0)
// outside the largest component of the chosen voxels, all of which lie in b.
func keepLargestComponent[T component.Voxel](v []T, size [3]int, b box, class []uint16, background T, threads int) error {
	ny, nz := int(b.hi[1]-b.lo[1]), int(b.hi[2]-b.lo[2])
	row := func(z, y int) []T {
		at := ((int(b.lo[2])+z)*size[1] + int(b.lo[1]) + y) * size[0]
		return v[at+int(b.lo[0]) : at+int(b.hi[0])]
	}
	r, err := component.Find(ny, nz, threads, row, class)
	if err != nil {
		return err
	}
	defer r.Free()
	r.Connect(threads)
	sizes, err := r.Sizes()
	if err != nil {
		return err
	}
	defer cmem.Free(sizes)
	if len(sizes) == 0 {
		return nil
	}
	most := slices.Max(sizes)
	// Roots first: side by side nobody may shorten paths.
	for i := range sizes {
		sizes[i] = sizes[r.Root(int32(i))]
	}
	return parallel.For(nz, threads, func(_, z int) error {
		for y := range ny {
			voxels := row(z, y)
			for i := r.First[z*ny+y]; i < r.First[z*ny+y+1]; i++ {
				if sizes[i] < most {
					erased := voxels[r.From[i]:r.To[i]]
					for x := range erased {
						erased[x] = background
					}
				}
			}
		}
		return nil
	})
}
