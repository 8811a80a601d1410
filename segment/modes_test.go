package segment

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/phantom"
	"github.com/libflare/libflare/segment/volume"
)

// What fast may lose against exact: Dice of an organ above 1 ml, and on average.
const (
	fastOrgan = 0.995
	fastMean  = 0.998
)

func TestFastIsCloseToExact(t *testing.T) {
	bundle := flare13(t)
	exact, fast := open(t, bundle, OpenOptions{Threads: 2}), open(t, bundle, OpenOptions{Threads: 2, Mode: "fast"})
	for _, name := range []string{"example_ct_lps.nii.gz", "ct_512x512x168.nii.gz"} {
		image, err := imageio.Read(t.Context(), testenv.Data(t, "nnunet_golden", name))
		require.NoError(t, err)
		defer image.Free()
		stats := isClose(t, exact, fast, image.Volume, Options{})
		assert.NotEmpty(t, stats.Notes)
		assert.Greater(t, stats.Body, 0.1)
	}
}

// What a CUDA device does in fast mode, on a processor: a graph of float16 whose logits
// come in float16, here into one and into two slots.
func TestFloat16IsCloseToExact(t *testing.T) {
	defer engine.HalfOn(engine.ORT)()
	image := patient(t, phantom.Small)
	bundle := filepath.Join("..", "examples", "demo", "flare13_phantom.onnx")
	exact := open(t, bundle, OpenOptions{Threads: 2})
	part := Options{Box: Box{Lo: [3]int{0, 0, image.Size[2] - 22}, Hi: image.Size}} // two tiles of six, which take a second each
	for slots := 1; slots <= 2; slots++ {
		fast := openSlots(t, bundle, OpenOptions{Device: "ort", Threads: 2, Mode: "fast"}, slots)
		stats := isClose(t, exact, fast, image, part)
		assert.Equal(t, 2, stats.Tiles)
		assert.Equal(t, "fp16", stats.Precision)
		assert.Equal(t, 2, stats.Threads)
		assert.Greater(t, stats.Seconds.Export, 0.0)
		assert.Less(t, stats.Seconds.Export, stats.Seconds.Network/2, "waiting is not exporting")
	}
}

// On a GPU exact mode gives a processor's labels, fast mode labels close to them.
func TestGPU(t *testing.T) {
	bundle := filepath.Join("..", "examples", "demo", "flare13_phantom.onnx")
	exact, err := Open(t.Context(), bundle, OpenOptions{Device: "cuda", Runtime: testenv.Runtime(t)})
	if fault.KindOf(err) == fault.Device {
		t.Skipf("this test needs a GPU: %v", err)
	}
	require.NoError(t, err)
	defer exact.Close()
	image := patient(t, phantom.Small)
	want, got := newLabels(t, image.Geometry), newLabels(t, image.Geometry)
	stats, err := exact.Segment(t.Context(), image, got, Options{})
	require.NoError(t, err)
	assert.Equal(t, "cuda", stats.Device)
	_, err = open(t, bundle, OpenOptions{Device: "ort"}).Segment(t.Context(), image, want, Options{})
	require.NoError(t, err)
	percent, foreground := agreement(t, want.Data, got.Data)
	t.Logf("%.4f %% of %d voxels of foreground agree", percent, foreground)
	assert.Greater(t, percent, 99.99)
	assert.Equal(t, "fp16", isClose(t, exact, open(t, bundle, OpenOptions{Device: "cuda", Mode: "fast"}), image, Options{}).Precision)
}

