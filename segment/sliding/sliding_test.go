package sliding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
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

// fake is make_goldens.py's network, with slots of its own.
type fake struct {
	in, out [][]float32
	half    [][]uint16 // nil, or where the output goes in float16
	rounded bool       // the output is rounded to float16
	patch   []int
	runs    int
	poison  float32
	folds   int
}

func newFake(channels int, patch []int, slots, folds int) *fake {
	n := 1
	for _, p := range patch {
		n *= p
	}
	f := &fake{patch: patch, folds: folds}
	for range slots {
		in := make([]float32, channels*n)
		for i := range in {
			in[i] = 99 // what an earlier tile left: padding must overwrite it
		}
		f.in, f.out = append(f.in, in), append(f.out, make([]float32, 3*n))
	}
	return f
}

func (f *fake) Networks() int { return f.folds }

func (f *fake) Run(ctx context.Context, fold, slot int) error {
	f.runs++
	in, out := f.in[slot], f.out[slot]
	n := len(out) / 3
	last := in[len(in)-n:]
	for i := range n {
		ramp, rest := 0.0, i
		for axis := len(f.patch) - 1; axis >= 0; axis-- {
			ramp += 0.01 * float64(axis+1) * float64(rest%f.patch[axis])
			rest /= f.patch[axis]
		}
		x := in[i]
		// Folds differ, but their mean is the golden's network.
		out[i] = x + float32(fold) - float32(f.folds-1)/2
		out[n+i] = 0.5*x + float32(ramp)
		out[2*n+i] = -last[i]*float32(ramp) + f.poison
	}
	for i, v := range out {
		if h, value := float16(v); f.half != nil {
			f.half[slot][i] = h
		} else if f.rounded {
			out[i] = value
		}
	}
	return nil
}

// float16 returns the bits and the value of the float16 nearest to v, which is below its
// range's end.
func float16(v float32) (bits uint16, value float32) {
	size := math.Abs(float64(v))
	// Steps are of 2^-10 of the power of two below, at least 2^-24.
	exponent := max(math.Ilogb(math.Max(size, 1e-30)), -14)
	steps := math.RoundToEven(math.Ldexp(size, 10-exponent))
	value = float32(math.Copysign(math.Ldexp(steps, exponent-10), float64(v)))
	bits = uint16((exponent+14)<<10 + int(steps)) // the leading bit of steps is 1 in the exponent's
	if math.Signbit(float64(v)) {
		bits |= 0x8000
	}
	return bits, value
}

// task is a task on an image in memory (channels x shape) whose logits are collected:
// those of its strip.
func task(t *testing.T, image []float32, shape []int, mirror []int, f *fake) (*Task, func() []float32) {
	t.Helper()
	voxels, plane := shape[1]*shape[2]*shape[3], shape[2]*shape[3]
	loaded, next := 0, 0
	var logits []float32
	k := &Task{
		Shape: [3]int(shape[1:]), Channels: shape[0], Classes: 3, Patch: f.patch, Mirror: mirror, Threads: 2,
		Network: f, Inputs: f.in, Outputs: f.out, HalfOutputs: f.half,
		Tile: func(done, all int) error { return nil },
	}
	k.Load = func(_ context.Context, n int, dst func(channel, plane int) []float32) error {
		from, to := k.ImageRows()
		for channel := range shape[0] {
			for i := range n {
				assert.Len(t, dst(channel, i), (to-from)*shape[3])
				copy(dst(channel, i), image[channel*voxels+(loaded+i)*plane+from*shape[3]:])
			}
		}
		loaded += n
		return nil
	}
	var last []float32
	k.Plane = func(z int, values []float32, stride int) error {
		assert.Equal(t, next, z)
		next++
		first, end := k.strip()
		plane := (end - first) * shape[3]
		voxels := shape[1] * plane
		if logits == nil {
			logits = make([]float32, k.Accumulated()*voxels)
		}
		for c := range k.Accumulated() {
			copy(logits[c*voxels+z*plane:], values[c*stride:c*stride+plane])
			if z > 0 {
				require.Equal(t, logits[c*voxels+(z-1)*plane:][:plane], last[c*stride:c*stride+plane], "the plane before is still there")
			}
		}
		assert.Len(t, values[(k.Accumulated()-1)*stride+plane:][:kernel.Slack], kernel.Slack)
		last = values
		return nil
	}
	return k, func() []float32 {
		assert.Zero(t, cmem.Live())
		assert.Equal(t, shape[1], next, "every plane is handed out once")
		return logits
	}
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
		for _, how := range []struct{ slots, folds int }{{1, 1}, {1, 3}, {2, 1}, {2, 2}, {2, 3}} {
			f := newFake(shape[0], c.Patch, how.slots, how.folds)
			k, logits := task(t, image, shape, c.Mirror, f)
			tiles := 0
			k.Tile = func(done, all int) error { tiles++; assert.Equal(t, tiles, done); return nil }
			waits := 0
			k.Waited = func(d time.Duration) { waits++; assert.GreaterOrEqual(t, d, time.Duration(0)) }
			require.NoError(t, k.Run(context.Background()))
			all, wanted := k.Tiles()
			assert.Equal(t, all, wanted)
			assert.Equal(t, all, tiles)
			assert.Equal(t, tiles*how.folds<<len(c.Mirror), f.runs)
			assert.Equal(t, (how.slots-1)*(f.runs+1), waits, "before the next pass, and for the last")
			assert.Less(t, worst(logits(), want), 1e-5, "%s with %+v", c.Name, how)

			// Side by side, and averaged afterwards.
			f = newFake(shape[0], c.Patch, how.slots, how.folds)
			k, logits = task(t, image, shape, c.Mirror, f)
			k.Apart = true
			require.NoError(t, k.Run(context.Background()))
			apart, mean := logits(), make([]float32, len(want))
			for i, v := range apart {
				mean[i%len(want)] += v / float32(how.folds)
			}
			assert.Len(t, apart, how.folds*len(want))
			assert.Less(t, worst(mean, want), 1e-5, "%s apart with %+v", c.Name, how)
		}
	}
}

