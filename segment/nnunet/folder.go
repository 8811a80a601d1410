package nnunet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// DefaultCheckpoint is the checkpoint that nnU-Net predicts with.
const DefaultCheckpoint = "checkpoint_final.pth"

// maxJSON bounds plans.json and dataset.json; real ones have some kilobytes, a
// dataset.json that lists thousands of cases about a megabyte.
const maxJSON = 16 << 20

// Folder is a results folder of nnU-Net v2: plans.json, dataset.json and
// fold_*/<checkpoint> (inference/predict_from_raw_data.py,
// initialize_from_trained_model_folder).
type Folder struct {
	Path          string
	Checkpoint    string // file name in each fold's folder
	Plans         *Plans
	Dataset       *Dataset
	Folds         []string // with that checkpoint: "0", "1", ... ascending, then "all"
	Configuration string   // of the first fold's checkpoint
	Trainer       string   // class name, of the first fold's checkpoint

	// Postprocessing is the file with the post-processing that nnU-Net
	// determined on its cross-validation (package postprocess reads it), or
	// empty.
	Postprocessing string
}

// OpenFolder reads the results folder at path and checks that its configuration
// and network are supported. checkpoint is the file name looked for in each
// fold, DefaultCheckpoint if empty. Errors: NotFound (the folder, plans.json,
// dataset.json, or any fold with that checkpoint), Unsupported (a folder of
// nnU-Net v1), and those of ParsePlans, ParseDataset, OpenCheckpoint,
// Plans.Configuration and Plans.ArchitectureOf: everything that is wrong with
// these files, in one message.
func OpenFolder(path, checkpoint string) (*Folder, error) {
	if checkpoint == "" {
		checkpoint = DefaultCheckpoint
	}
	if checkpoint != filepath.Base(checkpoint) {
		return nil, fault.New(fault.Argument, "checkpoint %q: expected a file name such as %s, without folders", checkpoint, DefaultCheckpoint)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		if info, e := os.Stat(path); e == nil && !info.IsDir() {
			return nil, fault.New(fault.Format, "%s: not a folder, expected a results folder of nnU-Net", path)
		}
		return nil, fault.File(path, err)
	}
	if err := recognise(path, entries, checkpoint); err != nil {
		return nil, err
	}
	f := &Folder{Path: path, Checkpoint: checkpoint, Folds: findFolds(path, entries, checkpoint)}
	f.Postprocessing = f.findPostprocessing()
	if err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// read fills in what the folder's files say.
func (f *Folder) read() error {
	var errPlans, errDataset, errFold, errNetwork error
	var text []byte
	if text, errPlans = ReadJSON(filepath.Join(f.Path, "plans.json")); errPlans == nil {
		f.Plans, errPlans = ParsePlans(text, filepath.Join(f.Path, "plans.json"))
	}
	if text, errDataset = ReadJSON(filepath.Join(f.Path, "dataset.json")); errDataset == nil {
		f.Dataset, errDataset = ParseDataset(text, filepath.Join(f.Path, "dataset.json"))
	}
	c, errFold := f.OpenFold(f.Folds[0])
	if errFold == nil {
		c.Close()
		f.Configuration, f.Trainer = c.Configuration, c.TrainerName
		if strings.Contains(f.Trainer, "Primus") {
			errFold = fault.New(fault.Unsupported, "%s: key trainer_name: found %q, whose networks (Primus, transformers) are not supported, only U-Nets are", c.File, f.Trainer)
		} else if f.Plans != nil && len(f.Plans.Configurations) > 0 {
			errNetwork = f.Plans.check(f.Configuration, f.Trainer)
		}
	}
	return join(errPlans, errDataset, errFold, errNetwork)
}

// check gives the errors of Configuration and ArchitectureOf in one message.
func (p *Plans) check(name, trainer string) error {
	o, err := p.resolve(name)
	if err != nil {
		return err
	}
	p.configuration(o, name)
	o.network(trainer)
	return o.rep.err()
}

// Architecture returns the network that the folder's trainer builds. Errors as
// for Plans.ArchitectureOf.
func (f *Folder) Architecture() (*Architecture, error) {
	return f.Plans.ArchitectureOf(f.Configuration, f.Trainer)
}

// findPostprocessing looks where nnUNetv2_find_best_configuration leaves
// postprocessing.pkl (evaluation/find_best_configuration.py): in
// crossval_results_folds_0_1_2_3_4, named after the folds that it rests on. Of
// several such folders the one of the default folds counts, else the one of
// most folds.
func (f *Folder) findPostprocessing() string {
	const prefix = "crossval_results_folds_"
	var best string
	most := 0
	found, _ := filepath.Glob(filepath.Join(escape(f.Path), prefix+"*", "postprocessing.pkl"))
	for _, file := range found {
		folds := strings.TrimPrefix(filepath.Base(filepath.Dir(file)), prefix)
		n := 1 + strings.Count(folds, "_")
		if folds == strings.Join(f.DefaultFolds(), "_") {
			return file
		}
		if n > most {
			best, most = file, n
		}
	}
	if info, err := os.Stat(filepath.Join(f.Path, "postprocessing.pkl")); best == "" && err == nil && info.Mode().IsRegular() {
		best = filepath.Join(f.Path, "postprocessing.pkl")
	}
	return best
}

// recognise says in one message what a results folder lacks.
func recognise(path string, entries []os.DirEntry, checkpoint string) error {
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == name })
	}
	if has("plans.pkl") && !has("plans.json") {
		return fault.New(fault.Unsupported, "%s: a model folder of nnU-Net v1 (it holds plans.pkl); only nnU-Net v2 is supported", path)
	}
	var lacks []string
	for _, name := range []string{"plans.json", "dataset.json"} {
		if !has(name) {
			lacks = append(lacks, name)
		}
	}
	if len(findFolds(path, entries, checkpoint)) == 0 {
		lacks = append(lacks, filepath.Join("fold_*", checkpoint))
		others, _ := filepath.Glob(filepath.Join(escape(path), "fold_*", "*.pth"))
		if len(others) > 0 {
			name, _ := filepath.Rel(path, others[0])
			lacks[len(lacks)-1] += fmt.Sprintf(" (but there is %s)", name)
		}
	}
	if len(lacks) > 0 {
		return fault.New(fault.NotFound, "%s: not a complete results folder of nnU-Net v2: there is no %s", path, strings.Join(lacks, ", no "))
	}
	return nil
}

