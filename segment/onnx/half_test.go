package onnx_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/onnx/onnxtest"
)

func count(m *onnx.Model, op string) (n int) {
	for _, node := range m.Graph.Nodes {
		if node.OpType == op {
			n++
		}
	}
	return n
}

// Every golden network in float16 gives PyTorch's logits to float16 rounding, and is
// float16 but for its ends.
func TestHalfOfGoldenNetworks(t *testing.T) {
	cases, err := onnxtest.Cases("testdata")
	require.NoError(t, err)
	for _, c := range cases {
		data, err := onnxtest.Build(c.Folder)
		require.NoError(t, err)
		m, err := onnx.Parse(data)
		require.NoError(t, err)
		m, err = m.ExtractFolds(m.Folds()[:1])
		require.NoError(t, err)
		want := compute(t, m, engine.ORT, c.Input.Data)

		half, notes, err := m.Half()
		require.NoError(t, err)
		require.Empty(t, notes)
		require.Equal(t, m.Graph.Inputs, half.Graph.Inputs)
		require.Equal(t, []*onnx.ValueInfo{{Name: "logits/float16", Type: onnx.Float16, Dims: m.Graph.Outputs[0].Dims}}, half.Graph.Outputs)
		if count(m, "BatchNormalization") == 0 {
			require.Equal(t, 1, count(half, "Cast"), "%s: at the image", c.Name)
			for _, w := range half.Graph.Initializers {
				require.Equal(t, onnx.Float16, w.Type, "%s %s", c.Name, w.Name)
			}
		}
		// ONNX Runtime's CPU provider computes most of it in float32 again, but between
		// values that were rounded. Computed in float16 throughout, statistics too, by
		// onnx's reference evaluator, these graphs err by 7e-4 to 2.3e-3.
		got := computeHalf(t, half, c.Input.Data)
		require.Less(t, largestError(got, want), 5e-3, "%s: some ten roundings to 2^-11", c.Name)
		if count(m, "BatchNormalization") == 0 {
			require.Greater(t, largestError(got, want), 1e-4, "%s: weights were rounded", c.Name)
		}
	}
}

func TestHalfOfForeignModels(t *testing.T) {
	for name, c := range foreignCases(t) {
		m, _, err := parseForeign(t, name).Static(c.Patch, c.Channels)
		require.NoError(t, err)
		input, want := foreignArrays(t, name)
		half, _, err := m.Half()
		require.NoError(t, err)
		require.Less(t, largestError(computeHalf(t, half, input), want), 5e-3, name)
	}
}

// A weight beyond float16 keeps its operator, and only that, in float32.
func TestHalfKeepsWhatOverflows(t *testing.T) {
	m := headed()
	m.Graph.Nodes = append(m.Graph.Nodes, op("Relu", []string{"y"}, []string{"z"}))
	m.Graph.Outputs[0].Name = "z"
	want := []float32{1, 1e6}
	raw := make([]byte, 24)
	for i := range 6 {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(want[i%2]))
	}
	m.Graph.Initializers[0].Raw = raw
	half, notes, err := m.Half()
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], `"w" holds 1e+06`)
	var kinds []string
	for _, n := range half.Graph.Nodes {
		kinds = append(kinds, n.OpType+strings.Join(n.Inputs, ","))
	}
	require.Equal(t, []string{"Castx", "Relux/float16", "Castf/float16", "Convf,w,b", "Casty", "Reluy/float16"}, kinds)

	input := make([]float32, 32)
	for i := range input {
		input[i] = float32(i) / 32 // exact in float16
	}
	raw = slices.Clone(raw)
	binary.LittleEndian.PutUint32(raw[4:], math.Float32bits(1000))
	binary.LittleEndian.PutUint32(raw[12:], math.Float32bits(65519))
	binary.LittleEndian.PutUint32(raw[20:], math.Float32bits(-1000))
	m.Graph.Initializers[0].Raw = raw
	half, notes, err = m.Half()
	require.NoError(t, err)
	require.Empty(t, notes, "65519 becomes 65504")
	require.Equal(t, 1, count(half, "Cast"))
	require.Less(t, largestError(computeHalf(t, half, input)[:16], compute(t, m, engine.ORT, input)[:16]), 1e-3)
}

func TestHalfRefuses(t *testing.T) {
	m := headed()
	m.Graph.Nodes[0].Attributes = []*onnx.Attribute{{Name: "body", Type: 5}}
	_, _, err := m.Half()
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
	m = headed()
	m.Graph.Outputs[0].Type = onnx.Int64
	_, _, err = m.Half()
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
	m = headed()
	m.Graph.Initializers[0].Raw = make([]byte, 20)
	_, _, err = m.Half()
	require.Equal(t, fault.Format, fault.KindOf(err))
}

// Detached weights are where the model says, and put together they are the model again.
func TestDetach(t *testing.T) {
	cases, err := onnxtest.Cases("testdata")
	require.NoError(t, err)
	data, err := onnxtest.Build(cases[0].Folder)
	require.NoError(t, err)
	m, err := onnx.Parse(data)
	require.NoError(t, err)
	before, err := m.Marshal()
	require.NoError(t, err)

	graph, weights, size := m.Detach("weights", 64)
	require.NotEmpty(t, weights)
	file := make([]byte, size)
	for _, w := range weights {
		require.GreaterOrEqual(t, len(w.Raw), 64)
		require.Zero(t, w.Offset%64)
		require.Equal(t, make([]byte, len(w.Raw)), file[w.Offset:w.Offset+int64(len(w.Raw))], "places do not overlap")
		copy(file[w.Offset:], w.Raw)
	}
	small, err := graph.Marshal()
	require.NoError(t, err)
	require.Less(t, len(small)+int(size)/2, len(before))
	after, err := m.Marshal()
	require.NoError(t, err)
	require.Equal(t, before, after, "the model itself did not change")

	dir := t.TempDir()
	require.NoError(t, writeFile(dir, "weights", file))
	back, err := onnx.Parse(small)
	require.NoError(t, err)
	require.NoError(t, back.LoadExternal(dir))
	input := cases[0].Input.Data
	require.Equal(t, compute(t, m, engine.ORT, input), compute(t, back, engine.ORT, input))
}

func writeFile(dir, name string, data []byte) error {
	return os.WriteFile(filepath.Join(dir, name), data, 0o600)
}