// TestRunOfFloat16: logits that come in float16 give what their values give in float32, to
// float32 rounding, and nnU-Net's to float16 rounding.
func TestRunOfFloat16(t *testing.T) {
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
		golden, _, err := npy.Read("testdata/" + c.Name + "_logits.npy")
		require.NoError(t, err)
		largest := 0.0
		for _, v := range golden {
			largest = max(largest, math.Abs(float64(v)))
		}
		for _, how := range []struct{ slots, folds int }{{1, 1}, {1, 3}, {2, 1}, {2, 2}} {
			f := newFake(shape[0], c.Patch, how.slots, how.folds)
			f.rounded = true
			k, logits := task(t, image, shape, c.Mirror, f)
			require.NoError(t, k.Run(context.Background()))
			want := logits()

			f = newFake(shape[0], c.Patch, how.slots, how.folds)
			for _, out := range f.out {
				f.half = append(f.half, make([]uint16, len(out)))
			}
			k, logits = task(t, image, shape, c.Mirror, f)
			k.Outputs = nil
			require.NoError(t, k.Run(context.Background()))
			got := logits()
			assert.Less(t, worst(got, want), 1e-5, "%s with %+v", c.Name, how)
			assert.Less(t, worst(got, golden), (largest+1)/2048, "%s with %+v: half a step of 2^-10, folds lie up to 1 apart", c.Name, how)
			assert.Greater(t, worst(got, golden), 1e-5, "%s with %+v: it was rounded", c.Name, how)
		}
	}
}

func worst(got, want []float32) float64 {
	worst := 0.0
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i]-want[i])))
	}
	return worst
}

// TestRunLeavesOutTiles wants only the tiles that touch a box: inside it the logits are
// those of all tiles, and what no tile touches is zero.
func TestRunLeavesOutTiles(t *testing.T) {
	shape, patch := []int{1, 50, 20, 24}, []int{8, 8, 8}
	image := make([]float32, 50*20*24)
	for i := range image {
		image[i] = float32(i%97) - 40
	}
	k, logits := task(t, image, shape, nil, newFake(1, patch, 1, 1))
	require.NoError(t, k.Run(context.Background()))
	want := logits()
	for _, box := range [][2][3]int{
		{{20, 5, 6}, {23, 9, 12}}, {{0, 0, 0}, {1, 1, 1}}, {{49, 19, 23}, {50, 20, 24}}, {{7, 0, 0}, {41, 20, 3}},
		{{30, 30, 30}, {40, 40, 40}}, // none
	} {
		for slots := 1; slots <= 2; slots++ {
			f := newFake(1, patch, slots, 1)
			k, logits := task(t, image, shape, nil, f)
			k.Wanted = func(lo, hi [3]int) bool {
				for i := range 3 {
					if hi[i] <= box[0][i] || lo[i] >= box[1][i] {
						return false
					}
				}
				return true
			}
			require.NoError(t, k.Run(context.Background()))
			all, wanted := k.Tiles()
			assert.Less(t, wanted, all)
			assert.Equal(t, wanted, f.runs)
			got := logits()
			for i := range got {
				z, y, x := i/(20*24)%50, i/24%20, i%24
				if z >= box[0][0] && z < box[1][0] && y >= box[0][1] && y < box[1][1] && x >= box[0][2] && x < box[1][2] {
					require.Equal(t, want[i], got[i], "voxel %d %d %d of box %v", z, y, x, box)
				}
				if z < box[0][0]-8 || z >= box[1][0]+8 {
					require.Zero(t, got[i])
				}
			}
		}
	}
}

