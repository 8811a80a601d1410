package onnx_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/onnx/onnxtest"
)

func sizes(dims []onnx.Dim) (out []int) {
	for _, d := range dims {
		out = append(out, int(d.Value))
	}
	return out
}

// TestGoldenNetworks checks the graphs that testdata/check.py compares with
// PyTorch: every value is defined before it is used, and nothing is unused.
func TestGoldenNetworks(t *testing.T) {
	cases, err := onnxtest.Cases("testdata")
	require.NoError(t, err)
	require.Len(t, cases, 14)
	for _, c := range cases {
		b, err := onnxtest.Build(c.Folder)
		require.NoError(t, err, c.Name)
		m, err := onnx.Parse(b)
		require.NoError(t, err, c.Name)
		require.EqualValues(t, 17, m.Opset())
		require.EqualValues(t, 8, m.IRVersion)

		g := m.Graph
		require.Len(t, g.DataInputs(), 1)
		require.Equal(t, "image", g.Inputs[0].Name)
		require.Equal(t, c.Input.Shape, sizes(g.Inputs[0].Dims), c.Name)
		require.Equal(t, "logits", g.Outputs[0].Name)
		require.Equal(t, c.Output.Shape, sizes(g.Outputs[0].Dims), c.Name)
		checkGraph(t, g)
		for _, n := range g.Nodes {
			require.NotEqual(t, "Softmax", n.OpType)
		}
		again, err := m.Marshal()
		require.NoError(t, err)
		require.Equal(t, b, again, c.Name)
	}
}

func checkGraph(t *testing.T, g *onnx.Graph) {
	t.Helper()
	defined, used := map[string]bool{"image": true}, map[string]bool{"logits": true}
	for _, w := range g.Initializers {
		require.False(t, defined[w.Name], w.Name)
		defined[w.Name] = true
		n := int64(4)
		for _, d := range w.Dims {
			n *= d
		}
		require.Equal(t, onnx.Float, w.Type)
		if w.Raw != nil {
			require.EqualValues(t, n, len(w.Raw), w.Name)
		}
	}
	for _, n := range g.Nodes {
		for _, in := range n.Inputs {
			require.True(t, defined[in], "%s uses %s", n.Name, in)
			used[in] = true
		}
		for _, out := range n.Outputs {
			require.False(t, defined[out], out)
			defined[out] = true
		}
	}
	for name := range defined {
		require.True(t, used[name], name)
	}
}

func TestHippocampusNetwork(t *testing.T) {
	b, err := onnxtest.Build(testenv.Data(t, "nnunet_golden", "hippocampus", "model"))
	require.NoError(t, err)
	m, err := onnx.Parse(b)
	require.NoError(t, err)
	checkGraph(t, m.Graph)
	require.Equal(t, []string{"0"}, m.Folds())
	w := m.Graph.Initializer("fold_0/encoder.stages.0.0.convs.0.conv.weight")
	require.Equal(t, []int64{16, 1, 3, 3, 3}, w.Dims)
	// The number of elements that PyTorch counts in the state dict, second
	// names and heads of deep supervision left out.
	require.EqualValues(t, 1402003, m.Graph.Parameters("fold_0/"))
}

// small is a network of two stages with zeros for weights.
func small(t *testing.T) (*nnunet.Architecture, *onnx.StateDict) {
	arch := &nnunet.Architecture{Class: "PlainConvUNet", Dims: 2, Stages: 2, Features: []int{2, 3},
		Kernels: [][]int{{3, 3}, {3, 3}}, Strides: [][]int{{1, 1}, {2, 2}}, BlocksPerStage: []int{1, 1}, DecoderPerStage: []int{1},
		ConvBias: true, Norm: nnunet.Norm{Kind: nnunet.NormInstance, Eps: 1e-5, Affine: true}, Nonlin: nnunet.Nonlin{Kind: nnunet.NonlinReLU}}
	w := onnx.NewStateDict()
	add := func(name string, shape ...int) {
		w.Add(name, shape, func(dst []float32) error {
			n := 1
			for _, d := range shape {
				n *= d
			}
			require.Len(t, dst, n)
			return nil
		})
	}
	for _, p := range []struct {
		name    string
		in, out int
	}{{"encoder.stages.0.0.convs.0.", 1, 2}, {"encoder.stages.1.0.convs.0.", 2, 3}, {"decoder.stages.0.convs.0.", 4, 2}} {
		add(p.name+"conv.weight", p.out, p.in, 3, 3)
		add(p.name+"conv.bias", p.out)
		add(p.name+"norm.weight", p.out)
		add(p.name+"norm.bias", p.out)
	}
	add("decoder.transpconvs.0.weight", 3, 2, 2, 2)
	add("decoder.transpconvs.0.bias", 2)
	add("decoder.seg_layers.0.weight", 5, 2, 1, 1)
	add("decoder.seg_layers.0.bias", 5)
	return arch, w
}

