package onnx

import "fmt"

// The smoothing term of nnU-Net's Dice losses (nnUNetTrainer._build_loss).
const smooth = 1e-5

// scale is the loss of one resolution. Shapes: n samples, h heads, and the voxels of
// the resolution.
type scale struct {
	*tape
	name    string
	of      Training
	weight  float64 // of this scale in the whole loss
	shape   []int   // n x h x voxels, of the logits
	logits  string
	target  string // n x h x voxels: 0 or 1, or a probability
	weights string // n x 1 x voxels; "" where all are 1

	ce, dice string // the parts of the loss, weighted
}

// loss appends the loss of all supervised logits, the full resolution first, and starts
// the gradient. The last inputs are appended, too.
func (t *tape) loss(c Training, logits []string) {
	full := append([]int{c.Batch, 1}, c.Patch...)
	if c.Loss.Soft {
		full[1] = c.Heads
	}
	t.shapes[TargetName] = full
	if c.Loss.Weighted {
		t.shapes[WeightName] = append([]int{c.Batch, 1}, c.Patch...)
	}
	var ce, dice []string
	for i, z := range logits {
		s := &scale{tape: t, name: fmt.Sprintf("loss.%d", i), of: c, weight: t.weights[i], shape: t.shapes[z], logits: z}
		s.targets()
		s.append()
		ce, dice = append(ce, s.ce), append(dice, s.dice)
		if i == 0 {
			s.counts()
		}
	}
	// Of one axis: neither all runtimes nor all their interfaces take tensors without.
	t.rename(t.reshape("loss.ce/1", t.total("loss.ce", ce), 1), CEName)
	t.rename(t.reshape("loss.dice/1", t.total("loss.dice", dice), 1), DiceName)
	t.rename(t.plus("loss.sum", CEName, DiceName), LossName)
}

func (t *tape) total(name string, values []string) string {
	sum := values[0]
	for _, v := range values[1:] {
		sum = t.plus(name, sum, v)
	}
	return sum
}

// nearest takes the voxels of v (n x channels x patch) that are nearest to those of the
// scale: torch's interpolation "nearest-exact", which nnU-Net uses for the labels of
// lower scales, takes voxel floor((i + 1/2) stride).
func (s *scale) nearest(name, v string) string {
	dims := len(s.of.Patch)
	starts, strides := make([]int, dims), make([]int, dims)
	for i, size := range s.of.Patch {
		strides[i] = size / s.shape[2+i]
		starts[i] = strides[i] / 2
	}
	if !strided(strides) {
		return v
	}
	return s.slice(s.name+name, v, span(2, 2+dims), starts, s.shape[2:], strides)
}

// targets appends the scale's target and weights.
func (s *scale) targets() {
	c, dims := s.of, len(s.of.Patch)
	target := s.nearest("/target", TargetName)
	if c.Loss.Weighted {
		s.weights = s.nearest("/weight", WeightName)
	}
	s.target = target
	if c.Loss.Soft {
		return
	}
	if c.Loss.Ignore != 0 {
		counted := s.op("Abs", s.name+"/distance", []string{s.plus(s.name+"/ignored", target, s.scalar(-float64(c.Loss.Ignore)))})
		counted = s.clip(s.name+"/counted", counted, 0, 1)
		if s.weights != "" {
			counted = s.mul(s.name+"/weights", counted, s.weights)
		}
		s.weights = counted
	}
	if c.Loss.Regions == nil {
		s.target = s.equal("/onehot", target, span(0, c.Heads))
		return
	}
	// Regions are sums of labels: a matrix of zeros and ones.
	var labels []int
	for _, region := range c.Loss.Regions {
		labels = append(labels, region...)
	}
	matrix := make([]float32, c.Heads*len(labels))
	column := 0
	for r, region := range c.Loss.Regions {
		for range region {
			matrix[r*len(labels)+column] = 1
			column++
		}
	}
	onehot := s.equal("/labels", target, labels)
	kernel := append([]int{c.Heads, len(labels)}, ones(dims)...)
	s.target = s.op("Conv", s.name+"/regions", []string{onehot, s.floats(kernel, matrix...)}, ints("kernel_shape", ones(dims)))
}

// equal tells where v (n x 1 x voxels, whole numbers) is each of some labels: n x labels
// x voxels of 0 and 1, as max(0, 1 - |v - label|).
func (s *scale) equal(name, v string, labels []int) string {
	negative := make([]float32, len(labels))
	for i, l := range labels {
		negative[i] = -float32(l)
	}
	perChannel := append([]int{1, len(labels)}, ones(len(s.of.Patch))...)
	d := s.op("Abs", s.name+name+"/distance", []string{s.plus(s.name+name+"/difference", v, s.floats(perChannel, negative...))})
	d = s.op("Sub", s.name+name+"/near", []string{s.scalar(1), d})
	return s.op("Relu", s.name+name, []string{d})
}

