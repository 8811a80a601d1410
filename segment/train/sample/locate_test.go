package sample

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLocateKeepsWhatNNUNetKeeps(t *testing.T) {
	var golden map[int]int
	readGolden(t, "kept.json", &golden)
	for n, want := range golden {
		labels := make([]int8, n)
		for i := range labels {
			labels[i] = 1
		}
		l := Locate(labels, [3]int{1, 1, n}, [][]int16{{1}, {2}}, nil)
		assert.Len(t, l.Classes[0], want)
		assert.Empty(t, l.Classes[1])
		assert.Empty(t, l.Annotated)
	}
}

// Every location is one of its class, none comes twice, all parts of the case have their
// share, and regions and the annotated voxels are the unions of their labels.
func TestLocate(t *testing.T) {
	shape := [3]int{30, 40, 50}
	labels := make([]int16, 30*40*50)
	for i := range labels {
		labels[i] = int16(i%4) - 1 // -1, 0, 1, 2
	}
	labels[7] = 300
	sets := [][]int16{{1}, {1, 2}, {300}, {5}}
	l := Locate(labels, shape, sets, []int16{-1, 0, 1, 2})
	for i, voxels := range append(l.Classes, l.Annotated) {
		seen := map[[3]int32]bool{}
		front := 0
		for _, v := range voxels {
			assert.False(t, seen[v])
			seen[v] = true
			label := labels[(int(v[0])*40+int(v[1]))*50+int(v[2])]
			if i < len(sets) {
				assert.Contains(t, sets[i], label)
			} else {
				assert.NotEqual(t, int16(300), label)
			}
			if v[0] < 10 {
				front++
			}
		}
		if len(voxels) == 10000 {
			often(t, 1./3, front, len(voxels), "the first third of the planes")
		}
	}
	assert.Len(t, l.Classes[0], 10000)
	assert.Len(t, l.Classes[1], 10000)
	assert.Equal(t, [][3]int32{{0, 0, 7}}, l.Classes[2])
	assert.Empty(t, l.Classes[3])
	assert.Len(t, l.Annotated, 10000)
	assert.Equal(t, l, Locate(labels, shape, sets, []int16{-1, 0, 1, 2}), "the same each time")
}
