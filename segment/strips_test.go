package segment

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/volume"
)

// Strips give the labels and probabilities of the whole to the last bit: for the models of
// the matrix, which are of every kind (axes transposed and flipped, mirroring, folds,
// regions, 2-D, cascades, every resampling function, more classes than features).
func TestStripsChangeNothing(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("matrix", "rows.json"))
	require.NoError(t, err)
	var rows []struct {
		Name, Model, ONNX, Folds, Checkpoint, Previous, Combine string
		Inputs                                                  []string
		Mirror                                                  bool
	}
	require.NoError(t, json.Unmarshal(data, &rows))
	path := func(name string) string { return filepath.Join("matrix", "testdata", filepath.FromSlash(name)) }
	repeated, heads := 0, 0
	for _, row := range rows {
		if row.ONNX != "" || row.Combine != "" { // no folder, no single model
			continue
		}
		t.Run(row.Name, func(t *testing.T) {
			m := open(t, path(row.Model), OpenOptions{Folds: row.Folds, Checkpoint: row.Checkpoint})
			if m.parts[0].head != nil {
				heads++
			}
			image, err := imageio.ReadCase(t.Context(), path(row.Inputs[0]), len(m.parts[0].dataset.Channels))
			require.NoError(t, err)
			defer image.Free()
			o := Options{Mirror: row.Mirror}
			if row.Previous != "" {
				previous, err := imageio.Read(t.Context(), path(row.Previous))
				require.NoError(t, err)
				defer previous.Free()
				o.Previous = previous.Volume
			}
			segment := func(o Options) (Stats, []byte) {
				labels, err := volume.New(image.Geometry, 1, m.labelType())
				require.NoError(t, err)
				defer labels.Free()
				stats, err := m.Segment(t.Context(), image.Volume, labels, o)
				require.NoError(t, err)
				return stats, bytes.Clone(labels.Data)
			}
			whole, want := segment(o)
			p := o
			p.Probabilities = make([]float32, m.heads()*image.Voxels())
			segment(p)
			wantP := p.Probabilities
			live := cmem.Live()
			for _, n := range []int{1, 2, 3, 7} {
				o.strips, p.strips = n, n
				stats, got := segment(o)
				require.Equal(t, want, got, "%d strips", n)
				require.Equal(t, whole.Skipped, stats.Skipped)
				require.GreaterOrEqual(t, stats.Tiles, whole.Tiles)
				repeated += stats.Tiles - whole.Tiles
			}
			p.Probabilities = make([]float32, len(wantP))
			segment(p)
			require.Equal(t, wantP, p.Probabilities)
			assert.Equal(t, live, cmem.Live())
		})
	}
	assert.Greater(t, repeated, 100)
	assert.Positive(t, heads)
}
