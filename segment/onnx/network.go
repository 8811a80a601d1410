package onnx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

// Names of the network's input and output.
const (
	InputName  = "image"
	OutputName = "logits"
)

// FoldWeights is one fold of an ensemble.
type FoldWeights struct {
	Name    string // "0", "1", ..., "all"
	Weights Weights
}

// Network returns a model that computes the network arch on one patch: input
// "image", float32 of shape 1 x inChannels x patch, output "logits", float32
// of shape 1 x heads x patch, without softmax. Several folds are averaged, as
// nnU-Net averages logits (inference/predict_from_raw_data.py,
// predict_logits_from_preprocessed_data). What belongs to fold k is named
// fold_k/...; ExtractFolds takes folds out again. Errors as for UNet, those of
// all folds in one message with the folds' names; Argument for folds that are
// none or have equal names.
func Network(arch *nnunet.Architecture, inChannels, heads int, patch []int, folds []FoldWeights) (*Model, error) {
	g := &Graph{Name: arch.Class,
		Inputs:  []*ValueInfo{{Name: InputName, Type: Float, Dims: Fixed(append([]int{1, inChannels}, patch...)...)}},
		Outputs: []*ValueInfo{{Name: OutputName, Type: Float, Dims: Fixed(append([]int{1, heads}, patch...)...)}},
	}
	if err := checkPatch(arch, patch); err != nil {
		return nil, err
	}
	var outputs, failures []string
	for _, f := range folds {
		_, err := UNet(g, foldPrefix(f.Name), arch, inChannels, heads, InputName, patch, f.Weights)
		if err != nil {
			failures = append(failures, fmt.Sprintf("fold %s: %v", f.Name, err))
			continue
		}
		// The network's last node gives the fold's logits.
		last := g.Nodes[len(g.Nodes)-1]
		logits := foldPrefix(f.Name) + OutputName
		if slices.Contains(outputs, logits) {
			return nil, fault.New(fault.Argument, "fold %s is named twice", f.Name)
		}
		last.Outputs = []string{logits}
		outputs = append(outputs, logits)
	}
	if failures != nil {
		return nil, fault.New(fault.Model, "%s", strings.Join(failures, "; "))
	}
	if len(outputs) == 0 {
		return nil, fault.New(fault.Argument, "a network needs at least one fold")
	}
	g.finish(outputs)
	return &Model{IRVersion: IRVersion, ProducerName: "libflare", Opsets: []Opset{{"", OpsetVersion}}, Graph: g}, nil
}

func foldPrefix(name string) string { return "fold_" + name + "/" }

// finish makes the mean of the folds' logits the graph's output.
func (g *Graph) finish(logits []string) {
	if len(logits) > 1 {
		g.Nodes = append(g.Nodes, &Node{Name: "mean", OpType: "Mean", Inputs: logits, Outputs: []string{OutputName}})
		return
	}
	// One fold's last node gives the output itself. The node may be shared
	// with the model that it was taken from.
	for i, n := range g.Nodes {
		if len(n.Outputs) == 1 && n.Outputs[0] == logits[0] {
			renamed := *n
			renamed.Outputs = []string{OutputName}
			g.Nodes[i] = &renamed
		}
	}
}

// Folds returns the names of the folds in a model that Network made, in its
// order; none for other models.
func (m *Model) Folds() []string {
	var names []string
	seen := map[string]bool{}
	for _, n := range m.Graph.Nodes {
		if name, ok := foldOf(n.Name); ok && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// foldOf returns the fold that a node or initializer belongs to.
func foldOf(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "fold_")
	if !ok {
		return "", false
	}
	fold, _, ok := strings.Cut(rest, "/")
	return fold, ok
}

// ExtractFolds returns a model that averages only the given folds, in the
// given order; with one fold its logits are the output directly. Nodes and
// weights are shared with m, metadata are copied. Errors: Argument (no name,
// one that m lacks, or one given twice).
func (m *Model) ExtractFolds(names []string) (*Model, error) {
	have := m.Folds()
	if len(names) == 0 {
		return nil, fault.New(fault.Argument, "no fold is given; the model has %s", strings.Join(have, ", "))
	}
	for i, name := range names {
		if !slices.Contains(have, name) {
			if len(have) == 0 {
				return nil, fault.New(fault.Argument, "the model has no folds to choose from (fold %.40q was asked for)", name)
			}
			return nil, fault.New(fault.Argument, "the model has no fold %.40q, only %s", name, strings.Join(have, ", "))
		}
		if slices.Contains(names[:i], name) {
			return nil, fault.New(fault.Argument, "fold %s is named twice", name)
		}
	}
	if len(have) == 1 {
		return m, nil
	}
	g := &Graph{Name: m.Graph.Name, Inputs: m.Graph.Inputs, Outputs: m.Graph.Outputs, extra: m.Graph.extra}
	for _, n := range m.Graph.Nodes {
		if fold, ok := foldOf(n.Name); ok && slices.Contains(names, fold) {
			g.Nodes = append(g.Nodes, n)
		}
	}
	for _, t := range m.Graph.Initializers {
		if fold, ok := foldOf(t.Name); ok && slices.Contains(names, fold) {
			g.Initializers = append(g.Initializers, t)
		}
	}
	var logits []string
	for _, name := range names {
		logits = append(logits, foldPrefix(name)+OutputName)
	}
	g.finish(logits)
	out := *m
	out.Graph, out.Metadata = g, slices.Clone(m.Metadata)
	return &out, nil
}
