// Package phantom makes synthetic abdominal CTs with labels of the 13 FLARE
// organs, for demonstrations and tests.
//
// A phantom is a sampler of parameters and a deterministic renderer: [Sample]
// draws a whole patient from (seed, index), [Generate] renders exactly what the
// parameters say, with any number of threads, so every phantom can be replayed.
//
// Anatomy is described in canonical coordinates: millimetres in an average
// patient, x to the left, y to posterior, z to superior, zero between the
// renal hila at the middle of the body. Generate maps the voxels of the image
// into that space (shift, roll, smooth displacement, scale per axis) and
// evaluates shapes there, as distances to their surface. The image is sampled
// at the voxel centres, which is what reading a fine CT at the centres of a
// coarse grid gives, so the two sizes look alike to a network.
//
// The phantoms imitate the arrangement and the contrast of abdominal organs,
// not their fine anatomy. They say nothing about performance on patients.
package phantom

import (
	"runtime"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// Labels of the organs, in the order of the FLARE22 challenge.
const (
	Liver uint8 = 1 + iota
	RightKidney
	Spleen
	Pancreas
	Aorta
	InferiorVenaCava
	RightAdrenal
	LeftAdrenal
	Gallbladder
	Esophagus
	Stomach
	Duodenum
	LeftKidney
)

// Organs holds the name of each label; index 0 is the background.
var Organs = []string{
	"background", "liver", "right kidney", "spleen", "pancreas", "aorta",
	"inferior vena cava", "right adrenal gland", "left adrenal gland",
	"gallbladder", "esophagus", "stomach", "duodenum", "left kidney",
}

// Params is everything that decides a phantom's voxels. It is plain data and
// may be changed between Sample and Generate.
type Params struct {
	Geometry volume.Geometry // the image's grid; its axes must be those of the patient (identity direction)

	Centre [3]float64 // mm, LPS: where the canonical origin lies
	Scale  [3]float64 // mm of this patient per canonical mm, along x, y, z
	Roll   float64    // radians, rotation about z
	Waves  []Wave     // the smooth displacement that makes shapes irregular

	Body    Body
	Objects []Object // painted in this order, later ones over earlier ones

	NoiseSD   float64 // HU
	TextureSD float64 // HU, slow variation of the soft tissue
	Seed      uint64  // of noise and texture
}

// Wave is one term of the displacement: Amplitude * sin(Vector . p + Phase), with
// p in mm from Centre.
type Wave struct {
	Vector    [3]float64 // radians per mm
	Phase     float64    // radians
	Amplitude [3]float64 // mm
}

// Generate renders a phantom: the CT in HU (int16) and its labels (uint8, 0 to
// 13) on the same grid. The caller frees both.
func Generate(p Params) (ct, labels *volume.Volume, err error) {
	if p.Geometry.Direction != volume.Identity {
		return nil, nil, fault.New(fault.Argument, "a phantom is rendered with the identity direction, not %v", p.Geometry.Direction)
	}
	for _, s := range p.Scale {
		if !(s > 0) {
			return nil, nil, fault.New(fault.Argument, "phantom scale %v must be positive", p.Scale)
		}
	}
	if ct, err = volume.New(p.Geometry, 1, volume.Int16); err != nil {
		return nil, nil, err
	}
	if labels, err = volume.New(p.Geometry, 1, volume.Uint8); err != nil {
		ct.Free()
		return nil, nil, err
	}
	if err = newScene(&p).render(volume.As[int16](ct), volume.As[uint8](labels)); err != nil {
		ct.Free()
		labels.Free()
		return nil, nil, err
	}
	return ct, labels, nil
}

// render paints all slices, hu and labels being (nz, ny, nx). Slices are
// independent of each other.
func (sc *scene) render(hu []int16, labels []uint8) error {
	size := sc.p.Geometry.Size
	n := size[0] * size[1]
	workers := min(runtime.GOMAXPROCS(0), size[2])
	slices := make([]*slice, workers)
	return parallel.For(size[2], workers, func(worker, k int) error {
		if slices[worker] == nil {
			slices[worker] = newSlice(sc, size[0], size[1])
		}
		slices[worker].render(k, hu[k*n:(k+1)*n], labels[k*n:(k+1)*n])
		return nil
	})
}