// isClose compares a fast model's labels with an exact one's.
func isClose(t *testing.T, exact, fast *Model, image *volume.Volume, o Options) Stats {
	t.Helper()
	want, got := newLabels(t, image.Geometry), newLabels(t, image.Geometry)
	stats, err := exact.Segment(t.Context(), image, want, o)
	require.NoError(t, err)
	assert.Equal(t, "exact", stats.Mode)
	assert.Equal(t, "fp32", stats.Precision)
	assert.Equal(t, 1.0, stats.Body)
	stats, err = fast.Segment(t.Context(), image, got, o)
	require.NoError(t, err)
	t.Logf("%+v", stats)
	assert.Equal(t, "fast", stats.Mode)

	overlaps, err := evaluate.Dice(got, want, 14)
	require.NoError(t, err)
	ml := image.Spacing[0] * image.Spacing[1] * image.Spacing[2] / 1000
	large, sum := 0, 0.0
	for i, o := range overlaps[1:] {
		n := 0
		for _, v := range want.Data {
			if int(v) == i+1 {
				n++
			}
		}
		if float64(n)*ml < 1 {
			continue
		}
		large, sum = large+1, sum+o.DSC
		t.Logf("organ %d: Dice %.4f", i+1, o.DSC)
		assert.GreaterOrEqual(t, o.DSC, fastOrgan, "organ %d", i+1)
	}
	require.Greater(t, large, 3)
	assert.GreaterOrEqual(t, sum/float64(large), fastMean)
	return stats
}

// Inside a box the labels are those of the whole image; outside there are none.
func TestBox(t *testing.T) {
	for _, c := range []struct {
		path     string
		channels int
		g        volume.Geometry
	}{{tiny, 1, geometry(40, 50, 30)}, {flat, 1, geometry(40, 50, 5)}} {
		m := open(t, c.path, OpenOptions{})
		image := noiseImage(t, c.g, c.channels)
		heads := m.heads()
		wantP, gotP := make([]float32, heads*image.Voxels()), make([]float32, heads*image.Voxels())
		whole := newLabels(t, c.g)
		all, err := m.Segment(t.Context(), image, whole, Options{Probabilities: wantP})
		require.NoError(t, err)
		for _, box := range []Box{{[3]int{3, 5, 1}, [3]int{9, 8, 2}}, {[3]int{0, 0, 0}, [3]int{40, 50, 1}}, {[3]int{39, 49, 4}, [3]int{40, 50, 5}}, {Hi: c.g.Size}} {
			labels := newLabels(t, c.g)
			stats, err := m.Segment(t.Context(), image, labels, Options{Box: box, Probabilities: gotP})
			require.NoError(t, err)
			assert.Equal(t, all.Tiles, stats.Tiles+stats.Skipped)
			assert.Equal(t, box.Hi != c.g.Size || box.Lo != [3]int{}, stats.Skipped > 0)
			n := image.Voxels()
			for i := range labels.Data {
				x, y, z := i%c.g.Size[0], i/c.g.Size[0]%c.g.Size[1], i/c.g.Size[0]/c.g.Size[1]
				want, background := whole.Data[i], wantP[i]
				if x < box.Lo[0] || x >= box.Hi[0] || y < box.Lo[1] || y >= box.Hi[1] || z < box.Lo[2] || z >= box.Hi[2] {
					want, background = 0, 1
				}
				require.Equal(t, want, labels.Data[i], "%v: voxel %d %d %d", box, x, y, z)
				require.Equal(t, background, gotP[i], "%v: voxel %d %d %d of %d", box, x, y, z, n)
			}
		}
		for _, box := range []Box{{[3]int{5, 5, 1}, [3]int{5, 8, 2}}, {[3]int{-1, 0, 0}, [3]int{2, 2, 2}}, {[3]int{0, 0, 0}, [3]int{41, 2, 2}}} {
			_, err := m.Segment(t.Context(), image, newLabels(t, c.g), Options{Box: box})
			assert.Equal(t, ErrArgument, KindOf(err), "%v", box)
			assert.ErrorContains(t, err, fmt.Sprint(box.Lo))
		}
	}
}

