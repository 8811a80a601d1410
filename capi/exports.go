package main

// #include "callback.h"
import "C"

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/volume"
)

// flare.c has checked for every export that no pointer is NULL that must not be,
// and that option structs are complete. The comments of the functions are those
// of flare.h.

// panicHook lets a build with the tag flarepanic panic on purpose.
var panicHook = func(path string) {}

//export flareGoSetLog
func flareGoSetLog(text **C.char, fn C.flare_log_fn, user C.uintptr_t, level C.int32_t) C.flare_status {
	return edge(text, func() error {
		setLog(fn, user, int(level))
		return nil
	})
}

//export flareGoDevices
func flareGoDevices(text, out **C.char, runtime *C.char) C.flare_status {
	return edge(text, func() error {
		list, err := segment.Devices(C.GoString(runtime))
		if err != nil {
			return err
		}
		return cJSON(out, list)
	})
}

//export flareGoOpen
func flareGoOpen(text **C.char, out *C.uint64_t, path *C.char, o *C.flare_open_options) C.flare_status {
	return edge(text, func() error {
		panicHook(C.GoString(path))
		if o.threads < 0 {
			return segment.Errorf(segment.ErrArgument, "threads is %d, must be 0 (one per core) or more", o.threads)
		}
		start := time.Now()
		m, err := segment.Open(context.Background(), C.GoString(path), segment.OpenOptions{
			Device:     C.GoString(o.device),
			Threads:    int(o.threads),
			Folds:      C.GoString(o.folds),
			Checkpoint: C.GoString(o.checkpoint),
			Runtime:    C.GoString(o.runtime),
			Mode:       C.GoString(o.mode),
			CacheDir:   C.GoString(o.cache_dir),
			ReadAhead:  C.GoString(o.read_ahead),
			GPUMemory:  int64(o.gpu_memory_limit),
		})
		if err != nil {
			return err
		}
		d := m.Describe()
		stats := segment.Stats{Device: d.Device, Precision: d.Precision, Threads: d.Threads, Mode: m.Mode(), Notes: []string{}, Organs: []segment.Organ{}}
		stats.Seconds.Open = time.Since(start).Seconds()
		*out = C.uint64_t(models.add(&openModel{m, stats}))
		return nil
	})
}

//export flareGoDescribe
func flareGoDescribe(text, out **C.char, model C.uint64_t) C.flare_status {
	return onModel(text, model, func(c *call[*openModel]) error { return cJSON(out, c.of.Describe()) })
}

//export flareGoStats
func flareGoStats(text, out **C.char, model C.uint64_t) C.flare_status {
	return onModel(text, model, func(c *call[*openModel]) error { return cJSON(out, c.of.lastStats()) })
}

//export flareGoCancel
func flareGoCancel(text **C.char, model C.uint64_t) C.flare_status {
	return edge(text, func() error { return models.cancel(uint64(model)) })
}

//export flareGoFree
func flareGoFree(text **C.char, model C.uint64_t) C.flare_status {
	return edge(text, func() error { return models.free(uint64(model), func(m *openModel) { m.Close() }) })
}

//export flareGoSegment
func flareGoSegment(text **C.char, labels unsafe.Pointer, labelsDType C.int32_t, labelsBytes C.size_t,
	model C.uint64_t, image *C.flare_volume, o *C.flare_segment_options) C.flare_status {
	return onModel(text, model, func(c *call[*openModel]) error {
		if o.probabilities_path != nil {
			return segment.Errorf(segment.ErrArgument, "probabilities_path is set: flare_segment takes the buffer probabilities, flare_segment_file a path")
		}
		if o.previous_path != nil {
			return segment.Errorf(segment.ErrArgument, "previous_path is set: flare_segment takes the buffer previous, flare_segment_file a path")
		}
		if o.report_path != nil {
			return segment.Errorf(segment.ErrArgument, "report_path is set: flare_segment_file writes reports, of files")
		}
		in, err := wrapImage(image)
		if err != nil {
			return err
		}
		out, err := wrapLabels(in.Geometry, labels, volume.DType(labelsDType), uint64(labelsBytes))
		if err != nil {
			return err
		}
		probabilities, err := wrapProbabilities(c.of.Model, in.Voxels(), o)
		if err != nil {
			return err
		}
		previous, err := wrapPrevious(in.Geometry, o)
		if err != nil {
			return err
		}
		options, err := segmentOptions(c, o)
		if err != nil {
			return err
		}
		options.Probabilities, options.Previous = probabilities, previous
		stats, err := c.of.Segment(c.ctx, in, out, options)
		if err != nil {
			return err
		}
		c.of.succeed(stats)
		return nil
	})
}

