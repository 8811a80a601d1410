package onnx_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/onnx"
)

// foreign is a case of testdata/foreign/cases.json.
type foreign struct {
	Patch    []int
	Channels int
	Heads    int
	Output   string // "": whatever the exporter called it
	Notes    []string
}

func foreignCases(t testing.TB) map[string]foreign {
	text, err := os.ReadFile("testdata/foreign/cases.json")
	require.NoError(t, err)
	var cases map[string]foreign
	require.NoError(t, json.Unmarshal(text, &cases))
	return cases
}

func parseForeign(t testing.TB, name string) *onnx.Model {
	b, err := os.ReadFile(filepath.Join("testdata", "foreign", name+".onnx"))
	require.NoError(t, err)
	m, err := onnx.Parse(b)
	require.NoError(t, err)
	require.NoError(t, m.LoadExternal(filepath.Join("testdata", "foreign")))
	return m
}

// TestForeignModels: PyTorch's exporters, opset 11 to 21. What Static makes of
// their models computes PyTorch's logits on both CPU devices.
func TestForeignModels(t *testing.T) {
	cases := foreignCases(t)
	require.Len(t, cases, 5)
	for name, c := range cases {
		m, notes, err := parseForeign(t, name).Static(c.Patch, c.Channels)
		require.NoError(t, err, name)
		require.Len(t, notes, len(c.Notes), name)
		for i, s := range c.Notes {
			require.Contains(t, notes[i], s, name)
		}
		in, out := m.Graph.Inputs, m.Graph.Outputs
		require.Len(t, in, 1)
		require.Len(t, out, 1)
		require.Equal(t, append([]int{1, c.Channels}, c.Patch...), sizes(in[0].Dims), name)
		require.Equal(t, append([]int{1, c.Heads}, c.Patch...), sizes(out[0].Dims), name)
		if c.Output != "" {
			require.Equal(t, c.Output, out[0].Name)
		}

		input, want := foreignArrays(t, name)
		for _, device := range []string{engine.OpenVINO, engine.ORT} {
			require.Less(t, largestError(compute(t, m, device, input), want), 1e-5, "%s on %s", name, device) // float32 rounding
		}
	}
}

// foreignArrays returns a case's input and the logits that PyTorch computes.
func foreignArrays(t *testing.T, name string) (input, want []float32) {
	input, _, err := npy.Read(filepath.Join("testdata", "foreign", name+".in.npy"))
	require.NoError(t, err)
	want, _, err = npy.Read(filepath.Join("testdata", "foreign", name+".out.npy"))
	require.NoError(t, err)
	return input, want
}

// compute runs a model of one input and one output.
func compute(t *testing.T, m *onnx.Model, device string, input []float32) []float32 {
	t.Helper()
	b, err := m.Marshal()
	require.NoError(t, err)
	in, out := m.Graph.DataInputs()[0], m.Graph.Outputs[0]
	network := engine.Network{ONNX: b, Input: in.Name, InputShape: long(in.Dims), Output: out.Name, OutputShape: long(out.Dims)}
	s, err := engine.Open([]engine.Network{network}, engine.Options{Device: device, Threads: 2, Runtime: testenv.Runtime(t)})
	require.NoError(t, err, "on %s", device)
	defer s.Close()
	copy(s.Inputs[0], input)
	require.NoError(t, s.Run(context.Background(), 0, 0))
	return slices.Clone(s.Outputs[0])
}

// computeHalf is compute for a model whose output is float16: by a Cast more.
func computeHalf(t *testing.T, half *onnx.Model, input []float32) []float32 {
	t.Helper()
	out := half.Graph.Outputs[0]
	require.Equal(t, onnx.Float16, out.Type)
	m, graph, wide := *half, *half.Graph, *out
	wide.Name, wide.Type = "wide", onnx.Float
	graph.Nodes = append(slices.Clone(graph.Nodes), op("Cast", []string{out.Name}, []string{"wide"}, &onnx.Attribute{Name: "to", Type: onnx.AttrInt, I: int64(onnx.Float)}))
	graph.Outputs, m.Graph = []*onnx.ValueInfo{&wide}, &graph
	return compute(t, &m, engine.ORT, input)
}

func long(dims []onnx.Dim) (out []int64) {
	for _, d := range dims {
		out = append(out, d.Value)
	}
	return out
}

// TestStaticOfStatic: nothing is left to do.
func TestStaticOfStatic(t *testing.T) {
	once, _, err := parseForeign(t, "opset13_list").Static([]int{4, 8, 12}, 1)
	require.NoError(t, err)
	twice, notes, err := once.Static([]int{4, 8, 12}, 1)
	require.NoError(t, err)
	require.Empty(t, notes)
	a, err := once.Marshal()
	require.NoError(t, err)
	b, err := twice.Marshal()
	require.NoError(t, err)
	require.Equal(t, a, b)
	require.Greater(t, len(parseForeign(t, "opset13_list").Graph.Nodes), len(once.Graph.Nodes)) // without the coarse head
}

