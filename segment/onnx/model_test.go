package onnx

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
)

func everything() *Model {
	return &Model{
		IRVersion: 8, ProducerName: "p", ProducerVersion: "1", Opsets: []Opset{{"", 17}, {"ai.onnx.ml", 3}},
		Metadata: []Property{{"k", "v"}, {"empty", ""}, {"", "no key"}},
		Graph: &Graph{
			Name: "g",
			Nodes: []*Node{{Name: "n", OpType: "Op", Domain: "d", Inputs: []string{"x", "", "w"}, Outputs: []string{"y"}, Attributes: []*Attribute{
				{Name: "f", Type: AttrFloat, F: 0}, {Name: "i", Type: AttrInt, I: -3}, {Name: "s", Type: AttrString, S: []byte("t")},
				{Name: "fs", Type: AttrFloats, Floats: []float32{1, 0}}, {Name: "is", Type: AttrInts, Ints: []int64{0, -1}},
			}}},
			Initializers: []*Tensor{{Name: "w", Type: Float, Dims: []int64{1, 0}, Raw: []byte{}}, {Name: "v", Type: Int64, Dims: []int64{1}, Raw: make([]byte, 8)}},
			Inputs:       []*ValueInfo{{Name: "x", Type: Float, Dims: []Dim{{0, "batch"}, {3, ""}, {}}}, {Name: "w", Type: Float, Dims: []Dim{}}},
			Outputs:      []*ValueInfo{{Name: "y", Type: Float}},
		},
	}
}

func TestRoundTrip(t *testing.T) {
	m := everything()
	b, err := m.Marshal()
	require.NoError(t, err)
	got, err := Parse(b)
	require.NoError(t, err)
	require.Equal(t, m, got)
	require.EqualValues(t, 17, got.Opset())
	require.Len(t, got.Graph.DataInputs(), 1)
}

func TestMetadata(t *testing.T) {
	m := everything()
	m.SetMeta("k", "other")
	m.SetMeta("new", "x")
	require.Equal(t, []Property{{"k", "other"}, {"empty", ""}, {"", "no key"}, {"new", "x"}}, m.Metadata)
	v, ok := m.Meta("new")
	require.True(t, ok)
	require.Equal(t, "x", v)
	_, ok = m.Meta("none")
	require.False(t, ok)
}

// TestUnknownFieldsSurvive puts fields that we do not read into each message.
func TestUnknownFieldsSurvive(t *testing.T) {
	extra := func(num protowire.Number) []byte { return appendBytes(nil, num, []byte("kept")) }
	m := everything()
	m.extra = extra(6)
	m.Graph.extra = extra(13)
	m.Graph.Nodes[0].extra = extra(6)
	m.Graph.Nodes[0].Attributes = append(m.Graph.Nodes[0].Attributes, &Attribute{Name: "t", Type: 4, extra: extra(5)})
	m.Graph.Initializers[1].extra = extra(12)
	m.Graph.Inputs[0].extra = extra(3)
	m.Graph.Outputs[0] = &ValueInfo{Name: "list", opaque: appendBytes(nil, 4, []byte{})} // a sequence
	b, err := m.Marshal()
	require.NoError(t, err)
	got, err := Parse(b)
	require.NoError(t, err)
	require.Equal(t, m, got)
}

func TestForeignModel(t *testing.T) {
	b, err := os.ReadFile(testenv.Data(t, "model_flare13_onnx", "model.onnx"))
	require.NoError(t, err)
	m, err := Parse(b)
	require.NoError(t, err)
	require.Empty(t, m.Folds())
	inputs := m.Graph.DataInputs()
	require.Len(t, inputs, 1)
	require.Equal(t, Float, inputs[0].Type)
	require.Equal(t, Fixed(1, 1, 96, 160, 160)[1:], inputs[0].Dims[1:])
	require.EqualValues(t, 14, m.Graph.Outputs[0].Dims[1].Value)
	// The number that the data's README gives.
	require.EqualValues(t, 357882, m.Graph.Parameters(""))
	m.SetMeta("flare", "1")
	written, err := m.Marshal()
	require.NoError(t, err)
	again, err := Parse(written)
	require.NoError(t, err)
	require.Equal(t, m, again)
	_, err = m.ExtractFolds([]string{"0"})
	require.Equal(t, fault.Argument, fault.KindOf(err))
}

func TestParseErrors(t *testing.T) {
	good, err := everything().Marshal()
	require.NoError(t, err)
	for n := range good {
		if _, err := Parse(good[:n]); err != nil {
			require.Equal(t, fault.Format, fault.KindOf(err))
		}
	}
	for name, b := range map[string][]byte{
		"empty":      nil,
		"text":       []byte("this is not a model"),
		"zip":        []byte("PK\x03\x04"),
		"wrong type": appendBytes(nil, 1, []byte("x")),
		"group":      {0x0b, 0x0c},
		"many": func() []byte { // a million nodes of two bytes
			var g []byte
			for range 1 << 20 {
				g = append(g, 0x0a, 0)
			}
			return appendBytes(nil, 7, g)
		}(),
	} {
		_, err := Parse(b)
		require.Equal(t, fault.Format, fault.KindOf(err), name)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range []*Model{everything(), {IRVersion: 3, Opsets: []Opset{{"", 11}}, Graph: &Graph{
		Nodes: []*Node{{Name: "fold_0/a", Outputs: []string{"fold_0/logits"}}, {Name: "fold_1/b"}, {Name: "mean", OpType: "Mean"}}}}} {
		b, err := m.Marshal()
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		m.Opset()
		m.Graph.DataInputs()
		m.Graph.Parameters("")
		if folds := m.Folds(); len(folds) > 0 {
			if _, err := m.ExtractFolds(folds[:1]); err != nil {
				t.Fatal(err)
			}
		}
		// Written once, a model is stable.
		first, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := again.Marshal()
		if err != nil || string(first) != string(second) {
			t.Fatalf("a model changes when it is written twice: %v", err)
		}
	})
}
