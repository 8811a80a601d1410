package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
)

type segmentCommand struct {
	Model         string `short:"m" required:"" placeholder:"MODEL" help:"A bundle (.onnx), an nnU-Net results folder, or a list of these (.json)."`
	Device        string `short:"d" default:"auto" enum:"auto,cpu,ort,openvino,openvino:GPU,cuda" help:"What runs the network: ${enum}."`
	Mode          string `default:"exact" placeholder:"MODE" help:"exact: nnU-Net's labels; fast: bf16 or fp16 where the device has it, and no tiles of air."`
	Cache         string `placeholder:"DIR" help:"A folder that keeps prepared networks for later opening."`
	Box           string `placeholder:"X0,Y0,Z0,X1,Y1,Z1" help:"Look at this part of the image only: voxels, from the first to before the second corner."`
	Roi           string `placeholder:"LABELS" help:"Only these labels (names or numbers, with commas between them): only tiles that can hold them run."`
	MaxMemory     string `placeholder:"SIZE" help:"Stay within so much memory, such as 2GB or 1500MiB: in strips, slower, with the same labels; refuse what needs more even so."`
	GpuMemory     string `placeholder:"SIZE" help:"Take no more of the GPU's memory; for device cuda."`
	Threads       int    `placeholder:"N" help:"Bound on the threads; one per core by default."`
	Mirror        bool   `help:"Average over the mirror flips that the model was trained with: slower, often a little better."`
	Postprocess   bool   `help:"Apply the post-processing that the model stores."`
	Previous      string `placeholder:"FILE" help:"For the second stage of a cascade: the labels of the first, or a folder with CASE.nii.gz of every case."`
	Folds         string `placeholder:"0,1|all" help:"The folds of the model to average; all by default."`
	Stats         string `placeholder:"FILE.json" help:"Write seconds by phase, tiles, memory and device."`
	Report        string `placeholder:"FILE.html" help:"Write a page with a view of image and labels and a table of the organs; of a folder of images, a folder for CASE.html of each."`
	Probabilities string `placeholder:"FILE" help:"Write the probabilities too (4-D); one image only."`
	In            string `arg:"" help:"An image (.nii.gz, .nii, .nrrd, .nhdr, .mha, .mhd), the first file (_0000) of one with several channels, or a folder of images."`
	Out           string `arg:"" help:"The label file, or the folder for them; .seg.nrrd is a segmentation for 3D Slicer, with names. A trailing _0000 is left out of names in a folder."`
}

// Validate is called after parsing.
func (c *segmentCommand) Validate() error {
	if c.Threads < 0 {
		return fmt.Errorf("--threads is %d, must be 1 or more (0: one per core)", c.Threads)
	}
	return nil
}

