package resample

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/volume"
)

// organs returns logits of ellipsoids in a background: channels x shape, smooth but for
// some noise.
func organs(channels int, shape [3]int, noise float32) []float32 {
	r := rand.New(rand.NewPCG(uint64(channels), uint64(shape[2])))
	size := float32(math.Cbrt(14 / float64(max(channels, 14)))) // the more, the smaller
	s := make([]float32, 0, channels*shape[0]*shape[1]*shape[2])
	for c := range channels {
		var center, inverse [3]float32
		for i, n := range shape {
			center[i] = float32(n) * (0.15 + 0.7*r.Float32())
			inverse[i] = 1 / (float32(n) * size * (0.05 + 0.1*r.Float32()))
		}
		square := func(i, x int) float32 {
			d := (float32(x) - center[i]) * inverse[i]
			return d * d
		}
		state := r.Uint32()
		for z := range shape[0] {
			for y := range shape[1] {
				zy := square(0, z) + square(1, y)
				for x := range shape[2] {
					v := float32(-2) // the first is the background
					if c > 0 {
						v = max(4-6*(zy+square(2, x)), -12)
					}
					state = state*1664525 + 1013904223
					s = append(s, v+noise*(float32(state>>8)/(1<<23)-1))
				}
			}
		}
	}
	return s
}

// export runs an array (channels x low) through Labels into t, whose view has shape out.
func export(t testing.TB, m Method, array []float32, low [3]int, classes int, c grid, target Target, threads int) {
	t.Helper()
	l, err := m.Labels(t.Context(), low, classes, c.From, c.To, target, threads)
	require.NoError(t, err)
	defer l.Close()
	plane := planes(array, low)
	for z := range low[0] {
		require.NoError(t, l.Plane(plane(z)))
	}
}

