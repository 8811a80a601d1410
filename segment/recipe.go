package segment

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/volume"
)

// recipe is what a model's metadata say, ready for use.
type recipe struct {
	plans          *nnunet.Plans
	dataset        *nnunet.Dataset
	configuration  *nnunet.Configuration
	network        string
	parameters     int64 // of one fold
	folds          []string
	mirrorAxes     []int
	heads          int
	preprocess     preprocess.Config
	separateLogits *bool
	regions        []uint16 // nil without regions
}

// recipeOf reads and checks a model's metadata; path is for messages. Whatever
// nnU-Net knows and this library does not do is refused here, by name.
func recipeOf(model *onnx.Model, path string) (*recipe, error) {
	meta := func(key string) string { v, _ := model.Meta(key); return v }
	switch format := meta(metaFormat); format {
	case bundleFormat:
	case "":
		return nil, fault.New(fault.Model, "%s: an ONNX model without plans; make a bundle of it: flare convert --onnx FILE --plans FILE --configuration NAME OUT.onnx", path)
	default:
		return nil, fault.New(fault.Unsupported, "%s: bundle format %q, this library reads format %s", path, format, bundleFormat)
	}
	r := &recipe{network: meta(metaNetwork), folds: strings.Split(meta(metaFolds), ",")}
	var err error
	if r.plans, err = nnunet.ParsePlans([]byte(meta(metaPlans)), path+" (plans)"); err != nil {
		return nil, err
	}
	if r.dataset, err = nnunet.ParseDataset([]byte(meta(metaDataset)), path+" (dataset)"); err != nil {
		return nil, err
	}
	if r.configuration, err = r.plans.Configuration(meta(metaConfiguration)); err != nil {
		return nil, err
	}
	if err := supported(r.plans, r.configuration); err != nil {
		return nil, fault.New(fault.KindOf(err), "%s: %w", path, err)
	}
	channels, heads, err := shapes(model, r.configuration, path)
	if err != nil {
		return nil, err
	}
	if want := r.dataset.NumHeads(); heads != want {
		return nil, fault.New(fault.Model, "%s: the network has %d outputs, the dataset's labels ask for %d", path, heads, want)
	}
	if want := len(r.dataset.Channels); channels != want {
		return nil, fault.New(fault.Model, "%s: the network has %d inputs, the dataset names %d channels", path, channels, want)
	}
	if have := model.Folds(); len(have) > 1 && !slices.Equal(have, r.folds) {
		return nil, fault.New(fault.Model, "%s: the network holds folds %v, its metadata name %v", path, have, r.folds)
	} else if len(have) <= 1 && len(r.folds) != 1 {
		return nil, fault.New(fault.Model, "%s: the network holds one fold, its metadata name %v", path, r.folds)
	}
	if text := meta(metaMirrorAxes); text != "" {
		if err := json.Unmarshal([]byte(text), &r.mirrorAxes); err != nil {
			return nil, fault.New(fault.Format, "%s: mirror axes %q are not a list of numbers", path, text)
		}
	}
	for i, axis := range r.mirrorAxes {
		if axis < 0 || axis >= len(r.configuration.PatchSize) || slices.Contains(r.mirrorAxes[:i], axis) {
			return nil, fault.New(fault.Model, "%s: mirror axes %v, expected different axes of 0 to %d", path, r.mirrorAxes, len(r.configuration.PatchSize)-1)
		}
	}
	r.heads = heads
	r.parameters = model.Graph.Parameters("") / int64(len(r.folds))
	r.separateLogits = r.configuration.Probabilities.ForceSeparateZ
	r.preprocess = preprocess.Config{
		Orientation: meta(metaOrientation), Transpose: r.plans.TransposeForward, Spacing: r.configuration.Spacing,
		SeparateImage: r.configuration.Data.ForceSeparateZ,
	}
	if r.preprocess.Orientation != "" {
		if err := volume.CheckOrientation(r.preprocess.Orientation); err != nil {
			return nil, fault.New(fault.Format, "%s: %w", path, err)
		}
	}
	for i, scheme := range r.configuration.Normalization {
		p := r.plans.Intensity[i]
		r.preprocess.Channels = append(r.preprocess.Channels, preprocess.Normalization{
			Scheme: preprocess.Scheme(scheme), Mask: r.configuration.UseMask[i], Lower: p.Percentile005, Upper: p.Percentile995, Mean: p.Mean, StdDev: p.Std})
	}
	if r.dataset.HasRegions() {
		for _, v := range r.dataset.RegionsClassOrder {
			r.regions = append(r.regions, uint16(v))
		}
	}
	return r, nil
}

