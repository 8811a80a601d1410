package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/imageio"
)

type efficiencyCommand struct {
	Json    string   `placeholder:"FILE" help:"Write the measurements, with all samples."`
	Gpu     int      `placeholder:"N" help:"Index of the GPU to watch (nvidia-smi); 0 by default."`
	Command []string `arg:"" passthrough:"" help:"What to run, with its arguments; options of flare come before it."`
}

// Run runs the command; what was measured goes to standard error, for standard output is the
// command's.
func (c *efficiencyCommand) Run(ctx context.Context, d *display) error {
	if c.Json != "" {
		if err := imageio.Writable(c.Json); err != nil {
			return err
		}
	}
	if c.Command[0] == "--" {
		c.Command = c.Command[1:]
	}
	e, failed := evaluate.Measure(ctx, c.Gpu, c.Command, nil)
	if e == nil {
		return failed
	}
	if err := e.Text(os.Stderr); err != nil {
		return segment.Errorf(segment.ErrIO, "standard error: %w", err)
	}
	if c.Json != "" {
		text, err := json.Marshal(e)
		if err != nil {
			return segment.Errorf(segment.ErrInternal, "writing JSON: %w", err)
		}
		if err := imageio.WriteFileAtomic(c.Json, writer(append(text, '\n'))); err != nil {
			return err
		}
	}
	return failed
}