func value(name string, d onnx.DType, dims ...onnx.Dim) *onnx.ValueInfo {
	return &onnx.ValueInfo{Name: name, Type: d, Dims: dims}
}

func dims(sizes ...int64) []onnx.Dim {
	out := make([]onnx.Dim, len(sizes))
	for i, n := range sizes {
		if out[i].Value = n; n == 0 {
			out[i].Param = "N"
		}
	}
	return out
}

// tiny is a graph of operators on "x": name of operator, inputs, outputs.
func tiny(opset int64, in, out []*onnx.ValueInfo, nodes ...*onnx.Node) *onnx.Model {
	return &onnx.Model{IRVersion: 8, Opsets: []onnx.Opset{{Version: opset}}, Graph: &onnx.Graph{Inputs: in, Outputs: out, Nodes: nodes}}
}

func op(kind string, in, out []string, attributes ...*onnx.Attribute) *onnx.Node {
	return &onnx.Node{OpType: kind, Inputs: in, Outputs: out, Attributes: attributes}
}

func TestStaticRefuses(t *testing.T) {
	x := value("x", onnx.Float, dims(0, 1, 4, 6)...)
	y := value("y", onnx.Float, dims(0, 2, 4, 6)...)
	relu := op("Relu", []string{"x"}, []string{"y"})
	in, out := []*onnx.ValueInfo{x}, []*onnx.ValueInfo{y}
	unknown := op("Mystery", []string{"x"}, []string{"y", "z"})
	type of = []*onnx.ValueInfo
	for name, c := range map[string]struct {
		m    *onnx.Model
		kind fault.Kind
		says []string
	}{
		"old opset":    {tiny(10, in, out, relu), fault.Unsupported, []string{"10", "11 to 21"}},
		"new opset":    {tiny(22, in, out, relu), fault.Unsupported, []string{"22"}},
		"no input":     {tiny(17, nil, out, relu), fault.Unsupported, []string{"0 inputs"}},
		"two inputs":   {tiny(17, of{x, value("clicks", onnx.Float, dims(1)...)}, out, relu), fault.Unsupported, []string{`"x" [N 1 4 6]`, `"clicks" [1]`}},
		"half input":   {tiny(17, of{value("x", onnx.Float16, dims(1, 1, 4, 6)...)}, out, relu), fault.Unsupported, []string{"float32"}},
		"batch of two": {tiny(17, of{value("x", onnx.Float, dims(2, 1, 4, 6)...)}, out, relu), fault.Unsupported, []string{"batch size of 2"}},
		"three axes":   {tiny(17, of{value("x", onnx.Float, dims(0, 1, 4, 6, 8)...)}, out, relu), fault.Model, []string{"5 dimensions"}},
		"channels":     {tiny(17, of{value("x", onnx.Float, dims(0, 3, 4, 6)...)}, out, relu), fault.Model, []string{"[N 3 4 6]", "[1 1 4 6]"}},
		"patch":        {tiny(17, of{value("x", onnx.Float, dims(0, 1, 4, 8)...)}, out, relu), fault.Model, []string{"[N 1 4 8]", "[1 1 4 6]"}},
		"no output":    {tiny(17, in, nil, relu), fault.Model, []string{"no output"}},
		"labels":       {tiny(17, in, of{value("y", onnx.Int64, dims(1, 4, 6)...)}, relu), fault.Model, []string{`"y" [1 4 6]`, "float32"}},
		"coarse":       {tiny(17, in, of{value("y", onnx.Float, dims(1, 2, 2, 3)...)}, unknown), fault.Model, []string{"[1 2 2 3]"}},
		"by operators": {tiny(17, in, of{value("y", onnx.Float, dims(1, 2, 4, 6)...)}, op("MaxPool", []string{"x"}, []string{"y"},
			&onnx.Attribute{Name: "kernel_shape", Type: onnx.AttrInts, Ints: []int64{2, 2}})), fault.Model, []string{"[1 1 3 5]"}},
		"two outputs": {tiny(17, in, of{y, value("z", onnx.Float, dims(0, 3, 4, 6)...)}, unknown), fault.Unsupported,
			[]string{`"y" [N 2 4 6]`, `"z" [N 3 4 6]`, "export one"}},
		"not told apart": {tiny(17, in, of{value("y", onnx.Float, dims(0, 2, 0, 0)...), value("z", onnx.Float, dims(0, 2, 0, 0)...)}, unknown),
			fault.Unsupported, []string{`"y"`, `"z"`}},
		"unknown heads": {tiny(17, in, of{value("y", onnx.Float, dims(0, 0, 4, 6)...)}, unknown), fault.Model, []string{"channels"}},
		"unknown shape": {tiny(17, in, of{value("y", onnx.Float)}, unknown), fault.Model, []string{"dimensions"}},
	} {
		_, _, err := c.m.Static([]int{4, 6}, 1)
		require.Error(t, err, name)
		require.Equal(t, c.kind, fault.KindOf(err), "%s: %v", name, err)
		for _, s := range c.says {
			require.ErrorContains(t, err, s, name)
		}
	}
	// -1 and 0 for the batch, and no shape at all.
	for _, d := range [][]onnx.Dim{{{Value: -1}, {Value: 1}, {Value: 4}, {Value: 6}}, {{}, {Value: 1}, {Value: -1}, {}}, nil} {
		m, _, err := tiny(17, []*onnx.ValueInfo{value("x", onnx.Float, d...)}, out, unknown).Static([]int{4, 6}, 1)
		require.NoError(t, err)
		require.Equal(t, []int{1, 1, 4, 6}, sizes(m.Graph.Inputs[0].Dims))
	}
}

