package sliding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/npy"
)

func TestPositionsAgreeWithNNUNet(t *testing.T) {
	data, err := os.ReadFile("testdata/positions.json")
	require.NoError(t, err)
	var golden map[string][]int
	require.NoError(t, json.Unmarshal(data, &golden))
	require.Greater(t, len(golden), 200)
	for key, want := range golden {
		var n, tile int
		_, err := fmt.Sscanf(key, "%d,%d", &n, &tile)
		require.NoError(t, err)
		assert.Equal(t, want, Positions(n, tile), "length %d, tile %d", n, tile)
	}
}

// fake is make_goldens.py's network.
type fake struct {
	in, out []float32
	patch   []int
	runs    int
	poison  float32
	folds   int
}

func (f *fake) Networks() int { return f.folds }

func (f *fake) Run(ctx context.Context, fold int) error {
	f.runs++
	n := 1
	for _, p := range f.patch {
		n *= p
	}
	last := f.in[len(f.in)-n:]
	for i := range n {
		ramp, rest := 0.0, i
		for axis := len(f.patch) - 1; axis >= 0; axis-- {
			ramp += 0.01 * float64(axis+1) * float64(rest%f.patch[axis])
			rest /= f.patch[axis]
		}
		x := f.in[i]
		// Folds differ, but their mean is the golden's network.
		f.out[i] = x + float32(fold) - float32(f.folds-1)/2
		f.out[n+i] = 0.5*x + float32(ramp)
		f.out[2*n+i] = -last[i]*float32(ramp) + f.poison
	}
	return nil
}

// run returns the logits (classes x shape) of a case.
func run(t *testing.T, ctx context.Context, image []float32, shape, patch, mirror []int, threads int, f *fake) ([]float32, int, error) {
	t.Helper()
	n := 1
	for _, p := range patch {
		n *= p
	}
	channels, voxels := shape[0], shape[1]*shape[2]*shape[3]
	f.in, f.out, f.patch = make([]float32, channels*n), make([]float32, 3*n), patch
	for i := range f.in {
		f.in[i] = 99 // what an earlier tile left: padding must overwrite it
	}
	logits := make([]float32, 3*voxels)
	plane := shape[2] * shape[3]
	next, tiles := 0, 0
	task := Task{
		Image: image, Shape: [3]int(shape[1:]), Channels: channels, Classes: 3, Patch: patch, Mirror: mirror, Threads: threads,
		Network: f, Input: f.in, Output: f.out,
		Plane: func(z int, fill func([]float32) error) error {
			assert.Equal(t, next, z)
			next++
			dst := make([]float32, 3*plane)
			if err := fill(dst); err != nil {
				return err
			}
			for c := range 3 {
				copy(logits[c*voxels+z*plane:], dst[c*plane:(c+1)*plane])
			}
			return nil
		},
		Tile: func(done, all int) error { tiles = done; return nil },
	}
	err := task.Run(ctx)
	assert.Zero(t, cmem.Live())
	if err == nil {
		assert.Equal(t, shape[1], next, "every plane is handed out once")
		assert.Equal(t, task.Tiles(), tiles)
	}
	return logits, tiles, err
}

func TestRunAgreesWithNNUNet(t *testing.T) {
	data, err := os.ReadFile("testdata/cases.json")
	require.NoError(t, err)
	var cases []struct {
		Name          string
		Patch, Mirror []int
	}
	require.NoError(t, json.Unmarshal(data, &cases))
	for _, c := range cases {
		image, shape, err := npy.Read("testdata/" + c.Name + "_in.npy")
		require.NoError(t, err)
		want, _, err := npy.Read("testdata/" + c.Name + "_logits.npy")
		require.NoError(t, err)
		for _, folds := range []int{1, 3} {
			f := &fake{folds: folds}
			got, tiles, err := run(t, context.Background(), image, shape, c.Patch, c.Mirror, 2, f)
			require.NoError(t, err)
			assert.Equal(t, tiles*folds<<len(c.Mirror), f.runs)
			worst := 0.0
			for i := range want {
				worst = max(worst, math.Abs(float64(got[i]-want[i])))
			}
			assert.Less(t, worst, 1e-5, "%s with %d folds", c.Name, folds)
		}
	}
}

func TestRunStops(t *testing.T) {
	image := make([]float32, 20*20*20)
	shape, patch := []int{1, 20, 20, 20}, []int{8, 8, 8}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := run(t, ctx, image, shape, patch, nil, 1, &fake{folds: 1})
	assert.Equal(t, fault.Cancelled, fault.KindOf(err))

	_, _, err = run(t, context.Background(), image, shape, patch, nil, 1, &fake{folds: 1, poison: float32(math.NaN())})
	assert.Equal(t, fault.Model, fault.KindOf(err))
	assert.ErrorContains(t, err, "NaN or infinite")

	boom := errors.New("boom")
	task := Task{Image: image, Shape: [3]int{20, 20, 20}, Channels: 1, Classes: 3, Patch: patch, Threads: 2,
		Network: &fake{folds: 1, in: make([]float32, 512), out: make([]float32, 3*512), patch: patch},
		Input:   make([]float32, 512), Output: make([]float32, 3*512),
		Plane: func(int, func([]float32) error) error { return nil },
		Tile:  func(done, all int) error { return boom }}
	assert.Equal(t, boom, task.Run(context.Background()))
	assert.Zero(t, cmem.Live())
}
