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

func extremesOf(s []float32) (lo, hi float32) { return extremes(s, true) }

// full is the view of a row-major array.
func full(shape [3]int) volume.View {
	return volume.View{Shape: shape, Stride: [3]int{shape[1] * shape[2], shape[2], 1}}
}

func TestRulesAgreeWithNNUNet(t *testing.T) {
	for _, c := range goldens(t) {
		shape, err := Shape(c.inShape, c.From, c.To)
		assert.NoError(t, err)
		assert.Equal(t, c.Shape, shape, c.Name)
		assert.Equal(t, c.Axis, SeparateAxis(c.From, c.To, nil), c.Name)
	}
	yes, no := true, false
	assert.Equal(t, 0, SeparateAxis([3]float64{2, 1, 1}, [3]float64{1, 1, 1}, &yes))
	assert.Equal(t, -1, SeparateAxis([3]float64{9, 1, 1}, [3]float64{1, 1, 1}, &no))
	assert.Equal(t, -1, SeparateAxis([3]float64{1, 1, 1}, [3]float64{1, 1, 1}, &yes))
	_, err := Shape([3]int{1, 1, 1}, [3]float64{0.1, 1, 1}, [3]float64{1, 1, 1})
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
				lo, hi := extremesOf(c.in)
				dst := make([]float32, len(c.image))
				src := Source{Data: cmem.Bytes(c.in), DType: volume.Float32, View: full(c.inShape), Affine: kernel.Identity}
				require.NoError(t, Image(dst, c.Shape, src, c.Axis, lo, hi, threads))
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

// A source stored with other axes gives the same image as the stored order.
func TestImageOfAPermutedAndFlippedSource(t *testing.T) {
	for _, c := range goldens(t) {
		n := c.inShape
		// Stored x-slowest and with y reversed: element (z,y,x) at x*ny*nz + (ny-1-y)*nz + z.
		stored := make([]float32, len(c.in))
		for z := range n[0] {
			for y := range n[1] {
				for x := range n[2] {
					stored[x*n[1]*n[0]+(n[1]-1-y)*n[0]+z] = c.in[(z*n[1]+y)*n[2]+x]
				}
			}
		}
		view := volume.View{Shape: n, Stride: [3]int{1, -n[0], n[1] * n[0]}, Offset: (n[1] - 1) * n[0]}
		lo, hi := extremesOf(c.in)
		want, got := make([]float32, len(c.image)), make([]float32, len(c.image))
		require.NoError(t, Image(want, c.Shape, Source{cmem.Bytes(c.in), volume.Float32, full(n), kernel.Identity}, c.Axis, lo, hi, 1))
		require.NoError(t, Image(got, c.Shape, Source{cmem.Bytes(stored), volume.Float32, view, kernel.Identity}, c.Axis, lo, hi, 1))
		assert.Equal(t, want, got, c.Name)
	}
}

// labelsOf runs logits (classes x low) through Labels onto a fresh label map.
func labelsOf(t *testing.T, logits []float32, classes int, low, out [3]int, axis int, regions []uint16, probabilities []float32) []byte {
	t.Helper()
	g := volume.Geometry{Size: [3]int{out[2], out[1], out[0]}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	labels, err := volume.New(g, 1, volume.Uint8)
	require.NoError(t, err)
	defer labels.Free()
	for i := range labels.Data {
		labels.Data[i] = 255
	}
	l, err := NewLabels(low, classes, axis, Target{Labels: labels, View: g.Full(), Probabilities: probabilities, Regions: regions}, 2)
	require.NoError(t, err)
	defer l.Close()
	plane := low[1] * low[2]
	for z := range low[0] {
		require.NoError(t, l.Plane(z, func(dst []float32) error {
			for c := range classes {
				copy(dst[c*plane:(c+1)*plane], logits[(c*low[0]+z)*plane:])
			}
			return nil
		}))
	}
	return append([]byte(nil), labels.Data...)
}

// Three classes made of the golden's logits (itself, its negative, a constant):
// labels equal the argmax of nnU-Net's resampled logits except where two logits are
// closer than float32 rounding, and probabilities equal their softmax.
func TestLabelsAgreeWithNNUNet(t *testing.T) {
	for _, c := range goldens(t) {
		n, m := len(c.in), len(c.logits)
		logits, want := make([]float32, 3*n), make([]float32, 3*m)
		for i, v := range c.in {
			logits[i], logits[n+i], logits[2*n+i] = v, -v, 0.3
		}
		for i, v := range c.logits {
			want[i], want[m+i], want[2*m+i] = v, -v, 0.3
		}
		probabilities := make([]float32, 3*m)
		got := labelsOf(t, logits, 3, c.inShape, c.Shape, c.Axis, nil, probabilities)
		ties := 0
		for i, label := range got {
			best, sum := 0, 0.0
			for k := range 3 {
				if want[k*m+i] > want[best*m+i] {
					best = k
				}
				sum += math.Exp(float64(want[k*m+i]))
			}
			if int(label) != best {
				ties++
				require.InDelta(t, want[best*m+i], want[int(label)*m+i], 1e-5, "%s voxel %d", c.Name, i)
			}
			for k := range 3 {
				require.InDelta(t, math.Exp(float64(want[k*m+i]))/sum, probabilities[k*m+i], 1e-5, "%s voxel %d class %d", c.Name, i, k)
			}
		}
		assert.LessOrEqual(t, ties, 1+m/1000, c.Name)
		// Regions: the later of the positive ones wins.
		regions := labelsOf(t, logits, 3, c.inShape, c.Shape, c.Axis, []uint16{7, 9, 0}[:3], nil)
		for i, label := range regions {
			assert.Zero(t, label, "%s voxel %d: the constant third region is positive everywhere", c.Name, i)
			break
		}
		two := labelsOf(t, logits[:2*n], 2, c.inShape, c.Shape, c.Axis, []uint16{7, 9}, nil)
		for i, label := range two {
			switch v := c.logits[i]; {
			case v > 1e-5:
				require.EqualValues(t, 7, label)
			case v < -1e-5:
				require.EqualValues(t, 9, label)
			}
		}
	}
	assert.Zero(t, cmem.Live())
}