// weighted multiplies v by the voxels' weights.
func (s *scale) weighted(name, v string) string {
	if s.weights == "" {
		return v
	}
	return s.mul(s.name+name, v, s.weights)
}

// all adds up everything in v.
func (s *scale) all(name, v string) string {
	return s.sum(s.name+name, s.overVoxels(s.name+name+"/voxels", v, 1, s.shape), true, span(0, len(s.shape))...)
}

// append appends cross-entropy and Dice of the scale, and notes the gradient of their sum.
func (s *scale) append() {
	c, voxels := s.of, product(s.shape[2:])
	var p, ceSum string      // probabilities; sum of the voxels' cross-entropies
	var ceBack func() string // gradient of that sum by the logits
	count := s.shape[0] * voxels
	if c.Loss.Regions != nil {
		p, ceSum, ceBack = s.sigmoid()
		if c.Loss.Ignore == 0 {
			count *= c.Heads
		}
	} else {
		p, ceSum, ceBack = s.softmax()
	}
	// The mean over voxels, or sum over the sum of weights. nnU-Net's mean over regions
	// with an ignore label counts each voxel once, whatever the number of regions.
	mean := s.scalar(s.weight / float64(count))
	if s.weights != "" {
		total := s.all("/weights", s.weights)
		if c.Loss.Regions != nil && c.Loss.Ignore == 0 {
			total = s.mul(s.name+"/weights/heads", total, s.scalar(float64(c.Heads)))
		}
		total = s.op("Max", s.name+"/weights/some", []string{total, s.scalar(1e-8)})
		mean = s.op("Div", s.name+"/mean", []string{s.scalar(s.weight), total})
	}
	s.ce = s.mul(s.name+"/ce", ceSum, mean)

	// Dice, MemoryEfficientSoftDiceLoss (nnunetv2/training/loss/dice.py): with intersection
	// I, sum of the target G and of the prediction P of each head (and sample),
	// -mean (2 I + smooth) / (G + P + smooth), without the background.
	terms := s.shape[0]
	sum := func(name, v string) string { // n (1 for the whole batch) x h x 1
		v = s.overVoxels(s.name+name, v, 1, s.shape)
		if c.Loss.BatchDice {
			return s.sum(s.name+name+"/batch", v, true, 0)
		}
		return v
	}
	if c.Loss.BatchDice {
		terms = 1
	}
	foreground := make([]float32, c.Heads)
	for i := range foreground {
		foreground[i] = 1
	}
	if c.Loss.Regions == nil {
		foreground[0] = 0
		terms *= c.Heads - 1
	} else {
		terms *= c.Heads
	}
	perHead := append([]int{1, c.Heads}, ones(len(s.shape)-2)...)
	share := make([]float32, c.Heads)
	for i, f := range foreground {
		share[i] = f * float32(-s.weight/float64(terms))
	}
	target := s.weighted("/target/weighted", s.target)
	intersection := sum("/intersection", s.mul(s.name+"/product", p, target))
	both := sum("/both", s.plus(s.name+"/sums", s.weighted("/p/weighted", p), target))
	both = s.plus(s.name+"/both/smooth", both, s.scalar(smooth))
	twice := s.mul(s.name+"/twice", intersection, s.scalar(2))
	twice = s.plus(s.name+"/twice/smooth", twice, s.scalar(smooth))
	shared := s.op("Div", s.name+"/shared", []string{s.floats(perHead, share...), both}) // share / both
	dices := s.mul(s.name+"/dices", shared, twice)
	s.dice = s.sum(s.name+"/dice", dices, true, span(0, len(s.shape))...)

	s.steps = append(s.steps, func() {
		// d dice / dp = weights (2 share target / both - dices / both).
		slope := s.mul(s.name+"/dp/slope", shared, s.scalar(2))
		level := s.op("Div", s.name+"/dp/level", []string{dices, both})
		dp := s.op("Sub", s.name+"/dp", []string{s.mul(s.name+"/dp/target", s.target, slope), level})
		dp = s.weighted("/dp/weighted", dp)
		var dz string
		if c.Loss.Regions != nil {
			rest := s.op("Sub", s.name+"/rest", []string{s.scalar(1), p})
			dz = s.mul(s.name+"/dz/dice", dp, s.mul(s.name+"/dz/slope", p, rest))
		} else {
			along := s.sum(s.name+"/dp/along", s.mul(s.name+"/dp/p", dp, p), true, 1)
			dz = s.mul(s.name+"/dz/dice", p, s.op("Sub", s.name+"/dp/off", []string{dp, along}))
		}
		s.gradients[s.logits] = s.plus(s.name+"/dz", dz, s.mul(s.name+"/dz/ce", ceBack(), mean))
	})
}

