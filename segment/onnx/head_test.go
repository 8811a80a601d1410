package onnx_test

import (
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/onnx/onnxtest"
)

// multiply applies a head to features: what a convolution of one voxel does.
func multiply(features, weights, bias []float32, n int) []float32 {
	voxels := len(features) / n
	out := make([]float32, len(bias)*voxels)
	for h := range bias {
		for v := range voxels {
			sum := float64(bias[h])
			for c := range n {
				sum += float64(weights[h*n+c]) * float64(features[c*voxels+v])
			}
			out[h*voxels+v] = float32(sum)
		}
	}
	return out
}

// largestError returns the largest difference as part of the largest value.
func largestError(got, want []float32) float64 {
	worst, largest := 0.0, 0.0
	for i, w := range want {
		worst = max(worst, math.Abs(float64(w-got[i])))
		largest = max(largest, math.Abs(float64(w)))
	}
	return worst / largest
}

// Every golden network of one fold has a head, and without it gives features whose
// product with the head's weights are the logits.
func TestCutHead(t *testing.T) {
	cases, err := onnxtest.Cases("testdata")
	require.NoError(t, err)
	for _, c := range cases {
		data, err := onnxtest.Build(c.Folder)
		require.NoError(t, err)
		m, err := onnx.Parse(data)
		require.NoError(t, err)
		folds := m.Folds()
		m, err = m.ExtractFolds(folds[:1])
		require.NoError(t, err)
		want := compute(t, m, engine.ORT, c.Input.Data)
		before := *m.Graph

		weights, bias, features, ok := m.CutHead()
		require.True(t, ok, c.Name)
		heads := c.Output.Shape[1]
		require.Len(t, weights, heads*features, c.Name)
		require.Len(t, bias, heads, c.Name)
		require.Equal(t, append([]int{1, features}, c.Input.Shape[2:]...), sizes(m.Graph.Outputs[0].Dims), c.Name)
		require.Len(t, m.Graph.Nodes, len(before.Nodes)-1)
		require.Len(t, m.Graph.Initializers, len(before.Initializers)-2, "the head's weights are gone, too")
		require.Equal(t, "logits", before.Outputs[0].Name, "the graph itself is as it was")
		for _, device := range []string{engine.ORT, engine.OpenVINO} {
			got := multiply(compute(t, m, device, c.Input.Data), weights, bias, features)
			require.Less(t, largestError(got, want), 1e-5, "%s on %s: float32 rounding", c.Name, device)
		}

		if again, _, _, ok := m.CutHead(); ok {
			t.Errorf("%s: its features come from another head, of %d weights", c.Name, len(again))
		}
	}
}

// Models of others: those whose logits come from a convolution of one voxel.
func TestCutHeadOfForeignModels(t *testing.T) {
	for name, c := range foreignCases(t) {
		m, _, err := parseForeign(t, name).Static(c.Patch, c.Channels)
		require.NoError(t, err)
		input, want := foreignArrays(t, name)
		weights, bias, features, ok := m.CutHead()
		require.True(t, ok, name)
		require.Len(t, bias, c.Heads, name)
		got := multiply(compute(t, m, engine.ORT, input), weights, bias, features)
		require.Less(t, largestError(got, want), 1e-5, name)
	}
}

// headed is a graph x -> Relu -> "f" -> Conv -> "y" of 2 features and 3 heads.
func headed() *onnx.Model {
	m := tiny(17, []*onnx.ValueInfo{value("x", onnx.Float, dims(1, 2, 4, 4)...)}, []*onnx.ValueInfo{value("y", onnx.Float, dims(1, 3, 4, 4)...)},
		op("Relu", []string{"x"}, []string{"f"}), op("Conv", []string{"f", "w", "b"}, []string{"y"}))
	m.Graph.Initializers = []*onnx.Tensor{
		{Name: "w", Type: onnx.Float, Dims: []int64{3, 2, 1, 1}, Raw: make([]byte, 24)},
		{Name: "b", Type: onnx.Float, Dims: []int64{3}, Raw: []byte{0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64}},
	}
	return m
}

func TestCutHeadWithoutBias(t *testing.T) {
	m := headed()
	_, bias, features, ok := m.CutHead()
	require.True(t, ok)
	require.Equal(t, []float32{1, 2, 3}, bias)
	require.Equal(t, 2, features)

	m = headed()
	m.Graph.Nodes[1].Inputs = []string{"f", "w"}
	_, bias, _, ok = m.CutHead()
	require.True(t, ok)
	require.Equal(t, []float32{0, 0, 0}, bias)
}

// What is no head stays as it is.
func TestCutHeadRefuses(t *testing.T) {
	ints := func(name string, v ...int64) *onnx.Attribute {
		return &onnx.Attribute{Name: name, Type: onnx.AttrInts, Ints: v}
	}
	for name, change := range map[string]func(g *onnx.Graph){
		"a kernel of three": func(g *onnx.Graph) { g.Initializers[0].Dims = []int64{3, 2, 3, 1} },
		"a stride":          func(g *onnx.Graph) { g.Nodes[1].Attributes = append(g.Nodes[1].Attributes, ints("strides", 1, 2)) },
		"padding":           func(g *onnx.Graph) { g.Nodes[1].Attributes = append(g.Nodes[1].Attributes, ints("pads", 0, 0, 0, 1)) },
		"groups": func(g *onnx.Graph) {
			g.Nodes[1].Attributes = []*onnx.Attribute{{Name: "group", Type: onnx.AttrInt, I: 2}}
		},
		"another operator":      func(g *onnx.Graph) { g.Nodes[1].OpType = "ConvTranspose" },
		"another domain":        func(g *onnx.Graph) { g.Nodes[1].Domain = "com.example" },
		"weights of float16":    func(g *onnx.Graph) { g.Initializers[0].Type = onnx.Float16 },
		"too few weights":       func(g *onnx.Graph) { g.Initializers[0].Raw = make([]byte, 20) },
		"weights computed":      func(g *onnx.Graph) { g.Initializers = g.Initializers[1:] },
		"a bias computed":       func(g *onnx.Graph) { g.Initializers = g.Initializers[:1] },
		"a bias of another":     func(g *onnx.Graph) { g.Initializers[1].Dims = []int64{4} },
		"nothing before":        func(g *onnx.Graph) { g.Nodes = g.Nodes[1:]; g.Nodes[0].Inputs[0] = "x" },
		"two outputs":           func(g *onnx.Graph) { g.Outputs = append(g.Outputs, value("f", onnx.Float)) },
		"logits that are used":  func(g *onnx.Graph) { g.Nodes = append(g.Nodes, op("Relu", []string{"y"}, []string{"z"})) },
		"an output out of air":  func(g *onnx.Graph) { g.Outputs[0].Name = "z" },
		"a graph inside":        func(g *onnx.Graph) { g.Nodes[0].Attributes = []*onnx.Attribute{{Name: "body", Type: 5}} },
		"weights that are lost": func(g *onnx.Graph) { w := g.Initializers[0]; w.Raw, w.LoadSize, w.Load = nil, 24, lost },
	} {
		m := headed()
		change(m.Graph)
		before := *m.Graph
		_, _, _, ok := m.CutHead()
		require.False(t, ok, name)
		require.Equal(t, &before, m.Graph, name)
	}
}

func lost([]byte) error { return os.ErrNotExist }
