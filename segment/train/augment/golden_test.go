package augment

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/npy"
)

// input is an input of testdata/make_goldens.py.
type input struct {
	Name     string
	Channels int
	Shape    [3]int
	image    []float32
	labels   []int16
}

func readGolden(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, into))
}

// integers reads an array of whole numbers.
func integers(t testing.TB, name string) []int16 {
	v, _, err := npy.Read("testdata/" + name)
	require.NoError(t, err)
	out := make([]int16, len(v))
	for i := range v {
		out[i] = int16(v[i])
	}
	return out
}

// sample returns a sample of copies, with room for three more channels.
func (in input) sample() *Sample {
	n := in.Shape[0] * in.Shape[1] * in.Shape[2]
	image := append(make([]float32, 0, len(in.image)+3*n), in.image...)
	return &Sample{Shape: in.Shape, Image: image, Labels: slices.Clone(in.labels), Targets: slices.Clone(in.image)}
}

// scratch returns scratch memory for samples of a shape that any transform can use.
func scratch(t testing.TB, box, patch [3]int) *Scratch {
	all := Strong(Setup{Patch: patch, Channels: 1, Previous: []int16{1, 2}})
	all.Spatial.Box = box
	w, err := all.NewScratch()
	require.NoError(t, err)
	t.Cleanup(w.Free)
	return w
}

// The transforms of the goldens' names, whose parameters are all that matters.
var transforms = map[string]Transform{
	"Blur": Blur{}, "Multiply": Multiply{}, "Shift": Shift{}, "Contrast": Contrast{}, "ContrastClip": Contrast{Clip: true},
	"LowResolution": LowResolution{}, "Gamma": Gamma{}, "GammaInvert": Gamma{Invert: true}, "Median": Median{},
	"Sharpen": Sharpen{}, "Blank": Blank{}, "Gradient": Gradient{}, "LocalGamma": LocalGamma{}, "Mirror": Mirror{},
	"Rot90": Rot90{}, "Permute": Permute{}, "Mask": Mask{[]int{1}}, "Outside": Outside{}, "OneHot": OneHot{[]int16{-1, 1, 2}},
	"Operator": Operator{Channels: 3}, "Component": Component{Channels: 3, Most: 0.15},
}

// Every transform does to the same image, with the same parameters, what batchgeneratorsv2's
// does.
func TestTransformsAgreeWithBatchgenerators(t *testing.T) {
	var golden struct {
		Inputs []input
		Cases  []struct {
			Name, Input   string
			Parameters    []float64
			Image, Labels int
		}
	}
	readGolden(t, "cases.json", &golden)
	image, _, err := npy.Read("testdata/inputs.npy")
	require.NoError(t, err)
	labels := integers(t, "labels_in.npy")
	inputs := map[string]input{}
	for _, in := range golden.Inputs {
		n := in.Shape[0] * in.Shape[1] * in.Shape[2]
		in.image, image = image[:in.Channels*n], image[in.Channels*n:]
		in.labels, labels = labels[:n], labels[n:]
		inputs[in.Name] = in
	}
	image, _, err = npy.Read("testdata/images.npy")
	require.NoError(t, err)
	labels = integers(t, "labels.npy")
	tested := map[string]bool{}
	for i, c := range golden.Cases {
		t.Run(fmt.Sprintf("%s/%d/%s", c.Name, i, c.Input), func(t *testing.T) {
			tested[c.Name] = true
			in, p := inputs[c.Input], c.Parameters
			s := in.sample()
			switch c.Name {
			case "Spatial", "SpatialPlanar":
				s = cutOut(t, in, p, c.Name == "SpatialPlanar")
			case "OneHot", "Operator", "Component":
				s.Labels = append(s.Labels, s.Labels...)
				OneHot{[]int16{-1, 1, 2}}.Apply(s, nil, nil)
				if c.Name != "OneHot" {
					transforms[c.Name].Apply(s, p, scratch(t, in.Shape, in.Shape))
				}
				assert.Equal(t, in.image, s.Image[:len(in.image)])
				assert.Equal(t, in.labels, s.Labels)
				s.Labels = nil
				for _, v := range s.Image[len(in.image):] {
					s.Labels = append(s.Labels, int16(v))
				}
			default:
				transforms[c.Name].Apply(s, p, scratch(t, in.Shape, in.Shape))
			}
			if c.Image > 0 {
				closeTo(t, image[:c.Image], s.Image, 2e-6)
				image = image[c.Image:]
			}
			if c.Labels > 0 {
				sameLabels(t, labels[:c.Labels], s.Labels)
				labels = labels[c.Labels:]
			}
			switch c.Name {
			case "Spatial", "SpatialPlanar", "Mirror", "Rot90", "Permute":
				assert.Equal(t, s.Image, s.Targets, "soft targets move with the image")
			default:
				assert.Equal(t, in.image, s.Targets, "soft targets stay")
			}
		})
	}
	assert.Empty(t, image)
	assert.Empty(t, labels)
	for name := range transforms {
		assert.True(t, tested[name], name)
	}
}

// cutOut applies Spatial to a case. p: corner, box, patch and the transform's.
func cutOut(t *testing.T, in input, p []float64, planar bool) *Sample {
	var n [9]int
	for i := range n {
		n[i] = int(p[i])
	}
	cut := Spatial{Box: [3]int(n[3:6]), Patch: [3]int(n[6:9]), Planar: planar}
	voxels := n[6] * n[7] * n[8]
	s := &Sample{Shape: cut.Patch, Image: make([]float32, in.Channels*voxels), Labels: make([]int16, voxels), Targets: make([]float32, in.Channels*voxels)}
	src := &Arrays{in.Shape, in.image, in.labels, in.image}
	require.NoError(t, cut.Cut(s, src, [3]int(n[:3]), p[9:], scratch(t, cut.Box, cut.Patch)))
	return s
}

// sameLabels checks that no label differs.
func sameLabels(t *testing.T, want, got []int16) {
	t.Helper()
	require.Equal(t, len(want), len(got))
	differ, where := 0, 0
	for i := range want {
		if want[i] != got[i] {
			differ, where = differ+1, i
		}
	}
	assert.Zero(t, differ, "of %d labels differ; the last is %d: %d, want %d", len(want), where, got[where], want[where])
}

// closeTo checks that the largest difference is below tolerance times the largest value.
func closeTo(t *testing.T, want, got []float32, tolerance float64) {
	t.Helper()
	require.Equal(t, len(want), len(got))
	scale, worst, where := 0.0, 0.0, 0
	for i := range want {
		scale = max(scale, math.Abs(float64(want[i])))
		d := math.Abs(float64(want[i]) - float64(got[i]))
		if !(d <= worst) {
			worst, where = d, i
		}
	}
	assert.LessOrEqual(t, worst/scale, tolerance, "value %d: %v, want %v", where, got[where], want[where])
}
