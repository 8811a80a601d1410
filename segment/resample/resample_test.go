package resample

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/volume"
)

// golden is a case of testdata/make_goldens.py.
type golden struct {
	Name              string
	From, To          [3]float64
	Shape             [3]int
	Axis              int
	in, image, logits []float32
	inShape           [3]int
}

func goldens(t *testing.T) []golden {
	t.Helper()
	data, err := os.ReadFile("testdata/cases.json")
	require.NoError(t, err)
	var cases []golden
	require.NoError(t, json.Unmarshal(data, &cases))
	require.NotEmpty(t, cases)
	for i := range cases {
		c := &cases[i]
		var shape []int
		c.in, shape, err = npy.Read("testdata/" + c.Name + "_in.npy")
		require.NoError(t, err)
		copy(c.inShape[:], shape)
		c.image, _, err = npy.Read("testdata/" + c.Name + "_image.npy")
		require.NoError(t, err)
		c.logits, _, err = npy.Read("testdata/" + c.Name + "_logits.npy")
		require.NoError(t, err)
	}
	return cases
}

// The methods of nnU-Net's own planners.
var (
	cubic  = Method{Function: Spline, Order: 3, Threshold: 3}
	linear = Method{Function: Spline, Order: 1, Threshold: 3}
)

// full is the view of a row-major array.
func full(shape [3]int) volume.View {
	return volume.View{Shape: shape, Stride: [3]int{shape[1] * shape[2], shape[2], 1}}
}

func TestRulesAgreeWithNNUNet(t *testing.T) {
	for _, c := range goldens(t) {
		shape, err := newShape(c.inShape, c.From, c.To)
		assert.NoError(t, err)
		assert.Equal(t, c.Shape, shape, c.Name)
		assert.Equal(t, c.Axis, cubic.separate(c.From, c.To), c.Name)
	}
	yes, no := true, false
	forced, never, lower := cubic, cubic, cubic
	forced.SeparateZ, never.SeparateZ, lower.Threshold = &yes, &no, 1.5
	assert.Equal(t, -1, cubic.separate([3]float64{2, 1, 1}, [3]float64{1, 1, 1}))
	assert.Equal(t, 0, lower.separate([3]float64{2, 1, 1}, [3]float64{1, 1, 1}))
	assert.Equal(t, 0, forced.separate([3]float64{2, 1, 1}, [3]float64{1, 1, 1}))
	assert.Equal(t, -1, never.separate([3]float64{9, 1, 1}, [3]float64{1, 1, 1}))
	assert.Equal(t, -1, forced.separate([3]float64{1, 1, 1}, [3]float64{1, 1, 1}))
	_, err := newShape([3]int{1, 1, 1}, [3]float64{0.1, 1, 1}, [3]float64{1, 1, 1})
	assert.ErrorContains(t, err, "must be 1 to")
}

// The image agrees with nnU-Net's float64 arithmetic to a few units of float32
// rounding of values up to 8, for every instruction set and any number of threads.
func TestImageAgreesWithNNUNet(t *testing.T) {
	defer kernel.Choose(kernel.Best())
	for set := range 3 {
		if !kernel.Choose(set) {
			continue
		}
		for _, c := range goldens(t) {
			for _, threads := range []int{1, 3} {
				lo, hi := Extremes(c.in)
				dst := make([]float32, len(c.image))
				src := Source{Data: cmem.Bytes(c.in), DType: volume.Float32, View: full(c.inShape), Affine: kernel.Identity}
				require.NoError(t, cubic.Image(dst, c.Shape, src, c.From, c.To, lo, hi, threads))
				worst := 0.0
				for i := range dst {
					worst = max(worst, math.Abs(float64(dst[i]-c.image[i])))
				}
				assert.Less(t, worst, 1e-5, "%s, instruction set %d, %d threads", c.Name, set, threads)
			}
		}
	}
	assert.Zero(t, cmem.Live())
}

// A source stored with other axes, forwards or backwards, gives the same image as the stored
// order, up to the rounding of the passes' order: values are up to 8.
func TestImageOfAPermutedAndFlippedSource(t *testing.T) {
	for _, c := range goldens(t) {
		lo, hi := Extremes(c.in)
		want, got := make([]float32, len(c.image)), make([]float32, len(c.image))
		require.NoError(t, cubic.Image(want, c.Shape, Source{cmem.Bytes(c.in), volume.Float32, full(c.inShape), kernel.Identity}, c.From, c.To, lo, hi, 1))
		for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			for flips := range 8 {
				view, step := volume.View{Shape: c.inShape}, 1
				for i := range 3 { // order[2] is the axis whose voxels lie side by side
					axis := order[2-i]
					view.Stride[axis] = step
					if flips>>axis&1 == 1 {
						view.Stride[axis] = -step
						view.Offset += step * (c.inShape[axis] - 1)
					}
					step *= c.inShape[axis]
				}
				stored := make([]float32, len(c.in))
				for i, v := range c.in {
					z, y, x := i/(c.inShape[1]*c.inShape[2]), i/c.inShape[2]%c.inShape[1], i%c.inShape[2]
					stored[view.Offset+z*view.Stride[0]+y*view.Stride[1]+x*view.Stride[2]] = v
				}
				require.NoError(t, cubic.Image(got, c.Shape, Source{cmem.Bytes(stored), volume.Float32, view, kernel.Identity}, c.From, c.To, lo, hi, 1))
				worst := 0.0
				for i := range want {
					worst = max(worst, math.Abs(float64(got[i]-want[i])))
				}
				require.LessOrEqual(t, worst, 5e-6, "%s, axes %v, flipped %03b", c.Name, order, flips)
			}
		}
	}
}

