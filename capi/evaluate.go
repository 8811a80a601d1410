package main

// #include "callback.h"
import "C"

import (
	"context"
	"os"
	"time"
	"unsafe"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/imageio"
)

//export flareGoEvaluate
func flareGoEvaluate(text, out **C.char, prediction, reference *C.flare_volume, o *C.flare_evaluate_options) C.flare_status {
	return edge(text, func() error {
		options, err := evaluateOptions(o)
		if err != nil {
			return err
		}
		p, err := wrapImage(prediction)
		if err != nil {
			return segment.Errorf(segment.KindOf(err), "prediction: %w", err)
		}
		r, err := wrapImage(reference)
		if err != nil {
			return segment.Errorf(segment.KindOf(err), "reference: %w", err)
		}
		report, err := evaluate.Volumes(context.Background(), p, r, options)
		if err != nil {
			return err
		}
		return giveReport(context.Background(), out, report, o)
	})
}

//export flareGoEvaluateFile
func flareGoEvaluateFile(text, out **C.char, prediction, reference *C.char, o *C.flare_evaluate_options) C.flare_status {
	return edge(text, func() error {
		options, err := evaluateOptions(o)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if o.progress != nil {
			var last time.Time
			options.Progress = func(done, cases int) {
				if ctx.Err() != nil || done < cases && time.Since(last) < time.Second/20 {
					return
				}
				last = time.Now()
				if C.callEvaluateProgress(o, C.double(done)/C.double(cases), phaseText("evaluate")) != 0 {
					cancel()
				}
			}
		}
		report, failed := evaluate.Files(ctx, C.GoString(prediction), C.GoString(reference), options)
		if info, err := os.Stat(C.GoString(reference)); report == nil || failed != nil && (err != nil || !info.IsDir()) {
			return failed // of two files there is nothing but the failure
		}
		if err := giveReport(ctx, out, report, o); err != nil {
			return err
		}
		return failed
	})
}

func evaluateOptions(o *C.flare_evaluate_options) (evaluate.Options, error) {
	options := evaluate.Options{Rules: evaluate.Rules(C.GoString(o.rules)), LabelsFile: C.GoString(o.labels_path), Tolerance: float64(o.tolerance_mm),
		Resample: o.resample != 0, Threads: int(o.threads)}
	if o.threads < 0 {
		return options, segment.Errorf(segment.ErrArgument, "threads is %d, must be 0 (one per core) or more", o.threads)
	}
	for _, path := range []*C.char{o.csv_path, o.html_path} {
		if path != nil {
			options.Outputs = append(options.Outputs, C.GoString(path))
		}
	}
	return options, nil
}

// giveReport writes the files that the options name, all or none, and puts the JSON into *out.
func giveReport(ctx context.Context, out **C.char, r *evaluate.Report, o *C.flare_evaluate_options) error {
	var files imageio.Batch
	defer files.Discard()
	if o.csv_path != nil {
		if err := files.AddText(C.GoString(o.csv_path), r.CSV()); err != nil {
			return err
		}
	}
	if o.html_path != nil {
		page, err := r.HTML(ctx)
		if err == nil {
			err = files.AddText(C.GoString(o.html_path), page)
		}
		if err != nil {
			return err
		}
	}
	if err := files.Commit(); err != nil {
		return err
	}
	return cJSON(out, r)
}

//export flareGoEfficiency
func flareGoEfficiency(text, out, command **C.char, count C.size_t, o *C.flare_efficiency_options) C.flare_status {
	return edge(text, func() error {
		var words []string
		for _, word := range unsafe.Slice(command, int(count)) {
			words = append(words, C.GoString(word))
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		measured, failed := evaluate.Measure(ctx, int(o.gpu), words, func() {
			if o.progress != nil && ctx.Err() == nil && C.callEfficiencyProgress(o, phaseText("measure")) != 0 {
				cancel()
			}
		})
		if measured == nil || segment.KindOf(failed) == segment.ErrCancelled {
			return failed
		}
		if err := cJSON(out, measured); err != nil {
			return err
		}
		return failed
	})
}
