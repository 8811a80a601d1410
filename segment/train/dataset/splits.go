package dataset

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/jsontext"
	"github.com/libflare/libflare/segment/internal/numpyrand"
	"github.com/libflare/libflare/segment/nnunet"
)

// Split names the cases that one fold trains on and validates with.
type Split struct {
	Train []string `json:"train"`
	Val   []string `json:"val"`
}

// Folds is the number of folds of a cross-validation.
const Folds = 5

// CrossValidation divides cases into five folds as nnU-Net does (generate_crossval_split:
// scikit-learn's KFold, shuffled with random_state 12345, over the sorted names). Fewer
// than five cases are an error of kind Model.
func CrossValidation(cases []string) ([]Split, error) {
	n := len(cases)
	if n < Folds {
		return nil, fault.New(fault.Model, "%d training cases cannot be divided into %d folds: train on all of them (fold all), or give a splits file", n, Folds)
	}
	cases = slices.Sorted(slices.Values(cases))
	order := numpyrand.New(12345).Permutation(n)
	splits := make([]Split, Folds)
	first := 0
	for i := range splits {
		size := n / Folds
		if i < n%Folds {
			size++
		}
		held := make([]bool, n)
		for _, k := range order[first : first+size] {
			held[k] = true
		}
		first += size
		for k, name := range cases {
			if held[k] {
				splits[i].Val = append(splits[i].Val, name)
			} else {
				splits[i].Train = append(splits[i].Train, name)
			}
		}
	}
	return splits, nil
}

// ReadSplits reads a file such as nnU-Net's splits_final.json. Errors: NotFound, IO,
// Format.
func ReadSplits(path string) ([]Split, error) {
	text, err := nnunet.ReadJSON(path)
	if err != nil {
		return nil, err
	}
	var splits []Split
	if err := json.Unmarshal(text, &splits); err != nil {
		return nil, fault.New(fault.Format, "%s: %v; expected a list of objects with the keys train and val", path, err)
	}
	return splits, nil
}

// SplitOf returns the cases of a fold: "0", "1", ..., or "all", which trains on all cases
// and validates with them. splits is nil for CrossValidation's. Errors: Argument (no such
// fold), Model (a split that is empty or names cases that are not there).
func SplitOf(fold string, cases []string, splits []Split) (Split, error) {
	if fold == "all" {
		all := slices.Sorted(slices.Values(cases))
		return Split{all, all}, nil
	}
	var err error
	if splits == nil {
		if splits, err = CrossValidation(cases); err != nil {
			return Split{}, err
		}
	}
	k, err := strconv.Atoi(fold)
	if err != nil || k < 0 || k >= len(splits) {
		return Split{}, fault.New(fault.Argument, "there is no fold %.40q, only 0 to %d and all", fold, len(splits)-1)
	}
	s := splits[k]
	for _, list := range [][]string{s.Train, s.Val} {
		if len(list) == 0 {
			return s, fault.New(fault.Model, "fold %s: the split has %d cases to train on and %d to validate with: at least one of each is needed", fold, len(s.Train), len(s.Val))
		}
		for _, name := range list {
			if !slices.Contains(cases, name) {
				return s, fault.New(fault.Model, "fold %s: the split names case %.80q, which the dataset lacks", fold, name)
			}
		}
	}
	return s, nil
}

// marshal gives JSON as nnU-Net's files are.
func marshal(v any) []byte { return jsontext.Indented(v, "    ") }