// supported names everything in the plans that this library does not do.
func supported(p *nnunet.Plans, c *nnunet.Configuration) error {
	var missing []string
	add := func(format string, args ...any) { missing = append(missing, fmt.Sprintf(format, args...)) }
	if c.PreviousStage != "" {
		add("previous_stage %q (cascade)", c.PreviousStage)
	}
	for _, s := range []struct {
		key   string
		order int
		nnunet.Resampling
	}{{"resampling_fn_data", 3, c.Data}, {"resampling_fn_probabilities", 1, c.Probabilities}} {
		if s.IsSeg || s.Order != s.order || s.OrderZ != 0 || s.Threshold != 3 {
			add("%s with is_seg %v, order %d, order_z %d, threshold %g (only order %d, order_z 0, threshold 3)",
				s.key, s.IsSeg, s.Order, s.OrderZ, s.Threshold, s.order)
		}
	}
	if reader := p.ImageReaderWriter; strings.HasSuffix(reader, "WithReorient") {
		add("image_reader_writer %q", reader)
	}
	if len(missing) > 0 {
		return fault.New(fault.Unsupported, "configuration %s: not supported: %s", c.Name, strings.Join(missing, "; "))
	}
	return nil
}

// choose keeps the named folds of a bundle.
func (r *recipe) choose(list, path string) error {
	var folds []string
	for _, f := range strings.Split(list, ",") {
		f = strings.TrimSpace(f)
		if !slices.Contains(r.folds, f) || slices.Contains(folds, f) {
			return fault.New(fault.Argument, "%s: folds %q: the bundle holds %s", path, list, strings.Join(r.folds, ","))
		}
		folds = append(folds, f)
	}
	r.folds = folds
	return nil
}

func (r *recipe) task() string {
	if r.dataset.Name != "" {
		return r.dataset.Name
	}
	return r.plans.DatasetName
}

// labelType returns the voxel type of label files, as nnU-Net chooses it.
func (r *recipe) labelType() volume.DType {
	if r.highest() > math.MaxUint8 {
		return volume.Uint16
	}
	return volume.Uint8
}

func (r *recipe) highest() int {
	highest := r.heads - 1
	if r.regions != nil {
		highest = int(slices.Max(r.regions))
	}
	return highest
}

// check refuses buffers that do not fit the model or each other.
func (r *recipe) check(image, labels *volume.Volume, probabilities []float32) error {
	if err := image.Validate(); err != nil {
		return err
	}
	if labels.Size != image.Size || labels.Channels != 1 {
		return fault.New(fault.Argument, "labels of %v voxels and %d channels for an image of %v voxels: sizes must agree, with one channel",
			labels.Size, labels.Channels, image.Size)
	}
	if labels.DType != volume.Uint16 && (labels.DType != volume.Uint8 || r.labelType() == volume.Uint16) {
		return fault.New(fault.Argument, "labels of type %s cannot hold the model's labels up to %d: use uint8 (to 255) or uint16", labels.DType, r.highest())
	}
	if n := r.heads * image.Voxels(); probabilities != nil && len(probabilities) != n {
		return fault.New(fault.Argument, "a buffer of %d probabilities, %d heads of %d voxels need %d", len(probabilities), r.heads, image.Voxels(), n)
	}
	return nil
}

// Describe returns what the model says of itself.
func (m *Model) Describe() Description {
	d := Description{
		Path: m.path, Task: m.task(), Configuration: m.configuration.Name, Network: m.network, Parameters: m.parameters, Heads: m.heads,
		Channels: m.dataset.Channels, Spacing: m.configuration.Spacing, PatchSize: m.configuration.PatchSize, Folds: m.folds,
		MirrorAxes: append([]int{}, m.mirrorAxes...), Normalization: m.configuration.Normalization, Orientation: m.preprocess.Orientation,
		Device: m.session.Device, Precision: precision, Threads: m.session.Threads, Notes: append([]string{}, m.session.Notes...),
	}
	if m.regions != nil {
		d.Labels = append(d.Labels, Label{Name: "background"})
		for i, region := range m.dataset.Regions() {
			d.Labels = append(d.Labels, Label{Name: region.Name, Value: int(m.regions[i])})
		}
		return d
	}
	for _, l := range m.dataset.Labels {
		d.Labels = append(d.Labels, Label{Name: l.Name, Value: l.Values[0]})
	}
	return d
}