// labelsOf runs logits (classes x low) through Labels onto a fresh label map.
func labelsOf(t *testing.T, m Method, logits []float32, classes int, c grid, regions []uint16, probabilities []float32) []byte {
	t.Helper()
	low, out := c.In, c.Out
	g := volume.Geometry{Size: [3]int{out[2], out[1], out[0]}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	labels, err := volume.New(g, 1, volume.Uint8)
	require.NoError(t, err)
	defer labels.Free()
	for i := range labels.Data {
		labels.Data[i] = 255
	}
	l, err := m.Labels(t.Context(), low, classes, c.From, c.To, Target{Labels: labels, View: g.Full(), Probabilities: probabilities, Regions: regions}, 2)
	require.NoError(t, err)
	defer l.Close()
	plane := planes(logits, low)
	for z := range low[0] {
		require.NoError(t, l.Plane(plane(z)))
	}
	return append([]byte(nil), labels.Data...)
}

// planes returns the planes of an array (channels x low) as Labels takes them.
func planes(array []float32, low [3]int) func(z int) (int, []float32, int) {
	array = append([]float32(nil), array...)
	for range kernel.Slack {
		array = append(array, 1e30) // must not count
	}
	n := low[1] * low[2]
	return func(z int) (int, []float32, int) { return z, array[z*n:], low[0] * n }
}

// grid is a change of shape with the spacings in mm.
type grid struct {
	Name     string
	In, Out  [3]int
	From, To [3]float64
}

// checkLabels checks labels and probabilities on three classes made of the golden's
// logits (in), its negative and a constant: labels equal the argmax of nnU-Net's
// resampled logits (want) except where two logits are closer than float32 rounding,
// and probabilities equal their softmax.
func checkLabels(t *testing.T, name string, m Method, in, out []float32, c grid) {
	t.Helper()
	n, k := len(in), len(out)
	logits, want := make([]float32, 3*n), make([]float32, 3*k)
	for i, v := range in {
		logits[i], logits[n+i], logits[2*n+i] = v, -v, 0.3
	}
	for i, v := range out {
		want[i], want[k+i], want[2*k+i] = v, -v, 0.3
	}
	probabilities := make([]float32, 3*k)
	got := labelsOf(t, m, logits, 3, c, nil, probabilities)
	ties := 0
	for i, label := range got {
		best, sum := 0, 0.0
		for class := range 3 {
			if want[class*k+i] > want[best*k+i] {
				best = class
			}
			sum += math.Exp(float64(want[class*k+i]))
		}
		if int(label) != best {
			ties++
			require.InDelta(t, want[best*k+i], want[int(label)*k+i], 1e-5, "%s voxel %d", name, i)
		}
		for class := range 3 {
			require.InDelta(t, math.Exp(float64(want[class*k+i]))/sum, probabilities[class*k+i], 1e-5, "%s voxel %d class %d", name, i, class)
		}
	}
	assert.LessOrEqual(t, ties, 1+k/1000, name)
	// Regions: the later of the positive ones wins, here the constant third everywhere.
	for _, label := range labelsOf(t, m, logits, 3, c, []uint16{7, 9, 5}, nil) {
		require.EqualValues(t, 5, label, name)
	}
	probabilities = probabilities[:2*k]
	for i, label := range labelsOf(t, m, logits[:2*n], 2, c, []uint16{7, 9}, probabilities) {
		switch v := out[i]; {
		case v > 1e-5:
			require.EqualValues(t, 7, label, name)
		case v < -1e-5:
			require.EqualValues(t, 9, label, name)
		}
		require.InDelta(t, 1/(1+math.Exp(-float64(out[i]))), probabilities[i], 1e-5, name)
	}
}

func TestLabelsAgreeWithNNUNet(t *testing.T) {
	for _, c := range goldens(t) {
		checkLabels(t, c.Name, linear, c.in, c.logits, grid{In: c.inShape, Out: c.Shape, From: c.From, To: c.To})
	}
	assert.Zero(t, cmem.Live())
}
