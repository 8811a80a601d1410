package main

// #include "callback.h"
import "C"

import (
	"context"
	"unsafe"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/student"
)

//export flareGoPseudoLabel
func flareGoPseudoLabel(text, out **C.char, images, folder *C.char, o *C.flare_pseudo_label_options) C.flare_status {
	return edge(text, func() error {
		options, err := labelOptions(images, folder, o)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if o.progress != nil {
			options.Progress = func(p student.LabelProgress) {
				if ctx.Err() == nil && C.callLabelProgress(o, C.double((float64(p.Done)+p.Fraction)/float64(p.Total)), phaseText("label")) != 0 {
					cancel()
				}
			}
		}
		labels, err := student.Label(ctx, options)
		if err != nil {
			return err
		}
		return give(out, labels)
	})
}

// labelOptions translates options.
func labelOptions(images, folder *C.char, o *C.flare_pseudo_label_options) (student.LabelOptions, error) {
	options := student.LabelOptions{Images: C.GoString(images), Out: C.GoString(folder), Previous: C.GoString(o.previous_path),
		NoMirror: o.no_mirror != 0, IgnoreBelow: float64(o.ignore_below), SoftBelow: float64(o.soft_below), Weights: o.weights != 0,
		Shard: int(o.shard), Shards: int(o.shards),
		Open: segment.OpenOptions{Device: C.GoString(o.device), Threads: int(o.threads), Runtime: C.GoString(o.runtime), Mode: C.GoString(o.mode),
			CacheDir: C.GoString(o.cache_dir)}}
	if o.threads < 0 {
		return options, segment.Errorf(segment.ErrArgument, "threads is %d, must be 0 (one per core) or more", o.threads)
	}
	for _, path := range unsafe.Slice(o.models, int(o.models_count)) {
		options.Teacher = append(options.Teacher, C.GoString(path))
	}
	return options, nil
}

// give puts labels into *out, and returns an error if cases were skipped.
func give(out **C.char, labels *student.Labels) error {
	if err := cJSON(out, labels); err != nil {
		return err
	}
	return labels.Err()
}

// openLabeller is a labeller whose calls take turns.
type openLabeller struct {
	*student.Labeller
	turn chan struct{} // holds one element while a call works
}

var labellers = newTable[*openLabeller]("labeller", "flare_labeller_open", 0x5f1a_1a00_0000_0001)

//export flareGoLabellerOpen
func flareGoLabellerOpen(text **C.char, out *C.uint64_t, images, folder *C.char, o *C.flare_pseudo_label_options) C.flare_status {
	return edge(text, func() error {
		options, err := labelOptions(images, folder, o)
		if err != nil {
			return err
		}
		l, err := student.OpenLabeller(context.Background(), options)
		if err != nil {
			return err
		}
		*out = C.uint64_t(labellers.add(&openLabeller{l, make(chan struct{}, 1)}))
		return nil
	})
}

//export flareGoLabellerCases
func flareGoLabellerCases(text, out **C.char, labeller C.uint64_t) C.flare_status {
	return edge(text, func() error {
		c, err := labellers.begin(uint64(labeller))
		if err != nil {
			return err
		}
		defer c.end()
		return cJSON(out, append([]string{}, c.of.Cases...))
	})
}

//export flareGoLabellerLabel
func flareGoLabellerLabel(text, out **C.char, labeller C.uint64_t, name *C.char) C.flare_status {
	return edge(text, func() error {
		c, err := labellers.begin(uint64(labeller))
		if err != nil {
			return err
		}
		defer c.end()
		select {
		case <-c.ctx.Done():
			return segment.Errorf(segment.ErrCancelled, "cancelled while waiting for another call on the labeller")
		case c.of.turn <- struct{}{}:
		}
		defer func() { <-c.of.turn }()
		r, err := c.of.Label(c.ctx, C.GoString(name))
		if err != nil {
			return err
		}
		labels := student.NewLabels()
		labels.Add(C.GoString(name), r)
		return give(out, labels)
	})
}

//export flareGoLabellerCancel
func flareGoLabellerCancel(text **C.char, labeller C.uint64_t) C.flare_status {
	return edge(text, func() error { return labellers.cancel(uint64(labeller)) })
}

//export flareGoLabellerFree
func flareGoLabellerFree(text **C.char, labeller C.uint64_t) C.flare_status {
	return edge(text, func() error { return labellers.free(uint64(labeller), func(l *openLabeller) { l.Close() }) })
}

//export flareGoStudent
func flareGoStudent(text, out **C.char, path *C.char, o *C.flare_student_options) C.flare_status {
	return edge(text, func() error {
		config, err := student.Read(C.GoString(path))
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		options := student.RunOptions{Runtime: C.GoString(o.runtime), Log: func(line string) { logLine(segment.LogInfo, line) }}
		if o.progress != nil {
			options.Progress = func(stage, _ string, fraction float64) {
				if ctx.Err() == nil && C.callStudentProgress(o, C.double(fraction), phaseText(stage)) != 0 {
					cancel()
				}
			}
		}
		results, err := student.Run(ctx, *config, options)
		if err != nil {
			return err
		}
		if err := cJSON(out, results); err != nil {
			return err
		}
		return results.Err()
	})
}
