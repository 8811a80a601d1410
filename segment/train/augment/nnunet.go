package augment

import (
	"math"
	"slices"
)

// Setup is what the augmentation depends on.
type Setup struct {
	Patch    [3]int  // of the network; depth 1 is 2-D
	Channels int     // of the cases' images
	Masked   []int   // channels normalised within a mask (use_mask_for_norm)
	Previous []int16 // cascades: the foreground labels of the previous stage
}

func (s Setup) maps() int { return 1 + min(1, len(s.Previous)) }

// geometry is nnU-Net's choice for a patch (configure_rotation_dummyDA_mirroring_and_
// inital_patch_size).
type geometry struct {
	planar bool    // 3-D, but rotated and scaled in the planes y, x only
	angle  float64 // radians, either way
	axes   []int   // that are mirrored
}

func (s Setup) geometry() geometry {
	degrees := func(d float64) float64 { return d / 360 * 2 * math.Pi }
	p := s.Patch
	longest := float64(max(p[0], p[1], p[2]))
	if p[0] == 1 {
		if longest/float64(min(p[1], p[2])) > 1.5 {
			return geometry{true, degrees(15), []int{1, 2}}
		}
		return geometry{true, degrees(180), []int{1, 2}}
	}
	if longest/float64(p[0]) > 3 { // anisotropic
		return geometry{true, degrees(180), []int{0, 1, 2}}
	}
	return geometry{false, degrees(30), []int{0, 1, 2}}
}

// box returns the size of what is cut out before rotation and scaling by at least the
// factor smallest: that of the patch rotated about one axis at a time
// (compute_initial_patch_size.get_patch_size).
func (s Setup) box(g geometry, smallest float64) [3]int {
	sin, cos := math.Sincos(min(g.angle, math.Pi/2))
	rotations := [][2]int{{1, 2}}
	if s.Patch[0] > 1 {
		rotations = [][2]int{{1, 2}, {0, 2}, {0, 1}}
	}
	var size [3]float64
	for i, n := range s.Patch {
		size[i] = float64(n)
	}
	for k, r := range rotations {
		a, b := float64(s.Patch[r[0]]), float64(s.Patch[r[1]])
		if k == 1 { // the middle one turns the other way
			a, b = b, a
			r[0], r[1] = r[1], r[0]
		}
		size[r[0]] = max(size[r[0]], math.Abs(cos*a+sin*b))
		size[r[1]] = max(size[r[1]], math.Abs(cos*b-sin*a))
	}
	var box [3]int
	for i := range box {
		if box[i] = int(size[i] / smallest); i == 0 && g.planar {
			box[i] = s.Patch[i]
		}
	}
	return box
}

// spatial is the part that both trainers share.
func (s Setup) spatial(smallest float64) (Spatial, geometry) {
	g := s.geometry()
	return Spatial{Box: s.box(g, smallest), Patch: s.Patch, Planar: g.planar, Angle: g.angle, PAngle: 1}, g
}

// last are the steps that end every pipeline.
func (s Setup) last(pOperator, pComponent float64) []Transform {
	var t []Transform
	if len(s.Masked) > 0 {
		t = append(t, Mask{s.Masked})
	}
	t = append(t, Outside{})
	if n := len(s.Previous); n > 0 {
		t = append(t, OneHot{s.Previous},
			Random{0.4, Operator{n, pOperator}},
			Random{0.2, Component{n, pComponent, 0.15}})
	}
	return t
}

// Default is the augmentation of nnUNetTrainer.
func Default(s Setup) *Pipeline {
	spatial, g := s.spatial(0.85)
	spatial.PRotate, spatial.PScale = 0.2, 0.2
	spatial.Scale, spatial.Together = [2]float64{0.7, 1.4}, true
	return &Pipeline{s.Channels, s.maps(), spatial, append([]Transform{
		Random{0.1, Noise{0.1}},
		Random{0.2, Blur{Lo: 0.5, Hi: 1, PChannel: 0.5}},
		Random{0.15, Multiply{0.75, 1.25}},
		Random{0.15, Contrast{Lo: 0.75, Hi: 1.25, PChannel: 1, Clip: true}},
		Random{0.25, LowResolution{Lo: 0.5, Hi: 1, PChannel: 0.5, Planar: g.planar}},
		Random{0.1, Gamma{0.7, 1.5, true}},
		Random{0.3, Gamma{0.7, 1.5, false}},
		Mirror{g.axes},
	}, s.last(0.5, 0.5)...)}
}

// Strong is the augmentation of nnUNetTrainerDA5: the noise of a noisy student.
func Strong(s Setup) *Pipeline {
	spatial, g := s.spatial(0.7)
	spatial.PRotate, spatial.PAngle, spatial.PScale = 0.4, 0.5, 0.2
	spatial.Scale = [2]float64{0.7, 1.43}
	var t []Transform
	if axes := equalAxes(s.Patch); len(axes) > 1 {
		t = append(t, Random{0.5, Rot90{axes}}, Random{0.5, Permute{axes}})
	}
	t = append(t,
		OneOf{
			Random{0.2, Median{0.5}},
			Random{0.2, Blur{Lo: 0.3, Hi: 1.5, PChannel: 0.5, Together: true}},
		},
		Random{0.1, Noise{0.1}},
		Random{0.1, Shift{0.5, 0.5}},
		OneOf{
			Random{0.2, Contrast{Lo: 0.5, Hi: 2, PChannel: 0.5, Clip: true}},
			Random{0.2, Contrast{Lo: 0.5, Hi: 2, PChannel: 0.5}},
		},
		Random{0.15, LowResolution{Lo: 0.25, Hi: 1, PChannel: 0.5, Planar: g.planar}},
		Random{0.1, Gamma{0.7, 1.5, true}},
		Random{0.1, Gamma{0.7, 1.5, true}},
		Mirror{g.axes},
		Random{0.4, Blank{0.5}},
		Random{0.3, Gradient{0.5}},
		Random{0.3, LocalGamma{0.5}},
		Random{0.2, Sharpen{0.1, 1, 0.5}},
	)
	return &Pipeline{s.Channels, s.maps(), spatial, append(t, s.last(1, 1)...)}
}

// None cuts samples of the patch out and changes nothing: for validation.
func None(s Setup) *Pipeline {
	t := []Transform{Outside{}}
	if len(s.Previous) > 0 {
		t = append(t, OneHot{slices.Clone(s.Previous)})
	}
	return &Pipeline{s.Channels, s.maps(), Spatial{Box: s.Patch, Patch: s.Patch}, t}
}
