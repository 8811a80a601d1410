package main

import (
	"context"
	"os"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/imageio"
)

type evaluateCommand struct {
	Flare21   bool    `name:"flare21" help:"By the rules of FLARE21: 4 organs, 1 mm."`
	Flare22   bool    `name:"flare22" help:"By the rules of FLARE22: 13 organs with tolerances of their own, and every quirk of its script."`
	Flare23   bool    `name:"flare23" help:"By the rules of FLARE23: as FLARE22, with the lesion."`
	Labels    string  `placeholder:"FILE" help:"A dataset.json: score its labels, with their names. By default all labels but 0 that are found."`
	Tolerance float64 `placeholder:"MM" help:"Distance within which surfaces agree for NSD; 1 by default."`
	Resample  bool    `help:"Bring predictions on another grid to the reference's, nearest voxel; they are refused otherwise."`
	Threads   int     `placeholder:"N" help:"Bound on the threads; one per core by default."`
	Json      string  `placeholder:"FILE" help:"Write all scores of all cases, and their means."`
	Csv       string  `placeholder:"FILE" help:"Write a line for each case and label."`
	Report    string  `placeholder:"FILE.html" help:"Write a page with box plots and pictures of the worst cases."`
	Pred      string  `arg:"" name:"pred" help:"A label file (.nii.gz, .nii, .nrrd, .nhdr, .mha, .mhd), or a folder of them."`
	Ref       string  `arg:"" name:"ref" help:"The reference, or a folder with files of the same names."`
}

// Run scores everything, shows the means, and fails if a case could not be scored.
func (c *evaluateCommand) Run(ctx context.Context, d *display) error {
	if err := given("PRED", c.Pred, "REF", c.Ref); err != nil {
		return err
	}
	o, err := c.options()
	if err != nil {
		return err
	}
	for _, out := range []string{c.Json, c.Csv, c.Report} {
		if out == "" {
			continue
		}
		if err := imageio.Writable(out); err != nil {
			return err
		}
		o.Outputs = append(o.Outputs, out)
	}
	d.begin(c.Pred)
	o.Progress = func(done, cases int) { d.progress("scoring", float64(done)/float64(cases)) }
	report, failed := evaluate.Files(ctx, c.Pred, c.Ref, o)
	d.end()
	if report == nil {
		return failed
	}
	var files imageio.Batch
	defer files.Discard()
	if c.Json != "" {
		err = files.AddText(c.Json, report.JSON())
	}
	if c.Csv != "" && err == nil {
		err = files.AddText(c.Csv, report.CSV())
	}
	if c.Report != "" && err == nil {
		var page []byte
		if page, err = report.HTML(ctx); err == nil {
			err = files.AddText(c.Report, page)
		}
	}
	if err == nil {
		err = files.Commit()
	}
	if err != nil {
		return err
	}
	if len(report.Cases) > 0 {
		if err := report.Text(os.Stdout); err != nil {
			return segment.Errorf(segment.ErrIO, "standard output: %w", err)
		}
	}
	return failed
}

func (c *evaluateCommand) options() (evaluate.Options, error) {
	o := evaluate.Options{LabelsFile: c.Labels, Tolerance: c.Tolerance, Resample: c.Resample, Threads: c.Threads}
	for _, r := range []struct {
		set   bool
		rules evaluate.Rules
	}{{c.Flare21, evaluate.FLARE21}, {c.Flare22, evaluate.FLARE22}, {c.Flare23, evaluate.FLARE23}} {
		if !r.set {
			continue
		}
		if o.Rules != "" {
			return o, segment.Errorf(segment.ErrArgument, "--%s and --%s exclude each other", o.Rules, r.rules)
		}
		o.Rules = r.rules
	}
	if c.Threads < 0 {
		return o, segment.Errorf(segment.ErrArgument, "--threads is %d, must be 1 or more (0: one per core)", c.Threads)
	}
	return o, nil
}