// A box is of the image as stored, whatever way the network sees it.
func TestBoxInAView(t *testing.T) {
	size := [3]int{6, 7, 8}
	g := geometry(size[0], size[1], size[2])
	box := Box{[3]int{1, 2, 3}, [3]int{3, 6, 4}}
	for _, code := range []string{"LPS", "RAS", "SRP", "IAL"} {
		view, _, err := g.Reorient(code)
		require.NoError(t, err)
		view = view.Transpose([3]int{2, 0, 1}).Crop([3]int{1, 0, 1}, [3]int{4, 6, 5})
		lo, hi := boxIn(view, size, box)
		for z := range view.Shape[0] {
			for y := range view.Shape[1] {
				for x := range view.Shape[2] {
					i := view.Offset + z*view.Stride[0] + y*view.Stride[1] + x*view.Stride[2]
					at := [3]int{i % 6, i / 6 % 7, i / 42}
					want, got := true, true
					for k, v := range [3]int{z, y, x} {
						want = want && at[k] >= box.Lo[k] && at[k] < box.Hi[k]
						got = got && v >= lo[k] && v < hi[k]
					}
					require.Equal(t, want, got, "%s: voxel %v", code, at)
				}
			}
		}
	}
}

// A region of interest gives the labels of the whole image where the coarse pass finds
// the organs, with fewer tiles where they are small.
func TestRegionOfInterest(t *testing.T) {
	m := open(t, filepath.Join("..", "examples", "demo", "flare13_phantom.onnx"), OpenOptions{Threads: 2})
	image := patient(t, phantom.Clinical)
	whole, part := newLabels(t, image.Geometry), newLabels(t, image.Geometry)
	all, err := m.Segment(t.Context(), image, whole, Options{})
	require.NoError(t, err)
	roi := []int{13} // left kidney
	stats, err := m.Segment(t.Context(), image, part, Options{ROI: roi})
	require.NoError(t, err)
	t.Logf("%+v", stats)
	assert.Greater(t, stats.Skipped, 0)
	assert.NotEmpty(t, stats.Notes)
	assert.LessOrEqual(t, stats.Tiles, all.Tiles, "the coarse pass costs no more than it saves here")
	require.Len(t, stats.Organs, 1)
	box, size := stats.Organs[0].Box, image.Size
	const around = 20 // voxels; a stray blob far off, which the coarse pass has not seen, is no part of the region
	differ, n := 0, 0
	for i, v := range whole.Data {
		at := [3]int{i % size[0], i / size[0] % size[1], i / size[0] / size[1]}
		near := true
		for axis, x := range at {
			near = near && x >= box[axis]-around && x < box[axis+3]+around
		}
		if !near || !slices.Contains(roi, int(v)) {
			v = 0
		} else {
			n++
		}
		if v != part.Data[i] {
			differ++
		}
	}
	assert.Greater(t, n, 10_000)
	assert.Less(t, float64(differ), 0.001*float64(n), "of %d voxels", n)

	for _, bad := range []int{0, 14, -1, 1 << 20} {
		_, err := m.Segment(t.Context(), image, part, Options{ROI: []int{bad}})
		assert.Equal(t, ErrArgument, KindOf(err))
		assert.ErrorContains(t, err, fmt.Sprintf("no label %d", bad))
	}
}

// Where the image is hardly more than a patch no coarse pass runs, and the labels are those
// of the whole image.
func TestRegionOfInterestInOneTile(t *testing.T) {
	m := open(t, filepath.Join("..", "examples", "demo", "flare13_phantom.onnx"), OpenOptions{Threads: 2})
	all := patient(t, phantom.Small)
	some := all.Geometry
	some.Size[2] = 20
	plane := some.Size[0] * some.Size[1]
	image, err := volume.Wrap(some, 1, volume.Int16, all.Data[2*plane*40:2*plane*60])
	require.NoError(t, err)
	whole, part := newLabels(t, image.Geometry), newLabels(t, image.Geometry)
	before, err := m.Segment(t.Context(), image, whole, Options{})
	require.NoError(t, err)
	stats, err := m.Segment(t.Context(), image, part, Options{ROI: []int{1}})
	require.NoError(t, err)
	assert.Equal(t, before.Tiles, stats.Tiles)
	require.Len(t, stats.Notes, 1)
	assert.Contains(t, stats.Notes[0], "could not save as many")
	n := 0
	for i, v := range whole.Data {
		if v != 1 {
			v = 0
		} else {
			n++
		}
		require.Equal(t, v, part.Data[i])
	}
	assert.Positive(t, n)
}

