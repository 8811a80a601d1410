// Package evaluate compares label maps with references: overlap, distances between
// surfaces and volumes of every label, by plain rules or those of the FLARE challenges; and it
// measures what a program takes of the machine, by the challenges' rules.
//
//	report, err := evaluate.Files(ctx, "predictions", "references", evaluate.Options{Rules: evaluate.FLARE22})
//
// DSC and NSD agree with the challenges' scripts, distances with DeepMind's surface-distance.
package evaluate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// Options says what is scored, and how.
type Options struct {
	Rules     Rules   // "": Plain
	Labels    []Label // Plain: the labels to score, whose Tolerance, if 0, is that below; nil: all but 0 that are found
	Tolerance float64 // Plain: mm within which surfaces agree for NSD; 0: 1 mm
	Resample  bool    // bring a prediction on another grid to the reference's (nearest voxel) instead of refusing it
	Threads   int     // 0: one per core

	LabelsFile string   // Plain: instead of Labels, a dataset.json to read them from (ReadLabels)
	Outputs    []string // files that the caller is going to write: none may be a file that is read, or another of them

	// Progress, unless nil, is called by Files before each case and in the end, on the caller's goroutine.
	Progress func(done, cases int)
}

// Number is a score; NaN where it is not defined, which is null in JSON.
type Number float64

// MarshalJSON writes null for what is not finite.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// defined says whether there is a score.
func (n Number) defined() bool { return !math.IsNaN(float64(n)) }

// Score is how well a label of a prediction agrees with the reference.
type Score struct {
	Label     int    `json:"label"`
	Name      string `json:"name"`
	DSC       Number `json:"dsc"`                 // Dice similarity coefficient
	NSD       Number `json:"nsd"`                 // normalised surface Dice at the label's tolerance
	ASSD      Number `json:"assd_mm"`             // average symmetric surface distance
	HD        Number `json:"hd_mm"`               // Hausdorff distance
	HD95      Number `json:"hd95_mm"`             // its 95th percentile
	RAVD      Number `json:"ravd"`                // |volume - reference| / reference
	Volume    Number `json:"volume_ml"`           // of the prediction
	Reference Number `json:"reference_volume_ml"` // of the reference
}

// Case is one prediction with its scores.
type Case struct {
	Name       string   `json:"name"`
	Prediction string   `json:"prediction"` // file; "" in memory
	Reference  string   `json:"reference"`
	Scores     []Score  `json:"labels"` // in the order of the labels
	DSC        Number   `json:"dsc"`    // means over the labels that have scores
	NSD        Number   `json:"nsd"`
	Notes      []string `json:"notes"` // labels that one map lacks or that nobody scores
}

// DefaultTolerance is that of NSD by plain rules, in mm.
const DefaultTolerance = 1.0

// job is Options after checking.
type job struct {
	rules
	Options
	found bool // labels are those that are found
}

func (o Options) job() (*job, error) {
	r, err := o.Rules.find()
	if err != nil {
		return nil, err
	}
	j := &job{rules: r, Options: o}
	if j.Rules == "" {
		j.Rules = Plain
	}
	if j.Threads <= 0 {
		j.Threads = runtime.GOMAXPROCS(0)
	}
	if j.Rules != Plain {
		if len(o.Labels) > 0 || o.LabelsFile != "" || o.Tolerance != 0 {
			return nil, fault.New(fault.Argument, "the rules of %s have labels and tolerances of their own: leave out yours, or the rules", j.Rules)
		}
		return j, nil
	}
	if j.Tolerance == 0 {
		j.Tolerance = DefaultTolerance
	}
	j.labels = slices.Clone(o.Labels)
	if o.LabelsFile != "" {
		if len(o.Labels) > 0 {
			return nil, fault.New(fault.Argument, "%s: labels are given beside the file: leave out one of both", o.LabelsFile)
		}
		if j.labels, err = ReadLabels(o.LabelsFile); err != nil {
			return nil, err
		}
	}
	j.found = len(j.labels) == 0
	for i := range j.labels {
		l := &j.labels[i]
		if l.Value < 1 || l.Value > maxLabel {
			return nil, fault.New(fault.Argument, "label %d cannot be scored: expected 1 to %d", l.Value, maxLabel)
		}
		if l.Tolerance == 0 {
			l.Tolerance = j.Tolerance
		}
	}
	for _, l := range append(slices.Clone(j.labels), Label{Tolerance: j.Tolerance}) {
		if !(l.Tolerance >= 0) || math.IsInf(l.Tolerance, 0) {
			return nil, fault.New(fault.Argument, "the tolerance is %v mm, expected a positive number", l.Tolerance)
		}
	}
	return j, nil
}

