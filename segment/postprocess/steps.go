// Package postprocess does what nnU-Net's post-processing does to a label map:
// it keeps the largest connected component of a label, of a region of labels or
// of the whole foreground. It reads the steps that nnU-Net determined on its
// cross-validation (nnunetv2/postprocessing/remove_connected_components.py,
// nnU-Net 2.8.1).
package postprocess

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

// Step keeps the largest connected component of all voxels that have one of
// Labels; the others among them become Background. Its JSON form is
//
//	{"keep_largest_component_of": [1, 2], "background": 0}
type Step struct {
	Labels     []int `json:"keep_largest_component_of"` // ascending, 0 to 65535
	Background int   `json:"background"`                // 0 to 65535
}

const (
	keepLargest = "remove_all_but_largest_component_from_segmentation"
	maxLabel    = math.MaxUint16
	maxFile     = 1 << 20 // nnU-Net's files have some hundred bytes
	maxSteps    = 1 << 10
)

// Read reads nnU-Net's postprocessing.pkl (nothing in it is executed) or the
// postprocessing.json that it writes beside it, told apart by their content.
// The steps are in the order in which they are applied; there may be none.
// Errors: NotFound, IO, Format, Unsupported (a function other than
// remove_all_but_largest_component_from_segmentation, or an argument of it that
// is unknown: all of them by name).
func Read(path string) ([]Step, error) {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxFile) {
		return nil, fault.New(fault.Format, "%s: %d bytes, expected a postprocessing.pkl or .json of %d at most", path, info.Size(), maxFile)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if os.IsNotExist(err) {
		return nil, fault.New(fault.NotFound, "%s: no such file", path)
	} else if err != nil {
		return nil, fault.New(fault.IO, "%w", err)
	}
	steps, err := parse(data)
	if err != nil {
		return nil, fault.New(fault.KindOf(err), "%s: %w", path, err)
	}
	return steps, nil
}

// parse tells a pickle from JSON and reads its functions and arguments.
func parse(data []byte) ([]Step, error) {
	if text := bytes.TrimSpace(data); len(text) > 0 && text[0] == '{' {
		var file struct {
			Functions []string         `json:"postprocessing_fns"`
			Arguments []map[string]any `json:"postprocessing_kwargs"`
		}
		d := json.NewDecoder(bytes.NewReader(pythonJSON(text)))
		if err := d.Decode(&file); err != nil {
			return nil, fault.New(fault.Format, "not nnU-Net's postprocessing.json: %v", err)
		}
		if file.Functions == nil || file.Arguments == nil {
			return nil, fault.New(fault.Format, "keys postprocessing_fns and postprocessing_kwargs are missing, expected nnU-Net's postprocessing.json")
		}
		return stepsOf(file.Functions, file.Arguments)
	}
	root, err := nnunet.ParsePickle(data)
	if err != nil {
		return nil, fault.New(fault.Format, "not nnU-Net's postprocessing.pkl: %v", err)
	}
	pair, _ := root.([]any)
	if len(pair) != 2 {
		return nil, fault.New(fault.Format, "not nnU-Net's postprocessing.pkl: expected a pair of lists, functions and arguments")
	}
	functions, ok := pair[0].([]any)
	arguments, ok1 := pair[1].([]any)
	if !ok || !ok1 {
		return nil, fault.New(fault.Format, "not nnU-Net's postprocessing.pkl: expected a pair of lists, functions and arguments")
	}
	var names []string
	for _, f := range functions {
		o, ok := f.(nnunet.Object)
		if !ok {
			return nil, fault.New(fault.Format, "found %.80v among the functions", f)
		}
		names = append(names, o.Name)
	}
	var kwargs []map[string]any
	for _, a := range arguments {
		k, ok := a.(map[string]any)
		if !ok {
			return nil, fault.New(fault.Format, "found %.80v among the functions' arguments, expected dicts", a)
		}
		kwargs = append(kwargs, k)
	}
	return stepsOf(names, kwargs)
}

