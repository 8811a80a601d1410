package preprocess

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// spline is what plans ask for images by default.
var spline = resample.Method{Function: resample.Spline, Order: 3, Threshold: 3}

var dtypes = map[string]volume.DType{"uint8": volume.Uint8, "int16": volume.Int16, "uint16": volume.Uint16,
	"int32": volume.Int32, "float32": volume.Float32, "float64": volume.Float64}

// set writes values into a volume of any type.
func set(v *volume.Volume, values []float32) {
	for i, x := range values {
		switch v.DType {
		case volume.Uint8:
			v.Data[i] = uint8(x)
		case volume.Int16:
			volume.As[int16](v)[i] = int16(x)
		case volume.Uint16:
			volume.As[uint16](v)[i] = uint16(x)
		case volume.Int32:
			volume.As[int32](v)[i] = int32(x)
		case volume.Float32:
			volume.As[float32](v)[i] = x
		case volume.Float64:
			volume.As[float64](v)[i] = float64(x)
		}
	}
}

func newImage(t *testing.T, d volume.DType, shape []int, spacing [3]float64, values []float32) *volume.Volume {
	t.Helper()
	g := volume.Geometry{Size: [3]int{shape[3], shape[2], shape[1]}, Spacing: [3]float64{spacing[2], spacing[1], spacing[0]}, Direction: volume.Identity}
	v, err := volume.New(g, shape[0], d)
	require.NoError(t, err)
	t.Cleanup(v.Free)
	set(v, values)
	return v
}

func ct(scheme Scheme) Normalization {
	return Normalization{Scheme: scheme, Lower: -200, Upper: 291, Mean: 83.7, StdDev: 144.8} // as in make_goldens.py
}

func TestRunAgreesWithNNUNet(t *testing.T) {
	data, err := os.ReadFile("testdata/cases.json")
	require.NoError(t, err)
	var cases []struct {
		Name, DType     string
		Spacing, Target [3]float64
		Transpose       [3]int
		Schemes         []Scheme
		Mask            bool
		Box             [3][2]int
	}
	require.NoError(t, json.Unmarshal(data, &cases))
	require.NotEmpty(t, cases)
	for _, c := range cases {
		values, shape, err := npy.Read("testdata/" + c.Name + "_in.npy")
		require.NoError(t, err)
		want, _, err := npy.Read("testdata/" + c.Name + "_data.npy")
		require.NoError(t, err)
		image := newImage(t, dtypes[c.DType], shape, c.Spacing, values)
		config := Config{Image: spline, Transpose: c.Transpose, Spacing: c.Target[:]}
		for _, s := range c.Schemes {
			n := ct(s)
			n.Mask = c.Mask
			config.Channels = append(config.Channels, n)
		}
		for _, threads := range []int{1, 3} {
			k, err := run(t, image, nil, config, threads)
			require.NoError(t, err, c.Name)
			full := image.Full().Transpose(c.Transpose)
			for axis, b := range c.Box {
				assert.Equal(t, b[1]-b[0], k.View.Shape[axis], "%s box along axis %d", c.Name, axis)
				full.Offset += b[0] * full.Stride[axis]
			}
			assert.Equal(t, full.Offset, k.View.Offset, c.Name)
			require.Equal(t, len(want), len(k.data), c.Name)
			worst := 0.0
			for i := range want {
				worst = max(worst, math.Abs(float64(want[i]-k.data[i])))
			}
			// NoNormalization keeps values up to 255, whose float32 rounding is larger.
			limit := map[bool]float64{true: 1e-4, false: 5e-6}[c.Name == "none"]
			assert.Less(t, worst, limit, c.Name)
			k.Close()
		}
	}
}

// An LPS model sees a RAS volume as if it had been stored in LPS.
func TestRunReorients(t *testing.T) {
	values := make([]float32, 4*5*6)
	for i := range values {
		values[i] = float32(i + 1)
	}
	image := newImage(t, volume.Int16, []int{1, 4, 5, 6}, [3]float64{1, 1, 1}, values)
	image.Direction = [9]float64{-1, 0, 0, 0, -1, 0, 0, 0, 1} // RAS
	k, err := run(t, image, nil, Config{Orientation: "LPS", Image: spline, Transpose: [3]int{0, 1, 2}, Spacing: []float64{1, 1, 1}, Channels: []Normalization{{Scheme: None}}}, 1)
	require.NoError(t, err)
	defer k.Close()
	assert.Equal(t, k.View.Shape, k.Shape)
	assert.Equal(t, values[4*6+5], k.data[0], "x and y run backwards")
	assert.Equal(t, values[0], k.data[4*6+5])
}

