package main

import (
	"bytes"
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/libflare/libflare/segment"
)

type convertCommand struct {
	Onnx          string   `placeholder:"FILE" help:"An exported network, instead of a folder."`
	Plans         string   `placeholder:"FILE" help:"Its plans.json."`
	Configuration string   `placeholder:"NAME" help:"Its configuration in the plans, such as 3d_fullres."`
	Dataset       string   `placeholder:"FILE" help:"Its dataset.json; without it labels are numbered, or those of a bundle."`
	Orientation   string   `placeholder:"LPS" help:"The voxel order that the network expects; by default as stored, or that of a bundle."`
	Paths         []string `arg:"" name:"path" help:"FOLDER OUT.onnx, or MODEL MODEL ... OUT.onnx, or with --onnx only OUT.onnx."`
}

// Help is shown under the usage line, which cannot say that there are three forms.
func (c *convertCommand) Help() string {
	return `flare convert FOLDER OUT.onnx

flare convert MODEL MODEL ... OUT.onnx

flare convert --onnx FILE --plans FILE --configuration NAME OUT.onnx

FOLDER holds plans.json, dataset.json and fold_*/checkpoint_final.pth. Several MODELs, bundles or such folders of the same plans, are joined: their logits are averaged, as those of nnU-Net's folds.`
}

// Run writes the bundle.
func (c *convertCommand) Run(ctx context.Context) error {
	for _, path := range c.Paths {
		if err := given("a path", path); err != nil {
			return err
		}
	}
	o := segment.ConvertOptions{ONNX: c.Onnx, Plans: c.Plans, Dataset: c.Dataset,
		Configuration: c.Configuration, Orientation: c.Orientation}
	switch {
	case c.Onnx == "" && len(c.Paths) > 2:
		return segment.JoinFolds(ctx, c.Paths[len(c.Paths)-1], c.Paths[:len(c.Paths)-1])
	case c.Onnx == "" && len(c.Paths) == 2:
		o.Folder = c.Paths[0]
	case c.Onnx != "" && len(c.Paths) == 1:
		if c.Plans == "" || c.Configuration == "" {
			return segment.Errorf(segment.ErrArgument, "--onnx needs --plans and --configuration")
		}
	default:
		return segment.Errorf(segment.ErrArgument, "convert takes FOLDER OUT.onnx, MODEL MODEL ... OUT.onnx, or --onnx FILE --plans FILE --configuration NAME OUT.onnx")
	}
	return segment.Convert(ctx, c.Paths[len(c.Paths)-1], o)
}

type devicesCommand struct{}

// Run prints the devices, and why one is not available.
func (c *devicesCommand) Run() error {
	list, err := segment.Devices("")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "ONNX Runtime %s (%s)\n", list.RuntimeVersion, list.Runtime)
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, d := range list.Devices {
		state := "available"
		if !d.Available {
			state = "not available: " + d.Reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.Name, d.Description, state)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return show(text.Bytes())
}
