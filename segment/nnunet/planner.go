package nnunet

import (
	"maps"
	"math"
	"slices"

	"github.com/libflare/libflare/segment/internal/fault"
)

// planner holds what one of nnU-Net's planners differs in
// (experiment_planning/experiment_planners).
type planner struct {
	class     string // experiment_planner_used
	plansName string
	residual  bool // ResidualEncoderUNet, else PlainConvUNet
	base      int  // channels of the first stage

	// The estimate of memory (topology.featureMaps) that the planner aims at with its
	// reference batch size, which is 12 in 2-D and 2 in 3-D.
	memory2d, memory3d float64

	covered float64 // most of the dataset's voxels that a batch may hold

	spacing []float64 // z,y,x, mm, of 3d_fullres; nil: that of the data
}

const (
	planPlain   = "ExperimentPlanner"
	planStudent = "Student"
)

var planners = map[string]planner{
	planPlain: {class: "ExperimentPlanner", plansName: "nnUNetPlans", base: 32, memory2d: 85e6, memory3d: 560e6, covered: 0.05},
	"ResEncM": {class: "nnUNetPlannerResEncM", plansName: "nnUNetResEncUNetMPlans", residual: true, base: 32,
		memory2d: 135e6, memory3d: 680e6, covered: 1},
	"ResEncL": {class: "nnUNetPlannerResEncL", plansName: "nnUNetResEncUNetLPlans", residual: true, base: 32,
		memory2d: 380e6, memory3d: 2100e6, covered: 1},
	"Isotropic25": {class: "ExperimentPlanner", plansName: "flareIsotropic25Plans", base: 32, memory2d: 85e6, memory3d: 560e6, covered: 0.05,
		spacing: []float64{2.5, 2.5, 2.5}},
	planStudent: {class: "ExperimentPlanner", plansName: "flareStudentPlans", base: 16},
}

// Planners returns the names that Plan knows, sorted.
//
// ExperimentPlanner, ResEncM and ResEncL are nnU-Net's planners of these names
// (nnUNetPlannerResEncM, nnUNetPlannerResEncL). The others plan small networks for
// students, in files that nnU-Net reads, too. Isotropic25 is nnU-Net's default U-Net at
// 2.5 mm in all directions, that of the winner of FLARE24's second task. Student has one
// 3-D configuration, of FLARE22's winner's student: voxels of 4.0x1.2x1.2 mm (the coarsest
// axis first), patch 32x128x192, 5 stages of 16 to 256 channels, batch 2, and no mirroring
// (Configuration.NoMirroring; in nnU-Net the trainer nnUNetTrainerNoMirroring).
func Planners() []string { return slices.Sorted(maps.Keys(planners)) }

const (
	anisotropy      = 3    // ANISO_THRESHOLD: an axis this much coarser than the others is resampled apart
	lowresThreshold = 0.25 // a patch that covers less of the median image asks for 3d_lowres
	minBatch        = 2
	maxFeatures2d   = 512
	maxFeatures3d   = 320
)

// Blocks of each stage: of PlainConvUNet, convolutions; of ResidualEncoderUNet, residual
// blocks in the encoder and convolutions in the decoder.
var (
	plainBlocks           = repeat(2, 14)
	residualBlocks        = append([]int{1, 3, 4}, repeat(6, 10)...)
	residualDecoderBlocks = repeat(1, 12)
)

// Plan plans the experiment for a dataset called name from its fingerprint, with one of
// Planners, and returns the plans; Plans.Raw is the text of the plans.json, that of nnU-Net
// 2.8.1 to the last digit. Errors: Argument (no such planner; a fingerprint with impossible
// numbers), Model (fingerprint and dataset contradict each other), Unsupported (a file
// ending that nnU-Net does not read, a preset for 2-D images, images too large to plan for).
func Plan(planner string, f *Fingerprint, d *Dataset, name string) (*Plans, error) {
	p, ok := planners[planner]
	if !ok {
		return nil, fault.New(fault.Argument, "planner %q: there are only %s", planner, nameList(Planners()))
	}
	if err := f.check(d); err != nil {
		return nil, err
	}
	e := experiment{planner: p, Fingerprint: f, dataset: d}
	plans, err := e.plans(planner == planStudent)
	if err != nil {
		return nil, err
	}
	plans.DatasetName, plans.PlansName, plans.Planner = name, p.plansName, p.class
	return ParsePlans(pythonJSON(plans), "plans of "+name)
}

// experiment is one dataset with one planner. Arrays of three are z,y,x as in the files,
// unless they are transposed, that is, in the network's order of the axes.
type experiment struct {
	planner
	*Fingerprint
	dataset *Dataset
}

