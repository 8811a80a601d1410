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
		if o.threads < 0 {
			return segment.Errorf(segment.ErrArgument, "threads is %d, must be 0 (one per core) or more", o.threads)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		options := student.LabelOptions{Images: C.GoString(images), Out: C.GoString(folder), Previous: C.GoString(o.previous_path),
			NoMirror: o.no_mirror != 0, IgnoreBelow: float64(o.ignore_below), SoftBelow: float64(o.soft_below), Shard: int(o.shard), Shards: int(o.shards),
			Open: segment.OpenOptions{Device: C.GoString(o.device), Threads: int(o.threads), Runtime: C.GoString(o.runtime), Mode: C.GoString(o.mode),
				CacheDir: C.GoString(o.cache_dir)}}
		for _, path := range unsafe.Slice(o.models, int(o.models_count)) {
			options.Teacher = append(options.Teacher, C.GoString(path))
		}
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
		if err := cJSON(out, labels); err != nil {
			return err
		}
		return labels.Err()
	})
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
