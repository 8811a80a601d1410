package segment

import (
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/postprocess"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// recipe is what a model's metadata say, ready for use.
type recipe struct {
	plans         *nnunet.Plans
	dataset       *nnunet.Dataset
	configuration *nnunet.Configuration
	network       string
	parameters    int64 // of one fold
	folds         []string
	mirrorAxes    []int
	inputs        int             // channels of the network's input
	heads         int             // channels of its output
	features      int             // channels that are accumulated, of one fold; heads unless head is there
	head          *resample.Head  // nil, or what makes logits of all folds' features
	foldHeads     []resample.Head // that make logits of each fold's features; nil unless head is there
	preprocess    preprocess.Config
	exportMethod  resample.Method    // resampling_fn_probabilities
	regions       []uint16           // nil without regions
	steps         []postprocess.Step // nil where the model stores none
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
	channels, heads, err := shapes(model, r.configuration, path)
	if err != nil {
		return nil, err
	}
	if want := r.dataset.NumHeads(); heads != want {
		return nil, fault.New(fault.Model, "%s: the network has %d outputs, the dataset's labels ask for %d", path, heads, want)
	}
	if want := r.dataset.NumInputs(r.configuration); channels != want {
		return nil, fault.New(fault.Model, "%s: the network has %d inputs, the dataset asks for %d", path, channels, want)
	}
	if c, n := len(r.dataset.Channels), len(r.configuration.Normalization); c != n {
		return nil, fault.New(fault.Model, "%s: the dataset names %d channels, the plans' configuration %s normalises %d", path, c, r.configuration.Name, n)
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
	r.inputs, r.heads, r.features = channels, heads, heads
	r.parameters = model.Graph.Parameters("") / int64(len(r.folds))
	r.exportMethod = preprocess.Method(r.configuration.Probabilities)
	r.preprocess = preprocess.Of(r.plans, r.configuration)
	if o := meta(metaOrientation); o != "" {
		r.preprocess.Orientation = o
	}
	if r.configuration.PreviousStage != "" {
		for _, v := range r.dataset.Values() {
			if v != 0 {
				if v > math.MaxInt16 {
					return nil, fault.New(fault.Unsupported, "%s: label %d enters a cascade, labels up to 32767 are supported there", path, v)
				}
				r.preprocess.Previous = append(r.preprocess.Previous, v)
			}
		}
	}
	if r.preprocess.Orientation != "" {
		if err := volume.CheckOrientation(r.preprocess.Orientation); err != nil {
			return nil, fault.New(fault.Format, "%s: %w", path, err)
		}
	}
	if text := meta(metaPostprocessing); text != "" {
		if r.steps, err = postprocess.Unmarshal(text); err != nil {
			return nil, fault.New(fault.KindOf(err), "%s: %w", path, err)
		}
	}
	if r.dataset.HasRegions() {
		for _, v := range r.dataset.RegionsClassOrder {
			r.regions = append(r.regions, uint16(v))
		}
	}
	return r, nil
}

// choose keeps the named folds of a bundle.
func (r *recipe) choose(list, path string) error {
	folds, err := foldNames(list)
	if err != nil {
		return fault.New(fault.KindOf(err), "%s: %w", path, err)
	}
	for _, f := range folds {
		if !slices.Contains(r.folds, f) {
			return fault.New(fault.Argument, "%s: folds %q: the bundle holds %s", path, list, strings.Join(r.folds, ","))
		}
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

func (r *recipe) highest() int {
	highest := r.heads - 1
	if r.regions != nil {
		highest = int(slices.Max(r.regions))
	}
	return highest
}

// labels returns the names and numbers of what the network predicts, background
// first.
func (r *recipe) labels() []Label {
	labels := []Label{{Name: "background"}}
	if r.regions != nil {
		for i, region := range r.dataset.Regions() {
			labels = append(labels, Label{Name: region.Name, Value: int(r.regions[i])})
		}
		return labels
	}
	for _, l := range r.dataset.Labels {
		if v := l.Values[0]; v == 0 {
			labels[0].Name = l.Name
		} else {
			labels = append(labels, Label{Name: l.Name, Value: v})
		}
	}
	return labels
}
