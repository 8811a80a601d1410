package augment

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/train/random"
)

// The benchmarks say how many nanoseconds a transform takes per voxel of the patch, on one
// core; testdata/bench.py measures batchgeneratorsv2 on the same arrays.

// study is a patch that is measured: the hippocampus plan's and a student's for CTs.
type study struct {
	name string
	Setup
}

var studies = []study{{"hippocampus", Setup{Patch: [3]int{40, 56, 40}, Channels: 1}}, {"ct", Setup{Patch: [3]int{32, 128, 192}, Channels: 1}}}

// phantom returns a case of a shape: noise on smooth shapes, labels in blocks.
func phantom(shape [3]int, channels int) *Arrays {
	n := shape[0] * shape[1] * shape[2]
	a := &Arrays{Size: shape, Voxels: make([]float32, channels*n), Classes: make([]int16, n)}
	r := random.New(1)
	for i := range a.Voxels {
		a.Voxels[i] = float32(r.NormFloat64()) + float32(i/16%3)
	}
	for i := range a.Classes {
		z, y, x := i/(shape[1]*shape[2]), i/shape[2]%shape[1], i%shape[2]
		if d := (z-shape[0]/2)*(z-shape[0]/2) + (y-shape[1]/2)*(y-shape[1]/2) + (x-shape[2]/2)*(x-shape[2]/2); d < shape[0]*shape[0]/5 {
			a.Classes[i] = int16(1 + z/4%2)
		}
	}
	return a
}

func (s study) sample() *Sample {
	n := s.Patch[0] * s.Patch[1] * s.Patch[2]
	a := phantom(s.Patch, s.Channels)
	return &Sample{Shape: s.Patch, Image: a.Voxels[:s.Channels*n], Labels: a.Classes}
}

func perVoxel(b *testing.B, s *Sample) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(s.voxels()), "ns/voxel")
}

func BenchmarkTransform(b *testing.B) {
	blob := []float64{0.3, 20, 0.4, 25, 0.6, 30}
	for _, study := range studies {
		w := scratch(b, study.Patch, study.Patch)
		for _, c := range []struct {
			name string
			t    Transform
			p    []float64
		}{
			{"noise", Noise{}, []float64{0.05, 3}},
			{"blur", Blur{}, []float64{0.8, 0.8, 0.8}},
			{"multiply", Multiply{}, []float64{1.001}},
			{"contrast", Contrast{Clip: true}, []float64{0.9999}},
			{"lowres", LowResolution{}, []float64{0.75, 0.75, 0.75}},
			{"gamma", Gamma{}, []float64{0.9}},
			{"mirror", Mirror{}, []float64{0, 1, 2}},
			{"median3", Median{}, []float64{3}},
			{"median5", Median{}, []float64{5}},
			{"median7", Median{}, []float64{7}},
			{"sharpen", Sharpen{}, []float64{1e-3}},
			{"gradient", Gradient{}, append([]float64{1e-3}, blob...)},
			{"localgamma", LocalGamma{}, append([]float64{1.01}, blob...)},
			{"rot90", Rot90{}, []float64{1, 0, 2}},
		} {
			if c.name == "rot90" && study.Patch[0] != study.Patch[2] {
				continue
			}
			b.Run(study.name+"/"+c.name, func(b *testing.B) {
				s := study.sample()
				for b.Loop() {
					c.t.Apply(s, c.p, w)
				}
				perVoxel(b, s)
			})
		}
	}
}

// Cutting a sample out of a case: copied, scaled, rotated; labels included.
func BenchmarkSpatial(b *testing.B) {
	for _, study := range studies {
		spatial := Default(study.Setup).Spatial
		src := phantom([3]int{max(40, spatial.Box[0]), spatial.Box[1] + 10, spatial.Box[2] + 10}, study.Channels)
		w := scratch(b, spatial.Box, spatial.Patch)
		angle, factor := []float64{0.3, 0.2, -0.3}, []float64{1.1, 1.1, 1.1}
		if spatial.Planar {
			angle, factor = []float64{1, 0, 0}, []float64{1, 1.1, 1.1}
		}
		for name, p := range map[string][]float64{"copy": nil, "scale": append(make([]float64, 3), factor...), "rotate": append(angle, 1, 1, 1)} {
			b.Run(study.name+"/"+name, func(b *testing.B) {
				s := study.sample()
				for b.Loop() {
					require.NoError(b, spatial.Cut(s, src, [3]int{0, 4, 4}, p, w))
				}
				perVoxel(b, s)
			})
		}
	}
}

// A whole sample, the mean of many draws.
func BenchmarkPipeline(b *testing.B) {
	for _, study := range studies {
		for name, pipeline := range map[string]*Pipeline{"default": Default(study.Setup), "strong": Strong(study.Setup)} {
			b.Run(fmt.Sprintf("%s/%s", study.name, name), func(b *testing.B) {
				box := pipeline.Spatial.Box
				src := phantom([3]int{max(40, box[0]), box[1] + 10, box[2] + 10}, study.Channels)
				w, err := pipeline.NewScratch()
				require.NoError(b, err)
				defer w.Free()
				s, r, p := study.sample(), random.New(), Parameters{}
				for i := range b.N { // b.Loop would choose a number of draws too small for the mean
					r.Key(1, uint64(i))
					pipeline.Draw(&p, r)
					require.NoError(b, pipeline.Make(s, src, [3]int{0, 4, 4}, &p, w))
				}
				perVoxel(b, s)
			})
		}
	}
}
