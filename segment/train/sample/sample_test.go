package sample

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/train/augment"
	"github.com/libflare/libflare/segment/train/random"
)

func readGolden(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, into))
}

// place is a case that has nothing but a shape and locations.
type place struct {
	augment.Arrays
	locations *Locations
}

func (p *place) Locations() *Locations { return p.locations }

func at(shape [3]int, l *Locations) Case {
	return &place{augment.Arrays{Size: shape}, l}
}

// often is as in package augment's tests: 4.5 standard errors.
func often(t *testing.T, p float64, count, cases int, what string) {
	t.Helper()
	n := float64(cases)
	assert.InDelta(t, p*n, count, 4.5*math.Sqrt(n*p*(1-p))+1e-9, what)
}

func TestBoxesAgreeWithNNUNet(t *testing.T) {
	var golden []struct {
		Shape, Box, Patch, First, Last [3]int
		Voxels                         [][3]int32
		Corners                        [][3]int
	}
	readGolden(t, "boxes.json", &golden)
	for _, g := range golden {
		s := &Set{Box: g.Box, Patch: g.Patch, Batch: 1, Foreground: 1}
		first, last := s.corners(g.Shape)
		assert.Equal(t, g.First, first)
		assert.Equal(t, g.Last, last)
		for i, voxel := range g.Voxels {
			s.Cases = []Case{at(g.Shape, &Locations{Classes: [][][3]int32{{voxel}}})}
			assert.Equal(t, Choice{0, g.Corners[i], 0}, s.Choose(random.New(1), 0))
		}
	}
}

func TestForcedAgreesWithNNUNet(t *testing.T) {
	var golden map[int][]bool
	readGolden(t, "forced.json", &golden)
	for batch, want := range golden {
		s := &Set{Batch: batch, Foreground: 0.33}
		for i := range want {
			assert.Equal(t, want[i], s.Forced(i), "%d of %d", i, batch)
		}
	}
}

// Cases, corners, classes and voxels have equal chances.
func TestChances(t *testing.T) {
	const draws = 30000
	// Classes of 1, 2 and no voxels; then annotated ones, which count where no class has any.
	classes := [][][3]int32{{{5, 5, 5}}, {}, {{6, 6, 6}, {9, 9, 9}}}
	all := &Locations{Classes: classes, Annotated: [][3]int32{{7, 7, 7}}}
	s := &Set{Box: [3]int{4, 4, 4}, Patch: [3]int{4, 4, 4}, Batch: 2, Foreground: 0.33,
		Cases: []Case{at([3]int{10, 12, 6}, all), at([3]int{10, 12, 6}, &Locations{Classes: [][][3]int32{{}}})}}
	r := random.New()
	var corners [3]map[int]int
	for i := range corners {
		corners[i] = map[int]int{}
	}
	second, voxels := 0, map[[3]int]int{}
	for i := range uint64(draws) {
		r.Key(1, i)
		c := s.Choose(r, 0)
		second += c.Case
		assert.Equal(t, Anywhere, c.Class)
		for axis := range 3 {
			corners[axis][c.Corner[axis]]++
		}
		if c = s.Choose(r, 1); c.Case == 0 {
			assert.Equal(t, 2*min(1, c.Corner[0]-3), c.Class)
			voxels[c.Corner]++
		} else {
			assert.Equal(t, Anywhere, c.Class, "no voxels")
		}
	}
	often(t, 0.5, second, draws, "case")
	for axis, n := range []int{7, 9, 3} {
		assert.Len(t, corners[axis], n)
		for corner, count := range corners[axis] {
			assert.True(t, corner >= 0 && corner < n)
			often(t, 1/float64(n), count, draws, "corner")
		}
	}
	often(t, 0.25, voxels[[3]int{3, 3, 3}], draws, "first class")
	often(t, 0.125, voxels[[3]int{4, 4, 4}], draws, "second class")
	often(t, 0.125, voxels[[3]int{7, 7, 7}], draws, "second class, as nnU-Net beyond the far side")
}