func TestRunRefuses(t *testing.T) {
	config := Config{Image: spline, Transpose: [3]int{0, 1, 2}, Spacing: []float64{1, 1, 1}, Channels: []Normalization{{Scheme: None}}}
	for name, d := range map[string]volume.DType{"float32": volume.Float32, "float64": volume.Float64} {
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			image := newImage(t, d, []int{1, 2, 2, 2}, [3]float64{1, 1, 1}, []float32{1, 2, 3, 4, 5, 6, float32(bad), 8})
			_, err := run(t, image, nil, config, 1)
			assert.Equal(t, fault.Argument, fault.KindOf(err), "%s %g", name, bad)
			assert.ErrorContains(t, err, "1 of the image's voxels are NaN, infinite or too large for float32")
		}
	}
	image := newImage(t, volume.Int16, []int{2, 2, 2, 2}, [3]float64{1, 1, 1}, make([]float32, 16))
	_, err := run(t, image, nil, config, 1)
	assert.ErrorContains(t, err, "the image has 2 channels, the model expects 1")
	image = newImage(t, volume.Int16, []int{1, 2, 2, 2}, [3]float64{1, 1, 1}, []float32{-1, 0, 0, 0, 0, 0, 0, 300})
	config.Channels[0].Scheme = RGBTo01
	_, err = run(t, image, nil, config, 1)
	assert.ErrorContains(t, err, "found -1 to 300")
	config.Channels[0].Scheme = "Fancy"
	_, err = run(t, image, nil, config, 1)
	assert.ErrorContains(t, err, `"Fancy" is not supported`)
	config.Channels[0].Scheme, config.Spacing = None, []float64{50, 1, 1}
	_, err = run(t, image, nil, config, 1)
	assert.ErrorContains(t, err, "make 0 voxels")
}

// One voxel, one slice, all zero: the whole image is the crop.
func TestRunOfDegenerateImages(t *testing.T) {
	config := Config{Image: spline, Transpose: [3]int{0, 1, 2}, Spacing: []float64{0.7, 0.7, 0.7}, Channels: []Normalization{ct(CT)}}
	for _, shape := range [][]int{{1, 1, 1, 1}, {1, 1, 4, 5}, {1, 4, 1, 5}, {1, 4, 5, 1}} {
		image := newImage(t, volume.Int16, shape, [3]float64{1, 1, 1}, make([]float32, shape[1]*shape[2]*shape[3]))
		k, err := run(t, image, nil, config, 2)
		require.NoError(t, err)
		assert.Equal(t, [3]int(shape[1:]), k.View.Shape)
		for _, v := range k.data {
			assert.InDelta(t, -83.7/144.8, v, 1e-6)
		}
		k.Close()
	}
	assert.Positive(t, cmem.Live(), "the test's images")
}

// whole is a case with all its planes, channel by channel.
type whole struct {
	*Case
	data []float32
}

// run opens a case and takes its planes seven at a time.
func run(t *testing.T, image, previous *volume.Volume, c Config, threads int) (*whole, error) {
	t.Helper()
	k, err := Open(image, previous, c, threads)
	if err != nil {
		return nil, err
	}
	if err := k.Begin(t.Context(), 0, k.Shape[1]); err != nil {
		k.Close()
		return nil, err
	}
	n := k.Shape[1] * k.Shape[2]
	w := &whole{k, make([]float32, k.Channels*k.Shape[0]*n)}
	for z := 0; z < k.Shape[0]; z += 7 {
		err := k.Next(t.Context(), min(7, k.Shape[0]-z), func(channel, plane int) []float32 {
			at := (channel*k.Shape[0] + z + plane) * n
			return w.data[at : at+n]
		})
		require.NoError(t, err)
	}
	return w, nil
}
