package nnunet

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Fingerprint is a dataset_fingerprint.json: what planning needs to know of the training
// images (experiment_planning/dataset_fingerprint/fingerprint_extractor.py).
type Fingerprint struct {
	Spacings [][3]float64 // of each case: mm, z,y,x
	Shapes   [][3]int     // of each case: voxels, z,y,x, after the crop to nonzero

	// Intensity is the distribution of each channel's foreground voxels.
	Intensity []Intensity

	// MedianRelativeSize is the median part of an image's voxels that the crop leaves.
	MedianRelativeSize float64
}

// maxSide bounds an image's side in voxels: the headers of NIfTI-1 hold 32767.
const maxSide = 1 << 20

// ReadFingerprint reads a dataset_fingerprint.json. Errors: NotFound, IO, and those of
// ParseFingerprint.
func ReadFingerprint(path string) (*Fingerprint, error) {
	text, err := ReadJSON(path)
	if err != nil {
		return nil, err
	}
	return ParseFingerprint(text, path)
}

// ParseFingerprint reads the text of a dataset_fingerprint.json; path is only named in
// messages. Errors: Format (not JSON, wrong type or value), Model (a key is missing, or the
// lists contradict each other).
func ParseFingerprint(data []byte, path string) (*Fingerprint, error) {
	o, err := parseObject(data, path)
	if err != nil {
		return nil, err
	}
	f := &Fingerprint{MedianRelativeSize: o.number("median_relative_size_after_cropping")}
	var spacings, shapes []json.RawMessage
	if o.get("spacings", &spacings, "a list") {
		for i, raw := range spacings {
			f.Spacings = append(f.Spacings, [3]float64(o.list("spacings", i, raw, 1e-6, 1e9)))
		}
	}
	if o.get("shapes_after_crop", &shapes, "a list") {
		for i, raw := range shapes {
			shape := o.list("shapes_after_crop", i, raw, 1, maxSide)
			f.Shapes = append(f.Shapes, [3]int{int(shape[0]), int(shape[1]), int(shape[2])})
		}
	}
	f.Intensity = o.intensities()
	if err := o.rep.err(); err != nil {
		return nil, err
	}
	if len(spacings) == 0 || len(spacings) != len(shapes) {
		return nil, fault.New(fault.Model, "%s: %d spacings and %d shapes_after_crop, expected one of each for every case", path, len(spacings), len(shapes))
	}
	return f, nil
}

// list returns the three numbers from lo to hi that raw, element i of the list at key,
// holds; zeros after a note.
func (o object) list(key string, i int, raw json.RawMessage, lo, hi float64) []float64 {
	var v []float64
	ok := json.Unmarshal(raw, &v) == nil && len(v) == 3
	for j := 0; ok && j < 3; j++ {
		ok = v[j] >= lo && v[j] <= hi
	}
	if !ok {
		o.rep.add(fault.Format, "key %q: element %d is %s, expected three numbers from %g to %g (z, y, x)", key, i, short(raw), lo, hi)
		return make([]float64, 3)
	}
	return v
}

// intensities reads the statistics of channels 0, 1, ...
func (o object) intensities() (list []Intensity) {
	const key = "foreground_intensity_properties_per_channel"
	channels, ok := o.child(key, "")
	if !ok {
		return nil
	}
	for i := range len(channels.fields) {
		v, ok := channels.child(strconv.Itoa(i), fmt.Sprintf("%s %q: ", key, strconv.Itoa(i)))
		if !ok {
			return nil
		}
		list = append(list, Intensity{
			Mean: v.number("mean"), Std: v.number("std"),
			Min: v.number("min"), Max: v.number("max"), Median: v.number("median"),
			Percentile005: v.number("percentile_00_5"), Percentile995: v.number("percentile_99_5"),
		})
	}
	return list
}

// JSON returns the text of the dataset_fingerprint.json as nnU-Net writes it.
func (f *Fingerprint) JSON() []byte {
	spacings := make([][]pythonFloat, len(f.Spacings))
	for i, s := range f.Spacings {
		spacings[i] = pythonFloats(s[:])
	}
	return pythonJSON(struct {
		Intensity map[string]intensityJSON `json:"foreground_intensity_properties_per_channel"`
		Size      pythonFloat              `json:"median_relative_size_after_cropping"`
		Shapes    [][3]int                 `json:"shapes_after_crop"`
		Spacings  [][]pythonFloat          `json:"spacings"`
	}{f.intensityJSON(), pythonFloat(f.MedianRelativeSize), f.Shapes, spacings})
}

// intensityJSON is how nnU-Net writes an Intensity.
type intensityJSON struct {
	Max           pythonFloat `json:"max"`
	Mean          pythonFloat `json:"mean"`
	Median        pythonFloat `json:"median"`
	Min           pythonFloat `json:"min"`
	Percentile005 pythonFloat `json:"percentile_00_5"`
	Percentile995 pythonFloat `json:"percentile_99_5"`
	Std           pythonFloat `json:"std"`
}

func (f *Fingerprint) intensityJSON() map[string]intensityJSON {
	m := map[string]intensityJSON{}
	for i, v := range f.Intensity {
		m[strconv.Itoa(i)] = intensityJSON{pythonFloat(v.Max), pythonFloat(v.Mean), pythonFloat(v.Median), pythonFloat(v.Min),
			pythonFloat(v.Percentile005), pythonFloat(v.Percentile995), pythonFloat(v.Std)}
	}
	return m
}

// check refuses numbers that no fingerprint has, for one that a program filled in.
func (f *Fingerprint) check(d *Dataset) error {
	if len(f.Shapes) == 0 || len(f.Shapes) != len(f.Spacings) {
		return fault.New(fault.Argument, "fingerprint: %d spacings and %d shapes, expected one of each for every case", len(f.Spacings), len(f.Shapes))
	}
	if len(f.Intensity) != len(d.Channels) {
		return fault.New(fault.Model, "the fingerprint has %d channels, %s has %d", len(f.Intensity), d.File, len(d.Channels))
	}
	for i := range f.Shapes {
		for axis := range 3 {
			if s, n := f.Spacings[i][axis], f.Shapes[i][axis]; !(s >= 1e-6 && s <= 1e9) || n < 1 || n > maxSide {
				return fault.New(fault.Argument, "fingerprint: case %d has %v voxels of %v mm", i, f.Shapes[i], f.Spacings[i])
			}
		}
	}
	for i, v := range f.Intensity {
		for _, x := range []float64{v.Mean, v.Std, v.Min, v.Max, v.Median, v.Percentile005, v.Percentile995} {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return fault.New(fault.Argument, "fingerprint: a statistic of channel %d is %g", i, x)
			}
		}
	}
	return nil
}