func TestIgnoreLabel(t *testing.T) {
	shape, voxel := [3]int{10, 10, 10}, [][3]int32{{7, 7, 7}}
	class := [][3]int32{{5, 5, 5}}
	for _, c := range []struct {
		locations *Locations
		want      [2]int // of a sample that is not forced, and of one that is
	}{
		{&Locations{[][][3]int32{class}, voxel}, [2]int{Annotated, 0}},
		{&Locations{[][][3]int32{nil}, voxel}, [2]int{Annotated, Annotated}},
		{&Locations{[][][3]int32{class}, nil}, [2]int{Anywhere, 0}},
		{nil, [2]int{Anywhere, Anywhere}},
	} {
		s := &Set{Cases: []Case{at(shape, c.locations)}, Box: [3]int{4, 4, 4}, Patch: [3]int{4, 4, 4}, Batch: 2, Foreground: 0.33, Ignore: true}
		for i, class := range c.want {
			got := s.Choose(random.New(1), i)
			assert.Equal(t, class, got.Class)
			if class == Annotated {
				assert.Equal(t, [3]int{5, 5, 5}, got.Corner)
			}
		}
	}
}

// block is a case of noise with a block of label 2 in it.
func block(shape [3]int, seed uint64) Case {
	n := shape[0] * shape[1] * shape[2]
	a := augment.Arrays{Size: shape, Voxels: make([]float32, n), Classes: make([]int16, n)}
	r := random.New(seed)
	var two [][3]int32
	for i := range a.Voxels {
		a.Voxels[i] = float32(r.NormFloat64())
		if z, y, x := i/(shape[1]*shape[2]), i/shape[2]%shape[1], i%shape[2]; z == 2 && y < 3 && x > 1 && x < 5 {
			a.Classes[i] = 2
			two = append(two, [3]int32{int32(z), int32(y), int32(x)})
		}
	}
	return &place{a, &Locations{Classes: [][][3]int32{nil, two}}}
}

// Samples are functions of (seed, step, index), and forced ones show their class.
func TestLoader(t *testing.T) {
	const steps, batch = 20, 3
	setup := augment.Setup{Patch: [3]int{8, 8, 8}, Channels: 1}
	l := NewLoader(Set{Batch: batch, Foreground: 0.33, Seed: 7, Cases: []Case{block([3]int{9, 20, 20}, 1), block([3]int{4, 6, 7}, 2), block([3]int{20, 9, 9}, 3)}}, augment.Default(setup))
	make1 := func() *augment.Sample {
		return &augment.Sample{Image: make([]float32, 512), Labels: make([]int16, 512)}
	}
	run := func(threads int) []*augment.Sample {
		out, workers := make([]*augment.Sample, steps*batch), make([]*Worker, threads)
		for i := range workers {
			var err error
			workers[i], err = l.NewWorker()
			require.NoError(t, err)
			defer workers[i].Free()
		}
		require.NoError(t, parallel.For(len(out), threads, func(worker, i int) error {
			i = (i*7 + threads) % len(out) // another order for each number of threads
			out[i] = make1()
			_, err := l.Make(uint64(i/batch), i%batch, out[i], workers[worker])
			return err
		}))
		return out
	}
	want := run(1)
	assert.Equal(t, want, run(3))
	shown := 0
	for i := 2; i < len(want); i += batch {
		if slices.Contains(want[i].Labels, 2) {
			shown++
		}
	}
	// The box is around the voxel, but for large cases the patch is only its middle, and
	// rotation and scaling may move the block out.
	assert.Greater(t, shown, steps*3/4)
	l.Seed++
	assert.NotEqual(t, want, run(1))

	w, err := l.NewWorker()
	require.NoError(t, err)
	out, step := make1(), uint64(0)
	one := func() {
		step++
		if _, err := l.Make(step, 2, out, w); err != nil {
			panic(err)
		}
	}
	for range 100 {
		one()
	}
	assert.Zero(t, testing.AllocsPerRun(100, one))
	w.Free()
	assert.Zero(t, cmem.Live())
}