//export flareGoSegmentFile
func flareGoSegmentFile(text **C.char, model C.uint64_t, in, out *C.char, o *C.flare_segment_options) C.flare_status {
	return onModel(text, model, func(c *call[*openModel]) error {
		if o.probabilities != nil {
			return segment.Errorf(segment.ErrArgument, "probabilities is set: flare_segment_file takes probabilities_path, flare_segment a buffer")
		}
		if o.previous != nil {
			return segment.Errorf(segment.ErrArgument, "previous is set: flare_segment_file takes previous_path, flare_segment a buffer")
		}
		options, err := segmentOptions(c, o)
		if err != nil {
			return err
		}
		options.ProbabilitiesFile, options.PreviousFile = C.GoString(o.probabilities_path), C.GoString(o.previous_path)
		options.ReportFile = C.GoString(o.report_path)
		stats, err := c.of.SegmentFile(c.ctx, C.GoString(in), C.GoString(out), options)
		if err != nil {
			return err
		}
		c.of.succeed(stats)
		return nil
	})
}

//export flareGoConvert
func flareGoConvert(text **C.char, out *C.char, o *C.flare_convert_options) C.flare_status {
	return edge(text, func() error {
		return segment.Convert(context.Background(), C.GoString(out), segment.ConvertOptions{
			Folder:        C.GoString(o.folder),
			ONNX:          C.GoString(o.onnx),
			Plans:         C.GoString(o.plans),
			Dataset:       C.GoString(o.dataset),
			Configuration: C.GoString(o.configuration),
			Orientation:   C.GoString(o.orientation),
			Folds:         C.GoString(o.folds),
			Checkpoint:    C.GoString(o.checkpoint),
		})
	})
}

// onModel is edge for a body that works on a model.
func onModel(text **C.char, model C.uint64_t, body func(*call[*openModel]) error) C.flare_status {
	return edge(text, func() error {
		c, err := models.begin(uint64(model))
		if err != nil {
			return err
		}
		defer c.end()
		return body(c)
	})
}

// progress returns what calls the host's callback, nil if there is none. After
// the host has said stop it is not called again.
func progress(c *call[*openModel], o *C.flare_segment_options) func(string, float64) {
	if o.progress == nil {
		return nil
	}
	return func(phase string, fraction float64) {
		if c.ctx.Err() == nil && C.callProgress(o, C.double(fraction), phaseText(phase)) != 0 {
			c.cancel()
		}
	}
}

// phases keeps the C text of each phase: the few there are live for ever, so that
// hosts may keep the pointers.
var phases sync.Map

func phaseText(phase string) *C.char {
	text, ok := phases.Load(phase)
	if !ok {
		text, _ = phases.LoadOrStore(phase, C.CString(phase))
	}
	return text.(*C.char)
}

// wrapImage makes a volume of the caller's voxels, without copying them.
func wrapImage(v *C.flare_volume) (*volume.Volume, error) {
	g, channels, d := volume.Geometry{}, int(v.channels), volume.DType(v.dtype)
	for i := range 3 {
		g.Size[i], g.Spacing[i], g.Origin[i] = int(v.size[i]), float64(v.spacing[i]), float64(v.origin[i])
	}
	for i := range 9 {
		g.Direction[i] = float64(v.direction[i])
	}
	if g.Direction == [9]float64{} {
		g.Direction = volume.Identity
	}
	if channels == 0 {
		channels = 1
	}
	if err := g.Validate(); err != nil {
		return nil, err
	}
	if channels < 1 || channels > volume.MaxVoxels/g.Voxels() {
		return nil, segment.Errorf(segment.ErrArgument, "%d channels of %d voxels: must be at least 1 channel and at most 2^40 voxels", channels, g.Voxels())
	}
	if err := checkAligned("data", v.data, d.Size()); err != nil {
		return nil, err
	}
	return volume.Wrap(g, channels, d, unsafe.Slice((*byte)(v.data), channels*g.Voxels()*d.Size()))
}

