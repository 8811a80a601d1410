package main

import (
	"context"

	"github.com/libflare/libflare/segment/student"
)

type studentCommand struct {
	Device  string `short:"d" placeholder:"NAME" help:"Instead of the config's device; as in flare devices."`
	Threads int    `placeholder:"N" help:"Instead of the config's threads."`
	Config  string `arg:"" help:"CONFIG.json."`
}

// Help is shown under the usage line.
func (c *studentCommand) Help() string {
	return `CONFIG.json, with what may be left out at its defaults:

{"labelled": "nnUNet_raw/Dataset001", "unlabelled": "images", "run": "run",
 "test": {"images": "test/images", "labels": "test/labels", "tolerance_mm": 1},
 "teacher": {"planner": "ExperimentPlanner", "configuration": "3d_fullres", "folds": ["0", "1", "2", "3", "4"], "training": {"epochs": 1000}},
 "pseudo_labels": {"mirror": true, "ignore_below": 0, "weights": false},
 "selection": {"fold_agreement": 0.7, "round_agreement": 0, "keep": 1},
 "student": {"planner": "Student", "training": {"strong": true, "no_mirroring": true, "dropout": 0.1}},
 "fine_tuning": {"epochs": 100, "learning_rate": 0.001},
 "supervised": {},
 "rounds": 1}

Without test nothing is compared, without fine_tuning and supervised these are not trained. "teacher": {"models": ["a.onnx", "b.onnx"]} takes networks that are there. With weights the student learns less from voxels on which the folds, and the earlier round, do not agree. Without planner (or plans, a file) the student has the teacher's plans. "stochastic_depth" is 0.1 for a student with residual blocks (planner ResEncM, ResEncL, or plans) and 0 for others, which have nothing to skip: asked for there, it is refused. All keys of training: those of config.json in the run.

The run's folder holds each stage's state, pseudo-labels with their scores (selection.json tells what was decided on each), trainings with their curves (which for all but the teacher's folds are of manual labels that they are trained on), RESULTS.md, and student.onnx, the result. Interrupted in whatever way, the command goes on where it was; after a change of CONFIG.json it does again what depends on it.

On a cluster many machines can label: once RUN/teacher/teacher.onnx is there, flare pseudo-label -m RUN/teacher/teacher.onnx UNLABELLED RUN/round_1/labels --shard I/N on each (--no-mirror, --ignore-uncertain, --weights as pseudo_labels has them; for round 2 its teacher, and --previous RUN/round_1/labels), then the command again: it keeps these labels.`
}

// Run makes the student, or goes on.
func (c *studentCommand) Run(ctx context.Context, d *display) error {
	if err := given("CONFIG", c.Config); err != nil {
		return err
	}
	config, err := student.Read(c.Config)
	if err != nil {
		return err
	}
	if c.Device != "" {
		config.Device = c.Device
	}
	if c.Threads != 0 {
		config.Threads = c.Threads
	}
	stage := ""
	results, err := student.Run(ctx, *config, student.RunOptions{
		Progress: func(name, text string, fraction float64) {
			if name != stage {
				d.end()
				d.begin(name)
				stage = name
			}
			if d.terminal { // elsewhere the log's lines are enough
				d.progress(text, fraction)
			}
		},
		Log: func(line string) {
			if stage != "" {
				d.end()
				stage = ""
			}
			d.line("%s", line)
		}})
	d.end()
	if err != nil {
		return err
	}
	for _, m := range results.Models {
		d.line("%s: mean Dice %.4f, NSD %.4f, %.2f s for a case, %d passes for a tile", m.Name, m.Mean, m.MeanNSD, m.Seconds, m.Passes)
	}
	d.line("%s", results.Bundle)
	return results.Err()
}