// escape makes a path match itself in a glob pattern.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// findFolds lists the folds that have the checkpoint.
func findFolds(path string, entries []os.DirEntry, checkpoint string) []string {
	var folds []string
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), "fold_")
		number, err := strconv.Atoi(name)
		if !ok || name != "all" && (err != nil || strconv.Itoa(number) != name || number < 0) {
			continue
		}
		if info, err := os.Stat(filepath.Join(path, e.Name(), checkpoint)); err == nil && info.Mode().IsRegular() {
			folds = append(folds, name)
		}
	}
	sort.Slice(folds, func(i, j int) bool {
		a, errA := strconv.Atoi(folds[i])
		b, errB := strconv.Atoi(folds[j])
		if errA != nil || errB != nil {
			return errA == nil && errB != nil
		}
		return a < b
	})
	return folds
}

// DefaultFolds returns the folds that nnU-Net uses when none are named: all
// but "all" (auto_detect_available_folds), or "all" where it is the only one.
func (f *Folder) DefaultFolds() []string {
	if len(f.Folds) > 1 && f.Folds[len(f.Folds)-1] == "all" {
		return f.Folds[:len(f.Folds)-1]
	}
	return f.Folds
}

// OpenFold opens the checkpoint of a fold, one of f.Folds; close it after use.
// Errors: NotFound (no such fold), and those of OpenCheckpoint.
func (f *Folder) OpenFold(name string) (*Checkpoint, error) {
	if !slices.Contains(f.Folds, name) {
		return nil, fault.New(fault.NotFound, "%s: there is no fold %.40q with a %s, only %s", f.Path, name, f.Checkpoint, nameList(f.Folds))
	}
	return OpenCheckpoint(filepath.Join(f.Path, "fold_"+name, f.Checkpoint))
}

// OpenFolds opens the checkpoints of several folds; close them after use. The
// error names every one that cannot be opened, and then none is open. Errors as
// for OpenFold.
func (f *Folder) OpenFolds(names []string) ([]*Checkpoint, error) {
	var open []*Checkpoint
	var errs []error
	for _, name := range names {
		c, err := f.OpenFold(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		open = append(open, c)
	}
	if errs != nil {
		for _, c := range open {
			c.Close()
		}
		return nil, join(errs...)
	}
	return open, nil
}

// ReadJSON reads the text of a JSON file, 16 MiB at most. Errors: NotFound, IO, Format (no
// regular file, or too large).
func ReadJSON(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxJSON {
		return nil, fault.New(fault.Format, "%s: has %d bytes, expected a JSON file of %d at most", path, info.Size(), maxJSON)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	return b, nil
}