// wrapLabels makes a label volume on grid g of the caller's buffer.
func wrapLabels(g volume.Geometry, data unsafe.Pointer, d volume.DType, bytes uint64) (*volume.Volume, error) {
	if d != volume.Uint8 && d != volume.Uint16 {
		return nil, segment.Errorf(segment.ErrArgument, "labels_dtype is %d (%s), must be FLARE_UINT8 or FLARE_UINT16", int32(d), d)
	}
	need := g.Voxels() * d.Size()
	if bytes < uint64(need) {
		return nil, segment.Errorf(segment.ErrArgument, "labels_bytes is %d, but %d x %d x %d %s labels need %d",
			bytes, g.Size[0], g.Size[1], g.Size[2], d, need)
	}
	if err := checkAligned("labels", data, d.Size()); err != nil {
		return nil, err
	}
	return volume.Wrap(g, 1, d, unsafe.Slice((*byte)(data), need))
}

// maxROI bounds the labels of a region of interest: label files hold no more values.
const maxROI = 65536

// options returns what both functions that segment have in common.
func segmentOptions(c *call[*openModel], o *C.flare_segment_options) (segment.Options, error) {
	options := segment.Options{
		Mirror: o.mirror != 0, Postprocess: o.postprocess != 0, MaxMemory: int64(o.max_memory_bytes), Progress: progress(c, o),
	}
	if o.roi_count > maxROI || o.roi == nil && o.roi_count > 0 {
		return options, segment.Errorf(segment.ErrArgument, "roi_count is %d with roi %v: expected at most %d labels, and NULL for none", o.roi_count, unsafe.Pointer(o.roi), maxROI)
	}
	for _, v := range unsafe.Slice(o.roi, o.roi_count) {
		options.ROI = append(options.ROI, int(v))
	}
	if o.box != nil {
		box := unsafe.Slice(o.box, 6)
		if slices.Max(box) == 0 && slices.Min(box) == 0 { // Go's zero box means none
			return options, segment.Errorf(segment.ErrArgument, "box is empty: %v", box)
		}
		for i := range 3 {
			options.Box.Lo[i], options.Box.Hi[i] = int(box[i]), int(box[3+i])
		}
	}
	return options, nil
}

// wrapProbabilities returns the caller's buffer for a model's probabilities on a
// grid of so many voxels, nil if there is none.
func wrapProbabilities(m *segment.Model, voxels int, o *C.flare_segment_options) ([]float32, error) {
	if o.probabilities == nil {
		if o.probabilities_count != 0 {
			return nil, segment.Errorf(segment.ErrArgument, "probabilities_count is %d, but probabilities is NULL", o.probabilities_count)
		}
		return nil, nil
	}
	heads := m.Describe().Heads
	if heads > math.MaxInt/4/voxels || uint64(o.probabilities_count) < uint64(heads*voxels) {
		return nil, segment.Errorf(segment.ErrArgument, "probabilities_count is %d, but %d heads of %d voxels need %.0f",
			o.probabilities_count, heads, voxels, float64(heads)*float64(voxels))
	}
	if err := checkAligned("probabilities", unsafe.Pointer(o.probabilities), 4); err != nil {
		return nil, err
	}
	return unsafe.Slice((*float32)(o.probabilities), heads*voxels), nil
}

// wrapPrevious makes a label map on grid g of the caller's labels of a cascade's first
// stage, nil if there are none.
func wrapPrevious(g volume.Geometry, o *C.flare_segment_options) (*volume.Volume, error) {
	if o.previous == nil {
		if o.previous_bytes != 0 {
			return nil, segment.Errorf(segment.ErrArgument, "previous_bytes is %d, but previous is NULL", o.previous_bytes)
		}
		return nil, nil
	}
	d := volume.DType(o.previous_dtype)
	if d.Size() == 0 {
		return nil, segment.Errorf(segment.ErrArgument, "previous_dtype is %d, must be FLARE_UINT8 (1) to FLARE_FLOAT64 (6)", o.previous_dtype)
	}
	need := g.Voxels() * d.Size() // at most 2^40 voxels, as g was checked
	if uint64(o.previous_bytes) < uint64(need) {
		return nil, segment.Errorf(segment.ErrArgument, "previous_bytes is %d, but %d x %d x %d %s labels need %d",
			o.previous_bytes, g.Size[0], g.Size[1], g.Size[2], d, need)
	}
	if err := checkAligned("previous", o.previous, d.Size()); err != nil {
		return nil, err
	}
	return volume.Wrap(g, 1, d, unsafe.Slice((*byte)(o.previous), need))
}

// checkAligned refuses an address that no element of size bytes may have.
func checkAligned(name string, p unsafe.Pointer, size int) error {
	if size > 0 && uintptr(p)%uintptr(size) != 0 {
		return segment.Errorf(segment.ErrArgument, "%s is at address %#x, must be aligned to its type's %d bytes: copy it first", name, uintptr(p), size)
	}
	return nil
}
