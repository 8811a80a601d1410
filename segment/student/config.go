package student

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/train"
)

// Config is what Run does. Read fills in defaults; Default returns them. Paths that Read
// finds relative are relative to the file.
type Config struct {
	Labelled   string `json:"labelled"`       // raw dataset of nnU-Net: dataset.json, imagesTr, labelsTr
	Unlabelled string `json:"unlabelled"`     // folder of images
	Test       *Test  `json:"test,omitempty"` // what the models are compared on; null: they are not
	Run        string `json:"run"`            // folder for all that is made

	Teacher      Teacher      `json:"teacher"`
	PseudoLabels PseudoLabels `json:"pseudo_labels"`
	Selection    Selection    `json:"selection"`
	Student      Network      `json:"student"` // of the manual labels and the pseudo-labels that were kept
	Rounds       int          `json:"rounds"`  // from the second on the student of the last is the teacher

	// Trained on the manual labels alone, with the student's plans; null: not at all.
	FineTuning *train.Settings `json:"fine_tuning"` // begins with the student
	Supervised *train.Settings `json:"supervised"`  // begins anew: what the labels give without pseudo-labels

	Device  string `json:"device"`            // as segment.OpenOptions
	Mode    string `json:"mode"`              // exact or fast: of training, pseudo-labelling and comparison
	Threads int    `json:"threads,omitempty"` // of the networks; 0: one per core
	Workers int    `json:"workers,omitempty"` // that prepare batches; 0: as many
}

// Test is images with labels that neither training nor selection sees.
type Test struct {
	Images string `json:"images"` // folder
	Labels string `json:"labels"` // folder: CASE.nii.gz (or another ending) of every image

	Tolerance float64 `json:"tolerance_mm"` // within which surfaces agree for NSD; 0: 1 mm
}

// Teacher is trained in folds, or there.
type Teacher struct {
	Models []string `json:"models,omitempty"` // bundles or results folders, whose folds work together; none: it is trained
	Folds  []string `json:"folds"`            // of nnU-Net's splits of the manual labels
	Network
}

// Network is how a network is planned and trained.
type Network struct {
	Plans         string         `json:"plans,omitempty"`         // plans.json; "": the planner's, and of the student without planner the teacher's
	Planner       string         `json:"planner,omitempty"`       // one of nnunet.Planners
	Configuration string         `json:"configuration,omitempty"` // of the plans
	Training      train.Settings `json:"training"`
}

// PseudoLabels is how the unlabelled images are labelled.
type PseudoLabels struct {
	Mirror      bool    `json:"mirror"`
	IgnoreBelow float64 `json:"ignore_below"`      // as LabelOptions
	Weights     bool    `json:"weights,omitempty"` // as LabelOptions: the student learns less from what is doubtful
}

// Selection says which pseudo-labels are kept. Cases in which nothing was found are not.
type Selection struct {
	FoldAgreement  float64 `json:"fold_agreement"`  // the least; where the teacher has one fold, nothing is asked
	RoundAgreement float64 `json:"round_agreement"` // the least, from the second round on
	Keep           float64 `json:"keep"`            // share of the others that is kept, those that agree best; 1: all
}

// byNetwork, as the student's stochastic depth, is 0.1 for networks with residual blocks, else 0.
const byNetwork = -1

// Default returns the defaults: nnU-Net's training of the teacher, with mirroring; the
// noise of Noisy Student on the student, who is not mirrored. The student's stochastic depth
// is -1: 0.1 if its network has residual blocks, else 0, as the run's config.json then has it.
func Default() Config {
	c := Config{Rounds: 1, Device: "auto", Mode: "exact", PseudoLabels: PseudoLabels{Mirror: true}, Selection: Selection{Keep: 1}}
	c.Teacher = Teacher{Folds: []string{"0", "1", "2", "3", "4"}, Network: Network{Planner: "ExperimentPlanner", Configuration: "3d_fullres", Training: train.Default()}}
	s := train.Default()
	s.Strong, s.NoMirroring, s.Dropout, s.StochasticDepth = true, true, 0.1, byNetwork
	c.Student = Network{Training: s}
	return c
}

