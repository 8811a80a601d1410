package resample

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/volume"
)

// every calls body for each method and grid of testdata/make_goldens.py with the
// grid's input and what nnU-Net makes of it; kind is "images" or "labels".
func every(t *testing.T, kind string, body func(name string, m Method, g grid, in, want []float32)) {
	t.Helper()
	data, err := os.ReadFile("testdata/methods.json")
	require.NoError(t, err)
	var list struct {
		Grids   []grid
		Methods []struct {
			Function  Function
			Arguments struct {
				Order        int     `json:"order"`
				OrderZ       int     `json:"order_z"`
				SeparateZ    *bool   `json:"force_separate_z"`
				Threshold    float64 `json:"separate_z_anisotropy_threshold"`
				Mode         Mode    `json:"mode"`
				ModeZ        Mode    `json:"aniso_axis_mode"`
				MemEfficient bool    `json:"memefficient_seg_resampling"`
			}
		}
		ForImages int
	}
	require.NoError(t, json.Unmarshal(data, &list))
	require.NotEmpty(t, list.Grids)
	if kind == "images" {
		list.Methods = list.Methods[:list.ForImages]
	}
	inputs, _, err := npy.Read("testdata/" + kind + ".npy")
	require.NoError(t, err)
	wants, _, err := npy.Read("testdata/methods_" + kind + ".npy")
	require.NoError(t, err)
	for _, m := range list.Methods {
		a, rest := m.Arguments, inputs
		method := Method{Function: m.Function, Order: a.Order, OrderZ: a.OrderZ, SeparateZ: a.SeparateZ, Threshold: a.Threshold,
			Mode: a.Mode, ModeZ: a.ModeZ, MemEfficient: a.MemEfficient}
		for _, g := range list.Grids {
			in := rest[:g.In[0]*g.In[1]*g.In[2]]
			want := wants[:g.Out[0]*g.Out[1]*g.Out[2]]
			rest, wants = rest[len(in):], wants[len(want):]
			arguments, _ := json.Marshal(a)
			body(fmt.Sprintf("%s %s %s", g.Name, m.Function, arguments), method, g, in, want)
		}
		require.Empty(t, rest)
	}
	require.Empty(t, wants)
	assert.Zero(t, cmem.Live())
}

// Images agree with nnU-Net's arithmetic to a few units of float32 rounding of values
// up to 8; so do they where another axis is the slowest in memory.
func TestEveryMethodOnImages(t *testing.T) {
	worst := 0.0
	every(t, "images", func(name string, m Method, g grid, in, want []float32) {
		lo, hi := Extremes(in)
		shape, err := m.Shape(g.In, g.From, g.To)
		require.NoError(t, err)
		require.Equal(t, g.Out, shape, name)
		turned := make([]float32, len(in)) // x slowest
		for i := range g.In[0] {
			for j := range g.In[1] {
				for k := range g.In[2] {
					turned[(k*g.In[1]+j)*g.In[0]+i] = in[(i*g.In[1]+j)*g.In[2]+k]
				}
			}
		}
		for threads, src := range map[int]Source{
			1: {Data: cmem.Bytes(in), DType: volume.Float32, View: full(g.In), Affine: kernel.Identity},
			3: {Data: cmem.Bytes(turned), DType: volume.Float32, Affine: kernel.Identity,
				View: volume.View{Shape: g.In, Stride: [3]int{1, g.In[0], g.In[0] * g.In[1]}}},
		} {
			got := make([]float32, len(want))
			require.NoError(t, m.Image(got, g.Out, src, g.From, g.To, lo, hi, threads), name)
			for i := range got {
				d := math.Abs(float64(got[i] - want[i]))
				worst = max(worst, d)
				require.LessOrEqual(t, d, 1e-5, "%s voxel %d: got %g, want %g", name, i, got[i], want[i])
			}
		}
	})
	t.Logf("largest difference %g", worst)
}

func TestEveryMethodOnLogits(t *testing.T) {
	every(t, "images", func(name string, m Method, g grid, in, want []float32) {
		checkLabels(t, name, m, in, want, g)
	})
}

