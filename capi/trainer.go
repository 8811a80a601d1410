package main

// #include "callback.h"
import "C"

import (
	"math"
	"unsafe"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/train"
	"github.com/libflare/libflare/segment/volume"
)

// openTrainer is a trainer whose calls take turns.
type openTrainer struct {
	*train.Session
	description train.Description
	turn        chan struct{} // holds one element while a call works
}

var trainers = newTable[*openTrainer]("trainer", "flare_trainer_open", 0x5f1a_7e00_0000_0001)

// onTrainer is edge for a body that works on a trainer, in its turn.
func onTrainer(text **C.char, trainer C.uint64_t, body func(*call[*openTrainer]) error) C.flare_status {
	return edge(text, func() error {
		c, err := trainers.begin(uint64(trainer))
		if err != nil {
			return err
		}
		defer c.end()
		select {
		case <-c.ctx.Done():
			return segment.Errorf(segment.ErrCancelled, "cancelled while waiting for another call on the trainer")
		case c.of.turn <- struct{}{}:
		}
		defer func() { <-c.of.turn }()
		return body(c)
	})
}

//export flareGoTrainerOpen
func flareGoTrainerOpen(text **C.char, out *C.uint64_t, o *C.flare_trainer_options) C.flare_status {
	return edge(text, func() error {
		options, err := sessionOptions(o)
		if err != nil {
			return err
		}
		s, err := train.OpenSession(options)
		if err != nil {
			return err
		}
		*out = C.uint64_t(trainers.add(&openTrainer{s, s.Describe(), make(chan struct{}, 1)}))
		return nil
	})
}

// sessionOptions translates options; 0 becomes the default.
func sessionOptions(o *C.flare_trainer_options) (out train.SessionOptions, err error) {
	s := train.Default()
	for _, n := range []struct {
		name  string
		value C.int32_t
		to    *int
	}{
		{"threads", o.threads, &out.Threads}, {"workers", o.workers, &out.Workers}, {"batch", o.batch, &s.Batch},
		{"epochs", o.epochs, &s.Epochs}, {"iterations", o.iterations, &s.Iterations}, {"validation_iterations", o.validation_iterations, &s.ValidationIterations},
		{"patch[0]", o.patch[0], nil}, {"patch[1]", o.patch[1], nil}, {"patch[2]", o.patch[2], nil},
	} {
		if n.value < 0 {
			return out, segment.Errorf(segment.ErrArgument, "%s is %d, must be 0 (the default) or more", n.name, n.value)
		}
		if n.value > 0 && n.to != nil {
			*n.to = int(n.value)
		}
	}
	for _, v := range []struct {
		value C.double
		to    *float64
		none  float64 // what a negative number stands for
	}{
		{o.momentum, &s.Momentum, 0}, {o.weight_decay, &s.WeightDecay, 0}, {o.foreground, &s.Foreground, 0}, {o.clip, &s.Clip, 1e9},
		{o.learning_rate, &s.LearningRate, math.NaN()}, {o.dropout, &s.Dropout, math.NaN()}, {o.stochastic_depth, &s.StochasticDepth, math.NaN()},
	} {
		switch {
		case v.value < 0 && !math.IsNaN(v.none):
			*v.to = v.none
		case v.value != 0:
			*v.to = float64(v.value)
		}
	}
	for i := 2; i >= 0; i-- {
		if o.patch[i] > 0 || len(s.Patch) > 0 {
			s.Patch = append(s.Patch, int(o.patch[i]))
		}
	}
	if name := C.GoString(o.optimizer); name != "" {
		s.Optimizer = name
	}
	s.Seed, s.Strong, s.NoMirroring = uint64(o.seed), o.strong != 0, o.no_mirroring != 0
	s.Soft, s.Weighted = o.soft != 0, o.weighted != 0
	switch mode := C.GoString(o.mode); mode {
	case "", "exact":
	case "fast":
		out.Fast = true
	default:
		return out, segment.Errorf(segment.ErrArgument, "mode %q is not one of exact, fast", mode)
	}
	out.Settings, out.Device, out.Runtime = s, C.GoString(o.device), C.GoString(o.runtime)
	out.Model, out.Plans, out.Dataset = C.GoString(o.model), C.GoString(o.plans), C.GoString(o.dataset)
	out.Configuration, out.Cache, out.Fold = C.GoString(o.configuration), C.GoString(o.cache), C.GoString(o.fold)
	return out, nil
}

//export flareGoTrainerDescribe
func flareGoTrainerDescribe(text, out **C.char, trainer C.uint64_t) C.flare_status {
	return edge(text, func() error {
		c, err := trainers.begin(uint64(trainer))
		if err != nil {
			return err
		}
		defer c.end()
		return cJSON(out, c.of.description)
	})
}

