package train

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/internal/npy"
)

// Fast steps, in bfloat16 or on a GPU in TF32, have gradients about as far from those of
// PyTorch's float64 as PyTorch's own in bfloat16, and their losses go down as those of
// PyTorch's float32.
func TestFast(t *testing.T) {
	cases := goldens(t)
	for _, d := range []struct {
		device, precision string
		least             float64 // distance of the gradients, else it was not fast
	}{{engine.OpenVINO, "bf16", 1e-3}, {engine.CUDA, "tf32", 1e-5}} {
		step := func(t *testing.T, g *golden) *Step {
			c := g.config(t, d.device)
			c.Fast = true
			s := g.step(t, c)
			if d.device == engine.OpenVINO && s.Precision == "fp32" {
				t.Skipf("device %s computes in %s: %v", s.Device, s.Precision, s.Notes)
			}
			require.Equal(t, d.precision, s.Precision)
			return s
		}
		for _, name := range names(cases) {
			g := cases[name]
			t.Run(d.device+"/"+name, func(t *testing.T) {
				s := step(t, g)
				r, err := s.Backward(context.Background(), false)
				require.NoError(t, err)
				assert.InDelta(t, g.CE, r.CE, 0.02*math.Abs(g.CE))
				assert.InDelta(t, g.Dice, r.Dice, 0.02)
				off := g.gradientDistance(t, s, name)
				t.Logf("relative distance of the gradients %.1e, of PyTorch's in bfloat16 %.1e", off, g.BF16)
				assert.Less(t, off, 2*g.BF16+0.04)
				assert.Greater(t, off, d.least, "was it computed in %s?", d.precision)
			})
		}
		t.Run(d.device+"/curve", func(t *testing.T) {
			g := cases["curve"]
			want, _, err := npy.Read("testdata/curve.npy")
			require.NoError(t, err)
			got := g.curve(t, step(t, g), len(want))
			worst := 0.0
			for i, w := range want {
				worst = max(worst, math.Abs(got[i]-float64(w)))
			}
			t.Logf("worst difference %.1e", worst)
			assert.Less(t, worst, 0.02)
		})
	}
}

// A whole fast run learns as an exact one.
func TestFastRun(t *testing.T) {
	c := smallCache(t, 3)
	losses := func(fast bool) (out []float64) {
		r := smallRun(t, c)
		r.Options.Device, r.Options.Fast = engine.OpenVINO, fast
		r.Settings.ValidationIterations = 4
		_, err := Run(t.Context(), r)
		require.NoError(t, err)
		state, _ := parametersOf(t, r.Folder)
		for _, e := range state.Epochs {
			out = append(out, e.Loss, e.ValidationLoss)
		}
		return out
	}
	exact, fast := losses(false), losses(true)
	t.Log(exact, fast)
	assert.InDeltaSlice(t, exact, fast, 0.02)
	assert.Less(t, fast[len(fast)-2], fast[0]-0.05)
}

// gradientDistance is the norm of the difference between all gradients and the golden
// ones, as part of the norm of those.
func (g *golden) gradientDistance(t *testing.T, s *Step, name string) float64 {
	want, _, err := npy.Read("testdata/" + name + ".npy")
	require.NoError(t, err)
	var off, all float64
	for _, p := range g.Parameters {
		if !p.Gradient {
			continue
		}
		for i, v := range s.Gradients.Find(p.Name).Data {
			off += math.Pow(float64(v)-float64(want[i]), 2)
			all += math.Pow(float64(want[i]), 2)
		}
		want = want[len(s.Gradients.Find(p.Name).Data):]
	}
	return math.Sqrt(off / all)
}
