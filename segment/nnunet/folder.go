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
}

// OpenFolder reads the results folder at path. checkpoint is the file name
// looked for in each fold, DefaultCheckpoint if empty. Errors: NotFound (the
// folder, plans.json, dataset.json, or any fold with that checkpoint),
// Unsupported (a folder of nnU-Net v1), and those of ParsePlans, ParseDataset
// and OpenCheckpoint.
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
		return nil, openError(path, err)
	}
	if err := recognise(path, entries, checkpoint); err != nil {
		return nil, err
	}
	f := &Folder{Path: path, Checkpoint: checkpoint}
	text, err := readJSON(filepath.Join(path, "plans.json"))
	if err != nil {
		return nil, err
	}
	if f.Plans, err = ParsePlans(text, filepath.Join(path, "plans.json")); err != nil {
		return nil, err
	}
	if text, err = readJSON(filepath.Join(path, "dataset.json")); err != nil {
		return nil, err
	}
	if f.Dataset, err = ParseDataset(text, filepath.Join(path, "dataset.json")); err != nil {
		return nil, err
	}
	f.Folds = findFolds(path, entries, checkpoint)
	c, err := f.OpenFold(f.Folds[0])
	if err != nil {
		return nil, err
	}
	f.Configuration = c.Configuration
	return f, c.Close()
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

// readJSON reads a file of at most maxJSON bytes.
func readJSON(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxJSON {
		return nil, fault.New(fault.Format, "%s: has %d bytes, expected a JSON file of %d at most", path, info.Size(), maxJSON)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, openError(path, err)
	}
	return b, nil
}