func build(t *testing.T, names ...string) *onnx.Model {
	var folds []onnx.FoldWeights
	var arch *nnunet.Architecture
	for _, name := range names {
		var w *onnx.StateDict
		arch, w = small(t)
		folds = append(folds, onnx.FoldWeights{Name: name, Weights: w})
	}
	m, err := onnx.Network(arch, 1, 5, []int{8, 6}, folds)
	require.NoError(t, err)
	checkGraph(t, m.Graph)
	return m
}

func TestNodesInOrder(t *testing.T) {
	var ops []string
	m := build(t, "0")
	for _, n := range m.Graph.Nodes {
		ops = append(ops, n.OpType)
	}
	require.Equal(t, strings.Fields("Conv InstanceNormalization Relu Conv InstanceNormalization Relu "+
		"ConvTranspose Concat Conv InstanceNormalization Relu Conv"), ops)
	concat := m.Graph.Nodes[7]
	require.Equal(t, []string{"fold_0/decoder.transpconvs.0", "fold_0/encoder.stages.0.0.convs.0.nonlin"}, concat.Inputs)
	strided := m.Graph.Nodes[3]
	require.Equal(t, []int64{2, 2}, strided.Attribute("strides").Ints)
	require.Equal(t, []int64{1, 1, 1, 1}, strided.Attribute("pads").Ints)
	require.Equal(t, []string{"logits"}, m.Graph.Nodes[11].Outputs)
}

func TestExtractFolds(t *testing.T) {
	names := []string{"0", "1", "10", "all"}
	m := build(t, names...)
	m.SetMeta("a", "b")
	require.Equal(t, names, m.Folds())
	mean := m.Graph.Nodes[len(m.Graph.Nodes)-1]
	require.Equal(t, "Mean", mean.OpType)
	require.Equal(t, []string{"fold_0/logits", "fold_1/logits", "fold_10/logits", "fold_all/logits"}, mean.Inputs)
	each := len(m.Graph.Nodes) / 4

	two, err := m.ExtractFolds([]string{"all", "1"})
	require.NoError(t, err)
	checkGraph(t, two.Graph)
	require.Equal(t, []string{"fold_all/logits", "fold_1/logits"}, two.Graph.Nodes[2*each].Inputs)
	require.Len(t, two.Graph.Nodes, 2*each+1)
	two.SetMeta("a", "c") // which must not reach m
	v, _ := m.Meta("a")
	require.Equal(t, "b", v)

	one, err := two.ExtractFolds([]string{"1"})
	require.NoError(t, err)
	checkGraph(t, one.Graph)
	require.Len(t, one.Graph.Nodes, each)
	require.Equal(t, []string{"1"}, one.Folds())
	same, err := one.ExtractFolds([]string{"1"})
	require.NoError(t, err)
	require.Equal(t, one.Graph, same.Graph)
	require.Equal(t, []string{"fold_1/logits"}, lastOf(m, "1").Outputs) // m is as it was

	for _, bad := range [][]string{nil, {"2"}, {"1", "1"}, {""}} {
		_, err := m.ExtractFolds(bad)
		require.Equal(t, fault.Argument, fault.KindOf(err), "%v", bad)
	}
}

func lastOf(m *onnx.Model, fold string) *onnx.Node {
	i := slices.IndexFunc(m.Graph.Nodes, func(n *onnx.Node) bool { return n.Name == "fold_"+fold+"/decoder.seg_layers.0" })
	return m.Graph.Nodes[i]
}

// TestExtractedFoldIsBuiltFold compares with a model of that fold alone.
func TestExtractedFoldIsBuiltFold(t *testing.T) {
	all, one := build(t, "0", "1"), build(t, "1")
	got, err := all.ExtractFolds([]string{"1"})
	require.NoError(t, err)
	a, err := got.Marshal()
	require.NoError(t, err)
	b, err := one.Marshal()
	require.NoError(t, err)
	require.Equal(t, b, a)
}

