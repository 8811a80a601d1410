package resample

import (
	"github.com/libflare/libflare/segment/internal/fault"
)

// Function is one of nnU-Net's resampling functions, by the name that plans use.
type Function string

// The functions (nnunetv2/preprocessing/resampling). TorchSimple has no spacings among
// its arguments, so nnU-Net's plans cannot call it by itself; here it is Torch without
// a separate axis. NoResampling2 is another name of NoResampling.
const (
	Spline        Function = "resample_data_or_seg_to_shape"
	Torch         Function = "resample_torch_fornnunet"
	TorchSimple   Function = "resample_torch_simple"
	NoResampling  Function = "no_resampling_hack"
	NoResampling2 Function = "no_resampling_data_or_seg_to_shape"
)

// Mode is how Torch interpolates, by the names of torch.nn.functional.interpolate.
type Mode string

// The modes. The empty one is the function's default.
const (
	Linear       Mode = "linear" // torch's bilinear and trilinear
	Nearest      Mode = "nearest"
	NearestExact Mode = "nearest-exact"
)

// Method is a resampling function with its arguments; nnU-Net's names of the
// arguments are in brackets.
type Method struct {
	Function  Function
	SeparateZ *bool   // [force_separate_z] nil: where the spacings' ratio is above Threshold
	Threshold float64 // [separate_z_anisotropy_threshold] 3 where plans say nothing

	Order  int // Spline: [order] 0 to 5
	OrderZ int // Spline: [order_z] 0 to 5, along the separate axis

	// Torch and TorchSimple. As in nnU-Net, Torch without a separate axis is linear
	// whatever Mode says.
	Mode         Mode // [mode] default Linear
	ModeZ        Mode // [aniso_axis_mode] along the separate axis, default NearestExact
	MemEfficient bool // [memefficient_seg_resampling] of label maps: label where its share is above a half
}

// Shape returns the shape of the network's grid for an image of shape old, with
// spacings in mm: nnU-Net's compute_new_shape, or old itself for NoResampling.
func (m Method) Shape(old [3]int, from, to [3]float64) ([3]int, error) {
	if m.none() {
		return old, nil
	}
	return newShape(old, from, to)
}

func (m Method) none() bool { return m.Function == NoResampling || m.Function == NoResampling2 }

// separate returns the axis that is resampled apart from the others, or -1.
func (m Method) separate(from, to [3]float64) int {
	if m.Function == TorchSimple || m.none() {
		return -1
	}
	return separateAxis(from, to, m.SeparateZ, m.Threshold)
}

// modes returns the modes of the separate axis (if any) and of the others.
func (m Method) modes(separate int) (mode, modeZ Mode) {
	mode, modeZ = m.Mode, m.ModeZ
	if mode == "" || m.Function == Torch && separate < 0 {
		mode = Linear
	}
	if modeZ == "" {
		modeZ = NearestExact
	}
	return mode, modeZ
}

// check refuses what does not exist, and shapes that differ where nothing resamples.
func (m Method) check(in, out [3]int) error {
	for i := range in {
		if in[i] < 1 || out[i] < 1 {
			return fault.New(fault.Argument, "resampling %v voxels to %v: sizes start at 1", in, out)
		}
	}
	switch m.Function {
	case Spline:
		if m.Order < 0 || m.Order > 5 || m.OrderZ < 0 || m.OrderZ > 5 {
			return fault.New(fault.Unsupported, "%s with order %d and order_z %d: spline orders are 0 to 5", m.Function, m.Order, m.OrderZ)
		}
	case Torch, TorchSimple:
		for _, mode := range []Mode{m.Mode, m.ModeZ} {
			if mode != "" && mode != Linear && mode != Nearest && mode != NearestExact {
				return fault.New(fault.Unsupported, "%s with mode %q: only %s, %s and %s are supported", m.Function, mode, Linear, Nearest, NearestExact)
			}
		}
	case NoResampling, NoResampling2:
		if in != out {
			return fault.New(fault.Model, "%s leaves %v voxels as they are, but %v are needed: the model's resampling functions contradict each other",
				m.Function, in, out)
		}
	default:
		return fault.New(fault.Unsupported, "resampling function %q is not supported", m.Function)
	}
	return nil
}

// plan is how a method takes one grid to another.
type plan struct {
	in, out [3]int
	pass    [3]*pass
	// Splines above order 1 overshoot; skimage's resize clips them to the extremes of its
	// input: the slices across the axis separate where that is not -1, else the whole.
	clip     bool
	separate int
}

// plan tabulates the way from a grid of shape in to one of shape out, with spacings
// in mm.
func (m Method) plan(in, out [3]int, from, to [3]float64) (*plan, error) {
	if err := m.check(in, out); err != nil {
		return nil, err
	}
	return m.planAlong(in, out, m.separate(from, to)), nil
}

func (m Method) planAlong(in, out [3]int, axis int) *plan {
	p := &plan{in: in, out: out, separate: -1}
	if in == out || m.none() {
		for i := range p.pass {
			p.pass[i] = splinePass(in[i], in[i], 0)
		}
		return p
	}
	mode, modeZ := m.modes(axis)
	for i := range p.pass {
		switch {
		case m.Function == Spline && i == axis:
			p.pass[i] = splinePass(in[i], out[i], m.OrderZ)
		case m.Function == Spline:
			p.pass[i] = splinePass(in[i], out[i], m.Order)
		case i == axis:
			p.pass[i] = torchPass(in[i], out[i], modeZ, false)
		default:
			p.pass[i] = torchPass(in[i], out[i], mode, torchFused(out, axis))
		}
	}
	if p.clip = m.Function == Spline && m.Order > 1; p.clip {
		p.separate = axis
	}
	return p
}

// local reports whether an output voxel depends on no more than two input voxels
// along each axis.
func (p *plan) local() bool { return p.pass[0].local() && p.pass[1].local() && p.pass[2].local() }

// rows returns the plan for the output rows (of the middle axis) from to before to alone,
// out of the input rows from first to before end.
func (p *plan) rows(from, to, first, end int) *plan {
	r := *p
	r.in[1], r.out[1], r.pass[1] = end-first, to-from, p.pass[1].part(from, to, first, end)
	return &r
}

// turn returns the plan for transposed grids.
func (p *plan) turn(perm [3]int) *plan {
	t := *p
	for i, from := range perm {
		t.in[i], t.out[i], t.pass[i] = p.in[from], p.out[from], p.pass[from]
		if from == p.separate {
			t.separate = i
		}
	}
	return &t
}