//export flareGoTrainerAddCase
func flareGoTrainerAddCase(text **C.char, trainer C.uint64_t, name *C.char, image, labels *C.flare_volume) C.flare_status {
	return onTrainer(text, trainer, func(c *call[*openTrainer]) error {
		voxels, err := wrapImage(image)
		if err != nil {
			return err
		}
		classes, err := wrapImage(labels)
		if err != nil {
			return segment.Errorf(segment.KindOf(err), "labels: %w", err)
		}
		return c.of.AddCase(c.ctx, C.GoString(name), voxels, classes)
	})
}

// What flareGoTrainerBatch does with a batch, as in trainer.c.
const (
	doStep = iota
	doBackward
	doAccumulate
	doEvaluate
)

//export flareGoTrainerBatch
func flareGoTrainerBatch(text **C.char, trainer C.uint64_t, result *C.flare_trainer_result, batch *C.flare_batch, what C.int32_t) C.flare_status {
	return onTrainer(text, trainer, func(c *call[*openTrainer]) error {
		t := c.of
		heads := t.description.Heads
		if result.counts == nil && result.counts_count != 0 || result.counts != nil && result.counts_count < C.size_t(3*heads) {
			return segment.Errorf(segment.ErrArgument, "counts_count is %d with counts %v: 3 x %d heads need %d, and NULL has 0", result.counts_count, unsafe.Pointer(result.counts), heads, 3*heads)
		}
		if err := checkAligned("counts", unsafe.Pointer(result.counts), 8); err != nil {
			return err
		}
		var in *train.Input
		if batch != nil {
			var err error
			if in, err = t.input(batch); err != nil {
				return err
			}
		}
		var r train.Result
		var err error
		switch what {
		case doStep:
			r, err = t.Learn(c.ctx, in)
		case doEvaluate:
			r, err = t.Forward(c.ctx, in)
		default:
			r, err = t.Backward(c.ctx, in, what == doAccumulate)
		}
		result.loss, result.cross_entropy, result.dice = C.double(r.Loss), C.double(r.CE), C.double(r.Dice)
		if err == nil && result.counts != nil {
			counts := unsafe.Slice((*float64)(unsafe.Pointer(result.counts)), 3*heads)
			for i, list := range [][]float64{r.TP, r.FP, r.FN} {
				copy(counts[i*heads:], list)
			}
		}
		return err
	})
}

// input wraps a batch of the caller, after a look at its shape and types.
func (t *openTrainer) input(b *C.flare_batch) (*train.Input, error) {
	d := &t.description
	patch := [3]int{1, 1, 1} // z, y, x
	copy(patch[3-len(d.PatchSize):], d.PatchSize)
	if given := [3]int{int(b.size[2]), int(b.size[1]), int(b.size[0])}; given != patch || int(b.batch) != d.Batch || int(b.channels) != d.Channels {
		return nil, segment.Errorf(segment.ErrArgument, "the batch has %d samples of %d channels of %d x %d x %d voxels (z, y, x), expected %d of %d channels of %d x %d x %d",
			b.batch, b.channels, given[0], given[1], given[2], d.Batch, d.Channels, patch[0], patch[1], patch[2])
	}
	voxels := d.Batch * patch[0] * patch[1] * patch[2]
	if images := volume.DType(b.images_dtype); images != volume.Float32 {
		return nil, segment.Errorf(segment.ErrArgument, "images_dtype is %d (%s), must be FLARE_FLOAT32", int32(images), images)
	}
	if (b.labels == nil) != d.Settings.Soft || (b.soft == nil) == d.Settings.Soft || b.weights != nil && !d.Settings.Weighted {
		return nil, segment.Errorf(segment.ErrArgument, "the batch has labels %v, soft %v, weights %v: expected labels, or soft if the trainer was opened with soft (%t), and weights only with weighted (%t)",
			b.labels, unsafe.Pointer(b.soft), unsafe.Pointer(b.weights), d.Settings.Soft, d.Settings.Weighted)
	}
	for _, p := range []struct {
		name string
		at   unsafe.Pointer
		size int
	}{{"images", b.images, 4}, {"labels", b.labels, volume.DType(b.labels_dtype).Size()}, {"soft", unsafe.Pointer(b.soft), 4}, {"weights", unsafe.Pointer(b.weights), 4}} {
		if err := checkAligned(p.name, p.at, p.size); err != nil {
			return nil, err
		}
	}
	in := &train.Input{Images: floats(b.images, voxels*d.Channels), Soft: floats(unsafe.Pointer(b.soft), voxels*d.Heads), Weights: floats(unsafe.Pointer(b.weights), voxels)}
	if b.labels != nil {
		switch dtype := volume.DType(b.labels_dtype); dtype {
		case volume.Uint8:
			in.Labels = unsafe.Slice((*uint8)(b.labels), voxels)
		case volume.Int16:
			in.Labels = unsafe.Slice((*int16)(b.labels), voxels)
		case volume.Uint16:
			in.Labels = unsafe.Slice((*uint16)(b.labels), voxels)
		case volume.Int32:
			in.Labels = unsafe.Slice((*int32)(b.labels), voxels)
		case volume.Float32:
			in.Labels = floats(b.labels, voxels)
		default:
			return nil, segment.Errorf(segment.ErrArgument, "labels_dtype is %d (%s), must be FLARE_UINT8, FLARE_INT16, FLARE_UINT16, FLARE_INT32 or FLARE_FLOAT32", int32(dtype), dtype)
		}
	}
	return in, nil
}

