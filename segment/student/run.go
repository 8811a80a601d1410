package student

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/filelock"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train/dataset"
)

// RunOptions is how Run tells of itself, and where the engine is.
type RunOptions struct {
	Runtime  string                                     // ONNX Runtime library or its folder; "": search
	Progress func(stage, text string, fraction float64) // nil, or told at most 20 times a second how far a stage is
	Log      func(line string)                          // nil, or told what lasts
}

// Run makes a noisy student. Its folder is the record:
//
//	config.json                     what was asked for, with defaults
//	stages/NAME.json                key, state and seconds of each stage (stage.go)
//	files.json                      what went in, by content (files.go)
//	fingerprint/, caches/           of the manual labels
//	teacher/fold_K/                 trainings, with their curves; teacher/teacher.onnx
//	round_N/labels/                 pseudo-labels and their scores
//	round_N/selection.json          what was decided on each
//	round_N/dataset/dataset.json    manual and kept pseudo-labels as a raw dataset of nnU-Net, files listed where they lie
//	round_N/student/, fine_tuned/   trainings
//	supervised/                     training
//	comparison/MODEL/               labels of the test cases
//	RESULTS.md, RESULTS.json        the comparison
//	student.onnx                    the last round's network: the result
//
// Only the teacher's folds keep cases back: the curves and validation/summary.json of student,
// fine_tuned and supervised are of the manual labels, on which they are trained.
//
// However often it is interrupted, calling it again ends with the same student.onnx, bit for
// bit on the same device with as many threads; nothing finished is done twice; after a change
// of the config exactly what depends on it is. Errors: Argument, Format (config), Model
// (teacher and dataset with different labels, all pseudo-labels rejected), Cancelled, and
// those of training and segmenting.
func Run(ctx context.Context, c Config, o RunOptions) (*Results, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Test != nil && c.Test.Tolerance == 0 {
		test := *c.Test
		test.Tolerance, c.Test = evaluate.DefaultTolerance, &test
	}
	r := &runner{Config: c, RunOptions: o, ctx: ctx, images: map[string][]string{}, results: Results{Skipped: []Skipped{}}}
	if err := r.claim(); err != nil {
		return nil, err
	}
	held, err := filelock.Lock(r.path("lock"), "another process makes this student: wait for it, or choose another folder")
	if err != nil {
		return nil, err
	}
	defer held.Close()
	if err := r.open(); err != nil {
		return nil, err
	}
	return r.run()
}

// runner is a call of Run.
type runner struct {
	Config
	RunOptions
	ctx  context.Context
	now  string // the stage that runs
	told struct {
		stage string
		at    time.Time
	}

	raw        *nnunet.RawDataset
	labelled   string              // digest of the manual labels and their images
	unlabelled []string            // files
	images     map[string][]string // those of each unlabelled case, absolute
	unseen     string              // digest of those
	test       []testCase
	results    Results
}

func (r *runner) log(format string, args ...any) {
	if r.Log != nil {
		r.Log(fmt.Sprintf(format, args...))
	}
}

// tell tells how far the stage is: at its beginning, then at most 20 times a second.
func (r *runner) tell(fraction float64, format string, args ...any) {
	if r.Progress == nil || r.told.stage == r.now && time.Since(r.told.at) < 50*time.Millisecond {
		return
	}
	r.told.stage, r.told.at = r.now, time.Now()
	r.Progress(r.now, fmt.Sprintf(format, args...), fraction)
}

// claim makes the folder. One with other things in it is refused, for stages remove what they
// find in their place.
func (r *runner) claim() error {
	entries, err := os.ReadDir(r.Run)
	if err != nil && !os.IsNotExist(err) {
		return fault.File(r.Run, err)
	}
	ours := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "stages" && e.IsDir() })
	if len(entries) > 0 && !ours {
		return fault.New(fault.Argument, "%s: holds other things than a student's run: choose a new folder", r.Run)
	}
	if err := os.MkdirAll(r.path("stages"), 0o777); err != nil {
		return fault.File(r.Run, err)
	}
	return nil
}

// open looks at all that goes in.
func (r *runner) open() (err error) {
	if r.raw, err = nnunet.OpenRawDataset(r.Labelled); err != nil {
		return err
	}
	where := map[string]string{}
	var files [][]string
	for _, k := range r.raw.Cases {
		where[k.Name] = "labelled"
		files = append(files, append(append([]string{k.Name}, k.Images...), k.Label))
	}
	if r.labelled, err = r.identity("labelled", files); err != nil {
		return err
	}
	r.labelled = digest(r.labelled, string(r.raw.Dataset.Raw))
	if len(r.Teacher.Models) == 0 {
		for i, fold := range r.Teacher.Folds {
			if _, err := dataset.SplitOf(fold, r.names(), nil); err != nil {
				return fault.New(fault.KindOf(err), "teacher.folds: %w", err)
			}
			if slices.Contains(r.Teacher.Folds[:i], fold) {
				return fault.New(fault.Argument, "teacher.folds names fold %s twice", fold)
			}
		}
	}
	if r.unlabelled, err = imageio.Cases(r.Unlabelled); err != nil {
		return err
	}
	var tests []string
	if r.Test != nil {
		if tests, err = imageio.Cases(r.Test.Images); err != nil {
			return err
		}
	}
	files = nil
	for i, path := range append(slices.Clone(r.unlabelled), tests...) {
		name, set := imageio.CaseName(path), "unlabelled"
		if i >= len(r.unlabelled) {
			set = "test"
		}
		if other := where[name]; other != "" {
			return fault.New(fault.Argument, "%s: case %s is among the %s cases as well: a case must be in one place", path, name, other)
		}
		where[name] = set
		if set == "unlabelled" {
			channels, err := imageFiles(path)
			if err != nil {
				return err
			}
			for _, c := range channels {
				r.images[name] = append(r.images[name], c.Path)
			}
			files = append(files, append([]string{name}, r.images[name]...))
			continue
		}
		label, err := labelsOf(r.Test.Labels, name)
		if err != nil {
			return err
		}
		r.test = append(r.test, testCase{name, path, label})
	}
	r.results.unlabelled = len(r.unlabelled)
	r.unseen, err = r.identity("unlabelled", files)
	return err
}

