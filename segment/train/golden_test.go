package train

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"sort"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
)

// golden is a case of testdata/make_goldens.py.
type golden struct {
	Arch struct {
		nnunet.Architecture
		Affine     bool
		Eps, Slope float64
	}
	Patch                    []int
	Batch, Channels, Heads   int
	Deep                     bool
	Dropout, StochasticDepth float64
	Loss                     onnx.Loss

	CE, Dice   float64
	BF16       float64 // relative distance of PyTorch's own gradients in bfloat16
	Counts     [3][]float64
	Parameters []struct {
		Name     string
		Shape    []int
		Gradient bool
	}
}

func goldens(t *testing.T) map[string]*golden {
	data, err := os.ReadFile("testdata/cases.json")
	require.NoError(t, err)
	var cases map[string]*golden
	require.NoError(t, json.Unmarshal(data, &cases))
	return cases
}

func names(cases map[string]*golden) []string {
	var out []string
	for name := range cases {
		if name != "curve" {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out
}

func (g *golden) config(t *testing.T, device string) Config {
	arch := g.Arch.Architecture
	arch.Norm = nnunet.Norm{Kind: nnunet.NormInstance, Eps: g.Arch.Eps, Affine: g.Arch.Affine}
	arch.Nonlin = nnunet.Nonlin{Kind: nnunet.NonlinLeakyReLU, Slope: g.Arch.Slope}
	return Config{Arch: &arch, Channels: g.Channels, Heads: g.Heads, Patch: g.Patch, Batch: g.Batch, Loss: g.Loss, NoDeepSupervision: !g.Deep,
		Dropout: g.Dropout, StochasticDepth: g.StochasticDepth, Device: device, Threads: 2, Runtime: testenv.Runtime(t)}
}

// step opens the case's step with its parameters, masks and batch.
func (g *golden) step(t *testing.T, c Config) *Step {
	s, err := NewStep(c)
	if c.Device == engine.CUDA && fault.KindOf(err) == fault.Device {
		t.Skipf("this test needs a GPU: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(s.Close)
	for _, p := range s.Parameters.Tensors {
		noise(p.Data, p.Name)
		scale, offset := float32(0.5), float32(0)
		if len(p.Shape) > 1 {
			scale = float32(math.Sqrt(6 / float64(elements(p.Shape[1:]))))
		} else if len(p.Name) > 11 && p.Name[len(p.Name)-11:] == "norm.weight" {
			offset = 1
		}
		for i := range p.Data {
			p.Data[i] = p.Data[i]*scale + offset
		}
	}
	for _, m := range s.Masks {
		noise(m.Data, m.Name)
		drop := c.Dropout
		if m.Kind == onnx.DropPath {
			drop = c.StochasticDepth
		}
		for i, v := range m.Data {
			if m.Data[i] = float32(1 / (1 - drop)); float64(v) < 2*drop-1 {
				m.Data[i] = 0
			}
		}
	}
	g.batch(s, "")
	return s
}

// batch fills the step's images and targets.
func (g *golden) batch(s *Step, name string) {
	noise(s.Images, "image"+name)
	noise(s.Soft, "target"+name)
	for i := range s.Soft {
		s.Soft[i] = (s.Soft[i] + 1) / 2
	}
	noise(s.Weights, "weight"+name)
	for i := range s.Weights {
		s.Weights[i]++
	}
	classes := max(g.Heads-1, g.Loss.Ignore)
	for _, r := range g.Loss.Regions {
		for _, l := range r {
			classes = max(classes, l)
		}
	}
	classes++
	noise(s.Labels, "target"+name)
	for i, v := range s.Labels {
		s.Labels[i] = float32(min(math.Floor((float64(v)+1)/2*float64(classes)), float64(classes-1)))
	}
}

// noise fills dst with numbers from -1 to 1, a function of name: splitmix64, seeded with
// the FNV-1a hash of name.
func noise(dst []float32, name string) {
	seed := uint64(0xcbf29ce484222325)
	for _, b := range []byte(name) {
		seed = (seed ^ uint64(b)) * 0x100000001b3
	}
	for i := range dst {
		z := seed + uint64(i+1)*0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
		dst[i] = float32(float64(z>>40)/(1<<23) - 1)
	}
}

// The gradient of every parameter is PyTorch's (float64) with nnU-Net's networks and
// losses: its worst error, as part of the largest entry, is at most 1e-4.
func TestGradients(t *testing.T) {
	cases := goldens(t)
	t.Cleanup(func() { assert.Zero(t, cmem.Live()) })
	for _, device := range []string{engine.ORT, engine.OpenVINO, engine.CUDA} {
		for _, name := range names(cases) {
			g := cases[name]
			t.Run(device+"/"+name, func(t *testing.T) {
				s := g.step(t, g.config(t, device))
				r, err := s.Backward(context.Background(), false)
				require.NoError(t, err)
				g.checkResult(t, r)
				worst, at := g.worstGradient(t, s, name)
				t.Logf("worst error %.1e of the largest entry, at %s", worst, at)
				assert.Less(t, worst, 1e-4, at)

				// The same graph again, and added: twice as much.
				before := append([]float32{}, s.Gradients.Values...)
				_, err = s.Backward(context.Background(), true)
				require.NoError(t, err)
				for i, v := range s.Gradients.Values {
					require.InDelta(t, 2*before[i], v, 1e-4*(1+math.Abs(float64(v))))
				}
				if g.Dropout == 0 {
					f, err := s.Forward(context.Background())
					require.NoError(t, err)
					g.checkResult(t, f)
				}
			})
		}
	}
}

func (g *golden) checkResult(t *testing.T, r Result) {
	assert.InDelta(t, g.CE, r.CE, 1e-5)
	assert.InDelta(t, g.Dice, r.Dice, 1e-5)
	assert.InDelta(t, g.CE+g.Dice, r.Loss, 1e-5)
	for i, got := range [][]float64{r.TP, r.FP, r.FN} {
		// A decision between logits that are equal but for rounding may differ.
		assert.InDeltaSlice(t, g.Counts[i], got, 1.5)
	}
}

// worstGradient compares all gradients with the golden ones.
func (g *golden) worstGradient(t *testing.T, s *Step, name string) (worst float64, at string) {
	want, _, err := npy.Read("testdata/" + name + ".npy")
	require.NoError(t, err)
	require.Len(t, s.Gradients.Tensors, len(g.Parameters))
	for _, p := range g.Parameters {
		got := s.Gradients.Find(p.Name)
		require.NotNil(t, got, p.Name)
		require.Equal(t, p.Shape, got.Shape, p.Name)
		require.Equal(t, p.Gradient, got.Gradient != onnx.GradientNone, p.Name)
		if !p.Gradient {
			continue
		}
		most, err := 0.0, 0.0
		for i, v := range got.Data {
			most = max(most, math.Abs(float64(want[i])))
			err = max(err, math.Abs(float64(v-want[i])))
		}
		want = want[len(got.Data):]
		if got.Gradient == onnx.GradientZero {
			require.Less(t, most, 1e-12, p.Name)
			require.Zero(t, err-most, p.Name)
			continue
		}
		require.NotZero(t, most, p.Name)
		if err/most > worst {
			worst, at = err/most, p.Name
		}
	}
	require.Empty(t, want)
	return worst, at
}

// Fifty steps of nnU-Net's optimizer on five batches give the losses of PyTorch.
func TestCurve(t *testing.T) {
	g := goldens(t)["curve"]
	t.Cleanup(func() { assert.Zero(t, cmem.Live()) })
	want, _, err := npy.Read("testdata/curve.npy")
	require.NoError(t, err)
	for _, device := range []string{engine.ORT, engine.OpenVINO, engine.CUDA} {
		t.Run(device, func(t *testing.T) {
			got := g.curve(t, g.step(t, g.config(t, device)), len(want))
			worst := 0.0
			for i, w := range want {
				worst = max(worst, math.Abs(got[i]-float64(w)))
			}
			t.Logf("from %.4f to %.4f, worst difference %.1e", want[0], want[len(want)-1], worst)
			assert.Less(t, worst, 1e-3)
		})
	}
}

// curve returns the losses of so many steps of nnU-Net's optimizer on five batches.
func (g *golden) curve(t *testing.T, s *Step, steps int) (losses []float64) {
	o, err := NewSGD(s)
	require.NoError(t, err)
	defer o.Close()
	for i := range steps {
		g.batch(s, string(rune('0'+i%5)))
		for j, l := range s.Labels {
			s.Images[j] += l / 2
		}
		r, err := s.Backward(context.Background(), false)
		require.NoError(t, err)
		losses = append(losses, r.Loss)
		s.ClipGradients(12)
		o.Apply(PolyRate(0.01, i/10, steps/10))
	}
	return losses
}
