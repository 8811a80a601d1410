package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/volume"
)

type infoCommand struct {
	Json  bool   `help:"As JSON, the way flare_model_describe gives it, with the estimate."`
	Model string `arg:"" help:"A bundle (.onnx), an nnU-Net results folder, or a list of these (.json)."`
}

// Help is shown under the usage line.
func (c *infoCommand) Help() string {
	return "The estimate of time and memory runs the network on zeros once or twice, which takes a while for large ones."
}

// card is what the program tells of a model.
type card struct {
	segment.Description
	Estimate estimate `json:"estimate"`
}

// estimate is what an image would take, and which.
type estimate struct {
	Image   string     `json:"image"` // where the size comes from
	Size    [3]int     `json:"size"`  // x, y, z
	Spacing [3]float64 `json:"spacing_mm"`
	segment.Estimate
	Error string `json:"error,omitempty"` // why there is none
}

// Run prints what the model says of itself.
func (c *infoCommand) Run(ctx context.Context) error {
	if err := given("MODEL", c.Model); err != nil {
		return err
	}
	model, err := segment.Open(ctx, c.Model, segment.OpenOptions{})
	if err != nil {
		return err
	}
	defer model.Close()
	k := card{Description: model.Describe()}
	var g volume.Geometry
	g, k.Estimate.Image = model.TypicalImage()
	k.Estimate.Size, k.Estimate.Spacing = g.Size, g.Spacing
	if k.Estimate.Estimate, err = model.Estimate(ctx, g); err != nil {
		if segment.KindOf(err) == segment.ErrCancelled {
			return err
		}
		k.Estimate.Error = err.Error()
	}
	var text bytes.Buffer
	if c.Json {
		e := json.NewEncoder(&text)
		e.SetIndent("", "  ")
		err = e.Encode(k)
	} else {
		err = k.print(&text)
	}
	if err != nil {
		return err
	}
	return show(text.Bytes())
}

// print writes a list's card and those of its models, or that of the one model.
func (k *card) print(out io.Writer) error {
	models := k.Models
	if k.Combine != "" {
		list := [][2]string{{"model", k.Path}, {"combine", fmt.Sprintf("%s of %d models", k.Combine, len(models))},
			{"previous stage", models[0].PreviousStage}, {"channels", channels(k.Channels)}, {"labels", labels(k.Labels)}, {"estimate", k.Estimate.String()}}
		if err := table(out, list); err != nil {
			return err
		}
	} else {
		models = []segment.Description{k.Description}
	}
	for i := range models {
		m := &models[i]
		rows := rows(m)
		if k.Combine != "" {
			rows[0][0] = fmt.Sprintf("model %d", i+1)
			fmt.Fprintln(out)
		} else {
			rows = append(rows, [2]string{"estimate", k.Estimate.String()})
		}
		if err := table(out, rows); err != nil {
			return err
		}
	}
	return nil
}

func rows(m *segment.Description) [][2]string {
	mirror := "none: trained without mirroring"
	if len(m.MirrorAxes) > 0 {
		mirror = fmt.Sprintf("%v of the patch, with --mirror", m.MirrorAxes)
	}
	previous, device := "", ""
	if m.PreviousStage != "" {
		previous = m.PreviousStage + ": its labels enter as well (--previous, or a list with both)"
	}
	if m.Device != "" {
		device = fmt.Sprintf("%s, %s, %d threads", m.Device, m.Precision, m.Threads)
	}
	return [][2]string{
		{"model", m.Path}, {"task", m.Task}, {"configuration", m.Configuration}, {"previous stage", previous},
		{"network", fmt.Sprintf("%s, %s parameters", m.Network, grouped(m.Parameters))},
		{"folds", strings.Join(m.Folds, ", ")}, {"mirror axes", mirror},
		{"channels", channels(m.Channels)}, {"normalization", strings.Join(m.Normalization, ", ")},
		{"spacing z,y,x", fmt.Sprintf("%.4g mm", m.Spacing)}, {"patch z,y,x", fmt.Sprint(m.PatchSize)},
		{"orientation", orElse(m.Orientation, "as stored")}, {"labels", labels(m.Labels)}, {"postprocessing", stored(m.Postprocessing)},
		{"device", device}, {"notes", strings.Join(m.Notes, "; ")},
	}
}

// table prints the rows that say something.
func table(out io.Writer, rows [][2]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if row[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", row[0], strings.ReplaceAll(row[1], "\n", "\n\t"))
		}
	}
	return w.Flush()
}

// channels names the files that an image consists of.
func channels(names []string) string {
	var list []string
	for i, name := range names {
		list = append(list, fmt.Sprintf("%s (CASE_%04d.nii.gz)", name, i))
	}
	if len(list) == 1 {
		return names[0] + " (CASE_0000.nii.gz, or any name)"
	}
	return wrapped(list)
}

func labels(list []segment.Label) string {
	var names []string
	for _, l := range list {
		names = append(names, fmt.Sprintf("%d %s", l.Value, l.Name))
	}
	return wrapped(names)
}

// wrapped joins items to lines of about 80 characters.
func wrapped(items []string) string {
	var b strings.Builder
	line := 0
	for i, item := range items {
		switch {
		case i > 0 && line+len(item) > 78:
			b.WriteString(",\n")
			line = 0
		case i > 0:
			b.WriteString(", ")
			line += 2
		}
		b.WriteString(item)
		line += len(item)
	}
	return b.String()
}

// grouped writes 31196205 as 31,196,205.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// String says what an image takes and which image that is.
func (e estimate) String() string {
	if e.Error != "" {
		return "none: " + e.Error
	}
	return fmt.Sprintf("about %s in the network on this machine: %d tiles of %s; peak memory %.1f GB\nfor %s: %d x %d x %d voxels of %.4g x %.4g x %.4g mm, without mirroring",
		duration(e.Seconds), e.Tiles, duration(e.SecondsPerTile), float64(e.Memory)/1e9,
		e.Image, e.Size[0], e.Size[1], e.Size[2], e.Spacing[0], e.Spacing[1], e.Spacing[2])
}

// duration rounds seconds to what an estimate can tell.
func duration(seconds float64) string {
	switch {
	case seconds < 10:
		return fmt.Sprintf("%.2g s", seconds)
	case seconds < 120:
		return fmt.Sprintf("%.0f s", seconds)
	}
	return fmt.Sprintf("%.0f min", seconds/60)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func stored(postprocessing bool) string {
	if postprocessing {
		return "stored (--postprocess applies it)"
	}
	return "none stored"
}
