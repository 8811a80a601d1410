package augment

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/train/random"
)

// empty returns a sample's memory for a pipeline, with two maps for cascades.
func empty(s Setup) *Sample {
	n, maps := s.Patch[0]*s.Patch[1]*s.Patch[2], 1
	if len(s.Previous) > 0 {
		maps = 2
	}
	return &Sample{Image: make([]float32, (s.Channels+len(s.Previous))*n), Labels: make([]int16, maps*n), Targets: make([]float32, n)}
}

func twoMaps(shape [3]int, channels int) *Arrays {
	a := phantom(shape, channels)
	a.Soft = slices.Clone(a.Voxels[:len(a.Classes)])
	a.Classes = append(a.Classes, a.Classes...)
	return a
}

var setups = map[string]Setup{
	"3-D":     {Patch: [3]int{12, 14, 12}, Channels: 2, Masked: []int{1}},
	"planar":  {Patch: [3]int{5, 18, 24}, Channels: 1},
	"2-D":     {Patch: [3]int{1, 24, 24}, Channels: 2},
	"cascade": {Patch: [3]int{12, 12, 14}, Channels: 1, Previous: []int16{1, 2}},
}

// A sample is a function of its key: neither the order nor the number of threads nor what
// the scratch memory held before tells on it.
func TestSamplesAreFunctionsOfTheirKeys(t *testing.T) {
	const count = 60
	for name, s := range setups {
		for kind, pipeline := range map[string]*Pipeline{"default": Default(s), "strong": Strong(s), "none": None(s)} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				src := twoMaps([3]int{pipeline.Spatial.Box[0] + 1, 20, 22}, s.Channels)
				run := func(threads int, order func(i int) int) []*Sample {
					out := make([]*Sample, count)
					work := make([]*Scratch, threads)
					for i := range work {
						var err error
						work[i], err = pipeline.NewScratch()
						require.NoError(t, err)
						defer work[i].Free()
					}
					require.NoError(t, parallel.For(count, threads, func(worker, i int) error {
						i = order(i)
						out[i] = empty(s)
						r, p := random.New(1, uint64(i)), Parameters{}
						pipeline.Draw(&p, r)
						return pipeline.Make(out[i], src, [3]int{0, i%7 - 4, i%5 - 1}, &p, work[worker])
					}))
					return out
				}
				want := run(1, func(i int) int { return i })
				n := s.Patch[0] * s.Patch[1] * s.Patch[2]
				for i, other := range run(3, func(i int) int { return count - 1 - i }) {
					require.Equal(t, want[i], other)
					require.Len(t, other.Image, (s.Channels+len(s.Previous))*n)
					require.Len(t, other.Labels, n)
					for _, v := range other.Image {
						require.False(t, math.IsNaN(float64(v)) || math.IsInf(float64(v), 0))
					}
					require.GreaterOrEqual(t, slices.Min(other.Labels), int16(0))
				}
				if kind != "none" {
					assert.NotEqual(t, want[0].Image, want[35].Image, "same corner, other parameters")
				}
			})
		}
	}
	assert.Zero(t, cmem.Live())
}

func TestNoAllocationPerSample(t *testing.T) {
	for name, s := range setups {
		for kind, pipeline := range map[string]*Pipeline{"default": Default(s), "strong": Strong(s)} {
			src := twoMaps([3]int{pipeline.Spatial.Box[0] + 1, 40, 40}, s.Channels)
			w, err := pipeline.NewScratch()
			require.NoError(t, err)
			sample, r, p := empty(s), random.New(), Parameters{}
			i := uint64(0)
			one := func() {
				r.Key(3, i)
				i++
				pipeline.Draw(&p, r)
				if err := pipeline.Make(sample, src, [3]int{0, 1, 2}, &p, w); err != nil {
					panic(err)
				}
			}
			for range 200 { // until the parameters have the room that they need
				one()
			}
			assert.Zero(t, testing.AllocsPerRun(200, one), "%s, %s", name, kind)
			w.Free()
		}
	}
}

// broken fails where it is told to.
type broken struct {
	*Arrays
	image, labels, targets error
}

func (b broken) Image(c int, dst []float32, stride [2]int, lo, hi [3]int) error {
	return errors.Join(b.image, b.Arrays.Image(c, dst, stride, lo, hi))
}
func (b broken) Labels(c int, dst []int16, stride [2]int, lo, hi [3]int) error {
	return errors.Join(b.labels, b.Arrays.Labels(c, dst, stride, lo, hi))
}
func (b broken) Targets(c int, dst []float32, stride [2]int, lo, hi [3]int) error {
	return errors.Join(b.targets, b.Arrays.Targets(c, dst, stride, lo, hi))
}

func TestErrorsOfTheSourceComeThrough(t *testing.T) {
	s := setups["3-D"]
	pipeline := Default(s)
	w, err := pipeline.NewScratch()
	require.NoError(t, err)
	defer w.Free()
	for _, p := range []Parameters{{End: make([]int, 20)}, {Numbers: []float64{0.1, 0, 0, 1, 1, 1}, End: slices.Repeat([]int{6}, 20)}} {
		a := twoMaps([3]int{20, 20, 20}, s.Channels)
		bad := fault.New(fault.IO, "no such page")
		for _, src := range []broken{{a, bad, nil, nil}, {a, nil, bad, nil}, {a, nil, nil, bad}} {
			assert.ErrorIs(t, pipeline.Make(empty(s), src, [3]int{}, &p, w), bad)
		}
		assert.NoError(t, pipeline.Make(empty(s), broken{Arrays: a}, [3]int{}, &p, w))
	}
}

func TestScratchThatCannotBeHad(t *testing.T) {
	pipeline := Strong(setups["cascade"])
	for n := 1; ; n++ {
		cmem.FailAfter(n)
		w, err := pipeline.NewScratch()
		if cmem.FailAfter(0) > 0 {
			w.Free()
			assert.Greater(t, n, 8, "source, labels, two spares, three of the median, the queue")
			break
		}
		assert.Equal(t, fault.Memory, fault.KindOf(err))
		assert.Zero(t, cmem.Live())
	}
	assert.Zero(t, cmem.Live())
}

// A box that lies wholly outside of the case is empty.
func TestOutsideOfTheCase(t *testing.T) {
	s := setups["3-D"]
	pipeline := Default(s)
	src := twoMaps([3]int{9, 9, 9}, s.Channels)
	w, err := pipeline.NewScratch()
	require.NoError(t, err)
	defer w.Free()
	for _, numbers := range [][]float64{nil, {0.2, 0.1, 0, 1.2, 1.2, 1.2}} {
		for _, corner := range [][3]int{{100, 0, 0}, {0, -100, 0}, {0, 0, 9}} {
			sample := empty(s)
			for i := range sample.Image {
				sample.Image[i] = 7
			}
			sample.Targets[0], sample.Shape = 7, s.Patch
			require.NoError(t, pipeline.Spatial.Cut(sample, src, corner, numbers, w))
			assert.Equal(t, make([]float32, len(sample.Image)), sample.Image)
			assert.Equal(t, make([]float32, len(sample.Targets)), sample.Targets)
			assert.Equal(t, slices.Repeat([]int16{outside}, len(sample.Labels)), sample.Labels)
		}
	}
}
