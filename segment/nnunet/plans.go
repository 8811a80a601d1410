package nnunet

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Plans is a plans.json: how a dataset is preprocessed and which networks are
// trained on it (utilities/plans_handling/plans_handler.py, PlansManager).
type Plans struct {
	File              string // for messages
	Raw               []byte // the JSON text as read
	DatasetName       string // empty where the file lacks it
	PlansName         string // empty where the file lacks it
	ImageReaderWriter string // nnU-Net's reader class, such as SimpleITKIO

	// TransposeForward is the order in which nnU-Net's network sees the axes
	// of the image (z,y,x): axis i of the network is axis TransposeForward[i]
	// of the image. TransposeBackward undoes it.
	TransposeForward, TransposeBackward [3]int

	// Intensity holds the foreground statistics of each channel in the
	// training data.
	Intensity map[int]Intensity

	// Configurations are the names that Configuration accepts, sorted.
	Configurations []string

	root object // "configurations"
}

// Intensity is the distribution of one channel's foreground voxels over the
// training images, in image units. A number that the file lacks is NaN.
type Intensity struct {
	Mean, Std, Min, Max, Median float64
	Percentile005               float64 // percentile_00_5
	Percentile995               float64 // percentile_99_5
}

// Configuration is how one configuration of the plans (2d, 3d_fullres, ...)
// prepares images. Axes are in transposed order (Plans.TransposeForward).
type Configuration struct {
	Name          string
	PatchSize     []int     // voxels, 2 or 3 axes
	Spacing       []float64 // millimetres, as many as PatchSize
	BatchSize     int       // of training; 0 where the file lacks it
	BatchDice     bool      // of training
	NoMirroring   bool      // training does not mirror; of libflare's preset Student
	Normalization []string  // scheme of each channel, one of those in Schemes
	UseMask       []bool    // use_mask_for_norm of each channel

	PreviousStage string   // cascade: configuration whose labels come in one-hot, or empty
	NextStages    []string // cascade: configurations that take this one's labels

	Data, Seg, Probabilities Resampling
}

// Schemes are the normalisation schemes that nnU-Net defines
// (preprocessing/normalization/default_normalization_schemes.py).
var Schemes = []string{"CTNormalization", "ZScoreNormalization", "NoNormalization",
	"RescaleTo01Normalization", "RGBTo01Normalization"}

const (
	maxChannels    = 1024
	maxPatchVoxels = 1 << 28 // ten times the largest patch seen; one float32 channel is 1 GiB
)

// ParsePlans reads the text of a plans.json; path is only named in messages.
// Plans keeps data. Configurations are checked when they are asked for.
// Errors: Format (not JSON, wrong type or value), Model (a key is missing),
// Unsupported (a label manager other than nnU-Net's own).
func ParsePlans(data []byte, path string) (*Plans, error) {
	o, err := parseObject(data, path)
	if err != nil {
		return nil, err
	}
	p := &Plans{File: path, Raw: data,
		DatasetName:       o.optText("dataset_name"),
		PlansName:         o.optText("plans_name"),
		ImageReaderWriter: o.optText("image_reader_writer"),
	}
	forward := o.integers("transpose_forward", 3, 0, 2)
	backward := o.integers("transpose_backward", 3, 0, 2)
	if forward != nil && backward != nil {
		copy(p.TransposeForward[:], forward)
		copy(p.TransposeBackward[:], backward)
		for i := range forward {
			if forward[backward[i]] != i || backward[forward[i]] != i {
				o.wrong(fault.Format, "transpose_backward", fmt.Sprintf("the inverse of transpose_forward %v", forward))
				break
			}
		}
	}
	if m := o.optText("label_manager"); m != "" && m != "LabelManager" {
		o.wrong(fault.Unsupported, "label_manager", "LabelManager (others are not supported)")
	}
	p.parseIntensity(o)
	if c, ok := o.child("configurations", ""); ok {
		p.root = c
		p.Configurations = c.keys()
	}
	return p, o.rep.err()
}

func (p *Plans) parseIntensity(o object) {
	key := "foreground_intensity_properties_per_channel"
	if !o.has(key) {
		key = "foreground_intensity_properties_by_modality" // plans before nnU-Net 2.0's release
	}
	p.Intensity = map[int]Intensity{}
	if !o.has(key) {
		return
	}
	channels, ok := o.child(key, "")
	if !ok {
		return
	}
	for _, name := range channels.keys() {
		c, err := strconv.Atoi(name)
		if err != nil || c < 0 || c >= maxChannels {
			o.rep.add(fault.Format, "key %q: found channel %.40q, expected a number from 0 to %d", key, name, maxChannels-1)
			continue
		}
		v, ok := channels.child(name, fmt.Sprintf("%s %q: ", key, name))
		if !ok {
			continue
		}
		number := func(k string) float64 {
			if !v.has(k) {
				return math.NaN()
			}
			return v.number(k)
		}
		p.Intensity[c] = Intensity{
			Mean: number("mean"), Std: number("std"),
			Min: number("min"), Max: number("max"), Median: number("median"),
			Percentile005: number("percentile_00_5"), Percentile995: number("percentile_99_5"),
		}
	}
}