// wholeTarget is a target of some shape for so many classes, with or without regions
// (labels 1, 2, ... from last to first).
func wholeTarget(t *testing.T, out [3]int, classes int, regions bool) Target {
	t.Helper()
	g := volume.Geometry{Size: [3]int{out[2], out[1], out[0]}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	labels, err := volume.New(g, 1, volume.Uint8)
	require.NoError(t, err)
	t.Cleanup(labels.Free)
	target := Target{Labels: labels, View: g.Full()}
	if regions {
		for c := range classes {
			target.Regions = append(target.Regions, uint16(classes-c))
		}
	}
	return target
}

// Labels that come first, with only the uncertain voxels interpolated, are those of the
// interpolation of all voxels (which probabilities need): equal in every voxel, for any
// instruction set.
func TestLabelsFirst(t *testing.T) {
	defer kernel.Choose(kernel.Best())
	up, down, thick := [3]float64{1, 1, 1}, [3]float64{2, 2.2, 1.8}, [3]float64{5, 1, 1}
	grids := []grid{
		{Name: "up", In: [3]int{9, 20, 37}, Out: [3]int{20, 33, 61}, From: up, To: up},
		{Name: "down", In: [3]int{20, 33, 61}, Out: [3]int{9, 15, 33}, From: up, To: down},
		{Name: "equal", In: [3]int{4, 9, 70}, Out: [3]int{4, 9, 70}, From: up, To: up},
		{Name: "nearest along z", In: [3]int{4, 9, 20}, Out: [3]int{11, 20, 33}, From: thick, To: thick},
		{Name: "one plane", In: [3]int{1, 5, 6}, Out: [3]int{7, 12, 17}, From: up, To: up},
	}
	for set := range 3 {
		if !kernel.Choose(set) {
			continue
		}
		for _, g := range grids {
			for _, classes := range []int{2, 14, 118} {
				for name, noise := range map[string]float32{"smooth": 0.01, "noise": 30} {
					for _, regions := range []bool{false, true} {
						array := organs(classes, g.In, noise)
						fast, plain := wholeTarget(t, g.Out, classes, regions), wholeTarget(t, g.Out, classes, regions)
						plain.Probabilities = make([]float32, classes*g.Out[0]*g.Out[1]*g.Out[2])
						export(t, linear, array, g.In, classes, g, fast, 1+set)
						export(t, linear, array, g.In, classes, g, plain, 1)
						require.Equal(t, plain.Labels.Data, fast.Labels.Data, "%s, %s, %d classes, regions %t, set %d", g.Name, name, classes, regions, set)
					}
				}
			}
		}
	}
}

// A head gives the labels and probabilities of the logits that it makes, save where
// rounding decides: two logits, or a region's and 0, that differ by 1e-4 at most.
func TestHead(t *testing.T) {
	const features, folds, classes = 7, 2, 5
	r := rand.New(rand.NewPCG(1, 2))
	c := grid{In: [3]int{6, 15, 22}, Out: [3]int{11, 20, 41}, From: [3]float64{1, 1, 1}, To: [3]float64{1, 1, 1}}
	n, out := c.In[0]*c.In[1]*c.In[2], c.Out[0]*c.Out[1]*c.Out[2]
	head := &Head{}
	for range classes * features * folds {
		head.Weight = append(head.Weight, float32(r.NormFloat64()))
	}
	for range classes {
		head.Bias = append(head.Bias, float32(r.NormFloat64()))
	}
	array := organs(features*folds, c.In, 1)
	logits := make([]float32, classes*n)
	for class := range classes {
		for i := range n {
			sum := float64(head.Bias[class])
			for k := range features * folds {
				sum += float64(head.Weight[class*features*folds+k]) * float64(array[k*n+i])
			}
			logits[class*n+i] = float32(sum)
		}
	}
	for _, m := range []Method{linear, cubic} {
		for _, regions := range []bool{false, true} {
			plain := wholeTarget(t, c.Out, classes, regions)
			plain.Probabilities = make([]float32, classes*out)
			export(t, m, logits, c.In, classes, c, plain, 1)
			for _, probabilities := range []bool{false, true} {
				target := wholeTarget(t, c.Out, classes, regions)
				target.Head = head
				if probabilities {
					target.Probabilities = make([]float32, classes*out)
				}
				export(t, m, array, c.In, classes, c, target, 2)
				differ := 0
				for i, label := range target.Labels.Data {
					if label != plain.Labels.Data[i] {
						differ++
					}
				}
				assert.LessOrEqual(t, differ, out/5000, "order %d, regions %t", m.Order, regions)
				for i := range target.Probabilities {
					require.InDelta(t, plain.Probabilities[i], target.Probabilities[i], 1e-4, "order %d, regions %t", m.Order, regions)
				}
			}
		}
	}
	bad := wholeTarget(t, c.Out, classes, false)
	bad.Head = &Head{Weight: make([]float32, 11), Bias: make([]float32, classes)}
	_, err := linear.Labels(t.Context(), c.In, classes, c.From, c.To, bad, 1)
	assert.ErrorContains(t, err, "11 weights and 5 biases does not fit 5 classes")
	assert.Equal(t, fault.Model, fault.KindOf(err))
}

// soon is a context that is cancelled after so many looks at it.
type soon struct {
	context.Context
	looks int
}

func (s *soon) Err() error {
	if s.looks--; s.looks < 0 {
		return context.Canceled
	}
	return nil
}

// A cancelled export ends at the next plane, and between classes where they come last.
func TestCancelledLabels(t *testing.T) {
	c := grid{In: [3]int{3, 8, 9}, Out: [3]int{5, 9, 12}, From: [3]float64{1, 1, 1}, To: [3]float64{1, 1, 1}}
	plane := planes(organs(4, c.In, 1), c.In)
	for _, m := range []Method{linear, cubic} {
		for looks := range 5 {
			l, err := m.Labels(&soon{t.Context(), looks}, c.In, 4, c.From, c.To, wholeTarget(t, c.Out, 4, false), 2)
			require.NoError(t, err)
			z := 0
			for ; z < c.In[0] && err == nil; z++ {
				err = l.Plane(plane(z))
			}
			if m.Order > 1 || looks < 3 {
				assert.Equal(t, fault.Cancelled, fault.KindOf(err), "order %d, after %d", m.Order, looks)
				assert.Equal(t, min(looks+1, 3), z, "order %d, after %d", m.Order, looks)
			} else {
				assert.NoError(t, err)
			}
			l.Close()
		}
	}
}