// plans is plan_experiment of default_experiment_planner.py.
func (e *experiment) plans(student bool) (*plansJSON, error) {
	reader, err := e.dataset.Reader()
	if err != nil {
		return nil, err
	}
	target := e.targetSpacing()
	flat := !slices.ContainsFunc(e.Shapes, func(s [3]int) bool { return s[0] != 1 })
	if flat && (student || e.spacing != nil) {
		return nil, fault.New(fault.Unsupported, "%s: the images are 2-D, for which this planner is not made", e.plansName)
	}
	forward := transpose(target) // by the data's own spacing
	switch {
	case student:
		target[forward[0]], target[forward[1]], target[forward[2]] = studentSpacing[0], studentSpacing[1], studentSpacing[2]
	case e.spacing != nil:
		target = [3]float64(e.spacing)
		forward = transpose(target)
	}
	p := &plansJSON{Reader: reader, LabelManager: "LabelManager", Intensity: e.intensityJSON(),
		TransposeForward: forward, TransposeBackward: inverse(forward)}
	shapes := make([][3]int, len(e.Shapes)) // after resampling
	var spacing, shape []float64            // transposed
	for i := range shapes {
		for axis := range 3 {
			side := e.Spacings[i][axis] / target[axis] * float64(e.Shapes[i][axis])
			if side > maxSide {
				return nil, fault.New(fault.Unsupported, "case %d, %v voxels of %v mm, would have %.3g voxels along an axis at %v mm: are its spacing and that of the others right?",
					i, e.Shapes[i], e.Spacings[i], side, target)
			}
			shapes[i][axis] = roundEven(side)
		}
	}
	for i, axis := range forward {
		spacing = append(spacing, target[axis])
		shape = append(shape, Median(column(shapes, axis)))
		p.MedianSpacing[i] = pythonFloat(Median(column(e.Spacings, axis)))
		p.MedianShape[i] = roundEven(Median(column(e.Shapes, axis)))
	}
	if student {
		p.Configurations.Fullres = e.student(spacing, shape)
		return p, nil
	}
	cases := e.dataset.NumTraining
	if cases == 0 {
		cases = len(e.Shapes)
	}
	voxels := shape[0] * shape[1] * shape[2] * float64(cases) // of the dataset
	if shape[0] != 1 {
		if p.Configurations.Fullres, err = e.configuration("3d_fullres", spacing, shape, voxels); err != nil {
			return nil, err
		}
		if p.Configurations.Lowres, err = e.lowres(p.Configurations.Fullres, spacing, shape, cases); err != nil {
			return nil, err
		}
	}
	if p.Configurations.Lowres != nil {
		p.Configurations.Fullres.BatchDice = true
		p.Configurations.Cascade = &cascadeJSON{"3d_fullres", "3d_lowres"}
	}
	p.Configurations.Flat, err = e.configuration("2d", spacing[1:], shape[1:], voxels)
	if err != nil {
		return nil, err
	}
	p.Configurations.Flat.BatchDice = true
	return p, nil
}

// targetSpacing returns the spacing of 3d_fullres: the median of each axis; of a coarse
// axis with few voxels the 10th percentile (determine_fullres_target_spacing).
func (e *experiment) targetSpacing() (target [3]float64) {
	var size [3]float64
	for axis := range 3 {
		target[axis] = percentile(column(e.Spacings, axis), 0.5)
		size[axis] = percentile(column(e.Shapes, axis), 0.5)
	}
	worst := coarsest(target)
	others, fewest := 0.0, math.Inf(1)
	for axis := range 3 {
		if axis != worst {
			others, fewest = max(others, target[axis]), min(fewest, size[axis])
		}
	}
	if target[worst] > anisotropy*others && size[worst]*anisotropy < fewest {
		target[worst] = percentile(column(e.Spacings, worst), 0.1)
		if target[worst] < others {
			target[worst] = others + 1e-5
		}
	}
	return target
}

// lowres returns the configuration whose patch covers enough of the median image, or nil
// where 3d_fullres does or nearly so.
func (e *experiment) lowres(fullres *configurationJSON, spacing, shape []float64, cases int) (c *configurationJSON, err error) {
	const step = 1.03 // of the spacing
	full := shape[0] * shape[1] * shape[2]
	voxels, patch := full, float64(product(fullres.PatchSize))
	low := slices.Clone(spacing)
	size := make([]float64, 3)
	for patch/voxels < lowresThreshold {
		most := slices.Max(low)
		if most/slices.Min(low) > 2 { // first the axes that are much finer than the coarsest
			for i := range low {
				if most/low[i] > 2 {
					low[i] *= step
				}
			}
		} else {
			for i := range low {
				low[i] *= step
			}
		}
		rounded := make([]int, 3)
		for i := range low {
			size[i] = spacing[i] / low[i] * shape[i]
			rounded[i] = roundEven(size[i])
		}
		voxels = size[0] * size[1] * size[2]
		whole := []float64{float64(rounded[0]), float64(rounded[1]), float64(rounded[2])}
		if c, err = e.configuration("3d_lowres", low, whole, voxels*float64(cases)); err != nil {
			return nil, err
		}
		c.MedianSize = rounded
		patch = float64(product(c.PatchSize))
	}
	if full/voxels < 2 {
		return nil, nil
	}
	c.NextStage = "3d_cascade_fullres"
	return c, nil
}

