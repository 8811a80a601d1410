package segment

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/onnx"
)

// JoinFolds writes one bundle of all folds of several bundles and results folders, which
// were trained with the same plans for the same labels: segmenting averages their logits, as
// nnU-Net averages those of its folds. Folds whose names clash are numbered anew, in the
// order given. Stored post-processing, which was found for other folds, is left out. Errors:
// those of Convert, Model (models that differ in more than their weights), Unsupported
// (networks that others exported).
func JoinFolds(ctx context.Context, out string, models []string) error {
	if !strings.HasSuffix(out, ".onnx") {
		return fault.New(fault.Argument, "%q: a bundle's name ends in .onnx", out)
	}
	if len(models) == 0 {
		return fault.New(fault.Argument, "no model to join")
	}
	if err := spare([]string{out}, models); err != nil {
		return err
	}
	var first *recipe
	var orientation string
	var weights []onnx.FoldWeights
	for _, path := range models {
		if imageio.Within(out, path) {
			return fault.New(fault.Argument, "%s: a file in the folder %s that is joined: choose another name, or remove it", out, path)
		}
		r, model, done, err := read(path, OpenOptions{})
		if err != nil {
			return err
		}
		defer done()
		if first == nil {
			first = r
			orientation, _ = model.Meta(metaOrientation)
		}
		for _, differs := range []struct {
			what string
			yes  bool
		}{
			{"plans", !bytes.Equal(r.plans.Raw, first.plans.Raw)},
			{"configurations", r.configuration.Name != first.configuration.Name},
			{"labels", !slices.Equal(r.labels(), first.labels()) || !slices.Equal(r.regions, first.regions)},
			{"channels", !slices.Equal(r.dataset.Channels, first.dataset.Channels)},
			{"mirror axes", !slices.Equal(r.mirrorAxes, first.mirrorAxes)},
			{"orientations", r.preprocess.Orientation != first.preprocess.Orientation},
		} {
			if differs.yes {
				return fault.New(fault.Model, "%s and %s have different %s: only folds of one training can be joined", models[0], path, differs.what)
			}
		}
		for _, fold := range r.folds {
			w, err := model.FoldWeights(fold)
			if err != nil {
				return fault.New(fault.Unsupported, "%s: a network that others exported: it cannot be joined (%w)", path, err)
			}
			weights = append(weights, onnx.FoldWeights{Name: fold, Weights: w})
		}
	}
	var names []string
	for _, w := range weights {
		names = append(names, w.Name)
	}
	if sorted := slices.Sorted(slices.Values(names)); len(slices.Compact(sorted)) < len(names) {
		for i := range names {
			names[i] = strconv.Itoa(i)
			weights[i].Name = names[i]
		}
	}
	architecture, err := first.plans.Architecture(first.configuration.Name)
	if err != nil {
		return err
	}
	model, err := onnx.Network(architecture, first.inputs, first.heads, first.configuration.PatchSize, weights)
	if err != nil {
		return err
	}
	describe(model, first.plans, first.dataset, first.configuration.Name, architecture.Class, names, first.mirrorAxes)
	if orientation != "" {
		model.SetMeta(metaOrientation, orientation)
	}
	if ctx.Err() != nil {
		return cancelled(ctx)
	}
	return writeBundle(out, model, strings.Join(models, ", "))
}
