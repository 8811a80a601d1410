package segment

import (
	"io"
	"os"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/resample"
)

// load opens a bundle or a folder: what to do (recipe) and what to run (networks).
func load(path string, o OpenOptions) (*recipe, *networks, error) {
	r, model, done, err := read(path, o)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	n, err := r.networks(model)
	return r, n, err
}

// read opens a bundle or a folder and checks it; weights are not read yet. done
// frees what the model's weights lie in.
func read(path string, o OpenOptions) (*recipe, *onnx.Model, func(), error) {
	if path == "" {
		return nil, nil, nil, fault.New(fault.Argument, "the model's path is empty")
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, nil, fault.File(path, err)
	}
	var model *onnx.Model
	done := func() {}
	if info.IsDir() {
		model, done, err = source(ConvertOptions{Folder: path, Checkpoint: o.Checkpoint, Folds: o.Folds})
	} else if o.Checkpoint != "" {
		err = fault.New(fault.Argument, "%s: checkpoint %q is of folders: a bundle holds the weights that it was made with", path, o.Checkpoint)
	} else {
		var data []byte
		if data, err = readLarge(path); err == nil {
			done = func() { cmem.Free(data) }
			if model, err = onnx.Parse(data); err != nil {
				done()
				err = fault.New(fault.KindOf(err), "%s: not an ONNX model or bundle: %w", path, err)
			}
		}
	}
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := recipeOf(model, path)
	if err == nil && !info.IsDir() && !allFolds(o.Folds) {
		err = r.choose(o.Folds, path)
	}
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	return r, model, done, nil
}

// networks are the models that a session runs, one per fold, in C memory.
type networks struct{ list []engine.Network }

func (n *networks) free() {
	for _, m := range n.list {
		cmem.Free(m.ONNX)
	}
}

// networks marshals each fold of the model by itself. Where the networks have more
// classes than features before their last layer, that layer is taken off and becomes the
// recipe's head: it is linear, as are the means over tiles, flips and folds, so that the
// fewer features can be accumulated instead.
func (r *recipe) networks(model *onnx.Model) (*networks, error) {
	var models []*onnx.Model
	for _, fold := range r.folds {
		m := model
		var err error
		if len(model.Folds()) > 1 {
			if m, err = model.ExtractFolds([]string{fold}); err != nil {
				return nil, err
			}
		}
		m.Metadata = nil // the runtime has no use for the plans
		models = append(models, m)
	}
	r.cutHeads(models)
	n := &networks{}
	for _, m := range models {
		data, err := marshal(m)
		if err != nil {
			n.free()
			return nil, err
		}
		in, out := []int64{1, int64(r.inputs)}, []int64{1, int64(r.features)}
		for _, p := range r.configuration.PatchSize {
			in, out = append(in, int64(p)), append(out, int64(p))
		}
		n.list = append(n.list, engine.Network{ONNX: data, Input: m.Graph.DataInputs()[0].Name, InputShape: in,
			Output: m.Graph.Outputs[0].Name, OutputShape: out})
	}
	return n, nil
}

// cutHeads takes the last layers off all models, or off none.
func (r *recipe) cutHeads(models []*onnx.Model) {
	r.head, r.foldHeads, r.features = nil, nil, r.heads
	channels := r.heads // of the last layer's input, known when one was cut
	var weights, biases [][]float32
	cut := slices.Clone(models)
	for i, m := range models {
		graph, whole := *m.Graph, *m
		whole.Graph = &graph
		w, b, features, ok := whole.CutHead()
		if !ok || len(b) != r.heads || features*len(models) >= r.heads || i > 0 && features != channels {
			return
		}
		channels, cut[i] = features, &whole
		weights, biases = append(weights, w), append(biases, b)
	}
	copy(models, cut)
	r.features = channels
	width, share := channels*len(models), 1/float32(len(models))
	for i := range models {
		r.foldHeads = append(r.foldHeads, resample.Head{Weight: weights[i], Bias: biases[i]})
	}
	r.head = &resample.Head{Weight: make([]float32, r.heads*width), Bias: make([]float32, r.heads)}
	for i := range models {
		for h := range r.heads {
			r.head.Bias[h] += share * biases[i][h]
			for c, v := range weights[i][h*channels : (h+1)*channels] {
				r.head.Weight[h*width+i*channels+c] = share * v
			}
		}
	}
}

// marshal encodes a model in C memory.
func marshal(m *onnx.Model) ([]byte, error) {
	if size := m.Size(); size >= maxBundle {
		return nil, fault.New(fault.Unsupported, "a model of %d bytes: ONNX files hold at most 2 GiB; use fewer folds", size)
	}
	data, err := cmem.Alloc[byte](m.Size())
	if err != nil {
		return nil, err
	}
	if err := m.MarshalTo(data); err != nil {
		cmem.Free(data)
		return nil, err
	}
	return data, nil
}

func allFolds(folds string) bool { return folds == "" || folds == "all" }

// foldNames splits a list of folds.
func foldNames(list string) ([]string, error) {
	names := strings.Split(list, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
		if names[i] == "" || slices.Contains(names[:i], names[i]) {
			return nil, fault.New(fault.Argument, "folds %q: expected all, or names such as 0,1, each once", list)
		}
	}
	return names, nil
}

// maxText bounds the JSON files of models: nnU-Net's largest, with the fingerprint of
// thousands of cases, are below 1 MB.
const maxText = 64 << 20

// readFile reads a small text file.
func readFile(path string) ([]byte, error) {
	if _, err := regular(path, maxText); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	return data, nil
}

// regular returns the size of a file below limit bytes; anything that is no regular
// file, and might block or never end, is refused.
func regular(path string, limit int64) (int64, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return 0, fault.File(path, err)
	case !info.Mode().IsRegular():
		return 0, fault.New(fault.IO, "%s: not a regular file (%s)", path, info.Mode().Type())
	case info.Size() == 0 || info.Size() >= limit:
		return 0, fault.New(fault.Format, "%s: %d bytes, expected 1 to %d", path, info.Size(), limit-1)
	}
	return info.Size(), nil
}

// readLarge reads a model file into C memory.
func readLarge(path string) ([]byte, error) {
	size, err := regular(path, maxBundle)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	defer f.Close()
	data, err := cmem.Alloc[byte](int(size))
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(f, data); err != nil {
		cmem.Free(data)
		return nil, fault.File(path, err)
	}
	return data, nil
}