// configuration plans one network (get_plans_for_configuration). spacing and shape, the
// median image's, are transposed and have two or three axes; voxels is how many the whole
// dataset has.
func (e *experiment) configuration(name string, spacing, shape []float64, voxels float64) (*configurationJSON, error) {
	dims := len(spacing)
	memory, batch, most := e.memory3d, 2.0, maxFeatures3d
	if dims == 2 {
		memory, batch, most = e.memory2d, 12, maxFeatures2d
	}
	limit := memory // of one patch's estimate
	if !e.residual {
		limit *= batch / minBatch
	}
	patch := initialPatch(spacing, shape)
	for {
		t := newTopology(spacing, patch)
		if slices.Min(t.patch) < 1 || len(t.strides) > len(residualBlocks) {
			return nil, fault.New(fault.Unsupported, "%s of median shape %v at %v mm: no U-Net can be planned for such images", name, shape, spacing)
		}
		features, encoder, decoder := e.blocks(len(t.strides), most)
		estimate := float64(t.featureMaps(features, encoder, decoder, e.dataset.planHeads(), e.residual))
		if estimate > limit {
			patch = t.shrink(spacing, shape)
			continue
		}
		c := e.describe(name, spacing, t, features, encoder, decoder)
		c.MedianSize = pythonFloats(shape)
		fits := roundEven(memory / estimate * batch)
		few := roundEven(min(voxels*e.covered/float64(product(t.patch)), math.MaxInt32))
		c.BatchSize = max(min(fits, few), minBatch)
		return c, nil
	}
}

// blocks returns the channels and blocks of each stage, and of the decoder's.
func (e *experiment) blocks(stages, most int) (features, encoder, decoder []int) {
	for s := range stages {
		features = append(features, min(most, e.base<<s))
	}
	if e.residual {
		return features, residualBlocks[:stages], residualDecoderBlocks[:stages-1]
	}
	return features, plainBlocks[:stages], plainBlocks[:stages-1]
}

// initialPatch returns a patch of the voxels' aspect, of 256^3 or 2048^2 voxels, but not
// larger than the median image.
func initialPatch(spacing, shape []float64) []float64 {
	inverse, volume := make([]float64, len(spacing)), 1.0
	for i, s := range spacing {
		inverse[i] = 1 / s
		volume *= inverse[i]
	}
	var scale float64
	if len(spacing) == 3 {
		scale = math.Pow(256*256*256/volume, 1.0/3)
	} else {
		scale = math.Sqrt(2048 * 2048 / volume)
	}
	patch := make([]float64, len(spacing))
	for i := range patch {
		patch[i] = min(math.RoundToEven(inverse[i]*scale), shape[i])
	}
	return patch
}

// shrink returns the patch less one step of the axis that is longest relative to the
// median image. The step is what the axis must be divisible by after the patch would have
// shrunk by what it must be divisible by now, so that no size is left out.
func (t *topology) shrink(spacing, shape []float64) []float64 {
	axis := 0
	patch := make([]float64, len(t.patch))
	for i, n := range t.patch {
		patch[i] = float64(n)
		if patch[i]/shape[i] >= patch[axis]/shape[axis] {
			axis = i
		}
	}
	less := slices.Clone(patch)
	less[axis] -= float64(t.divisor[axis])
	patch[axis] -= float64(newTopology(spacing, less).divisor[axis])
	return patch
}

// planHeads is the number of output channels of the planner's estimates: one for each entry
// of "labels".
func (d *Dataset) planHeads() int {
	if d.IgnoreLabel >= 0 {
		return len(d.Labels) + 1
	}
	return len(d.Labels)
}

// transpose returns the order of the axes, the coarsest first (determine_transpose).
func transpose(spacing [3]float64) [3]int {
	first := coarsest(spacing)
	order := [3]int{first}
	for i, next := 1, 0; i < 3; next++ {
		if next != first {
			order[i] = next
			i++
		}
	}
	return order
}

func inverse(order [3]int) (back [3]int) {
	for i, axis := range order {
		back[axis] = i
	}
	return back
}

// coarsest returns the first axis of the largest spacing.
func coarsest(spacing [3]float64) int {
	worst := 0
	for axis, s := range spacing {
		if s > spacing[worst] {
			worst = axis
		}
	}
	return worst
}