// Read reads a CONFIG.json over the defaults; fine_tuning begins with a tenth of the
// student's epochs and learning rate, supervised with the teacher's settings. Errors:
// NotFound, IO, Format (not JSON, unknown keys), and those of check.
func Read(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	c := Default()
	decode := func(into any, strict bool) error {
		d := json.NewDecoder(bytes.NewReader(text))
		if strict {
			d.DisallowUnknownFields()
		}
		if err := d.Decode(into); err != nil {
			return fault.New(fault.Format, "%s: %v", path, err)
		}
		return nil
	}
	if err := decode(&c, true); err != nil {
		return nil, err
	}
	// Now that the others are known, the sections that begin with theirs.
	if c.FineTuning != nil {
		s := c.Student.Training
		s.Epochs, s.LearningRate = max(1, s.Epochs/10), s.LearningRate/10
		c.FineTuning = &s
	}
	if c.Supervised != nil {
		s := c.Teacher.Training
		c.Supervised = &s
	}
	if err := decode(&struct {
		FineTuning *train.Settings `json:"fine_tuning"`
		Supervised *train.Settings `json:"supervised"`
	}{c.FineTuning, c.Supervised}, false); err != nil {
		return nil, err
	}
	folder := filepath.Dir(path)
	for _, p := range c.paths() {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(folder, *p)
		}
	}
	if err := c.check(); err != nil {
		return nil, fault.New(fault.KindOf(err), "%s: %w", path, err)
	}
	return &c, nil
}

func (c *Config) paths() []*string {
	paths := []*string{&c.Labelled, &c.Unlabelled, &c.Run, &c.Teacher.Plans, &c.Student.Plans}
	for i := range c.Teacher.Models {
		paths = append(paths, &c.Teacher.Models[i])
	}
	if c.Test != nil {
		paths = append(paths, &c.Test.Images, &c.Test.Labels)
	}
	return paths
}

// check refuses what makes no sense before anything is begun.
func (c *Config) check() error {
	for _, p := range []struct{ key, value string }{{"labelled", c.Labelled}, {"unlabelled", c.Unlabelled}, {"run", c.Run}} {
		if p.value == "" {
			return fault.New(fault.Argument, "%q is missing, expected a path", p.key)
		}
	}
	if t := c.Test; t != nil {
		if t.Images == "" || t.Labels == "" {
			return fault.New(fault.Argument, "\"test\" needs \"images\" and \"labels\", two folders")
		}
		if !(t.Tolerance >= 0) || math.IsInf(t.Tolerance, 0) {
			return fault.New(fault.Argument, "test.tolerance_mm is %g, must be a positive number", t.Tolerance)
		}
	}
	if c.Rounds < 1 || c.Rounds > 100 {
		return fault.New(fault.Argument, "rounds is %d, must be 1 to 100", c.Rounds)
	}
	if len(c.Teacher.Models) == 0 && len(c.Teacher.Folds) == 0 {
		return fault.New(fault.Argument, "the teacher has neither models nor folds to train")
	}
	for _, a := range c.asked() {
		s := *a.settings
		if s.StochasticDepth == byNetwork {
			s.StochasticDepth = 0
		}
		if err := s.Check(); err != nil {
			return fault.New(fault.KindOf(err), "%s: %w", a.key, err)
		}
	}
	if c.Mode != "exact" && c.Mode != "fast" {
		return fault.New(fault.Argument, "mode %q is not one of exact, fast", c.Mode)
	}
	for _, s := range []struct {
		key   string
		value float64
		least float64
	}{{"selection.fold_agreement", c.Selection.FoldAgreement, 0}, {"selection.round_agreement", c.Selection.RoundAgreement, 0},
		{"selection.keep", c.Selection.Keep, 1e-9}, {"pseudo_labels.ignore_below", c.PseudoLabels.IgnoreBelow, 0}} {
		if !(s.value >= s.least && s.value <= 1) {
			return fault.New(fault.Argument, "%s is %g, must be %g to 1", s.key, s.value, s.least)
		}
	}
	return nil
}

// asked is a training's settings with their key.
type asked struct {
	key      string
	settings *train.Settings
	teacher  bool // of whose network they are; else the student's
}

// asked returns the settings of all that is trained.
func (c *Config) asked() []asked {
	all := []asked{{"student.training", &c.Student.Training, false}}
	if len(c.Teacher.Models) == 0 {
		all = append(all, asked{"teacher.training", &c.Teacher.Training, true})
	}
	if c.FineTuning != nil {
		all = append(all, asked{"fine_tuning", c.FineTuning, false})
	}
	if c.Supervised != nil {
		all = append(all, asked{"supervised", c.Supervised, false})
	}
	return all
}
