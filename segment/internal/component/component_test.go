package component

import (
	"math/rand/v2"
	"testing"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// flood counts the components of each class by filling them one by one.
func flood(v []uint8, nx, ny, nz int, class []uint16) map[uint16][]int {
	sizes, seen := map[uint16][]int{}, make([]bool, len(v))
	for start := range v {
		c := class[v[start]]
		if c == 0 || seen[start] {
			continue
		}
		seen[start] = true
		n, stack := 0, []int{start}
		for len(stack) > 0 {
			at := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			n++
			x, y, z := at%nx, at/nx%ny, at/nx/ny
			for k := max(z-1, 0); k <= min(z+1, nz-1); k++ {
				for j := max(y-1, 0); j <= min(y+1, ny-1); j++ {
					for i := max(x-1, 0); i <= min(x+1, nx-1); i++ {
						if to := (k*ny+j)*nx + i; !seen[to] && class[v[to]] == c {
							seen[to] = true
							stack = append(stack, to)
						}
					}
				}
			}
		}
		sizes[c] = append(sizes[c], n)
	}
	return sizes
}

// TestComponents compares with flood filling on random maps: crowded ones of several
// classes, in which runs lie side by side, and sparse ones with long stretches of nothing.
func TestComponents(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for try := range 200 {
		nx, ny, nz := 1+random.IntN(40), 1+random.IntN(8), 1+random.IntN(8)
		v := make([]uint8, nx*ny*nz)
		wide := make([]uint16, len(v))
		for i := range v {
			if random.IntN(10) >= try%10 {
				v[i] = uint8(random.IntN(5))
			}
			wide[i] = uint16(v[i])
		}
		class := make([]uint16, 256)
		copy(class, [][]uint16{{0, 1, 2, 3, 4}, {0, 1, 1, 0, 2}, {1, 0, 2, 2, 0}}[try%3])
		want := flood(v, nx, ny, nz, class)
		threads := 1 + try%3

		r, err := Find(ny, nz, threads, func(z, y int) []uint8 { return v[(z*ny+y)*nx:][:nx] }, class)
		require.NoError(t, err)
		w, err := Find(ny, nz, threads, func(z, y int) []uint16 { return wide[(z*ny+y)*nx:][:nx] }, class)
		require.NoError(t, err)
		assert.Equal(t, r.From, w.From)
		assert.Equal(t, r.Class, w.Class)
		w.Free()
		r.Connect(threads)
		sizes, err := r.Sizes()
		require.NoError(t, err)
		got := map[uint16][]int{}
		for i, n := range sizes {
			if n > 0 {
				got[r.Class[i]] = append(got[r.Class[i]], int(n))
			}
		}
		assert.Equal(t, want, got, "%d x %d x %d", nx, ny, nz) // both in the order of first voxels
		cmem.Free(sizes)
		r.Free()
	}
}
