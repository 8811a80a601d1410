package preprocess

import (
	"context"
	"math"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// Scheme is one of nnU-Net's intensity normalisations.
type Scheme string

// The schemes, by the names that plans use
// (nnunetv2/preprocessing/normalization/default_normalization_schemes.py).
const (
	CT          Scheme = "CTNormalization"          // clip to percentiles, subtract mean, divide by std of the training data
	ZScore      Scheme = "ZScoreNormalization"      // subtract mean, divide by std of the image
	None        Scheme = "NoNormalization"          // as it is
	RescaleTo01 Scheme = "RescaleTo01Normalization" // subtract the minimum, divide by the range
	RGBTo01     Scheme = "RGBTo01Normalization"     // divide by 255
)

// Normalization is a scheme, whether ZScore counts and changes only the voxels of
// the nonzero mask (use_mask_for_norm; the other schemes ignore it), and the training
// data's statistics that CT needs.
type Normalization struct {
	Scheme                     Scheme
	Mask                       bool
	Lower, Upper, Mean, StdDev float64 // percentiles 0.5 and 99.5, mean and standard deviation
}

// own reports whether the channel is normalised into an array of its own.
func (n Normalization) own() bool { return n.Scheme == ZScore && n.Mask }

// epsilon is the smallest divisor, as in nnU-Net.
const epsilon = 1e-8

// prepare sets the source's intensity map, and returns the extremes of the mapped
// voxels where they are wanted. Only what the scheme needs is computed.
func (n Normalization) prepare(ctx context.Context, s *resample.Source, extremes bool, threads int) (lo, hi float32, err error) {
	floats := s.DType == volume.Float32 || s.DType == volume.Float64
	var r scan
	if extremes || floats || n.Scheme == ZScore || n.Scheme == RescaleTo01 || n.Scheme == RGBTo01 {
		if r, err = scanView(ctx, s, threads); err != nil {
			return 0, 0, err
		}
	}
	a := kernel.Identity
	switch n.Scheme {
	case CT:
		a = kernel.Affine{Lo: float32(n.Lower), Hi: float32(n.Upper), Sub: float32(n.Mean), Div: float32(max(n.StdDev, epsilon))}
	case ZScore:
		a.Sub, a.Div = float32(r.mean), float32(max(r.std, epsilon))
	case None:
	case RescaleTo01:
		a.Sub, a.Div = float32(r.min), float32(max(float64(float32(r.max)-float32(r.min)), epsilon))
	case RGBTo01:
		if r.min < 0 || r.max > 255 {
			return 0, 0, fault.New(fault.Model, "RGBTo01Normalization expects voxels from 0 to 255, found %g to %g", r.min, r.max)
		}
		a.Div = 255
	default:
		return 0, 0, fault.New(fault.Unsupported, "normalization scheme %q is not supported", n.Scheme)
	}
	s.Affine = a
	return a.Apply(r.min), a.Apply(r.max), nil
}

type scan struct{ min, max, mean, std float64 }

// scanView returns the statistics of a source's voxels; voxels that are not finite
// are an error.
func scanView(ctx context.Context, s *resample.Source, threads int) (scan, error) {
	slices := make([]kernel.ScanResult, s.View.Shape[0])
	// Sums are taken of the difference to one voxel of the image, so that a large mean
	// does not drown a small deviation.
	one := kernel.Scan(kernel.Plane{Data: s.Data, DType: int32(s.DType), Offset: s.View.Offset, Shape: [2]int{1, 1}}, 0)
	shift := one.Sum
	if one.Bad > 0 {
		shift = 0
	}
	err := parallel.For(len(slices), threads, func(_, i int) error {
		if ctx.Err() != nil {
			return fault.New(fault.Cancelled, "cancelled")
		}
		slices[i] = kernel.Scan(s.Plane(i), shift)
		return nil
	})
	if err != nil {
		return scan{}, err
	}
	r, sum, sum2, bad := scan{min: math.Inf(1), max: math.Inf(-1)}, 0.0, 0.0, 0
	for _, p := range slices {
		r.min, r.max = min(r.min, p.Min), max(r.max, p.Max)
		sum, sum2, bad = sum+p.Sum, sum2+p.Sum2, bad+p.Bad
	}
	if bad > 0 {
		return r, fault.New(fault.Argument, "%d of the image's voxels are NaN, infinite or too large for float32; replace them (by air, -1000, in a CT) before segmenting", bad)
	}
	n := float64(s.View.Voxels())
	r.mean = shift + sum/n
	r.std = math.Sqrt(max(0, sum2/n-(sum/n)*(sum/n)))
	return r, nil
}
