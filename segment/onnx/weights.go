package onnx

import (
	"slices"
	"sort"
	"strings"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

// Weights gives a network's parameters by state-dict name.
type Weights interface {
	// Tensor returns the float32 tensor called name, which must have the
	// given shape; its Name may be changed by the caller. Errors, of kind
	// Model, say what is wrong with this one tensor.
	Tensor(name string, shape []int) (*Tensor, error)

	// Unused returns, sorted, the names that Tensor has not been asked for
	// and that no network of this kind ignores.
	Unused() []string

	// Source says for messages where the weights come from; may be empty.
	Source() string
}

// StateDict is Weights whose numbers are read when a model is marshalled.
type StateDict struct {
	entries map[string]entry
	used    map[string]bool
	source  string
}

type entry struct {
	shape []int
	load  func(dst []float32) error
}

// NewStateDict returns an empty StateDict.
func NewStateDict() *StateDict {
	return &StateDict{entries: map[string]entry{}, used: map[string]bool{}}
}

// CheckpointWeights returns the weights of c, which must stay open until the
// model that holds them has been marshalled.
func CheckpointWeights(c *nnunet.Checkpoint) *StateDict {
	s := NewStateDict()
	s.source = c.File + " (trainer " + c.TrainerName + ")"
	for name, t := range c.Weights {
		s.Add(name, t.Shape, t.Float32)
	}
	return s
}

// Add puts a parameter into s. load fills dst, of shape's number of elements,
// in C order; it may be called several times.
func (s *StateDict) Add(name string, shape []int, load func(dst []float32) error) {
	s.entries[name] = entry{shape, load}
}

// Tensor implements Weights.
func (s *StateDict) Tensor(name string, shape []int) (*Tensor, error) {
	e, ok := s.entries[name]
	if !ok {
		return nil, fault.New(fault.Model, "%s is missing (expected shape %v)", name, shape)
	}
	s.used[name] = true
	if !slices.Equal(e.shape, shape) {
		return nil, fault.New(fault.Model, "%s has shape %v, expected %v", name, e.shape, shape)
	}
	return floatTensor(name, shape, e.load), nil
}

// Source implements Weights: the checkpoint's file and trainer.
func (s *StateDict) Source() string { return s.source }

// Unused implements Weights. Deep-supervision heads and BatchNorm's counters
// have no part in inference; they are never listed.
func (s *StateDict) Unused() []string {
	var names []string
	for name := range s.entries {
		if !s.used[name] && !strings.HasPrefix(name, "decoder.seg_layers.") && !strings.HasSuffix(name, ".num_batches_tracked") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// floatTensor returns a float32 tensor whose numbers load gives later.
func floatTensor(name string, shape []int, load func(dst []float32) error) *Tensor {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return &Tensor{Name: name, Type: Float, Dims: int64s(shape), LoadSize: 4 * n, Load: func(dst []byte) error {
		// A tensor's place in the encoded model has any alignment, so its
		// numbers cannot be written there as float32.
		buf := make([]float32, n)
		if err := load(buf); err != nil {
			return err
		}
		copy(dst, cmem.Bytes(buf))
		return nil
	}}
}

func int64s(v []int) []int64 {
	out := make([]int64, len(v))
	for i, n := range v {
		out[i] = int64(n)
	}
	return out
}

// FoldWeights returns the weights of one fold of a model that Network made; Parse's bytes
// must stay. Deep-supervision heads are not among them. Errors: Argument (a fold that m
// lacks).
func (m *Model) FoldWeights(fold string) (*StateDict, error) {
	if !slices.Contains(m.Folds(), fold) {
		return nil, fault.New(fault.Argument, "the model has no fold %.40q, only %s", fold, strings.Join(m.Folds(), ", "))
	}
	s := NewStateDict()
	s.source = "fold " + fold
	for _, t := range m.Graph.Initializers {
		name, ok := strings.CutPrefix(t.Name, foldPrefix(fold))
		if !ok {
			continue
		}
		shape := make([]int, len(t.Dims))
		for i, d := range t.Dims {
			shape[i] = int(d)
		}
		s.Add(name, shape, func(dst []float32) error {
			numbers, err := t.floats()
			copy(dst, numbers)
			return err
		})
	}
	return s, nil
}
