package student

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train"
	"github.com/libflare/libflare/segment/train/dataset"
)

// round labels, selects and trains: the student, and where it is asked for the student
// fine-tuned. teacher is a bundle; previous the labels of the round before, or "".
func (r *runner) round(n int, teacher, previous string, p *plan) (made []model, err error) {
	folder := roundFolder(n)
	labels, err := r.label(folder, teacher, previous)
	if err != nil {
		return nil, err
	}
	chosen, err := r.choose(folder, labels)
	if err != nil {
		return nil, err
	}
	r.results.Rounds = append(r.results.Rounds, RoundResult{Labelled: labels.Cases, Kept: chosen.Kept})
	data, err := r.dataset(folder, r.cases(folder, chosen.Names))
	if err != nil {
		return nil, err
	}
	cache := func() (*dataset.Cache, error) {
		return r.cache(folder+"_cache", filepath.Join(folder, "cache"), p, chosen.Digest, data)
	}
	manual := r.names()
	all := slices.Sorted(slices.Values(append(slices.Clone(chosen.Names), manual...)))
	settings := r.Student.Training
	settings.Weighted = settings.Weighted || r.PseudoLabels.Weights
	key, err := r.train(training{name: folder + "_student", folder: filepath.Join(folder, "student"), plan: p, settings: settings,
		splits: []dataset.Split{{Train: all, Val: manual}}, data: chosen.Digest, cache: cache})
	if err != nil {
		return nil, err
	}
	bundle := r.path(folder, "student", "model.onnx")
	made = append(made, model{name: fmt.Sprintf("student, round %d", n), file: bundle})
	if r.FineTuning == nil {
		return made, nil
	}
	if _, err := r.train(training{name: folder + "_fine_tuning", folder: filepath.Join(folder, "fine_tuned"), plan: p, settings: *r.FineTuning,
		splits: []dataset.Split{{Train: manual, Val: manual}}, data: digest(key, r.labelled), cache: cache, init: bundle}); err != nil {
		return nil, err
	}
	return append(made, model{name: fmt.Sprintf("fine-tuned, round %d", n), file: r.path(folder, "fine_tuned", "model.onnx")}), nil
}

// labelsResult is what the stage of pseudo-labels leaves.
type labelsResult struct {
	Cases   []string  `json:"cases"`   // that were labelled
	Skipped []Skipped `json:"skipped"` // that could not be read
	Digest  string    `json:"digest"`  // of what decides the labels
}

// label makes a round's pseudo-labels.
func (r *runner) label(folder, teacher, previous string) (*labelsResult, error) {
	sum, err := fileDigest(teacher)
	if err != nil {
		return nil, err
	}
	before := ""
	if previous != "" {
		before = r.results.labels
	}
	result := &labelsResult{}
	labels := filepath.Join(folder, "labels")
	whole := func() bool {
		for _, name := range result.Cases {
			c := r.pseudo(folder, name)
			for _, file := range []string{r.path(labels, name+".json"), c.Label, c.Weight} {
				if _, err := os.Stat(file); file != "" && err != nil {
					return false
				}
			}
		}
		return true
	}
	_, err = r.stage(stage{name: folder + "_labels", folder: labels, keep: true, depends: []any{sum, r.PseudoLabels, r.Mode, r.unseen, before}, result: result, whole: whole, do: func() error {
		*result = labelsResult{}
		done, err := Label(r.ctx, LabelOptions{Teacher: []string{teacher}, Images: r.Unlabelled, Out: r.path(labels), Previous: previous,
			NoMirror: !r.PseudoLabels.Mirror, IgnoreBelow: r.PseudoLabels.IgnoreBelow, Weights: r.PseudoLabels.Weights,
			Open: segment.OpenOptions{Device: r.Device, Threads: r.Threads, Runtime: r.Runtime, Mode: r.Mode},
			Progress: func(p LabelProgress) {
				r.tell((float64(p.Done)+p.Fraction)/float64(p.Total), "%d of %d: %s", p.Done+1, p.Total, p.Case)
			},
			Case: func(name string, c CaseResult) {
				if c.Err != nil {
					r.log("%s: skipped: %v", name, c.Err)
				}
			}})
		if err != nil {
			return err
		}
		var ids []any
		for i := range done.Scores {
			s := &done.Scores[i]
			result.Cases = append(result.Cases, s.Case)
			ids = append(ids, s.identity())
		}
		result.Skipped, result.Digest = done.Skipped, digest(ids)
		return nil
	}})
	if err != nil {
		return nil, err
	}
	r.results.labels = result.Digest
	for _, s := range result.Skipped {
		if !slices.ContainsFunc(r.results.Skipped, func(k Skipped) bool { return k.Case == s.Case }) {
			r.results.Skipped = append(r.results.Skipped, s)
		}
	}
	return result, nil
}

// identity is what decides a case's labels.
func (s *Scores) identity() []any {
	id := []any{s.Case, s.Options}
	for _, image := range s.Images {
		id = append(id, image.SHA256)
	}
	return id
}

// chosen is what the stage of selection leaves.
type chosen struct {
	Names  []string `json:"cases"` // that were kept
	Kept   int      `json:"kept"`
	Digest string   `json:"digest"` // of all that the student is trained on
}