func TestModesThatDoNotExist(t *testing.T) {
	_, err := Open(context.Background(), tiny, OpenOptions{Mode: "nonsense", Runtime: testenv.Runtime(t)})
	assert.Equal(t, ErrArgument, KindOf(err))
	assert.ErrorContains(t, err, `mode "nonsense" is not one of exact, fast`)
}

// A bound on the GPU's memory is nothing to a processor; engine's tests say what it is to
// CUDA.
func TestGPUMemory(t *testing.T) {
	open(t, tiny, OpenOptions{Device: "cpu", GPUMemory: 1})
	_, err := Open(context.Background(), tiny, OpenOptions{GPUMemory: -1, Runtime: testenv.Runtime(t)})
	assert.Equal(t, ErrArgument, KindOf(err))
	assert.ErrorContains(t, err, "a bound of -1 bytes on the GPU's memory")
}

// Every allocation of a call fails once: the error says so, all memory is given back, and
// the model goes on working.
func TestMemoryRunsOut(t *testing.T) {
	dir := t.TempDir()
	m := open(t, tiny, OpenOptions{})
	g := geometry(30, 40, 20)
	image := noiseImage(t, g, 1)
	in, out := filepath.Join(dir, "in.nii.gz"), filepath.Join(dir, "out.nii.gz")
	require.NoError(t, imageio.Write(t.Context(), in, image))
	want := labelsOf(t, m, image, Options{})
	live := cmem.Live()
	for n := 1; ; n++ {
		cmem.FailAfter(n)
		_, err := m.SegmentFile(t.Context(), in, out, Options{})
		left := cmem.FailAfter(0)
		assert.Equal(t, live, cmem.Live(), "allocation %d", n)
		if left > 0 { // the call needed fewer allocations
			require.NoError(t, err)
			require.Greater(t, n, 5)
			break
		}
		require.Equal(t, fault.Memory, fault.KindOf(err), "allocation %d: %v", n, err)
		assert.ErrorContains(t, err, "bytes asked for")
		assert.NoFileExists(t, out)
	}
	assert.Equal(t, want, labelsOf(t, m, image, Options{}))
}

// A bound on memory refuses what is foreseen to need more, with the number.
func TestMaxMemory(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	image := noiseImage(t, geometry(200, 200, 100), 1)
	labels := newLabels(t, image.Geometry)
	_, err := m.Segment(t.Context(), image, labels, Options{MaxMemory: 10 << 20})
	assert.Equal(t, ErrMemory, KindOf(err))
	assert.ErrorContains(t, err, "bound of 10485760 bytes")
	var need int64
	_, scanned := fmt.Sscanf(err.Error(), "segmenting needs %d bytes", &need)
	require.NoError(t, scanned, err)
	_, err = m.Segment(t.Context(), image, labels, Options{MaxMemory: need + 64<<20})
	assert.NoError(t, err)
	_, err = m.Segment(t.Context(), image, labels, Options{MaxMemory: -1})
	assert.Equal(t, ErrArgument, KindOf(err))

	// Splines from logits to labels look at all logits: no strips.
	const order = `"resampling_fn_probabilities_kwargs":{"is_seg":false,"order":`
	m = open(t, copyFolder(t, tiny, "plans.json", order+"1", order+"3"), OpenOptions{})
	g := geometry(200, 200, 100)
	g.Spacing[2] = 1.5
	image, labels = noiseImage(t, g, 1), newLabels(t, g)
	_, err = m.Segment(t.Context(), image, labels, Options{MaxMemory: 10 << 20})
	assert.Equal(t, ErrMemory, KindOf(err))
	assert.ErrorContains(t, err, "bytes at least (the model's splines from logits to labels need all logits at once), more")
}
