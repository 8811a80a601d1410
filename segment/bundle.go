package segment

import (
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/postprocess"
	"github.com/libflare/libflare/segment/volume"
)

// A bundle is a plain ONNX model with these metadata.
const (
	metaFormat        = "flare.format"        // version of this list
	metaPlans         = "flare.plans"         // text of plans.json
	metaDataset       = "flare.dataset"       // text of dataset.json
	metaConfiguration = "flare.configuration" // name in the plans
	metaNetwork       = "flare.network"       // class of the architecture; "onnx" where it came as ONNX
	metaFolds         = "flare.folds"         // "0,1,2"
	metaMirrorAxes    = "flare.mirror_axes"   // JSON list of patch axes; "[]" for none
	metaOrientation   = "flare.orientation"   // such as "LPS"; absent: as stored

	metaPostprocessing = "flare.postprocessing" // JSON of package postprocess; absent: none

	bundleFormat = "1"
)

// maxBundle is protobuf's limit for one message: larger files are no ONNX models.
const maxBundle = 2 << 30

// Convert writes a bundle to the file out: a plain .onnx file (any ONNX viewer or
// runtime opens it) whose metadata hold all that segmenting needs. out is whole or
// absent, and none of what it is made of: neither a file that o names nor one that is
// in the folder. Where o.ONNX is a bundle itself, what o does not say anew (labels,
// folds, mirror axes, orientation, post-processing) stays.
func Convert(ctx context.Context, out string, o ConvertOptions) error {
	if !strings.HasSuffix(out, ".onnx") {
		return fault.New(fault.Argument, "%q: a bundle's name ends in .onnx", out)
	}
	if err := spare([]string{out}, []string{o.ONNX, o.Plans, o.Dataset}); err != nil {
		return err
	}
	if o.Folder != "" && imageio.Within(out, o.Folder) {
		return fault.New(fault.Argument, "%s: a file in the folder %s that is converted, which would be overwritten: choose another name, or remove it", out, o.Folder)
	}
	model, done, err := source(o)
	if err != nil {
		return err
	}
	defer done()
	if ctx.Err() != nil {
		return cancelled(ctx)
	}
	return writeBundle(out, model, o.Folder+o.ONNX)
}