// Labels go through the target's view, here the middle of a larger grid with x slowest
// and y reversed, whether they are written plane by plane or at the end.
func TestLabelsThroughAView(t *testing.T) {
	low, out := [3]int{3, 4, 5}, [3]int{5, 6, 7}
	spacing := [3]float64{1, 1, 1}
	logits := make([]float32, 2*3*4*5)
	for i := range logits {
		logits[i] = float32(i * 7919 % 101)
	}
	for _, m := range []Method{linear, cubic} {
		c := grid{In: low, Out: out, From: spacing, To: spacing}
		want := labelsOf(t, m, logits, 2, c, nil, nil)
		// Voxel (z,y,x) of the view lies at (x+1, 6-y, z+1) of a 9 x 8 x 7 grid, slowest first.
		g := volume.Geometry{Size: [3]int{7, 8, 9}, Spacing: spacing, Direction: volume.Identity}
		labels, err := volume.New(g, 1, volume.Uint16)
		require.NoError(t, err)
		view := volume.View{Shape: out, Stride: [3]int{1, -7, 56}, Offset: 56 + 6*7 + 1}
		probabilities := make([]float32, 2*7*8*9)
		l, err := m.Labels(t.Context(), low, 2, spacing, spacing, Target{Labels: labels, View: view, Probabilities: probabilities}, 2)
		require.NoError(t, err)
		plane := planes(logits, low)
		for z := range 3 {
			require.NoError(t, l.Plane(plane(z)))
		}
		l.Close()
		got := volume.As[uint16](labels)
		for i, label := range want {
			z, y, x := i/42, i/7%6, i%7
			at := (x+1)*56 + (6-y)*7 + z + 1
			require.EqualValues(t, label, got[at], "order %d voxel %d", m.Order, i)
			require.Equal(t, label == 1, probabilities[504+at] > 0.5)
			require.InDelta(t, 1, probabilities[at]+probabilities[504+at], 1e-6)
		}
		labels.Free()
	}
	assert.Zero(t, cmem.Live())
}

// Label maps are equal, save where splines above order 1 give two labels the same
// share: there scipy's rounding in float64 decides, not the rule.
func TestEveryMethodOnLabelMaps(t *testing.T) {
	differ, voxels := 0, 0
	every(t, "labels", func(name string, m Method, g grid, in, want []float32) {
		src, got := make([]int16, len(in)), make([]int16, len(want))
		for i, v := range in {
			src[i] = int16(v)
		}
		for i := range got {
			got[i] = 1000
		}
		require.NoError(t, m.Seg(got, g.Out, src, g.In, g.From, g.To, 2), name)
		wrong := 0
		for i := range got {
			if got[i] != int16(want[i]) {
				wrong++
			}
		}
		if m.Function == Spline && max(m.Order, m.OrderZ) > 1 {
			differ, voxels = differ+wrong, voxels+len(got)
			return
		}
		require.Zero(t, wrong, "%s: labels that differ, of %d", name, len(got))
	})
	t.Logf("splines above order 1: %d of %d labels differ", differ, voxels)
	assert.Less(t, differ, voxels/1000) // measured: 32 of 51184, each between shares that differ by 1e-8 at most
}

func TestWhatDoesNotExistIsRefused(t *testing.T) {
	g := grid{In: [3]int{2, 2, 2}, Out: [3]int{3, 3, 3}, From: [3]float64{1, 1, 1}, To: [3]float64{1, 1, 1}}
	for says, m := range map[string]Method{
		"theirs":            {Function: "theirs"},
		"order 6":           {Function: Spline, Order: 6},
		"order_z -1":        {Function: Spline, OrderZ: -1},
		"area":              {Function: Torch, Mode: "area"},
		"bicubic":           {Function: TorchSimple, ModeZ: "bicubic"},
		"contradict":        {Function: NoResampling},
		"no_resampling_dat": {Function: NoResampling2},
	} {
		src, dst, seg := make([]float32, 8), make([]float32, 27), make([]int16, 27)
		image := m.Image(dst, g.Out, Source{Data: cmem.Bytes(src), DType: volume.Float32, View: full(g.In)}, g.From, g.To, 0, 0, 1)
		_, labels := m.Labels(t.Context(), g.In, 2, g.From, g.To, Target{View: full(g.Out)}, 1)
		for _, err := range []error{image, labels, m.Seg(seg, g.Out, make([]int16, 8), g.In, g.From, g.To, 1)} {
			assert.ErrorContains(t, err, says)
			assert.Contains(t, []fault.Kind{fault.Unsupported, fault.Model}, fault.KindOf(err))
		}
	}
}
