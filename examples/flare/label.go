package main

import (
	"context"
	"fmt"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/student"
)

type pseudoLabelCommand struct {
	Model           []string `short:"m" required:"" sep:"none" placeholder:"MODEL" help:"The teacher: a bundle (.onnx) or an nnU-Net results folder; several -m, of the same plans, are its folds."`
	Device          string   `short:"d" default:"auto" enum:"auto,cpu,ort,openvino,openvino:GPU,cuda" help:"What runs the network: ${enum}."`
	Mode            string   `default:"exact" placeholder:"MODE" help:"exact, or fast: as in flare segment."`
	Cache           string   `placeholder:"DIR" help:"A folder that keeps prepared networks for later opening."`
	Threads         int      `placeholder:"N" help:"Bound on the threads; one per core by default."`
	Mirror          bool     `default:"true" negatable:"" help:"Average over the mirror flips that the teacher was trained with; so by default."`
	Previous        string   `placeholder:"FOLDER" help:"Pseudo-labels of an earlier round, to score the change since."`
	IgnoreUncertain float64  `placeholder:"SHARE" help:"Give the dataset's ignore label to voxels on which a smaller share of the folds agrees, such as 0.8."`
	Soft            float64  `placeholder:"P" help:"Keep the probabilities (CASE.npz) of voxels whose largest is below P, such as 0.95."`
	Weights         bool     `help:"Write weights/CASE.nii.gz too: how much each voxel counts in training, by the share of the folds, and of --previous as one more, that agree."`
	Shard           string   `placeholder:"I/N" help:"Do part I of N: 1/4 to 4/4 on four machines do the whole."`
	Images          string   `arg:"" help:"A folder of images."`
	Out             string   `arg:"" help:"The folder for CASE.nii.gz and CASE.json of each."`
}

// Help is shown under the usage line.
func (c *pseudoLabelCommand) Help() string {
	return `CASE.json tells for each label its voxels, the agreement of the teacher's folds (mean Dice between the labels of one fold and of all) and, with --previous, the Dice with the earlier round. A case that has it is finished: called again, the command goes on where it was. Cases that cannot be read are skipped, listed in the end, and the exit code tells.`
}

// Run labels all images that are not labelled yet.
func (c *pseudoLabelCommand) Run(ctx context.Context, d *display) error {
	if err := given("IMAGES", c.Images, "OUT", c.Out); err != nil {
		return err
	}
	o := student.LabelOptions{Teacher: c.Model, Images: c.Images, Out: c.Out, Previous: c.Previous, NoMirror: !c.Mirror,
		IgnoreBelow: c.IgnoreUncertain, SoftBelow: c.Soft, Weights: c.Weights,
		Open: segment.OpenOptions{Device: c.Device, Threads: c.Threads, Mode: c.Mode, CacheDir: c.Cache}}
	if c.Shard != "" {
		if n, err := fmt.Sscanf(c.Shard+" ", "%d/%d ", &o.Shard, &o.Shards); n != 2 || err != nil || o.Shard < 1 {
			return segment.Errorf(segment.ErrArgument, "--shard is %q, expected I/N such as 1/4", c.Shard)
		}
	}
	kept := 0
	o.Progress = labelProgress(d)
	o.Case = func(name string, r student.CaseResult) {
		d.end()
		kept += caseLine(d, name, r)
	}
	labels, err := student.Label(ctx, o)
	d.end()
	if err != nil {
		return err
	}
	d.line("%d cases in %s, %d of them from before", len(labels.Scores), c.Out, kept)
	return labels.Err()
}

// labelProgress shows the case under way.
func labelProgress(d *display) func(student.LabelProgress) {
	name := ""
	return func(p student.LabelProgress) {
		if p.Case != name {
			name = p.Case
			d.begin(fmt.Sprintf("%s (%d of %d)", name, p.Done+1, p.Total))
		}
		d.progress(p.Phase, p.Fraction)
	}
}

// caseLine tells of a finished case; it returns 1 if that was there before.
func caseLine(d *display, name string, r student.CaseResult) int {
	switch {
	case r.Err != nil:
		d.line("%s: skipped: %v", name, r.Err)
	case r.Kept:
		return 1
	default:
		d.line("%s: %.1f s, agreement of folds %s, with the round before %s", name, r.Scores.Seconds, score(r.Scores.Agreement), score(r.Scores.Previous))
	}
	return 0
}

// score writes a score that may not be there.
func score(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.4f", *v)
}
