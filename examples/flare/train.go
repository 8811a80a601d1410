package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train"
	"github.com/libflare/libflare/segment/train/dataset"
)

type preprocessCommand struct {
	Plans         string `placeholder:"FILE" required:"" help:"The plans.json, of flare plan or of nnU-Net."`
	Configuration string `default:"3d_fullres" placeholder:"NAME" help:"Its configuration; 3d_fullres by default."`
	Out           string `short:"o" placeholder:"CACHE" required:"" help:"Folder for the preprocessed cases."`
	Threads       int    `placeholder:"N" help:"Cases at a time; by default one for each core."`
	Dataset       string `arg:"" help:"The dataset's folder, as nnU-Net wants it: dataset.json, imagesTr, labelsTr."`
}

// Run fills the cache; what is there already is kept.
func (c *preprocessCommand) Run(ctx context.Context, d *display) error {
	if err := given("DATASET", c.Dataset, "--plans", c.Plans, "-o", c.Out); err != nil {
		return err
	}
	text, err := readText(c.Plans)
	if err != nil {
		return err
	}
	raw, err := nnunet.OpenRawDataset(c.Dataset)
	if err != nil {
		return err
	}
	cache, err := fill(ctx, d, c.Out, raw, text, c.Plans, c.Configuration, c.Threads)
	if err == nil {
		cache.Close()
	}
	return err
}

// fill preprocesses a dataset.
func fill(ctx context.Context, d *display, folder string, raw *nnunet.RawDataset, text []byte, path, configuration string, threads int) (*dataset.Cache, error) {
	plans, err := nnunet.ParsePlans(text, path)
	if err != nil {
		return nil, err
	}
	// Beside the plans, perhaps; it goes along with the network.
	fingerprint, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "dataset_fingerprint.json"))
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	d.begin("preprocess")
	defer d.end()
	kept := 0
	cache, err := dataset.Preprocess(ctx, folder, dataset.Options{Cases: raw.Cases, Plans: plans, Dataset: raw.Dataset, Fingerprint: fingerprint,
		Configuration: configuration, Threads: threads, Progress: func(name string, k bool, done, total int) {
			if k {
				kept++
			}
			d.progress(configuration, float64(done)/float64(total))
		}})
	if err != nil {
		return nil, err
	}
	d.line("%d cases in %s, %d of them kept from before", len(cache.Cases), folder, kept)
	return cache, nil
}

func readText(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fileError(err)
	}
	return text, nil
}

type trainCommand struct {
	Plans         string   `placeholder:"FILE" help:"The plans.json; by default that of DATASET_preprocessed, where flare plan puts it, which is called where there is none."`
	Configuration string   `default:"3d_fullres" placeholder:"NAME" help:"The configuration of the plans; 3d_fullres by default."`
	Fold          string   `default:"0" placeholder:"K" help:"0 to 4, or all; 0 by default."`
	Splits        string   `placeholder:"FILE" help:"Splits such as nnU-Net's splits_final.json; by default its five folds."`
	Out           string   `short:"o" placeholder:"RUN" required:"" help:"Folder of the training."`
	Cache         string   `placeholder:"FOLDER" help:"Folder for preprocessed cases; by default DATASET_preprocessed/NAME of the configuration."`
	Resume        bool     `help:"Go on where a training in RUN was interrupted."`
	Init          string   `placeholder:"MODEL" help:"Begin with the weights of a bundle or results folder."`
	Epochs        int      `default:"1000" placeholder:"N" help:"1000 by default."`
	Iterations    int      `default:"250" placeholder:"N" help:"Steps of an epoch; 250 by default."`
	Validation    int      `default:"50" placeholder:"N" help:"Batches that judge an epoch; 50 by default."`
	Batch         int      `placeholder:"N" help:"Samples of a step; by default the plans'."`
	Optimizer     string   `default:"sgd" enum:"sgd,adamw" help:"sgd (the default) or adamw."`
	Rate          float64  `default:"0.01" placeholder:"R" help:"Learning rate of the first epoch; 0.01 by default."`
	Seed          uint64   `default:"0" placeholder:"S" help:"The same seed gives the same training; 0 by default."`
	Noise         []string `placeholder:"LIST" help:"Noise of a student: strong (augmentation), nomirror, dropout=P, depth=P (stochastic depth; only for residual networks)."`
	Device        string   `default:"auto" placeholder:"NAME" help:"As in flare devices; auto by default."`
	Mode          string   `default:"exact" enum:"exact,fast" help:"exact (float32), or fast (bfloat16 where the processor computes with it, TF32 on an NVIDIA GPU)."`
	Threads       int      `placeholder:"N" help:"Threads of the network; by default one for each core."`
	Workers       int      `placeholder:"N" help:"Threads that prepare batches; by default as many."`
	Dataset       string   `arg:"" help:"The dataset's folder (dataset.json, imagesTr, labelsTr), or a cache of flare preprocess."`
}

