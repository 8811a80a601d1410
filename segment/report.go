package segment

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/report"
	"github.com/libflare/libflare/segment/volume"
)

// isReport tells whether a report may have such a name.
func isReport(path string) bool {
	ending := filepath.Ext(path)
	return strings.EqualFold(ending, ".html") || strings.EqualFold(ending, ".htm")
}

// measure fills in the statistics' organs, all that were looked for.
func (c *call) measure(image, labels *volume.Volume) (err error) {
	var wanted []report.Label
	for _, l := range c.model.labels() {
		if l.Value != 0 && (len(c.options.ROI) == 0 || slices.Contains(c.options.ROI, l.Value)) {
			wanted = append(wanted, report.Label{Value: l.Value, Name: l.Name})
		}
	}
	c.organs, err = report.Measure(image, labels, wanted, c.threads)
	return err
}

// writeReport writes the report of the file in to w. What of the call comes after it is not
// in it.
func (c *call) writeReport(w io.Writer, in, out string, image *imageio.Image, labels *volume.Volume) error {
	stats := c.stats()
	c.phase(phaseWrite) // goes on
	p := report.Page{
		Title: filepath.Base(in), Image: image.Volume, Labels: labels, Organs: c.organs, CT: c.model.ct(), Date: time.Now(), Version: Version,
		Notes: slices.Clone(stats.Notes),
		Phases: []report.Phase{{Name: "read", Seconds: stats.Seconds.Read}, {Name: "preprocess", Seconds: stats.Seconds.Preprocess},
			{Name: "network", Seconds: stats.Seconds.Network}, {Name: "export", Seconds: stats.Seconds.Export}, {Name: "write", Seconds: stats.Seconds.Write}},
	}
	if b := c.options.Box; b != (Box{}) {
		p.Notes = append(p.Notes, fmt.Sprintf("only the box of voxels %v to %v was looked at", b.Lo, b.Hi))
	}
	if image.NotFinite > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%d voxels of the image were NaN or infinite and count as 0", image.NotFinite))
	}
	for _, part := range c.model.parts {
		if part.regions != nil {
			p.Notes = append(p.Notes, "the model's labels are regions that contain each other: each row counts only the voxels that carry its own number")
			break
		}
	}
	call := report.Table{Title: "How it ran"}
	call.Rows = [][2]string{
		{"device", fmt.Sprintf("%s, %s, %d threads", stats.Device, stats.Precision, stats.Threads)}, {"mode", stats.Mode},
		{"tiles", fmt.Sprintf("%d, %d left out", stats.Tiles, stats.Skipped)}, {"mirroring", yes(c.options.Mirror)},
		{"post-processing", yes(c.options.Postprocess)}, {"peak memory", fmt.Sprintf("%.2f GB", float64(stats.PeakMemory)/1e9)},
		{"opening", fmt.Sprintf("%.2f s, before the call", stats.Seconds.Open)}, {"labels", filepath.Base(out)},
	}
	p.Tables = append([]report.Table{call, imageTable(in, image)}, c.model.tables()...)
	return p.Write(c.ctx, w, c.threads)
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// ct reports whether the image's first channel is a CT.
func (m *Model) ct() bool {
	p := m.parts[0]
	return p.preprocess.Channels[0].Scheme == preprocess.CT || strings.EqualFold(p.dataset.Channels[0], "CT")
}

// imageTable is the image's part of the report.
func imageTable(in string, image *imageio.Image) report.Table {
	g := &image.Geometry
	t := report.Table{Title: "Image", Rows: [][2]string{
		{"file", filepath.Base(in)}, {"voxels", fmt.Sprintf("%d × %d × %d, %s", g.Size[0], g.Size[1], g.Size[2], image.DType)},
		{"spacing", fmt.Sprintf("%.4g × %.4g × %.4g mm", g.Spacing[0], g.Spacing[1], g.Spacing[2])},
		{"extent", fmt.Sprintf("%.4g × %.4g × %.4g mm", g.Spacing[0]*float64(g.Size[0]), g.Spacing[1]*float64(g.Size[1]), g.Spacing[2]*float64(g.Size[2]))},
		{"orientation", g.Orientation() + " (LPS system)"}, {"origin", fmt.Sprintf("%.4g, %.4g, %.4g mm", g.Origin[0], g.Origin[1], g.Origin[2])},
	}}
	if g.Direction != volume.Identity {
		d := g.Direction
		t.Rows = append(t.Rows, [2]string{"direction", fmt.Sprintf("%.4g %.4g %.4g\n%.4g %.4g %.4g\n%.4g %.4g %.4g", d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8])})
	}
	if image.Channels > 1 {
		t.Rows = append(t.Rows, [2]string{"channels", fmt.Sprint(image.Channels)})
	}
	return t
}

// tables are the model's cards: one, or one of each of a list.
func (m *Model) tables() (all []report.Table) {
	if m.list != nil {
		all = append(all, report.Table{Title: "Models", Rows: [][2]string{{"list", filepath.Base(m.path)}, {"combined as", m.list.Combine}}})
	}
	for _, p := range m.parts {
		d := p.describe()
		t := report.Table{Title: "Model"}
		add := func(name, text string) {
			if text != "" {
				t.Rows = append(t.Rows, [2]string{name, text})
			}
		}
		join := func(v any) string { return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(v), "[]")), " × ") }
		add("name", d.Task)
		add("file", filepath.Base(d.Path))
		for _, key := range []string{"description", "reference", "licence", "license", "release"} {
			add(key, p.said(key))
		}
		if n := p.dataset.NumTraining; n > 0 {
			add("trained on", fmt.Sprintf("%d cases", n))
		}
		add("network", fmt.Sprintf("%s, configuration %s, %.1f million parameters", d.Network, d.Configuration, float64(d.Parameters)/1e6))
		add("folds", strings.Join(d.Folds, ", "))
		add("input", fmt.Sprintf("%s (%s)", strings.Join(d.Channels, ", "), strings.Join(d.Normalization, ", ")))
		add("spacing", join(d.Spacing)+" mm (slowest axis first)")
		add("patch", join(d.PatchSize)+" voxels")
		add("orientation", d.Orientation)
		add("labels", fmt.Sprint(len(d.Labels)-1))
		if m.digests[p.path] == "" {
			m.digests[p.path] = p.digests()
		}
		add("SHA-256", m.digests[p.path])
		all = append(all, t)
	}
	return all
}

// said is a text of the model's dataset.json, "" where it says nothing.
func (p *part) said(key string) string {
	var all map[string]any
	if json.Unmarshal(p.dataset.Raw, &all) != nil || all[key] == nil {
		return ""
	}
	return fmt.Sprint(all[key])
}

// digests are those of the model's file, or of the checkpoints of a folder, as they are now. A
// file that cannot be read says why: the segmentation is there all the same.
func (p *part) digests() string {
	digest := func(path string) string {
		f, err := os.Open(path)
		if err != nil {
			return err.Error()
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	if info, err := os.Stat(p.path); err != nil || !info.IsDir() {
		return digest(p.path)
	}
	checkpoint := p.options.Checkpoint
	if checkpoint == "" {
		checkpoint = nnunet.DefaultCheckpoint
	}
	var lines []string
	for _, fold := range p.folds {
		name := filepath.Join("fold_"+fold, checkpoint)
		lines = append(lines, name+": "+digest(filepath.Join(p.path, name)))
	}
	return strings.Join(lines, "\n")
}