// softmax appends the probabilities (n x h x voxels), and the cross-entropy summed over
// voxels by their weights: -sum target log p. The gradient of that by the logits is
// weights (p sum(target) - target), with the sum over the heads, which is 1 for labels.
func (s *scale) softmax() (p, ce string, back func() string) {
	top := s.op("ReduceMax", s.name+"/max", []string{s.logits}, ints("axes", []int{1}), integer("keepdims", 1))
	z := s.op("Sub", s.name+"/z", []string{s.logits, top})
	e := s.op("Exp", s.name+"/exp", []string{z})
	sum := s.sum(s.name+"/exp/sum", e, true, 1)
	p = s.op("Div", s.name+"/p", []string{e, sum})
	logs := s.op("Sub", s.name+"/log", []string{z, s.op("Log", s.name+"/log/sum", []string{sum})})
	each := s.weighted("/ce/weighted", s.mul(s.name+"/ce/product", s.target, logs))
	ce = s.op("Neg", s.name+"/ce/negative", []string{s.all("/ce/sum", each)})
	return p, ce, func() string {
		scaled := p
		if s.of.Loss.Soft {
			scaled = s.mul(s.name+"/ce/scaled", p, s.sum(s.name+"/target/sum", s.target, true, 1))
		}
		return s.weighted("/ce/dz", s.op("Sub", s.name+"/ce/off", []string{scaled, s.target}))
	}
}

// sigmoid is softmax for regions: each head by itself, -target log p - (1 - target)
// log(1 - p) = max(z, 0) - z target + log(1 + exp(-|z|)).
func (s *scale) sigmoid() (p, ce string, back func() string) {
	z := s.logits
	p = s.op("Sigmoid", s.name+"/p", []string{z})
	negative := s.op("Neg", s.name+"/negative", []string{s.op("Abs", s.name+"/abs", []string{z})})
	tail := s.op("Log", s.name+"/tail", []string{s.plus(s.name+"/tail/one", s.op("Exp", s.name+"/exp", []string{negative}), s.scalar(1))})
	each := s.op("Sub", s.name+"/ce/line", []string{s.op("Relu", s.name+"/positive", []string{z}), s.mul(s.name+"/ce/product", z, s.target)})
	each = s.weighted("/ce/weighted", s.plus(s.name+"/ce/each", each, tail))
	ce = s.all("/ce/sum", each)
	return p, ce, func() string {
		return s.weighted("/ce/dz", s.op("Sub", s.name+"/ce/off", []string{p, s.target}))
	}
}

// counts appends the true positives, false positives and false negatives of the
// decisions that inference would take (the largest logit, or positive ones for
// regions), summed over all samples by the voxels' weights: 3 x heads.
func (s *scale) counts() {
	c := s.of
	over := append([]int{0}, span(2, len(s.shape))...)
	var decision string
	if c.Loss.Regions != nil {
		// 1 where the logit is positive, however little.
		decision = s.clip(s.name+"/decision", s.mul(s.name+"/decision/large", s.logits, s.scalar(1e30)), 0, 1)
	} else {
		label := s.op("ArgMax", s.name+"/label", []string{s.logits}, integer("axis", 1), integer("keepdims", 1))
		label = s.op("Cast", s.name+"/label/float", []string{label}, integer("to", int64(Float)))
		decision = s.equal("/decision", label, span(0, c.Heads))
	}
	target := s.weighted("/counts/target", s.target)
	tp := s.sum(s.name+"/tp", s.mul(s.name+"/counts/product", decision, target), false, over...)
	positive := s.sum(s.name+"/positive/sum", s.weighted("/counts/decision", decision), false, over...)
	wanted := s.sum(s.name+"/wanted", target, false, over...)
	var rows []string
	for i, v := range []string{tp, s.op("Sub", s.name+"/fp", []string{positive, tp}), s.op("Sub", s.name+"/fn", []string{wanted, tp})} {
		rows = append(rows, s.reshape(fmt.Sprintf("%s/counts/row%d", s.name, i), v, 1, c.Heads))
	}
	s.rename(s.op("Concat", s.name+"/counts", rows, integer("axis", 0)), CountsName)
}
