package segment

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/phantom"
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

// Boxes, regions of interest and the body mask leave the same labels in strips, and leave
// out the same tiles.
func TestStripsOfAPart(t *testing.T) {
	image := noiseImage(t, geometry(70, 60, 30), 1)
	for name, o := range map[string]Options{
		"box":       {Box: Box{[3]int{3, 17, 1}, [3]int{60, 39, 12}}},
		"thin box":  {Box: Box{[3]int{3, 17, 1}, [3]int{60, 18, 12}}},
		"region":    {ROI: []int{1}},
		"box of it": {ROI: []int{1}, Box: Box{[3]int{3, 0, 1}, [3]int{60, 39, 12}}},
	} {
		m := open(t, tiny, OpenOptions{})
		whole, part := newLabels(t, image.Geometry), newLabels(t, image.Geometry)
		want, err := m.Segment(t.Context(), image, whole, o)
		require.NoError(t, err)
		for _, n := range []int{2, 3, 5} {
			o.strips = n
			got, err := m.Segment(t.Context(), image, part, o)
			require.NoError(t, err)
			assert.Equal(t, whole.Data, part.Data, "%s in %d strips", name, n)
			assert.Equal(t, want.Skipped, got.Skipped, name)
			if name != "thin box" {
				assert.Greater(t, got.Tiles, want.Tiles, name)
			}
		}
	}
	m := open(t, phantomModel, OpenOptions{Mode: "fast", Threads: 2})
	ct := patient(t, phantom.Clinical)
	want := bytes.Clone(labelsOf(t, m, ct, Options{}))
	assert.Equal(t, want, labelsOf(t, m, ct, Options{strips: 3}))
}

// Progress rises to the end over all strips; every tile counts.
func TestProgressOfStrips(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	image := noiseImage(t, geometry(100, 100, 100), 1)
	last, calls := 0.0, 0
	stats, err := m.Segment(t.Context(), image, newLabels(t, image.Geometry), Options{strips: 4, Progress: func(phase string, fraction float64) {
		assert.GreaterOrEqual(t, fraction, last, phase)
		last = fraction
		calls++
	}})
	require.NoError(t, err)
	t.Logf("%d calls, the last at %g, %+v", calls, last, stats)
	assert.Greater(t, calls, 5)
	assert.Greater(t, last, 0.9)
}

const phantomModel = "../examples/demo/flare13_phantom.onnx"

// bounded is what a process of its own made of a bound.
type bounded struct {
	Peak  int64 // resident size, from the call on
	Tiles int
	Notes []string
	Error string
	Sum   uint32 // of the labels
}

// A process that accepted a bound on its memory stays below it, in one strip or several,
// with the same labels; what is refused would have come close to it.
func TestPeakStaysWithinTheBound(t *testing.T) {
	if text := os.Getenv("FLARE_TEST_BOUND"); text != "" {
		var bound int64
		_, err := fmt.Sscan(text, &bound)
		require.NoError(t, err)
		segmentWithin(t, bound)
		return
	}
	run := func(bound int64) (b bounded) {
		c := exec.Command(os.Args[0], "-test.run=^TestPeakStaysWithinTheBound$", "-test.v")
		c.Env = append(os.Environ(), fmt.Sprintf("FLARE_TEST_BOUND=%d", bound))
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
		if strings.Contains(string(out), "--- SKIP") {
			t.Skipf("%s", out)
		}
		_, text, found := strings.Cut(string(out), "RESULT ")
		require.True(t, found, "%s", out)
		require.NoError(t, json.NewDecoder(strings.NewReader(text)).Decode(&b))
		t.Logf("bound %d: %+v", bound, b)
		return b
	}
	free := run(1 << 40)
	require.Empty(t, free.Error)
	assert.Empty(t, free.Notes)
	refused := run(1 << 20)
	var least int64
	_, err := fmt.Sscanf(refused.Error, "segmenting needs %d bytes at least", &least)
	require.NoError(t, err, refused.Error)
	require.Less(t, least, free.Peak-(16<<20))
	for _, more := range []int64{8 << 20, (free.Peak - least) / 2} { // many strips, and some
		b := run(least + more)
		require.Empty(t, b.Error)
		assert.Less(t, b.Peak, least+more)
		assert.Greater(t, b.Peak, least+more-(100<<20))
		assert.Equal(t, free.Sum, b.Sum)
		assert.Greater(t, b.Tiles, free.Tiles)
		require.Len(t, b.Notes, 1)
		assert.Contains(t, b.Notes[0], fmt.Sprintf("strips to stay within %d bytes: %d tiles instead of %d", least+more, b.Tiles, free.Tiles))
	}
	b := run(free.Peak + 80<<20) // what the estimate may be too high
	assert.Empty(t, b.Error)
	assert.Empty(t, b.Notes)
	assert.Equal(t, free.Tiles, b.Tiles)
}

// segmentWithin is the process of TestPeakStaysWithinTheBound.
func segmentWithin(t *testing.T, bound int64) {
	m := open(t, phantomModel, OpenOptions{Threads: 2})
	g := geometry(512, 512, 60)
	g.Spacing = [3]float64{0.9, 0.9, 3}
	image, labels := noiseImage(t, g, 1), newLabels(t, g)
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // begins a new peak
		t.Skip(err)
	}
	var b bounded
	stats, err := m.Segment(t.Context(), image, labels, Options{MaxMemory: bound})
	b.Peak, b.Tiles, b.Notes = peakMemory(), stats.Tiles, stats.Notes
	if err != nil {
		b.Error = err.Error()
	}
	b.Sum = crc32.ChecksumIEEE(labels.Data)
	text, err := json.Marshal(b)
	require.NoError(t, err)
	fmt.Printf("\nRESULT %s\n", text)
}