// TestSoftmaxIsTakenOff only where it is over the channels alone.
func TestSoftmaxIsTakenOff(t *testing.T) {
	axis := func(i int64) *onnx.Attribute { return &onnx.Attribute{Name: "axis", Type: onnx.AttrInt, I: i} }
	in := []*onnx.ValueInfo{value("x", onnx.Float, dims(0, 2, 4, 6)...)}
	out := []*onnx.ValueInfo{value("p", onnx.Float, dims(0, 2, 4, 6)...)}
	relu := op("Relu", []string{"x"}, []string{"y"})
	for name, c := range map[string]struct {
		opset int64
		node  *onnx.Node
		want  string
	}{
		"axis 1":      {13, op("Softmax", []string{"y"}, []string{"p"}, axis(1)), "y"},
		"axis -3":     {13, op("LogSoftmax", []string{"y"}, []string{"p"}, axis(-3)), "y"},
		"default":     {13, op("Softmax", []string{"y"}, []string{"p"}), "p"},
		"another":     {17, op("Softmax", []string{"y"}, []string{"p"}, axis(2)), "p"},
		"opset 12":    {12, op("Softmax", []string{"y"}, []string{"p"}, axis(1)), "p"}, // over everything after the batch
		"sigmoid":     {17, op("Sigmoid", []string{"y"}, []string{"p"}), "y"},
		"of an input": {17, op("Sigmoid", []string{"x"}, []string{"p"}), "p"},
		"foreign":     {17, &onnx.Node{OpType: "Sigmoid", Domain: "theirs", Inputs: []string{"y"}, Outputs: []string{"p"}}, "p"},
	} {
		m, notes, err := tiny(c.opset, in, out, relu, c.node).Static([]int{4, 6}, 2)
		require.NoError(t, err, name)
		require.Equal(t, c.want, m.Graph.Outputs[0].Name, name)
		require.Equal(t, c.want == "y", len(notes) == 1, name)
	}
	// Logits and what is made of them are one.
	both := []*onnx.ValueInfo{value("y", onnx.Float, dims(0, 2, 4, 6)...), out[0]}
	m, notes, err := tiny(17, in, both, relu, op("Softmax", []string{"y"}, []string{"p"}, axis(1))).Static([]int{4, 6}, 2)
	require.NoError(t, err)
	require.Equal(t, "y", m.Graph.Outputs[0].Name)
	require.Len(t, notes, 1)
	require.Len(t, m.Graph.Nodes, 1)
}

func TestLoadExternalRefuses(t *testing.T) {
	b, err := os.ReadFile("testdata/foreign/opset21_external.onnx")
	require.NoError(t, err)
	m, err := onnx.Parse(b)
	require.NoError(t, err)
	_, _, err = m.Static([]int{8, 8, 12}, 1)
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
	require.ErrorContains(t, err, "another file")
	dir := t.TempDir()
	err = m.LoadExternal(dir)
	require.Equal(t, fault.NotFound, fault.KindOf(err))
	require.ErrorContains(t, err, "opset21_external.onnx.data")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "opset21_external.onnx.data"), make([]byte, 40), 0o644))
	require.Equal(t, fault.Format, fault.KindOf(m.LoadExternal(dir)))
}

func FuzzStatic(f *testing.F) {
	for name := range foreignCases(f) {
		b, err := os.ReadFile(filepath.Join("testdata", "foreign", name+".onnx"))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := onnx.Parse(b)
		if err != nil {
			return
		}
		for _, patch := range [][]int{{8, 16}, {4, 8, 8}} {
			if s, _, err := m.Static(patch, 1); err == nil && (len(s.Graph.Outputs) != 1 || s.Graph.Outputs[0].Dims[0].Value != 1) {
				t.Fatal("not static")
			}
		}
	})
}
