package numpyrand

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// numpy 2: r = numpy.random.RandomState(1234); then, for each (n, size) in order,
// numpy.bincount(r.choice(n, size), minlength=n), and r.randint(1000) in the end. Ends of
// ranges that are powers of two, and one that draws nothing.
func TestChoices(t *testing.T) {
	s := New(1234)
	counts := make([]uint32, 16)
	for _, want := range [][]uint32{{182, 223, 204, 209, 182}, {7}, {15, 14, 17, 12, 11, 12, 10, 9}, {322, 336, 311, 325, 344, 314, 342, 360, 346}} {
		n := uint32(0)
		for _, c := range want {
			n += c
		}
		assert.Equal(t, want, s.Choices(counts, uint32(len(want)-1), int(n)))
	}
	assert.EqualValues(t, 519, s.interval(999))
}