// floats is a buffer of C; nil for NULL.
func floats(p unsafe.Pointer, n int) []float32 {
	if p == nil {
		return nil
	}
	return unsafe.Slice((*float32)(p), n)
}

//export flareGoTrainerApply
func flareGoTrainerApply(text **C.char, trainer C.uint64_t) C.flare_status {
	return onTrainer(text, trainer, func(c *call[*openTrainer]) error { return c.of.Apply(c.of.Rate) })
}

//export flareGoTrainerBuffer
func flareGoTrainerBuffer(text **C.char, out **C.float, count *C.size_t, trainer C.uint64_t, gradients C.int32_t) C.flare_status {
	return edge(text, func() error {
		c, err := trainers.begin(uint64(trainer))
		if err != nil {
			return err
		}
		defer c.end()
		values := c.of.Step.Parameters.Values // in C memory, where they stay
		if gradients != 0 {
			values = c.of.Step.Gradients.Values
		}
		*out, *count = (*C.float)(unsafe.SliceData(values)), C.size_t(len(values))
		return nil
	})
}

//export flareGoTrainerSetRate
func flareGoTrainerSetRate(text **C.char, trainer C.uint64_t, rate C.double) C.flare_status {
	return onTrainer(text, trainer, func(c *call[*openTrainer]) error {
		if !(rate >= 0 && rate <= 10) {
			return segment.Errorf(segment.ErrArgument, "the learning rate is %g, must be 0 to 10", rate)
		}
		c.of.Rate = float64(rate)
		return nil
	})
}

//export flareGoTrainerRate
func flareGoTrainerRate(text **C.char, out *C.double, trainer C.uint64_t) C.flare_status {
	return onTrainer(text, trainer, func(c *call[*openTrainer]) error {
		*out = C.double(c.of.Rate)
		return nil
	})
}

//export flareGoTrainerSave
func flareGoTrainerSave(text **C.char, trainer C.uint64_t, path *C.char) C.flare_status {
	return onTrainer(text, trainer, func(c *call[*openTrainer]) error { return c.of.Save(C.GoString(path)) })
}

//export flareGoTrainerLoad
func flareGoTrainerLoad(text **C.char, trainer C.uint64_t, path *C.char) C.flare_status {
	return onTrainer(text, trainer, func(c *call[*openTrainer]) error { return c.of.Load(C.GoString(path)) })
}

//export flareGoTrainerExport
func flareGoTrainerExport(text **C.char, trainer C.uint64_t, path *C.char) C.flare_status {
	return onTrainer(text, trainer, func(c *call[*openTrainer]) error { return c.of.Export(C.GoString(path)) })
}

//export flareGoTrainerRun
func flareGoTrainerRun(text **C.char, trainer C.uint64_t, o *C.flare_trainer_run_options) C.flare_status {
	return onTrainer(text, trainer, func(c *call[*openTrainer]) error {
		var told func(train.Progress)
		if o.progress != nil {
			told = func(p train.Progress) {
				if c.ctx.Err() != nil {
					return
				}
				now := C.flare_trainer_progress{
					struct_size: C.sizeof_flare_trainer_progress, phase: phaseText(p.Phase), epoch: C.int32_t(p.Epoch), epochs: C.int32_t(p.Epochs),
					done: C.int32_t(p.Done), total: C.int32_t(p.Total), loss: C.double(p.Loss), learning_rate: C.double(p.LearningRate),
					dice: C.double(p.Dice), ema: C.double(p.EMA), step_seconds: C.double(p.StepSeconds), seconds_left: C.double(p.Left), waited: C.double(p.Waited),
				}
				if C.callTrainerProgress(o, &now) != 0 {
					c.cancel()
				}
			}
		}
		return c.of.Run(c.ctx, C.GoString(o.folder), told)
	})
}

//export flareGoTrainerCancel
func flareGoTrainerCancel(text **C.char, trainer C.uint64_t) C.flare_status {
	return edge(text, func() error { return trainers.cancel(uint64(trainer)) })
}

//export flareGoTrainerFree
func flareGoTrainerFree(text **C.char, trainer C.uint64_t) C.flare_status {
	return edge(text, func() error { return trainers.free(uint64(trainer), func(t *openTrainer) { t.Close() }) })
}