// run does all stages.
func (r *runner) run() (*Results, error) {
	if err := r.checkTest(); err != nil {
		return nil, err
	}
	teacher, student, err := r.plans()
	if err != nil {
		return nil, err
	}
	if err := r.checkTrainings(teacher, student); err != nil {
		return nil, err
	}
	if err := r.write(r.path("config.json"), marshal(r.Config)); err != nil {
		return nil, err
	}
	bundle, err := r.teach(teacher)
	if err != nil {
		return nil, err
	}
	models := []model{{name: "teacher", file: bundle, mirror: r.PseudoLabels.Mirror}}
	previous := ""
	for round := 1; round <= r.Rounds; round++ {
		made, err := r.round(round, bundle, previous, student)
		if err != nil {
			return nil, err
		}
		models = append(models, made...)
		bundle, previous = made[len(made)-1].file, r.path(roundFolder(round), "labels")
	}
	if r.Supervised != nil {
		names := r.names()
		split := []dataset.Split{{Train: names, Val: names}}
		if _, err := r.train(training{name: "supervised", folder: "supervised", plan: student, settings: *r.Supervised, splits: split, data: r.labelled,
			cache: func() (*dataset.Cache, error) { return r.labelledCache(student) }}); err != nil {
			return nil, err
		}
		models = append(models, model{name: "supervised", file: r.path("supervised", "model.onnx"), mirror: true})
	}
	sum, err := fileDigest(bundle)
	if err != nil {
		return nil, err
	}
	if _, err := r.stage(stage{name: "result", depends: sum, outputs: []string{"student.onnx"}, do: func() error {
		text, err := os.ReadFile(bundle)
		if err != nil {
			return fault.File(bundle, err)
		}
		return r.write(r.path("student.onnx"), text)
	}}); err != nil {
		return nil, err
	}
	r.results.Bundle = r.path("student.onnx")
	if err := r.compare(models); err != nil {
		return nil, err
	}
	return &r.results, nil
}

// names returns the names of the labelled cases, sorted.
func (r *runner) names() (names []string) {
	for _, k := range r.raw.Cases {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	return names
}

// teach trains the teacher's folds, or takes the models that are given, and joins them.
func (r *runner) teach(p *plan) (bundle string, err error) {
	var models, keys []string
	if models = r.Teacher.Models; len(models) > 0 {
		for i, path := range models {
			key, err := r.modelDigest(i, path)
			if err != nil {
				return "", err
			}
			keys = append(keys, key)
		}
	} else {
		for i, fold := range r.Teacher.Folds {
			s := r.Teacher.Training
			s.Seed += uint64(i) // other initial weights, too
			folder := filepath.Join("teacher", "fold_"+fold)
			key, err := r.train(training{name: "teacher_fold_" + fold, folder: folder, plan: p, settings: s, fold: fold, data: r.labelled,
				cache: func() (*dataset.Cache, error) { return r.labelledCache(p) }})
			if err != nil {
				return "", err
			}
			models, keys = append(models, r.path(folder, "model.onnx")), append(keys, key)
		}
	}
	bundle = r.path("teacher", joinedFile)
	_, err = r.stage(stage{name: "teacher", depends: keys, outputs: []string{filepath.Join("teacher", joinedFile)}, do: func() error {
		if err := os.MkdirAll(filepath.Dir(bundle), 0o777); err != nil {
			return fault.File(bundle, err)
		}
		return segment.JoinFolds(r.ctx, bundle, models)
	}})
	return bundle, err
}

// modelDigest recognises a model: a bundle by its content, a folder by its files.
func (r *runner) modelDigest(number int, path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fault.File(path, err)
	}
	if !info.IsDir() {
		return fileDigest(path)
	}
	var files [][]string
	err = filepath.WalkDir(path, func(file string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			name, _ := filepath.Rel(path, file)
			files = append(files, []string{name, file})
		}
		return err
	})
	if err != nil {
		return "", fault.File(path, err)
	}
	return r.identity(fmt.Sprintf("models/%d", number), files)
}

func roundFolder(round int) string { return "round_" + strconv.Itoa(round) }