func TestWeightsThatDoNotFit(t *testing.T) {
	none := func([]float32) error { return nil }
	cases := map[string]struct {
		change func(a *nnunet.Architecture, w *onnx.StateDict)
		kind   fault.Kind
		says   []string
	}{
		"missing": {func(a *nnunet.Architecture, _ *onnx.StateDict) { a.DecoderPerStage = []int{2} }, fault.Model,
			[]string{"fold 3", "decoder.stages.0.convs.1.conv.weight is missing", "decoder.stages.0.convs.1.norm.bias is missing", "[2 2 3 3]"}},
		"extra": {func(_ *nnunet.Architecture, w *onnx.StateDict) { w.Add("encoder.more", []int{1}, none) }, fault.Model,
			[]string{"encoder.more is not part of the network"}},
		"shape": {func(a *nnunet.Architecture, _ *onnx.StateDict) { a.Features[1] = 4 }, fault.Model,
			[]string{"encoder.stages.1.0.convs.0.conv.weight has shape [3 2 3 3], expected [4 2 3 3]"}},
		"many": {func(a *nnunet.Architecture, _ *onnx.StateDict) { a.BlocksPerStage = []int{60, 60} }, fault.Model,
			[]string{"and 460 more"}}, // 2 x 59 blocks of 4 weights, without the 12 that are listed
		"batch norm": {func(a *nnunet.Architecture, _ *onnx.StateDict) { a.Norm.Kind = nnunet.NormBatch }, fault.Model,
			[]string{"running_mean is missing"}},
		"stride": {func(a *nnunet.Architecture, _ *onnx.StateDict) { a.Strides[0] = []int{2, 1} }, fault.Unsupported, []string{"first stage"}},
		"patch":  {func(a *nnunet.Architecture, _ *onnx.StateDict) { a.Strides[1] = []int{2, 4} }, fault.Model, []string{"6 voxels", "multiple of 4"}},
		"dims":   {func(a *nnunet.Architecture, _ *onnx.StateDict) { a.Dims = 3 }, fault.Model, []string{"2 axes"}},
	}
	for name, test := range cases {
		a, w := small(t)
		test.change(a, w)
		_, err := onnx.Network(a, 1, 5, []int{8, 6}, []onnx.FoldWeights{{Name: "3", Weights: w}})
		require.Error(t, err, name)
		require.Equal(t, test.kind, fault.KindOf(err), "%s: %v", name, err)
		for _, s := range test.says {
			require.Contains(t, err.Error(), s, name)
		}
	}
	// Deep-supervision heads and counters are not extra.
	a, w := small(t)
	w.Add("decoder.seg_layers.7.weight", []int{1}, none)
	w.Add("encoder.norm.num_batches_tracked", []int{}, none)
	_, err := onnx.Network(a, 1, 5, []int{8, 6}, []onnx.FoldWeights{{Name: "3", Weights: w}})
	require.NoError(t, err)
	// Heads other than the dataset's labels.
	a, w = small(t)
	_, err = onnx.Network(a, 1, 4, []int{8, 6}, []onnx.FoldWeights{{Name: "3", Weights: w}})
	require.ErrorContains(t, err, "decoder.seg_layers.0.weight has shape [5 2 1 1], expected [4 2 1 1]")

	_, err = onnx.Network(a, 1, 5, []int{8, 6}, nil)
	require.Equal(t, fault.Argument, fault.KindOf(err))
}

// TestFoldsThatDiffer: folds of other architectures are named, each with its
// weights.
func TestFoldsThatDiffer(t *testing.T) {
	none := func([]float32) error { return nil }
	arch, good := small(t)
	_, wide := small(t)
	wide.Add("encoder.stages.1.0.convs.0.conv.bias", []int{7}, none)
	_, more := small(t)
	more.Add("encoder.stages.2.0.convs.0.conv.bias", []int{3}, none)
	_, err := onnx.Network(arch, 1, 5, []int{8, 6}, []onnx.FoldWeights{{Name: "0", Weights: good}, {Name: "1", Weights: wide}, {Name: "all", Weights: more}})
	require.Equal(t, fault.Model, fault.KindOf(err))
	require.Equal(t, "fold 1: the weights do not fit the PlainConvUNet of the plans: encoder.stages.1.0.convs.0.conv.bias has shape [7], expected [3]; "+
		"fold all: the weights do not fit the PlainConvUNet of the plans: encoder.stages.2.0.convs.0.conv.bias is not part of the network", err.Error())

	// Where they come from is said, too: a trainer may have another network.
	c, err := nnunet.OpenCheckpoint("testdata/plain3d/fold_0/checkpoint_final.pth")
	require.NoError(t, err)
	defer c.Close()
	_, err = onnx.Network(arch, 1, 5, []int{8, 6}, []onnx.FoldWeights{{Name: "0", Weights: onnx.CheckpointWeights(c)}})
	require.ErrorContains(t, err, "the weights of testdata/plain3d/fold_0/checkpoint_final.pth (trainer nnUNetTrainer) do not fit")
}

func TestBigModelIsRefused(t *testing.T) {
	g := &onnx.Graph{}
	for range 3 {
		g.Initializers = append(g.Initializers, &onnx.Tensor{LoadSize: 1 << 30, Load: func([]byte) error { return nil }})
	}
	m := &onnx.Model{Graph: g}
	require.Greater(t, m.Size(), 3<<30)
	_, err := m.Marshal()
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
	require.Contains(t, err.Error(), "2 GiB")
}

func TestLoadFails(t *testing.T) {
	a, w := small(t)
	w.Add("decoder.seg_layers.0.bias", []int{5}, func([]float32) error { return fault.New(fault.IO, "no disk") })
	m, err := onnx.Network(a, 1, 5, []int{8, 6}, []onnx.FoldWeights{{Name: "0", Weights: w}})
	require.NoError(t, err)
	_, err = m.Marshal()
	require.Equal(t, fault.IO, fault.KindOf(err))
	require.Equal(t, fault.Argument, fault.KindOf(m.MarshalTo(make([]byte, 5))))
}

func TestGoldenArrays(t *testing.T) {
	cases, err := onnxtest.Cases("testdata")
	require.NoError(t, err)
	for _, c := range cases {
		for _, v := range append(c.Input.Data, c.Output.Data...) {
			require.False(t, math.IsNaN(float64(v)) || math.IsInf(float64(v), 0), c.Name)
		}
	}
}
