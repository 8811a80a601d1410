package student

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train"
)

// plan is what a network is trained by.
type plan struct {
	plans         *nnunet.Plans
	configuration string
	fingerprint   []byte // dataset_fingerprint.json, or nil
}

func (p *plan) digest() string { return digest(string(p.plans.Raw), p.configuration) }

// plans finds or makes the plans of teacher and student.
func (r *runner) plans() (teacher, student *plan, err error) {
	var fingerprint *nnunet.Fingerprint
	if len(r.Teacher.Models) == 0 && r.Teacher.Plans == "" || r.Student.Plans == "" && r.Student.Planner != "" {
		if fingerprint, err = r.fingerprint(); err != nil {
			return nil, nil, err
		}
	}
	of := func(n *Network) (*plan, error) {
		p := &plan{configuration: n.Configuration}
		if n.Plans != "" {
			text, err := nnunet.ReadJSON(n.Plans)
			if err != nil {
				return nil, err
			}
			p.plans, err = nnunet.ParsePlans(text, n.Plans)
			return p, err
		}
		p.fingerprint = fingerprint.JSON()
		p.plans, err = nnunet.Plan(n.Planner, fingerprint, r.raw.Dataset, r.raw.Name)
		return p, err
	}
	if len(r.Teacher.Models) > 0 {
		teacher, err = r.given()
	} else {
		teacher, err = of(&r.Teacher.Network)
	}
	if err != nil {
		return nil, nil, err
	}
	if r.Student.Plans != "" || r.Student.Planner != "" {
		if student, err = of(&r.Student); err != nil {
			return nil, nil, err
		}
	} else {
		same := *teacher
		student = &same
	}
	if r.Student.Configuration != "" {
		student.configuration = r.Student.Configuration
	} else if student.configuration == "" {
		student.configuration = teacher.configuration
	}
	for name, p := range map[string]*plan{"teacher": teacher, "student": student} {
		if _, err := p.plans.Configuration(p.configuration); err != nil {
			return nil, nil, fault.New(fault.KindOf(err), "%s: %w", name, err)
		}
	}
	return teacher, student, nil
}

// checkTrainings refuses trainings that could not begin, and settles what depends on the network.
func (r *runner) checkTrainings(teacher, student *plan) error {
	architecture, err := student.plans.Architecture(student.configuration)
	if err != nil {
		return fault.New(fault.KindOf(err), "student: %w", err)
	}
	for _, s := range []**train.Settings{&r.FineTuning, &r.Supervised} {
		if *s != nil { // the caller's stay as they are
			own := **s
			*s = &own
		}
	}
	for _, a := range r.asked() {
		if a.settings.StochasticDepth == byNetwork {
			if a.settings.StochasticDepth = 0; architecture.Residual() {
				a.settings.StochasticDepth = 0.1
			}
		}
		p := student
		if a.teacher {
			p = teacher
		}
		if a.settings.Soft {
			return fault.New(fault.Unsupported, "%s: soft is true, but cases hold labels, not probabilities: expected false", a.key)
		}
		if c, err := p.plans.Configuration(p.configuration); err != nil {
			return fault.New(fault.KindOf(err), "%s: %w", a.key, err)
		} else if n, channels := len(c.Normalization), len(r.raw.Dataset.Channels); n != channels {
			return fault.New(fault.Model, "%s: the plans' configuration %s normalises %d channels, dataset.json names %d", a.key, c.Name, n, channels)
		}
		task := train.Task{Plans: p.plans, Dataset: r.raw.Dataset, Configuration: p.configuration}
		if err := task.Check(*a.settings); err != nil {
			return fault.New(fault.KindOf(err), "%s: %w", a.key, err)
		}
	}
	return nil
}

// given reads what the teacher's models were trained for, which must be the dataset's labels.
func (r *runner) given() (*plan, error) {
	var p *plan
	for _, path := range r.Teacher.Models {
		t, _, done, err := segment.OpenWeights(path, "")
		if err != nil {
			return nil, err
		}
		done()
		if p == nil {
			p = &plan{plans: t.Plans, configuration: t.Configuration}
		}
		if a, b := labelList(t.Dataset), labelList(r.raw.Dataset); a != b {
			return nil, fault.New(fault.Model, "the teacher %s has the labels %s, the dataset %s has %s: they must be the same", path, a, r.raw.Folder, b)
		}
		if a, b := len(t.Dataset.Channels), len(r.raw.Dataset.Channels); a != b {
			return nil, fault.New(fault.Model, "the teacher %s takes %d channels, the dataset %s has %d", path, a, r.raw.Folder, b)
		}
	}
	return p, nil
}

// labelList writes a dataset's labels, but the ignored one.
func labelList(d *nnunet.Dataset) string {
	var list []string
	for _, l := range d.Labels {
		list = append(list, fmt.Sprintf("%s %s", l.Name, strings.Trim(fmt.Sprint(l.Values), "[]")))
	}
	return strings.Join(list, ", ")
}

// fingerprint measures the manual labels' images.
func (r *runner) fingerprint() (*nnunet.Fingerprint, error) {
	file := filepath.Join("fingerprint", "dataset_fingerprint.json")
	_, err := r.stage(stage{name: "fingerprint", folder: "fingerprint", depends: r.labelled, outputs: []string{file}, do: func() error {
		f, notes, err := train.ExtractFingerprint(r.ctx, r.raw, train.FingerprintOptions{Threads: r.Threads, Progress: func(done, cases int) {
			r.tell(float64(done)/float64(cases), "reading %d cases", cases)
		}})
		if err != nil {
			return err
		}
		for _, note := range notes {
			r.log("%s", note)
		}
		return r.write(r.path(file), f.JSON())
	}})
	if err != nil {
		return nil, err
	}
	return nnunet.ReadFingerprint(r.path(file))
}
