package nnunet

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/testenv"
)

// TestWriteCheckpoint writes the weights of nnU-Net's own checkpoint and reads them back.
// (That PyTorch and nnU-Net read such a file: segment/train/testdata/check_export.py.)
func TestWriteCheckpoint(t *testing.T) {
	from, err := OpenCheckpoint(testenv.Data(t, "nnunet_golden", "hippocampus", "model", "fold_0", "checkpoint_final.pth"))
	require.NoError(t, err)
	defer from.Close()
	plans := []byte(`{"a": [1, 2.5, -3, null, true], "b": {"c": "d"}, "e": 123456789012}`)
	e := Export{Plans: plans, Dataset: []byte(`{}`), Configuration: "3d_fullres", Fold: "0", MirrorAxes: []int{0, 2},
		Training: Training{Epochs: 2, BestEMA: 0.5, Loss: []float64{1, 0.5}, ClassDice: [][]float64{{0.1}, {0.2, 0.3}}}}
	for name, tensor := range from.Weights {
		values := make([]float32, tensor.Len())
		require.NoError(t, tensor.Float32(values))
		e.Parameters = append(e.Parameters, NamedArray{name, tensor.Shape, values})
	}
	path := filepath.Join(t.TempDir(), "checkpoint_final.pth")
	var b bytes.Buffer
	require.NoError(t, e.Write(&b))
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o666))
	c, err := OpenCheckpoint(path)
	require.NoError(t, err)
	defer c.Close()
	assert.Equal(t, "nnUNetTrainer", c.TrainerName)
	assert.Equal(t, "3d_fullres", c.Configuration)
	assert.Equal(t, "0", c.Fold)
	assert.Equal(t, []int{0, 2}, c.MirrorAxes)
	require.Len(t, c.Weights, len(e.Parameters))
	for _, p := range e.Parameters {
		require.Contains(t, c.Weights, p.Name)
		got := make([]float32, len(p.Values))
		require.NoError(t, c.Weights[p.Name].Float32(got))
		assert.Equal(t, p.Values, got)
		assert.Equal(t, p.Shape, c.Weights[p.Name].Shape)
	}
	e.Plans = json.RawMessage(`{"a": `)
	assert.Error(t, e.Write(&b))
}

func TestAllNames(t *testing.T) {
	for _, name := range []string{"encoder.stages.0.0.convs.1.conv.weight", "encoder.stages.1.blocks.0.skip.1.norm.bias", "decoder.stages.0.convs.0.norm.weight",
		"decoder.seg_layers.1.bias", "encoder.stem.convs.0.conv.weight"} {
		for _, n := range allNames(name) {
			assert.Equal(t, name, canonicalName(n))
		}
	}
	assert.ElementsMatch(t, []string{"encoder.stem.convs.0.conv.weight", "encoder.stem.convs.0.all_modules.0.weight",
		"decoder.encoder.stem.convs.0.conv.weight", "decoder.encoder.stem.convs.0.all_modules.0.weight"}, allNames("encoder.stem.convs.0.conv.weight"))
	assert.Equal(t, []string{"decoder.transpconvs.0.bias"}, allNames("decoder.transpconvs.0.bias"))
}
