package nnunet

import (
	"fmt"
	"maps"
	"slices"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Resampling is a resampling function with its arguments, those that the call or the
// file leaves out at the Python function's defaults (preprocessing/resampling).
type Resampling struct {
	Name           string  // the Python function's name
	IsSeg          bool    // interpolate labels, not intensities
	Order          int     // spline order 0 to 5
	OrderZ         int     // order along the coarse axis when it is separate
	ForceSeparateZ *bool   // nil: separate if the spacing's ratio is above Threshold
	Threshold      float64 // separate_z_anisotropy_threshold
	Mode           string  // torch: linear, nearest or nearest-exact
	AnisoAxisMode  string  // torch: the same, along the coarse axis when it is separate
	MemEfficient   bool    // torch: memefficient_seg_resampling
}

// resamplingArguments are the arguments of each resampling function that plans may
// set. Those of devices and threads change nothing here.
var resamplingArguments = map[string][]string{
	"resample_data_or_seg_to_shape": {"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"},
	"resample_torch_fornnunet": {"is_seg", "num_threads", "device", "memefficient_seg_resampling", "force_separate_z",
		"separate_z_anisotropy_threshold", "mode", "aniso_axis_mode"},
	"resample_torch_simple":              {"is_seg", "num_threads", "device", "memefficient_seg_resampling", "mode"},
	"no_resampling_hack":                 {},
	"no_resampling_data_or_seg_to_shape": {},
}

// resampling reads the function named at key and its arguments at
// key+"_kwargs". Defaults are those of the Python function's signature.
func (o object) resampling(key string) Resampling {
	r := Resampling{Name: o.text(key)}
	if r.Name == "" {
		return r
	}
	known, ok := resamplingArguments[r.Name]
	if !ok {
		o.wrong(fault.Unsupported, key, nameList(slices.Sorted(maps.Keys(resamplingArguments)))+" (other resampling functions are not supported)")
		return r
	}
	switch off := false; r.Name {
	case "resample_data_or_seg_to_shape":
		r.Order, r.ForceSeparateZ, r.Threshold = 3, &off, 3
	case "resample_torch_fornnunet":
		r.Threshold, r.Mode, r.AnisoAxisMode = 3, "linear", "nearest-exact"
	case "resample_torch_simple":
		r.Mode = "linear"
	}
	kw, ok := o.child(key+"_kwargs", fmt.Sprintf("%s%s_kwargs: ", o.where, key))
	if !ok {
		return r
	}
	for _, k := range kw.keys() {
		if !slices.Contains(known, k) {
			kw.rep.add(fault.Unsupported, "%sargument %.80q of %s is not supported", kw.where, k, r.Name)
			continue
		}
		switch k {
		case "is_seg":
			r.IsSeg = kw.optBool(k, false)
		case "order":
			r.Order = kw.integer(k, 0, 5)
		case "order_z":
			r.OrderZ = kw.integer(k, 0, 5)
		case "force_separate_z":
			r.ForceSeparateZ = nil
			if kw.has(k) {
				v := kw.optBool(k, false)
				r.ForceSeparateZ = &v
			}
		case "separate_z_anisotropy_threshold":
			r.Threshold = kw.number(k)
		case "memefficient_seg_resampling":
			r.MemEfficient = kw.optBool(k, false)
		case "mode":
			r.Mode = kw.interpolation(k)
		case "aniso_axis_mode":
			r.AnisoAxisMode = kw.interpolation(k)
		}
	}
	return r
}

// checkIsSeg refuses labels interpolated as intensities and the reverse.
func (o object) checkIsSeg(key string, r Resampling, want bool) {
	if slices.Contains(resamplingArguments[r.Name], "is_seg") && r.IsSeg != want {
		o.rep.add(fault.Unsupported, "%skey %q: is_seg %v in its arguments is not supported", o.where, key+"_kwargs", r.IsSeg)
	}
}

// interpolation reads a mode of torch.nn.functional.interpolate.
func (o object) interpolation(key string) string {
	mode := o.text(key)
	if mode != "" && mode != "linear" && mode != "nearest" && mode != "nearest-exact" {
		o.wrong(fault.Unsupported, key, "linear, nearest or nearest-exact (other modes are not supported)")
	}
	return mode
}