// Run segments everything that In names with the model opened once. A case that
// fails does not keep the others from being done; the first failure is returned.
func (c *segmentCommand) Run(ctx context.Context, d *display) error {
	cases, folder, err := c.cases()
	if err != nil {
		return err
	}
	gpu, err := parseSize("--gpu-memory", c.GpuMemory)
	if err != nil {
		return err
	}
	d.line("opening %s", c.Model)
	model, err := segment.Open(ctx, c.Model, segment.OpenOptions{Device: c.Device, Threads: c.Threads, Folds: c.Folds, Mode: c.Mode, CacheDir: c.Cache,
		ReadAhead: cases[0].in, GPUMemory: gpu})
	if err != nil {
		return err
	}
	defer model.Close()
	for _, m := range model.Describe().Models { // of a list
		if c.Stats != "" && imageio.Same(m.Path, c.Stats) {
			return segment.Errorf(segment.ErrArgument, "%s would be overwritten by --stats", m.Path)
		}
	}

	done, failed := map[string]segment.Stats{}, map[string]string{}
	options, err := c.options(model)
	if err != nil {
		return err
	}
	var first error
	for _, k := range cases {
		d.begin(k.name)
		o := options
		o.PreviousFile, o.ReportFile, o.Progress = k.previous, k.report, d.progress
		stats, err := model.SegmentFile(ctx, k.in, k.out, o)
		d.end()
		if err == nil {
			done[k.name] = stats
			d.line("%s: %.1f s, %d tiles, %s %s, %d threads, peak %.2f GB", k.name, stats.Seconds.Total,
				stats.Tiles, stats.Device, stats.Precision, stats.Threads, float64(stats.PeakMemory)/1e9)
			continue
		}
		if !folder {
			return err
		}
		failed[k.name] = err.Error()
		d.line("%s: %v", k.name, err)
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	total := time.Since(started).Seconds()
	if !folder {
		stats := done[cases[0].name]
		stats.Seconds.Total = total
		return writeStats(c.Stats, stats)
	}
	err = writeStats(c.Stats, map[string]any{"cases": done, "failed": failed, "seconds": map[string]float64{"total": total}})
	if first == nil {
		d.line("%d cases in %.1f s", len(cases), total)
		return err
	}
	return segment.Errorf(segment.KindOf(first), "%d of %d cases in %.1f s; %d failed or were not begun, the first: %w",
		len(done), len(cases), total, len(cases)-len(done), first)
}

// job is one image, the labels of the previous stage ("" if none), and where its
// labels and report ("" if none) go.
type job struct{ name, in, previous, out, report string }

// cases lists the work and checks what can be checked before minutes are spent on
// it: that inputs exist and outputs can be written and are no inputs.
func (c *segmentCommand) cases() (cases []job, folder bool, err error) {
	if err := given("IN", c.In, "OUT", c.Out, "--model", c.Model); err != nil {
		return nil, false, err
	}
	info, err := os.Stat(c.In)
	if err != nil {
		return nil, false, fileError(err)
	}
	inputs := []string{c.In}
	if folder = info.IsDir(); folder {
		if inputs, err = imageio.Cases(c.In); err != nil {
			return nil, true, err
		}
		if c.Probabilities != "" {
			return nil, true, segment.Errorf(segment.ErrArgument, "--probabilities takes one image, %s is a folder", c.In)
		}
		if strings.EqualFold(filepath.Ext(c.Report), ".html") && !isFolder(c.Report) {
			return nil, true, segment.Errorf(segment.ErrArgument, "--report: %s is one file, %s a folder: name a folder for a report of every case", c.Report, c.In)
		}
		for _, made := range []string{c.Out, c.Report} {
			if made == "" {
				continue
			}
			if err := os.MkdirAll(made, 0o777); err != nil {
				return nil, true, segment.Errorf(segment.ErrIO, "%w", err)
			}
		}
	}
	into := folder || isFolder(c.Out)
	for _, file := range []string{inputs[0], c.Out} {
		if into && file == c.Out {
			continue
		}
		if err := imageio.Known(file); err != nil {
			return nil, folder, err
		}
	}
	from := map[string]string{}
	for _, in := range inputs {
		name, out, page := filepath.Base(in), c.Out, c.Report
		name = name[:len(name)-len(imageio.Ending(in))]
		plain := strings.TrimSuffix(name, "_0000") // nnU-Net's first channel
		if page != "" && (folder || isFolder(page)) {
			page = filepath.Join(page, plain+".html")
		}
		if into {
			name = plain
			out = filepath.Join(c.Out, name+imageio.Ending(in))
		}
		if other, taken := from[name]; taken {
			return nil, folder, segment.Errorf(segment.ErrArgument, "%s and %s are the same case, %s", other, in, name)
		}
		previous, err := c.previousOf(plain, folder)
		if err != nil {
			return nil, folder, err
		}
		from[name] = in
		cases = append(cases, job{name, in, previous, out, page})
	}
	if err := c.spare(cases, folder); err != nil {
		return nil, folder, err
	}
	for _, file := range []string{cases[0].out, cases[0].report, c.Stats, c.Probabilities} {
		if file == "" {
			continue
		}
		if err := imageio.Writable(file); err != nil {
			return nil, folder, err
		}
	}
	return cases, folder, nil
}

// previousOf returns the file with the previous stage's labels of a case, "" if there
// is to be none.
func (c *segmentCommand) previousOf(name string, folder bool) (string, error) {
	switch {
	case c.Previous == "":
		return "", nil
	case !exists(c.Previous):
		return "", segment.Errorf(segment.ErrNotFound, "--previous: %s does not exist", c.Previous)
	case isFolder(c.Previous):
		for _, ending := range imageio.Endings {
			if file := filepath.Join(c.Previous, name+ending); exists(file) {
				return file, nil
			}
		}
		return "", segment.Errorf(segment.ErrNotFound, "--previous: %s holds no %s with one of the endings %s", c.Previous, name, strings.Join(imageio.Endings, ", "))
	case folder:
		return "", segment.Errorf(segment.ErrArgument, "--previous: %s is one file, %s a folder: name a folder with a file of every case", c.Previous, c.In)
	}
	return c.Previous, imageio.Known(c.Previous)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// fileError gives an error of package os its kind.
func fileError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return segment.Errorf(segment.ErrNotFound, "%w", err)
	}
	return segment.Errorf(segment.ErrIO, "%w", err)
}

// writeStats writes v as JSON, whole or not at all.
func writeStats(path string, v any) error {
	if path == "" {
		return nil
	}
	return imageio.WriteFileAtomic(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}