// TestRunInStrips runs every strip on its own: the logits are those of the whole image to
// the last bit, and what is allocated is what Memory says.
func TestRunInStrips(t *testing.T) {
	for _, c := range []struct {
		shape, patch, mirror []int
	}{
		{[]int{1, 21, 40, 18}, []int{8, 12, 8}, nil},
		{[]int{2, 21, 41, 18}, []int{8, 8, 16}, []int{0, 1, 2}},
		{[]int{1, 5, 10, 18}, []int{8, 16, 8}, []int{1}}, // shorter than a tile
		{[]int{3, 4, 40, 30}, []int{16, 8}, []int{0}},    // slice by slice
	} {
		voxels, columns := c.shape[1]*c.shape[2]*c.shape[3], c.shape[3]
		image := make([]float32, c.shape[0]*voxels)
		for i := range image {
			image[i] = float32(i*i%1013) / 50
		}
		for _, how := range []struct {
			slots, folds int
			apart        bool
		}{{1, 1, false}, {2, 2, false}, {1, 3, true}} {
			k, logits := task(t, image, c.shape, c.mirror, newFake(c.shape[0], c.patch, how.slots, how.folds))
			k.Apart = how.apart
			require.NoError(t, k.Run(t.Context()))
			want := logits()
			_, all := k.Tiles()
			for _, n := range []int{1, 2, 3, 7} {
				run := 0
				for i := range n {
					f := newFake(c.shape[0], c.patch, how.slots, how.folds)
					k, logits := task(t, image, c.shape, c.mirror, f)
					k.Apart = how.apart
					k.Strip = [2]int{i * c.shape[2] / n, (i + 1) * c.shape[2] / n}
					k.Tile = func(int, int) error { assert.Equal(t, k.Memory(), cmem.Live()); return nil }
					require.NoError(t, k.Run(t.Context()))
					got, rows := logits(), k.Strip[1]-k.Strip[0]
					for channel := range k.Accumulated() {
						for z := range c.shape[1] {
							from := channel*voxels + (z*c.shape[2]+k.Strip[0])*columns
							require.Equal(t, want[from:from+rows*columns], got[(channel*c.shape[1]+z)*rows*columns:][:rows*columns],
								"%+v %+v: strip %v, channel %d, plane %d", c, how, k.Strip, channel, z)
						}
					}
					_, tiles := k.Tiles()
					assert.Equal(t, tiles*how.folds<<len(c.mirror), f.runs)
					run += tiles
				}
				assert.True(t, n == 1 && run == all || n > 1 && run > all, "%d strips: %d tiles, %d without", n, run, all)
			}
		}
	}
}

func TestRunStops(t *testing.T) {
	image, shape, patch := make([]float32, 20*20*20), []int{1, 20, 20, 20}, []int{8, 8, 8}
	for slots := 1; slots <= 2; slots++ {
		ctx, cancel := context.WithCancel(context.Background())
		k, _ := task(t, image, shape, nil, newFake(1, patch, slots, 1))
		k.Tile = func(done, all int) error {
			if done == 3 {
				cancel()
			}
			return nil
		}
		assert.Equal(t, fault.Cancelled, fault.KindOf(k.Run(ctx)))

		f := newFake(1, patch, slots, 1)
		f.poison = float32(math.NaN())
		k, _ = task(t, image, shape, nil, f)
		err := k.Run(context.Background())
		assert.Equal(t, fault.Model, fault.KindOf(err))
		assert.ErrorContains(t, err, "NaN or infinite")

		boom := errors.New("boom")
		k, _ = task(t, image, shape, nil, newFake(1, patch, slots, 1))
		k.Tile = func(done, all int) error { return boom }
		assert.Equal(t, boom, k.Run(context.Background()))

		k, _ = task(t, image, shape, nil, newFake(1, patch, slots, 1))
		k.Load = func(context.Context, int, func(int, int) []float32) error { return boom }
		assert.Equal(t, boom, k.Run(context.Background()))
		assert.Zero(t, cmem.Live())
	}
}
