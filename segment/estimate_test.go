package segment

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/volume"
)

// Axes that are transposed, spacings that resample and two dimensions lead to the
// tiles that a call then has.
func TestEstimateCountsTheTilesOfACall(t *testing.T) {
	turned := copyFolder(t, tiny, "plans.json", `"transpose_forward":[0,1,2],"transpose_backward":[0,1,2]`,
		`"transpose_forward":[2,0,1],"transpose_backward":[1,2,0]`)
	reoriented := copyFolder(t, tiny, "plans.json", `"SimpleITKIO"`, `"SimpleITKIOWithReorient"`)
	for _, c := range []struct {
		path     string
		channels int
	}{{tiny, 1}, {turned, 1}, {reoriented, 1}, {folds, 1}, {flat, 1}, {pair, 2}} {
		g := geometry(40, 37, 21)
		g.Spacing = [3]float64{0.5, 1.5, 2.4}
		if c.path == reoriented {
			g.Direction = [9]float64{0, 0, 1, 1, 0, 0, 0, 1, 0} // x runs along the patient's y
		}
		m := open(t, c.path, OpenOptions{})
		e, err := m.Estimate(context.Background(), g)
		require.NoError(t, err)
		stats, err := m.Segment(context.Background(), noiseImage(t, g, c.channels), newLabels(t, g), Options{})
		require.NoError(t, err)
		assert.Equal(t, stats.Tiles, e.Tiles, c.path)
		assert.Positive(t, e.SecondsPerTile)
		assert.InDelta(t, float64(e.Tiles)*e.SecondsPerTile, e.Seconds, 1e-9)
		assert.Positive(t, e.Memory)
	}
}

// 64 million voxels: 2 bytes of the image and 1 of the labels. What lies between are
// planes of 400 x 400 floats, as many however deep the image is: 16 of the image on the grid,
// accumulators of 9 planes of 3 classes, 2 planes of second logits and 2 of labels of half that
// size, and a slice and a half for each of 2 threads.
func TestEstimateOfMemory(t *testing.T) {
	m := open(t, tiny, OpenOptions{Threads: 2})
	before := cmem.Live()
	e, err := m.Estimate(context.Background(), geometry(400, 400, 400))
	require.NoError(t, err)
	assert.Equal(t, before, cmem.Live(), "nothing is left")
	arrays := e.Memory - residentMemory()
	assert.InDelta(t, 64e6*3+400*400*4*(16+3*9+2+1+3), arrays, 4e6, "%+v", e)
}

func TestEstimateOfAList(t *testing.T) {
	g := geometry(40, 37, 21)
	one, err := open(t, tiny, OpenOptions{}).Estimate(context.Background(), g)
	require.NoError(t, err)
	text := `{"path": "` + absolute(t, tiny) + `"}`
	m := open(t, writeList(t, `{"flare_list": 1, "combine": "ensemble", "models": [`+text+`, `+text+`]}`), OpenOptions{})
	before := cmem.Live()
	two, err := m.Estimate(context.Background(), g)
	require.NoError(t, err)
	assert.Equal(t, 2*one.Tiles, two.Tiles)
	assert.Greater(t, two.Seconds, float64(two.Tiles)*two.SecondsPerTile, "opening counts")
	assert.Equal(t, before, cmem.Live(), "the networks are closed")
}

// Estimates wait for their turn, end when they are cancelled, and need an open model.
func TestEstimateQueues(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	running, err := m.begin(context.Background(), Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = m.Estimate(ctx, geometry(40, 37, 21))
	assert.Equal(t, ErrCancelled, KindOf(err))
	running.end()
	_, err = m.Estimate(context.Background(), geometry(40, 37, 21))
	assert.NoError(t, err)
	m.Close()
	_, err = m.Estimate(context.Background(), geometry(40, 37, 21))
	assert.Error(t, err)
}

func TestEstimateOfImpossibleImages(t *testing.T) {
	m := open(t, tiny, OpenOptions{})
	for _, g := range []volume.Geometry{{}, geometry(0, 1, 1), geometry(1<<30, 1, 1), geometry(1<<20, 1<<20, 2)} {
		_, err := m.Estimate(context.Background(), g)
		assert.Contains(t, []Kind{ErrArgument, ErrMemory}, KindOf(err), "%v", g.Size)
	}
	g := geometry(1<<20, 1<<20, 1) // 2^40 voxels, which become 2^60 on the network's grid
	g.Spacing = [3]float64{1, 1, 1 << 20}
	_, err := m.Estimate(context.Background(), g)
	assert.Equal(t, ErrMemory, KindOf(err))
}

func TestTypicalImage(t *testing.T) {
	const transpose = `"transpose_forward":[0,1,2],"transpose_backward":[0,1,2]`
	const turned = `"transpose_forward":[2,0,1],"transpose_backward":[1,2,0]`
	median := func(values string) string { return copyFolder(t, tiny, "plans.json", transpose, turned+values) }
	for _, c := range []struct {
		path    string
		size    [3]int
		spacing [3]float64
		origin  string
	}{
		{tiny, [3]int{32, 32, 16}, [3]float64{1, 1, 1}, "twice the patch"},
		{flat, [3]int{32, 32, 1}, [3]float64{1, 1, 1}, "twice the patch"},
		// The plans' order is x, z, y.
		{median(`,"original_median_shape_after_transp":[50,30,40],"original_median_spacing_after_transp":[0.5,3,0.4]`),
			[3]int{50, 40, 30}, [3]float64{0.5, 0.4, 3}, "median"},
		{median(``), [3]int{16, 32, 32}, [3]float64{1, 1, 1}, "twice the patch"},
		{median(`,"original_median_shape_after_transp":[50,30],"original_median_spacing_after_transp":[1,1,1]`),
			[3]int{16, 32, 32}, [3]float64{1, 1, 1}, "twice the patch"},
		{median(`,"original_median_shape_after_transp":[50,30,-4],"original_median_spacing_after_transp":[1,1,1]`),
			[3]int{16, 32, 32}, [3]float64{1, 1, 1}, "twice the patch"},
		{median(`,"original_median_shape_after_transp":"large"`), [3]int{16, 32, 32}, [3]float64{1, 1, 1}, "twice the patch"},
		{"../examples/demo/flare13_phantom.onnx", [3]int{512, 512, 168}, [3]float64{0.75, 0.75, 2}, "CT"},
	} {
		g, origin := open(t, c.path, OpenOptions{}).TypicalImage()
		assert.NoError(t, g.Validate())
		assert.Equal(t, c.size, g.Size, c.path)
		assert.Equal(t, c.spacing, g.Spacing)
		assert.Contains(t, origin, c.origin)
	}
}