// spare refuses outputs that are a file that is read, or another output: one would be lost.
func (o *Options) spare(read []string) error {
	var known imageio.FileSet
	known.Add(append(slices.Clone(read), o.LabelsFile)...)
	for _, out := range o.Outputs {
		if file := known.Find(out); file != "" {
			return fault.New(fault.Argument, "%s would be overwritten by the output %s", file, out)
		}
		known.Add(out)
	}
	return nil
}

// Volumes scores a label map in memory against its reference. Voxels may be of any type but
// must be labels, integers from 0 to 65535. The report has one case without name.
//
// Errors are of kind Argument (maps on different grids, values that are no labels, an unusable
// geometry, outputs that would overwrite something), Memory or Cancelled, and those of ReadLabels.
func Volumes(ctx context.Context, prediction, reference *volume.Volume, o Options) (*Report, error) {
	j, err := o.job()
	if err != nil {
		return nil, err
	}
	if err := o.spare(nil); err != nil {
		return nil, err
	}
	c, err := j.score(ctx, "the prediction", prediction, "the reference", reference)
	if err != nil {
		return nil, err
	}
	return j.report([]Case{*c}), nil
}

// score compares two maps, called by names in messages.
func (j *job) score(ctx context.Context, nameP string, p *volume.Volume, nameR string, r *volume.Volume) (*Case, error) {
	for _, m := range []struct {
		name string
		v    *volume.Volume
	}{{nameP, p}, {nameR, r}} {
		if err := m.v.Validate(); err != nil {
			return nil, fault.New(fault.KindOf(err), "%s: %w", m.name, err)
		}
	}
	if err := SameGrid(&p.Geometry, &r.Geometry); err != nil {
		if !j.Resample {
			return nil, fault.New(fault.Argument, "%s and %s: %w; resampling has to be asked for", nameP, nameR, err)
		}
		if p, err = onGrid(p, &r.Geometry, j.Threads); err != nil {
			return nil, fault.New(fault.KindOf(err), "%s: %w", nameP, err)
		}
		defer p.Free()
	}
	most := 0
	for _, m := range []struct {
		name string
		v    *volume.Volume
	}{{nameP, p}, {nameR, r}} {
		h, err := highest(m.v, j.Threads)
		if err != nil {
			return nil, fault.New(fault.KindOf(err), "%s: %w", m.name, err)
		}
		most = max(most, h)
	}
	if most > 255 {
		return scoreAs[uint16](ctx, j, p, r, most)
	}
	return scoreAs[uint8](ctx, j, p, r, most)
}

