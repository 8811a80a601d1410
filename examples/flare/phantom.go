package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/phantom"
)

type phantomCommand struct {
	Number int    `short:"n" default:"1" placeholder:"N" help:"How many, up to 10000; 1 by default."`
	Seed   uint64 `default:"0" placeholder:"S" help:"The same seed gives the same files; 0 by default."`
	Size   string `default:"small" enum:"small,clinical" help:"small (3 mm voxels), or clinical (slices of 512x512)."`
	Out    string `arg:"" name:"out_dir" help:"Folder for imagesTr, labelsTr and dataset.json, as nnU-Net wants them."`
}

// Validate is called after parsing.
func (c *phantomCommand) Validate() error {
	if c.Number < 1 || c.Number > 10000 { // names have four digits
		return fmt.Errorf("-n is %d, must be 1 to 10000", c.Number)
	}
	return nil
}

// Run makes the phantoms, one after the other.
func (c *phantomCommand) Run(ctx context.Context, d *display) error {
	if err := given("OUT_DIR", c.Out); err != nil {
		return err
	}
	size := map[string]phantom.Size{"small": phantom.Small, "clinical": phantom.Clinical}[c.Size]
	images, labels := filepath.Join(c.Out, "imagesTr"), filepath.Join(c.Out, "labelsTr")
	for _, dir := range []string{images, labels} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return segment.Errorf(segment.ErrIO, "%w", err)
		}
	}
	for i := range c.Number {
		if ctx.Err() != nil {
			return segment.Errorf(segment.ErrCancelled, "cancelled after %d of %d phantoms", i, c.Number)
		}
		name := fmt.Sprintf("phantom_%04d", i)
		d.line("%s", name)
		err := writePhantom(ctx, phantom.Sample(c.Seed, i, size),
			filepath.Join(images, name+"_0000.nii.gz"), filepath.Join(labels, name+".nii.gz"))
		if err != nil {
			return err
		}
	}
	return c.writeDataset()
}

func writePhantom(ctx context.Context, p phantom.Params, image, labels string) error {
	ct, truth, err := phantom.Generate(p)
	if err != nil {
		return err
	}
	defer ct.Free()
	defer truth.Free()
	if err := imageio.Write(ctx, image, ct); err != nil {
		return err
	}
	return imageio.Write(ctx, labels, truth)
}

// writeDataset writes what nnU-Net wants to know, with the labels in their order.
func (c *phantomCommand) writeDataset() error {
	labels := make([]string, len(phantom.Organs))
	for i, organ := range phantom.Organs {
		labels[i] = fmt.Sprintf("    %q: %d", organ, i)
	}
	text := fmt.Sprintf("{\n  \"channel_names\": {\"0\": \"CT\"},\n  \"labels\": {\n%s\n  },\n"+
		"  \"numTraining\": %d,\n  \"file_ending\": \".nii.gz\"\n}\n", strings.Join(labels, ",\n"), c.Number)
	return imageio.WriteFileAtomic(filepath.Join(c.Out, "dataset.json"), func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}