// resolve returns the configuration's keys with those of its ancestors
// (plans_handler.py, _internal_resolve_configuration_inheritance).
func (p *Plans) resolve(name string) (object, error) {
	merged := object{map[string]json.RawMessage{}, fmt.Sprintf("configuration %q: ", name), &report{file: p.File}}
	var visited []string
	for next := name; next != ""; {
		raw, ok := p.root.fields[next]
		if !ok {
			if len(visited) > 0 {
				return merged, fault.New(fault.Model, "%s: configuration %q: key \"inherits_from\": there is no configuration %.80q, only %s",
					p.File, visited[len(visited)-1], next, nameList(p.Configurations))
			}
			return merged, fault.New(fault.Model, "%s: there is no configuration %.80q, only %s", p.File, next, nameList(p.Configurations))
		}
		if slices.Contains(visited, next) {
			return merged, fault.New(fault.Model, "%s: configuration %q: \"inherits_from\" goes in a circle: %s",
				p.File, name, strings.Join(append(visited, next), " -> "))
		}
		if len(visited) >= 32 {
			return merged, fault.New(fault.Unsupported, "%s: configuration %q inherits through more than 32 others", p.File, name)
		}
		visited = append(visited, next)
		fields := map[string]json.RawMessage{}
		if json.Unmarshal(raw, &fields) != nil || fields == nil {
			return merged, fault.New(fault.Format, "%s: configuration %q: found %s, expected an object", p.File, next, short(raw))
		}
		c := object{fields, fmt.Sprintf("configuration %q: ", next), merged.rep}
		for k, v := range fields {
			if _, overridden := merged.fields[k]; !overridden {
				merged.fields[k] = v
			}
		}
		next = c.optText("inherits_from")
	}
	return merged, merged.rep.err()
}

// Configuration returns the configuration called name. Errors, all that are
// found in one message: Model (no such configuration, circular inherits_from,
// missing key, CT normalisation without statistics), Format (wrong type or
// value), Unsupported (normalisation, resampling or preprocessor that libflare
// lacks, each named).
func (p *Plans) Configuration(name string) (*Configuration, error) {
	o, err := p.resolve(name)
	if err != nil {
		return nil, err
	}
	c := p.configuration(o, name)
	if err := o.rep.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// configuration is Configuration with the problems noted in o.rep.
func (p *Plans) configuration(o object, name string) *Configuration {
	c := &Configuration{Name: name, PatchSize: o.patchSize(), BatchDice: o.optBool("batch_dice", false),
		NoMirroring: !o.optBool("mirroring", true)}
	if len(c.PatchSize) > 0 {
		c.Spacing = o.positive("spacing", len(c.PatchSize))
	}
	if o.has("batch_size") {
		c.BatchSize = o.integer("batch_size", 1, 1<<20)
	}
	if pre := o.optText("preprocessor_name"); pre != "" && pre != "DefaultPreprocessor" {
		o.wrong(fault.Unsupported, "preprocessor_name", "DefaultPreprocessor (others are not supported)")
	}
	p.parseNormalization(o, c)
	c.PreviousStage = o.optText("previous_stage")
	if o.has("next_stage") {
		var one string
		if json.Unmarshal(o.fields["next_stage"], &one) == nil {
			c.NextStages = []string{one}
		} else {
			o.get("next_stage", &c.NextStages, "a name or a list of names")
		}
	}
	c.Data = o.resampling("resampling_fn_data")
	c.Seg = o.resampling("resampling_fn_seg")
	c.Probabilities = o.resampling("resampling_fn_probabilities")
	o.checkIsSeg("resampling_fn_data", c.Data, false)
	o.checkIsSeg("resampling_fn_probabilities", c.Probabilities, false)
	if c.PreviousStage != "" {
		o.checkIsSeg("resampling_fn_seg", c.Seg, true)
	}
	return c
}

// patchSize returns 2 or 3 sizes in voxels, nil after a note.
func (o object) patchSize() []int {
	patch := o.integers("patch_size", 0, 1, 4096)
	if patch == nil {
		return nil
	}
	voxels := 1
	for _, n := range patch[:min(3, len(patch))] {
		voxels *= n
	}
	if len(patch) != 2 && len(patch) != 3 || voxels > maxPatchVoxels {
		o.wrong(fault.Format, "patch_size", fmt.Sprintf("2 or 3 sizes from 1 to 4096, %d voxels at most", maxPatchVoxels))
		return nil
	}
	return patch
}

func (p *Plans) parseNormalization(o object, c *Configuration) {
	if !o.get("normalization_schemes", &c.Normalization, "a list of names") {
		return
	}
	if n := len(c.Normalization); n == 0 || n > maxChannels {
		o.wrong(fault.Format, "normalization_schemes", fmt.Sprintf("one name per channel, 1 to %d", maxChannels))
		return
	}
	for i, s := range c.Normalization {
		if !slices.Contains(Schemes, s) {
			o.rep.add(fault.Unsupported, "%skey \"normalization_schemes\": %.80q is not supported, only %s", o.where, s, nameList(Schemes))
			continue
		}
		if s != "CTNormalization" {
			continue
		}
		in, ok := p.Intensity[i]
		if !ok || math.IsNaN(in.Mean+in.Std+in.Percentile005+in.Percentile995) || in.Percentile005 > in.Percentile995 {
			o.rep.add(fault.Model, "%sCTNormalization of channel %d needs mean, std, percentile_00_5 and percentile_99_5 in key \"foreground_intensity_properties_per_channel\"", o.where, i)
		}
	}
	if !o.get("use_mask_for_norm", &c.UseMask, "a list of true and false") {
		return
	}
	if len(c.UseMask) != len(c.Normalization) {
		o.wrong(fault.Format, "use_mask_for_norm", fmt.Sprintf("%d values, one per normalisation scheme", len(c.Normalization)))
	}
}

// nameList gives names for a message, not too many of them.
func nameList(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	if len(names) > 12 {
		return fmt.Sprintf("%.60q and %d more", names[:12], len(names)-12)
	}
	return strings.Join(names, ", ")
}
