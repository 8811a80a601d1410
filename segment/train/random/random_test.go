package random

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAKeyGivesItsStream(t *testing.T) {
	r := New(1, 2, 3)
	first := []float64{r.Float64(), r.NormFloat64(), r.Uniform(2, 3)}
	r.Key(1, 2, 4)
	other := r.Float64()
	r.Key(1, 2, 3)
	assert.Equal(t, first, []float64{r.Float64(), r.NormFloat64(), r.Uniform(2, 3)})
	assert.NotEqual(t, first[0], other)
	assert.Zero(t, testing.AllocsPerRun(10, func() { r.Key(5, 6, 7); r.Float64() }))
}

// Neighbouring keys, and keys of the same numbers in another order or another length,
// have streams without likeness: over a cube of keys, the first draws are uniform and
// uncorrelated with those of the next key.
func TestKeysAreIndependent(t *testing.T) {
	const n = 24
	r, seen := New(), map[float64]bool{}
	var sum, sum2, lag float64
	last := 0.0
	for a := range uint64(n) {
		for b := range uint64(n) {
			for c := range uint64(n) {
				r.Key(a, b, c)
				u := r.Float64()
				assert.False(t, seen[u], "key %d %d %d", a, b, c)
				seen[u] = true
				sum, sum2, lag, last = sum+u, sum2+u*u, lag+(u-0.5)*(last-0.5), u
			}
		}
	}
	const count = n * n * n
	// Four standard errors: of the mean sqrt(1/12/count), of the second moment
	// sqrt(4/45/count), of the correlation 1/12/sqrt(count).
	assert.InDelta(t, 0.5, sum/count, 4*math.Sqrt(1./12/count))
	assert.InDelta(t, 1./3, sum2/count, 4*math.Sqrt(4./45/count))
	assert.InDelta(t, 0, lag/count, 4/12./math.Sqrt(count))
	r.Key(7)
	one := r.Float64()
	r.Key(7, 0)
	assert.NotEqual(t, one, r.Float64())
	r.Key(0, 7)
	assert.NotEqual(t, one, r.Float64())
}

func TestRanges(t *testing.T) {
	r := New(1)
	hits, counts := 0, [3]int{}
	for range 30000 {
		u := r.Uniform(-2, 5)
		assert.True(t, u >= -2 && u < 5)
		if r.Chance(0.25) {
			hits++
		}
		counts[r.Integer(4, 7)-4]++
	}
	assert.InDelta(t, 7500, hits, 4*math.Sqrt(30000*0.25*0.75))
	for _, c := range counts {
		assert.InDelta(t, 10000, c, 4*math.Sqrt(30000./3*2/3))
	}
}
