package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train"
)

type planCommand struct {
	Planner     string `default:"ExperimentPlanner" enum:"ExperimentPlanner,ResEncM,ResEncL,Student,Isotropic25" placeholder:"NAME" help:"${enum}; ExperimentPlanner by default."`
	Threads     int    `placeholder:"N" help:"Bound on the cases in memory at a time; one per core by default."`
	Out         string `short:"o" placeholder:"FOLDER" help:"For what is written; DATASET_preprocessed, beside the dataset, by default."`
	Fingerprint string `placeholder:"FILE" help:"A dataset_fingerprint.json: plan from it alone, without images."`
	DatasetJson string `placeholder:"FILE" help:"Its dataset.json."`
	Path        string `arg:"" name:"path" help:"DATASET, or with --fingerprint OUT.json."`
}

// Help is shown under the usage line, which cannot say that there are two forms.
func (c *planCommand) Help() string {
	return `flare plan DATASET

flare plan --fingerprint FILE --dataset-json FILE OUT.json

DATASET is a raw dataset of nnU-Net: dataset.json, imagesTr/CASE_0000.nii.gz (_0001 for the next channel), labelsTr/CASE.nii.gz. It is only read. Every image and label is checked; dataset_fingerprint.json, plans.json and a copy of dataset.json go to FOLDER. They are those that nnU-Net 2.8.1 makes, which looks for the plans under their name, such as nnUNetPlans.json.

ExperimentPlanner is nnU-Net's default, ResEncM and ResEncL are its planners of residual networks for GPUs of 10 and 24 GB. Two are for networks that laptops can train: Student (voxels of 4.0x1.2x1.2 mm, 16 to 256 channels, no mirroring) and Isotropic25 (2.5 mm).`
}

// Validate is called after parsing.
func (c *planCommand) Validate() error {
	if c.Threads < 0 {
		return fmt.Errorf("--threads is %d, must be 1 or more (0: one per core)", c.Threads)
	}
	if (c.Fingerprint == "") != (c.DatasetJson == "") {
		return fmt.Errorf("--fingerprint and --dataset-json belong together")
	}
	if c.Fingerprint != "" && c.Out != "" {
		return fmt.Errorf("--out is for DATASET; with --fingerprint name OUT.json alone")
	}
	return nil
}

// Run plans in either form.
func (c *planCommand) Run(ctx context.Context, d *display) error {
	if err := given("PATH", c.Path); err != nil {
		return err
	}
	if c.Fingerprint != "" {
		return c.fromFingerprint(d)
	}
	raw, err := nnunet.OpenRawDataset(c.Path)
	if err != nil {
		return err
	}
	out := c.Out
	if out == "" {
		if out, err = preprocessedFolder(c.Path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(out, 0o777); err != nil {
		return segment.Errorf(segment.ErrIO, "%w", err)
	}
	if imageio.Same(raw.Dataset.File, filepath.Join(out, "dataset.json")) {
		return segment.Errorf(segment.ErrArgument, "--out is the dataset's own folder %s, which is only read", c.Path)
	}
	start := time.Now()
	d.begin(raw.Name)
	fingerprint, notes, err := train.ExtractFingerprint(ctx, raw, train.FingerprintOptions{Threads: c.Threads, Progress: func(done, cases int) {
		d.progress(fmt.Sprintf("reading %d cases", cases), float64(done)/float64(cases))
	}})
	d.end()
	if err != nil {
		return err
	}
	for _, note := range notes {
		d.line("%s", note)
	}
	plans, err := nnunet.Plan(c.Planner, fingerprint, raw.Dataset, raw.Name)
	if err != nil {
		return err
	}
	d.line("%s: %d cases in %.1f s", raw.Name, len(raw.Cases), time.Since(start).Seconds())
	describe(plans, d)
	var files imageio.Batch
	defer files.Discard()
	for _, f := range []struct {
		name string
		text []byte
	}{{"dataset.json", raw.Dataset.Raw}, {"dataset_fingerprint.json", fingerprint.JSON()}, {"plans.json", plans.Raw}} {
		if err := files.Add(filepath.Join(out, f.name), writer(f.text)); err != nil {
			return err
		}
	}
	if err := files.Commit(); err != nil {
		return err
	}
	d.line("written to %s", out)
	return nil
}

// preprocessedFolder is where what is made of a dataset goes by default.
func preprocessedFolder(dataset string) (string, error) {
	folder, err := filepath.Abs(dataset)
	if err != nil {
		return "", segment.Errorf(segment.ErrIO, "%s: %w", dataset, err)
	}
	return folder + "_preprocessed", nil
}

func (c *planCommand) fromFingerprint(d *display) error {
	for _, file := range []string{c.Fingerprint, c.DatasetJson} {
		if imageio.Same(file, c.Path) {
			return segment.Errorf(segment.ErrArgument, "%s would be overwritten by the plans", file)
		}
	}
	fingerprint, err := nnunet.ReadFingerprint(c.Fingerprint)
	if err != nil {
		return err
	}
	dataset, err := nnunet.ReadDataset(c.DatasetJson)
	if err != nil {
		return err
	}
	folder, err := filepath.Abs(filepath.Dir(c.DatasetJson)) // nnU-Net calls a dataset as its folder
	if err != nil {
		return segment.Errorf(segment.ErrIO, "%s: %w", c.DatasetJson, err)
	}
	plans, err := nnunet.Plan(c.Planner, fingerprint, dataset, filepath.Base(folder))
	if err != nil {
		return err
	}
	describe(plans, d)
	return imageio.WriteFileAtomic(c.Path, writer(plans.Raw))
}

func writer(text []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}
}

// describe shows what was planned.
func describe(plans *nnunet.Plans, d *display) {
	for _, name := range plans.Configurations {
		c, err := plans.Configuration(name)
		if err != nil { // the plans are right, but hold what libflare does not run
			d.line("%s: %v", name, err)
			continue
		}
		d.line("%s: %s mm, patch %s, batch %d", name, times(c.Spacing), times(c.PatchSize), c.BatchSize)
	}
}

// times writes sizes with an x between them, slowest axis first.
func times[T int | float64](sizes []T) string {
	parts := make([]string, len(sizes))
	for i, s := range sizes {
		parts[i] = fmt.Sprintf("%.4g", float64(s))
	}
	return strings.Join(parts, "x")
}