// writeBundle checks a model that was made of from and writes it: whole or not at all.
func writeBundle(out string, model *onnx.Model, from string) error {
	if _, err := recipeOf(model, from); err != nil {
		return err
	}
	data, err := marshal(model)
	if err != nil {
		return err
	}
	defer cmem.Free(data)
	return imageio.WriteFileAtomic(out, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// source builds the model that o names, with its metadata. done frees what the
// model's weights lie in.
func source(o ConvertOptions) (model *onnx.Model, done func(), err error) {
	if o.Orientation != "" {
		if err := volume.CheckOrientation(strings.ToUpper(o.Orientation)); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case o.Folder != "" && o.ONNX+o.Plans+o.Dataset+o.Configuration != "":
		return nil, nil, fault.New(fault.Argument, "name either a folder or an ONNX file with its plans, not both")
	case o.Folder != "":
		model, done, err = fromFolder(o.Folder, o.Checkpoint, o.Folds)
	case o.ONNX == "" || o.Plans == "" || o.Configuration == "":
		return nil, nil, fault.New(fault.Argument, "name a folder, or an ONNX file with its plans and configuration")
	case allFolds(o.Folds) && o.Checkpoint == "":
		model, done, err = fromONNX(o)
	default:
		return nil, nil, fault.New(fault.Argument, "folds and checkpoints are of folders, an ONNX file has none")
	}
	if err == nil && o.Orientation != "" {
		model.SetMeta(metaOrientation, strings.ToUpper(o.Orientation))
	}
	return model, done, err
}

// fromFolder builds the model of an nnU-Net v2 results folder. Its weights are read
// from the checkpoints when the model is marshalled; done closes them.
func fromFolder(path, checkpoint, folds string) (*onnx.Model, func(), error) {
	folder, err := nnunet.OpenFolder(path, checkpoint)
	if err != nil {
		return nil, nil, err
	}
	names := folder.DefaultFolds()
	if !allFolds(folds) {
		if names, err = foldNames(folds); err != nil {
			return nil, nil, err
		}
	}
	configuration, err := folder.Plans.Configuration(folder.Configuration)
	if err != nil {
		return nil, nil, err
	}
	architecture, err := folder.Architecture()
	if err != nil {
		return nil, nil, err
	}
	open, err := folder.OpenFolds(names)
	if err != nil {
		return nil, nil, err
	}
	done := func() {
		for _, c := range open {
			c.Close()
		}
	}
	var weights []onnx.FoldWeights
	for i, c := range open {
		weights = append(weights, onnx.FoldWeights{Name: names[i], Weights: onnx.CheckpointWeights(c)})
	}
	model, err := onnx.Network(architecture, folder.Dataset.NumInputs(configuration), folder.Dataset.NumHeads(), configuration.PatchSize, weights)
	if err != nil {
		done()
		return nil, nil, fault.New(fault.KindOf(err), "%s: %w", path, err)
	}
	describe(model, folder.Plans, folder.Dataset, folder.Configuration, architecture.Class, names, open[0].MirrorAxes)
	if folder.Postprocessing != "" {
		// What cannot be read matters only to those who ask for it.
		if steps, err := postprocess.Read(folder.Postprocessing); err != nil {
			logf(LogWarning, "left out: %v", err)
		} else {
			model.SetMeta(metaPostprocessing, postprocess.Marshal(steps))
		}
	}
	return model, done, nil
}

// fromONNX takes a network exported by others, or that of a bundle, as it is.
func fromONNX(o ConvertOptions) (*onnx.Model, func(), error) {
	text, err := readFile(o.Plans)
	if err != nil {
		return nil, nil, err
	}
	plans, err := nnunet.ParsePlans(text, o.Plans)
	if err != nil {
		return nil, nil, err
	}
	configuration, err := plans.Configuration(o.Configuration)
	if err != nil {
		return nil, nil, err
	}
	var dataset *nnunet.Dataset
	if o.Dataset != "" {
		if text, err = readFile(o.Dataset); err != nil {
			return nil, nil, err
		}
		if dataset, err = nnunet.ParseDataset(text, o.Dataset); err != nil {
			return nil, nil, err
		}
	}
	data, err := readLarge(o.ONNX)
	if err != nil {
		return nil, nil, err
	}
	done := func() { cmem.Free(data) }
	fail := func(err error) (*onnx.Model, func(), error) {
		done()
		return nil, nil, err
	}
	model, err := onnx.Parse(data)
	if err != nil {
		return fail(fault.New(fault.KindOf(err), "%s: %w", o.ONNX, err))
	}
	bundle, err := stored(model, o.ONNX)
	if err != nil {
		return fail(err)
	}
	if dataset == nil {
		dataset = bundle
	}
	channels := len(configuration.Normalization)
	if dataset != nil {
		channels = dataset.NumInputs(configuration)
	}
	var notes []string
	if err = model.LoadExternal(filepath.Dir(o.ONNX)); err == nil {
		model, notes, err = model.Static(configuration.PatchSize, channels)
	}
	if err != nil {
		return fail(fault.New(fault.KindOf(err), "%s: %w", o.ONNX, err))
	}
	for _, note := range notes {
		logf(LogInfo, "%s: %s", o.ONNX, note)
	}
	if dataset == nil {
		_, heads, err := shapes(model, configuration, o.ONNX)
		if err != nil {
			return fail(err)
		}
		if dataset, err = nnunet.GenericDataset(channels, heads); err != nil {
			return fail(err)
		}
	}
	if bundle != nil { // the rest of its metadata stays
		model.SetMeta(metaPlans, string(plans.Raw))
		model.SetMeta(metaConfiguration, o.Configuration)
		model.SetMeta(metaDataset, string(dataset.Raw))
	} else {
		describe(model, plans, dataset, o.Configuration, "onnx", []string{"0"}, nil)
	}
	return model, done, nil
}

// stored returns the dataset that a bundle holds, nil for another model. Metadata of an
// unknown format are dropped, and said to be.
func stored(model *onnx.Model, path string) (*nnunet.Dataset, error) {
	switch format, _ := model.Meta(metaFormat); format {
	case "":
		return nil, nil
	case bundleFormat:
		text, _ := model.Meta(metaDataset)
		return nnunet.ParseDataset([]byte(text), path+" (dataset)")
	default:
		logf(LogWarning, "%s: bundle format %q, this library reads format %s: its labels and other metadata are not kept", path, format, bundleFormat)
		model.Metadata = slices.DeleteFunc(model.Metadata, func(p onnx.Property) bool { return strings.HasPrefix(p.Key, "flare.") })
		return nil, nil
	}
}

// describe writes a bundle's metadata.
func describe(model *onnx.Model, p *nnunet.Plans, d *nnunet.Dataset, configuration, network string, folds []string, mirror []int) {
	axes, _ := json.Marshal(append([]int{}, mirror...))
	for _, m := range [][2]string{
		{metaFormat, bundleFormat}, {metaPlans, string(p.Raw)}, {metaDataset, string(d.Raw)}, {metaConfiguration, configuration},
		{metaNetwork, network}, {metaFolds, strings.Join(folds, ",")}, {metaMirrorAxes, string(axes)},
	} {
		model.SetMeta(m[0], m[1])
	}
}

// shapes returns the channels and heads of a model's one input and one output, and
// checks them against the configuration.
func shapes(model *onnx.Model, c *nnunet.Configuration, path string) (channels, heads int, err error) {
	inputs, outputs := model.Graph.DataInputs(), model.Graph.Outputs
	if len(inputs) != 1 || len(outputs) != 1 {
		return 0, 0, fault.New(fault.Unsupported, "%s: the network has %d inputs and %d outputs, expected one of each", path, len(inputs), len(outputs))
	}
	side := func(v *onnx.ValueInfo, what string) (int, error) {
		if v.Type != onnx.Float {
			return 0, fault.New(fault.Unsupported, "%s: %s %q is of ONNX type %d, expected float32 (1)", path, what, v.Name, v.Type)
		}
		if len(v.Dims) != 2+len(c.PatchSize) {
			return 0, fault.New(fault.Model, "%s: %s %q has %d dimensions, the plans' configuration %s asks for %d (1, channels, patch)",
				path, what, v.Name, len(v.Dims), c.Name, 2+len(c.PatchSize))
		}
		if b := v.Dims[0]; b.Value > 1 {
			return 0, fault.New(fault.Unsupported, "%s: %s %q has a fixed batch size of %d, expected 1", path, what, v.Name, b.Value)
		}
		for i, n := range c.PatchSize {
			if d := v.Dims[2+i]; d.Value > 0 && d.Value != int64(n) {
				return 0, fault.New(fault.Model, "%s: %s %q has %d voxels along axis %d, the plans' patch_size of configuration %s is %v",
					path, what, v.Name, d.Value, i, c.Name, c.PatchSize)
			}
		}
		n := v.Dims[1].Value
		if n < 1 || n > 1<<16 {
			return 0, fault.New(fault.Model, "%s: %s %q has %d channels, expected a fixed number from 1 to 65536", path, what, v.Name, n)
		}
		return int(n), nil
	}
	if channels, err = side(inputs[0], "input"); err != nil {
		return 0, 0, err
	}
	heads, err = side(outputs[0], "output")
	return channels, heads, err
}
