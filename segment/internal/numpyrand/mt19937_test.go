package numpyrand

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// numpy 2: r = numpy.random.RandomState(1234); r.permutation(10); r.choice(100000, 5, replace=False)
func TestNumpy(t *testing.T) {
	s := New(1234)
	assert.Equal(t, []int{7, 2, 9, 1, 0, 8, 4, 5, 6, 3}, s.Permutation(10))
	assert.Equal(t, []int{42845, 37986, 15679, 51884, 72274}, s.Permutation(100000)[:5])
}