func scoreAs[T value](ctx context.Context, j *job, p, r *volume.Volume, highest int) (*Case, error) {
	pl, free, err := narrowed[T](p, j.Threads)
	if err != nil {
		return nil, err
	}
	defer free()
	rl, free, err := narrowed[T](r, j.Threads)
	if err != nil {
		return nil, err
	}
	defer free()
	g := &r.Geometry
	places := extents(pl, rl, g.Size, highest, j.Threads)
	labels := j.labels
	if j.found {
		labels = nil
		for value, e := range places {
			if e.hi[0] > 0 {
				labels = append(labels, Label{Value: value, Tolerance: j.Tolerance})
			}
		}
	}
	c := &Case{Scores: make([]Score, len(labels)), Notes: j.notes(labels, places)}
	order := make([]int, len(labels)) // the largest first, so that no thread is left with it in the end
	box := func(i int) int {
		if labels[i].Value > highest {
			return 0
		}
		e := &places[labels[i].Value]
		return (e.hi[0] - e.lo[0]) * (e.hi[1] - e.lo[1]) * (e.hi[2] - e.lo[2])
	}
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(box(b), box(a)) })
	area := areas(g.Spacing)
	err = parallel.For(len(order), j.Threads, func(_, i int) error {
		if ctx.Err() != nil {
			return fault.New(fault.Cancelled, "cancelled: %w", context.Cause(ctx))
		}
		l, e := &labels[order[i]], extent{}
		if l.Value <= highest {
			e = places[l.Value]
		}
		c.Scores[order[i]] = scoreLabel(j, pl, rl, g, l, e, &area)
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.DSC, c.NSD = j.means(c.Scores)
	return c, nil
}

// scoreLabel scores one label, which is where e says.
func scoreLabel[T value](j *job, p, r []T, g *volume.Geometry, l *Label, e extent, area *[256]float64) Score {
	ml := g.Spacing[0] * g.Spacing[1] * g.Spacing[2] / 1000
	s := Score{Label: l.Value, Name: l.Name, ASSD: undefined, HD: undefined, HD95: undefined, RAVD: undefined,
		Volume: Number(float64(e.predicted) * ml), Reference: Number(float64(e.expected) * ml)}
	if e.expected > 0 {
		s.RAVD = Number(math.Abs(float64(e.predicted-e.expected)) / float64(e.expected))
	}
	switch {
	case e.predicted == 0 && e.expected == 0:
		if s.DSC, s.NSD = undefined, undefined; j.emptyIsOne {
			s.DSC, s.NSD = 1, 1
		}
		return s
	case e.predicted == 0 || e.expected == 0:
		return s
	}
	if slices.Contains(j.cropped, l.Value) {
		e.lo[2], e.hi[2] = e.zLo, e.zHi-1
	}
	if e.lo[2] == e.hi[2] {
		s.DSC, s.NSD = undefined, undefined
		return s
	}
	o := overlapOf(p, r, g.Size, e.lo, e.hi, T(l.Value), area)
	s.DSC = Number(2 * float64(o.both) / float64(o.predicted+o.expected))
	if o.predicted > 0 && o.expected > 0 { // the crop may leave nothing
		s.surfaces(&o, g.Spacing, l.Tolerance)
	}
	if j.lowDSC && s.DSC < 0.2 {
		s.NSD = 0
	}
	if j.rounded {
		s.DSC, s.NSD = round4(s.DSC), round4(s.NSD)
	}
	return s
}

// notes tells of labels that are in one map alone, and of those that are not scored.
func (j *job) notes(labels []Label, places []extent) []string {
	out := []string{}
	for value, e := range places {
		i := slices.IndexFunc(labels, func(l Label) bool { return l.Value == value })
		switch {
		case value == 0 || e.hi[0] == 0:
		case i < 0:
			out = append(out, fmt.Sprintf("label %d is not scored: %d voxels of the prediction, %d of the reference", value, e.predicted, e.expected))
		case e.predicted == 0:
			out = append(out, fmt.Sprintf("the prediction lacks label %s: %d voxels of the reference", labels[i].title(), e.expected))
		case e.expected == 0:
			out = append(out, fmt.Sprintf("the reference lacks label %s: %d voxels of the prediction", labels[i].title(), e.predicted))
		case slices.Contains(j.cropped, value) && e.zHi-e.zLo == 1:
			out = append(out, fmt.Sprintf("label %s has no score, as the reference's last slice does not count and it has one: slice %d", labels[i].title(), e.zLo))
		}
	}
	return out
}

// title is what a label is called: its number, and its name if it has one.
func (l *Label) title() string {
	if l.Name == "" {
		return fmt.Sprint(l.Value)
	}
	return fmt.Sprintf("%d (%s)", l.Value, l.Name)
}

// means are the means of DSC and NSD over the labels that have them, without the label that
// the rules keep apart.
func (j *job) means(scores []Score) (dsc, nsd Number) {
	var d, n mean
	for _, s := range scores {
		if s.Label != j.apart {
			d.add(s.DSC)
			n.add(s.NSD)
		}
	}
	return d.value(), n.value()
}

// mean is the mean of the defined ones of some numbers.
type mean struct {
	sum float64
	n   int
}

func (m *mean) add(x Number) {
	if x.defined() {
		m.sum += float64(x)
		m.n++
	}
}

func (m *mean) value() Number {
	if m.n == 0 {
		return undefined
	}
	return Number(m.sum / float64(m.n))
}