// choose decides which pseudo-labels are kept.
func (r *runner) choose(folder string, labels *labelsResult) (*chosen, error) {
	result := &chosen{}
	ignore := r.PseudoLabels.IgnoreBelow > 0
	data := filepath.Join(folder, "dataset")
	list := filepath.Join(folder, "selection.json")
	_, err := r.stage(stage{name: folder + "_selection", folder: data, depends: []any{labels.Digest, r.Selection, r.labelled, ignore}, result: result,
		outputs: []string{list}, do: func() error {
			*result = chosen{}
			var scores []Scores
			for _, name := range labels.Cases {
				s, err := readScores(r.path(folder, "labels", name+".json"))
				if err != nil {
					return err
				}
				scores = append(scores, *s)
			}
			decisions, rejected := r.Selection.choose(scores)
			if err := r.write(r.path(list), marshal(decisions)); err != nil {
				return err
			}
			if rejected != nil {
				return rejected
			}
			ids := []any{r.labelled, ignore}
			for i, d := range decisions {
				if d.Kept {
					result.Names, ids = append(result.Names, d.Case), append(ids, scores[i].identity())
				}
			}
			result.Kept, result.Digest = len(result.Names), digest(ids)
			r.log("%d of %d pseudo-labels kept", result.Kept, len(decisions))
			return nil
		}})
	return result, err
}

// pseudo is an unlabelled case with its labels of a round, where the files lie now.
func (r *runner) pseudo(folder, name string) nnunet.RawCase {
	images := r.images[name]
	file := name + imageio.Ending(images[0])
	c := nnunet.RawCase{Name: name, Images: images, Label: r.path(folder, "labels", file)}
	if r.PseudoLabels.Weights {
		c.Weight = r.path(folder, "labels", weightsFolder, file)
	}
	return c
}

// cases returns what a round's student is trained on, by name: the manual labels and the
// pseudo-labels that were kept.
func (r *runner) cases(folder string, kept []string) (all []nnunet.RawCase) {
	for _, k := range r.raw.Cases {
		all = append(all, nnunet.RawCase{Name: k.Name, Images: k.Images, Label: k.Label}) // weighing 1
	}
	for _, name := range kept {
		all = append(all, r.pseudo(folder, name))
	}
	slices.SortFunc(all, func(a, b nnunet.RawCase) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// training is a stage that trains a network.
type training struct {
	name, folder string
	plan         *plan
	settings     train.Settings
	fold         string          // "": 0 of splits
	splits       []dataset.Split // nil: nnU-Net's
	data         string          // digest of the cases
	init         string          // bundle to begin with, of which data tells, or ""
	cache        func() (*dataset.Cache, error)
}

func (r *runner) train(t training) (key string, err error) {
	if t.fold == "" {
		t.fold = "0"
	}
	// Which way the cases were cached tells nothing new.
	depends := []any{t.data, t.plan.digest(), t.settings, t.fold, t.splits, r.Mode}
	return r.stage(stage{name: t.name, folder: t.folder, depends: depends,
		outputs: []string{filepath.Join(t.folder, "model.onnx"), filepath.Join(t.folder, "validation", "summary.json")}, do: func() error {
			cache, err := t.cache()
			if err != nil {
				return err
			}
			defer cache.Close()
			r.now = t.name
			_, err = train.Run(r.ctx, train.RunOptions{Settings: t.settings, Cache: cache, Fold: t.fold, Splits: t.splits, Folder: r.path(t.folder), Resume: true, Init: t.init,
				Options:  train.Options{Device: r.Device, Threads: r.Threads, Workers: r.Workers, Runtime: r.Runtime, Fast: r.Mode == "fast"},
				Progress: r.training})
			return err
		}})
}

// training tells of a training.
func (r *runner) training(p train.Progress) {
	part := float64(p.Done) / float64(p.Total)
	if p.Phase == "evaluate" {
		r.tell(part, "validation cases")
		return
	}
	if p.Phase != "train" {
		part = 1
	}
	r.tell((float64(p.Epoch)+part)/float64(p.Epochs), "epoch %d/%d, loss %.4f, Dice %.3f, %.2f s/step", p.Epoch+1, p.Epochs, p.Loss, p.EMA, p.StepSeconds)
}

// labelledCache preprocesses the manual labels by a plan.
func (r *runner) labelledCache(p *plan) (*dataset.Cache, error) {
	name := "labelled_" + p.digest()[:8]
	return r.cache(name+"_cache", filepath.Join("caches", name), p, r.labelled, r.raw)
}

// cache preprocesses cases, and opens them. A cache whose files were moved since is made
// anew, as the final validation of a training reads them.
func (r *runner) cache(name, folder string, p *plan, data string, d *nnunet.RawDataset) (*dataset.Cache, error) {
	var cache *dataset.Cache
	whole := func() bool {
		c, err := dataset.Open(r.path(folder))
		if err != nil {
			return false
		}
		if cache = c; c.Sourced(c.Cases) == nil {
			return true
		}
		cache.Close()
		return false
	}
	_, err := r.stage(stage{name: name, folder: folder, keep: true, depends: []any{data, p.digest()}, outputs: []string{filepath.Join(folder, "cache.json")}, whole: whole, do: func() (err error) {
		threads := r.Threads
		if threads == 0 {
			threads = runtime.GOMAXPROCS(0)
		}
		cache, err = dataset.Preprocess(r.ctx, r.path(folder), dataset.Options{Cases: d.Cases, Plans: p.plans, Dataset: d.Dataset, Fingerprint: p.fingerprint,
			Configuration: p.configuration, Threads: threads, Progress: func(name string, _ bool, done, total int) {
				r.tell(float64(done)/float64(total), "%s", name)
			}})
		return err
	}})
	if err != nil {
		return nil, err
	}
	return cache, nil
}