// Run trains; Ctrl-C saves a checkpoint.
func (c *trainCommand) Run(ctx context.Context, d *display) error {
	if err := given("DATASET", c.Dataset, "-o", c.Out); err != nil {
		return err
	}
	s, err := c.settings()
	if err != nil {
		return err
	}
	cache, err := c.open(ctx, d)
	if err != nil {
		return err
	}
	defer cache.Close()
	o := train.RunOptions{Settings: s, Cache: cache, Fold: c.Fold, Folder: c.Out, Resume: c.Resume, Init: c.Init,
		Options: train.Options{Device: c.Device, Threads: c.Threads, Workers: c.Workers, Fast: c.Mode == "fast"}}
	if c.Splits != "" {
		if o.Splits, err = dataset.ReadSplits(c.Splits); err != nil {
			return err
		}
	}
	d.begin("train")
	defer d.end()
	o.Progress = trainProgress(d)
	summary, err := train.Run(ctx, o)
	if err != nil {
		return err
	}
	d.end()
	d.line("mean Dice of %d validation cases: %.4f; %s", len(summary.Cases), summary.Foreground.Dice, filepath.Join(c.Out, "model.onnx"))
	return nil
}

// settings reads the options.
func (c *trainCommand) settings() (train.Settings, error) {
	s := train.Default()
	s.Epochs, s.Iterations, s.ValidationIterations, s.Batch = c.Epochs, c.Iterations, c.Validation, c.Batch
	s.Optimizer, s.LearningRate, s.Seed = c.Optimizer, c.Rate, c.Seed
	for _, n := range c.Noise {
		name, value, _ := strings.Cut(n, "=")
		var err error
		switch name {
		case "strong":
			s.Strong = true
		case "nomirror":
			s.NoMirroring = true
		case "dropout":
			_, err = fmt.Sscan(value, &s.Dropout)
		case "depth":
			_, err = fmt.Sscan(value, &s.StochasticDepth)
		default:
			err = fmt.Errorf("unknown")
		}
		if err != nil {
			return s, segment.Errorf(segment.ErrArgument, "--noise %s: expected strong, nomirror, dropout=P or depth=P", n)
		}
	}
	return s, s.Check()
}

// open returns the cases: a cache as it is, or a dataset's after planning, if need be, and
// preprocessing.
func (c *trainCommand) open(ctx context.Context, d *display) (*dataset.Cache, error) {
	if _, err := os.Stat(filepath.Join(c.Dataset, "cache.json")); err == nil {
		return dataset.Open(c.Dataset)
	}
	raw, err := nnunet.OpenRawDataset(c.Dataset)
	if err != nil {
		return nil, err
	}
	beside, err := preprocessedFolder(c.Dataset)
	if err != nil {
		return nil, err
	}
	folder, path := c.Cache, c.Plans
	if folder == "" {
		folder = filepath.Join(beside, c.Configuration)
	}
	if path == "" {
		path = filepath.Join(beside, "plans.json")
		if _, err := os.Stat(path); err != nil {
			plan := planCommand{Planner: "ExperimentPlanner", Path: c.Dataset}
			if err := plan.Run(ctx, d); err != nil {
				return nil, err
			}
		}
	}
	text, err := readText(path)
	if err != nil {
		return nil, err
	}
	return fill(ctx, d, folder, raw, text, path, c.Configuration, 0)
}

// trainProgress shows a training: on a terminal all the time, else once for each epoch.
func trainProgress(d *display) func(train.Progress) {
	last := -1
	return func(p train.Progress) {
		if p.Phase == "evaluate" {
			d.progress("validation cases", float64(p.Done)/float64(p.Total))
			return
		}
		if p.Epoch != last {
			if last >= 0 && !math.IsNaN(p.Dice) {
				d.line("epoch %d of %d: pseudo Dice %.4f (average %.4f), %.3f s for a step, waited %.1f %%, %s left", p.Epoch, p.Epochs, p.Dice, p.EMA,
					p.StepSeconds, 100*p.Waited, left(p.Left))
			}
			last = p.Epoch
		}
		part := float64(p.Done) / float64(p.Total)
		if p.Phase == "validate" {
			part = 1
		}
		if !d.terminal {
			return
		}
		d.progress(fmt.Sprintf("epoch %d/%d, loss %.4f, rate %.5f, Dice %.3f, %.2f s/step, %s left", p.Epoch+1, p.Epochs, p.Loss, p.LearningRate, p.EMA,
			p.StepSeconds, left(p.Left)), (float64(p.Epoch)+part)/float64(p.Epochs))
	}
}

func left(seconds float64) string {
	if math.IsNaN(seconds) {
		return "?"
	}
	return (time.Duration(seconds) * time.Second).String()
}

type exportCommand struct {
	Best bool   `help:"The network of the best pseudo Dice (moving average) rather than the last one."`
	From string `arg:"" name:"run" help:"Folder of a training."`
	Out  string `arg:"" help:"OUT.onnx: a bundle for flare segment. Any other name: a results folder for nnU-Net."`
}

// Run writes the network.
func (c *exportCommand) Run() error {
	if err := given("RUN", c.From, "OUT", c.Out); err != nil {
		return err
	}
	return train.ExportRun(c.From, c.Out, c.Best)
}
