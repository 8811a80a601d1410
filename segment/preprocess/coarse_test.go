package preprocess

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/phantom"
)

// Any against a look at every block.
func TestMaskAny(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m := NewMask([3]int{13, 17, 20}, [3]int{2, 3, 5})
	for i := range m.in {
		m.in[i] = r.IntN(40) == 0
	}
	m.seal()
	for range 500 {
		var lo, hi [3]int
		for i := range 3 {
			lo[i] = r.IntN(m.shape[i])
			hi[i] = lo[i] + 1 + r.IntN(m.shape[i]-lo[i])
		}
		want := false
		for z := lo[0]; z < hi[0]; z++ {
			for y := lo[1]; y < hi[1]; y++ {
				for x := lo[2]; x < hi[2]; x++ {
					want = want || m.At(z, y, x)
				}
			}
		}
		require.Equal(t, want, m.Any(lo, hi), "%v to %v", lo, hi)
	}
	assert.False(t, m.Any([3]int{5, 5, 5}, [3]int{5, 9, 9}), "an empty box")
}

// Every organ lies in the body mask, and the mask leaves something out.
func TestBodyHoldsTheOrgans(t *testing.T) {
	for index := range 3 {
		ct, labels, err := phantom.Generate(phantom.Sample(7, index, phantom.Small))
		require.NoError(t, err)
		view := ct.Full()
		spacing := [3]float64{ct.Spacing[2], ct.Spacing[1], ct.Spacing[0]}
		m, err := Body(t.Context(), ct, view, spacing, 2)
		require.NoError(t, err)
		assert.Less(t, m.Fraction(), 0.98)
		assert.Greater(t, m.Fraction(), 0.2)
		for z := range view.Shape[0] {
			for y := range view.Shape[1] {
				for x := range view.Shape[2] {
					if labels.Data[z*view.Stride[0]+y*view.Stride[1]+x] != 0 {
						require.True(t, m.At(z, y, x), "voxel %d %d %d", z, y, x)
					}
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = Body(ctx, ct, view, spacing, 2)
		assert.Equal(t, fault.Cancelled, fault.KindOf(err))
		ct.Free()
		labels.Free()
	}
}

// The mask of a coarse label map holds all voxels that are nearest to a wanted one.
func TestMaskOf(t *testing.T) {
	coarse, shape := [3]int{5, 6, 7}, [3]int{11, 20, 16}
	labels := make([]uint16, 5*6*7)
	labels[(2*6+3)*7+4] = 3
	m := MaskOf(labels, coarse, shape, [3]float64{1, 1, 1}, func(v uint16) bool { return v == 3 }, 2)
	assert.True(t, m.At(5, 11, 10))
	assert.False(t, m.At(0, 0, 0))
	assert.Less(t, m.Fraction(), 0.5)
	for z := range shape[0] {
		for y := range shape[1] {
			for x := range shape[2] {
				if z*5/11 == 2 && y*6/20 == 3 && x*7/16 == 4 {
					assert.True(t, m.At(z, y, x), "voxel %d %d %d", z, y, x)
				}
			}
		}
	}
	none := MaskOf(labels, coarse, shape, [3]float64{1, 1, 1}, func(v uint16) bool { return v == 9 }, 2)
	assert.Zero(t, none.Fraction())
}