// pythonJSON replaces the literals NaN and Infinity, which Python writes for
// classes that no case has, by null. Only keys and function names are texts
// here, and none of nnU-Net's holds these words.
func pythonJSON(text []byte) []byte {
	for _, word := range []string{"-Infinity", "Infinity", "NaN"} {
		text = bytes.ReplaceAll(text, []byte(word), []byte("null"))
	}
	return text
}

// stepsOf pairs functions, by dotted or last name, with their arguments.
func stepsOf(functions []string, kwargs []map[string]any) ([]Step, error) {
	if len(functions) != len(kwargs) || len(functions) > maxSteps {
		return nil, fault.New(fault.Format, "%d functions with %d sets of arguments, expected one for each, %d at most", len(functions), len(kwargs), maxSteps)
	}
	steps := []Step{}
	var unknown []string
	for i, f := range functions {
		if f[strings.LastIndexByte(f, '.')+1:] != keepLargest {
			unknown = append(unknown, fmt.Sprintf("function %.160q", f))
			continue
		}
		s := Step{}
		found := false
		for k, v := range kwargs[i] {
			ok := true
			switch k {
			case "labels_or_regions":
				found = true
				ok = s.add(v, 0)
			case "background_label":
				s.Background, ok = label(v)
			default:
				unknown = append(unknown, fmt.Sprintf("argument %.80q of %s", k, keepLargest))
			}
			if !ok {
				return nil, fault.New(fault.Format, "%s of %s: found %.80v, expected labels from 0 to %d", k, keepLargest, v, maxLabel)
			}
		}
		if !found {
			return nil, fault.New(fault.Format, "%s has no labels_or_regions", keepLargest)
		}
		slices.Sort(s.Labels)
		s.Labels = slices.Compact(s.Labels)
		steps = append(steps, s)
	}
	if unknown != nil {
		slices.Sort(unknown)
		return nil, fault.New(fault.Unsupported, "not supported: %s", strings.Join(slices.Compact(unknown), "; "))
	}
	return steps, nil
}

// add takes labels_or_regions: a label, a region (a tuple of labels) or a list of
// either. The function's mask is their union.
func (s *Step) add(v any, depth int) bool {
	if items, ok := v.([]any); ok {
		for _, item := range items {
			if depth > 1 || !s.add(item, depth+1) {
				return false
			}
		}
		return true
	}
	n, ok := label(v)
	s.Labels = append(s.Labels, n)
	return ok
}

// label takes a whole number as either reader gives it.
func label(v any) (int, bool) {
	n := -1
	switch v := v.(type) {
	case int:
		n = v
	case float64:
		if v == math.Trunc(v) && v >= 0 && v <= maxLabel {
			n = int(v)
		}
	}
	return n, n >= 0 && n <= maxLabel
}

// Marshal returns the JSON form of steps, [] for none.
func Marshal(steps []Step) string {
	if steps == nil {
		steps = []Step{}
	}
	text, _ := json.Marshal(steps) // cannot fail: the fields are numbers
	return string(text)
}

// Unmarshal reads what Marshal writes. Errors are of kind Format.
func Unmarshal(text string) ([]Step, error) {
	var steps []Step
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&steps); err != nil || len(steps) > maxSteps {
		return nil, fault.New(fault.Format, "post-processing %.80q is not a list of at most %d steps such as %s", text, maxSteps, Marshal([]Step{{Labels: []int{1}}}))
	}
	for _, s := range steps {
		if err := s.check(); err != nil {
			return nil, fault.New(fault.Format, "post-processing: %w", err)
		}
	}
	return steps, nil
}

func (s Step) check() error {
	for _, v := range append([]int{s.Background}, s.Labels...) {
		if v < 0 || v > maxLabel {
			return fault.New(fault.Argument, "label %d, expected 0 to %d", v, maxLabel)
		}
	}
	return nil
}
