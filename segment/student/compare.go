package student

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train"
)

// Results is RESULTS.json.
type Results struct {
	Bundle  string        `json:"bundle"`
	Labels  []string      `json:"labels"` // names, without the background
	Rounds  []RoundResult `json:"rounds"`
	Models  []ModelResult `json:"models"` // on the test cases; none without
	Skipped []Skipped     `json:"skipped"`

	labels     string // digest of the last round's
	unlabelled int
}

// Err returns an error that lists the unlabelled cases that could not be read; nil if there
// are none.
func (r *Results) Err() error { return skippedError(r.Skipped, r.unlabelled) }

// RoundResult is a round's pseudo-labels.
type RoundResult struct {
	Labelled []string `json:"labelled"`
	Kept     int      `json:"kept"`
}

// ModelResult is one model on the test cases.
type ModelResult struct {
	Name    string       `json:"name"`
	File    string       `json:"file"`
	Passes  int          `json:"passes"`       // of a network for each tile: folds x flips
	Dice    []float64    `json:"dice"`         // of each label, mean over the cases
	Mean    float64      `json:"mean_dice"`    // of those
	Seconds float64      `json:"seconds"`      // for a case, median
	Memory  int64        `json:"memory_bytes"` // peak, beyond what the process held before the model was opened; 0: not known
	Cases   []CaseScores `json:"cases"`
}

// CaseScores is one test case.
type CaseScores struct {
	Case    string    `json:"case"`
	Dice    []float64 `json:"dice"` // of each label
	Seconds float64   `json:"seconds"`
}

// testCase is an image with the labels that are right.
type testCase struct{ name, image, label string }

// model is a bundle that is compared.
type model struct {
	name, file string
	mirror     bool
}

// compare segments the test cases with all models and writes RESULTS.md and RESULTS.json.
func (r *runner) compare(models []model) error {
	for _, l := range r.foreground() {
		r.results.Labels = append(r.results.Labels, l.Name)
	}
	var ids [][]string
	for _, k := range r.test {
		ids = append(ids, []string{k.name, k.image, k.label})
	}
	test, err := identity(ids)
	if err != nil {
		return err
	}
	for _, m := range models {
		if len(r.test) == 0 {
			break
		}
		sum, err := fileDigest(m.file)
		if err != nil {
			return err
		}
		result := ModelResult{}
		name := "compare_" + strings.NewReplacer(", ", "_", " ", "_", "-", "_").Replace(m.name)
		folder := filepath.Join("comparison", strings.TrimPrefix(name, "compare_"))
		if _, err := r.stage(stage{name: name, folder: folder, depends: []any{sum, test, m.mirror, r.Mode}, result: &result, do: func() error {
			result = ModelResult{}
			return r.evaluate(m, folder, &result)
		}}); err != nil {
			return err
		}
		result.Name, result.File = m.name, m.file
		r.results.Models = append(r.results.Models, result)
	}
	if err := r.write(r.path("RESULTS.json"), marshal(&r.results)); err != nil {
		return err
	}
	return r.write(r.path("RESULTS.md"), r.table())
}

// foreground returns the labels or regions that are compared.
func (r *runner) foreground() []nnunet.Label {
	return slices.DeleteFunc(slices.Clone(r.raw.Dataset.Labels), func(l nnunet.Label) bool { return l.Name == "background" })
}

// evaluate segments the test cases with a model.
func (r *runner) evaluate(m model, folder string, out *ModelResult) error {
	if err := os.MkdirAll(r.path(folder), 0o777); err != nil {
		return fault.File(r.path(folder), err)
	}
	before := resetPeak()
	s, err := segment.Open(r.ctx, m.file, segment.OpenOptions{Device: r.Device, Threads: r.Threads, Runtime: r.Runtime, Mode: r.Mode})
	if err != nil {
		return err
	}
	defer s.Close()
	d := s.Describe()
	out.Passes = len(d.Folds)
	if m.mirror {
		out.Passes <<= len(d.MirrorAxes)
	}
	var labels [][]int
	for _, l := range r.foreground() {
		labels = append(labels, l.Values)
	}
	var seconds []float64
	for i, k := range r.test {
		r.tell(float64(i)/float64(len(r.test)), "%s", k.name)
		file := r.path(folder, k.name+imageio.Ending(k.image))
		stats, err := s.SegmentFile(r.ctx, k.image, file, segment.Options{Mirror: m.mirror})
		if err != nil {
			return err
		}
		metrics, err := train.Compare(r.ctx, file, k.label, labels, r.raw.Dataset.IgnoreLabel)
		if err != nil {
			return err
		}
		dice := make([]float64, len(metrics))
		for i, m := range metrics {
			if dice[i] = m.Dice; math.IsNaN(m.Dice) {
				dice[i] = 1 // in neither
			}
		}
		if before > 0 {
			out.Memory = max(out.Memory, stats.PeakMemory-before)
		}
		seconds = append(seconds, stats.Seconds.Total)
		out.Cases = append(out.Cases, CaseScores{k.name, dice, stats.Seconds.Total})
	}
	slices.Sort(seconds)
	out.Seconds = seconds[len(seconds)/2]
	out.Dice = make([]float64, len(r.results.Labels))
	for i := range out.Dice {
		for _, c := range out.Cases {
			out.Dice[i] += c.Dice[i] / float64(len(out.Cases))
		}
		out.Mean += out.Dice[i] / float64(len(out.Dice))
	}
	return nil
}

// resetPeak makes the process' peak resident size begin anew, and returns what it is now; 0
// where the system cannot.
func resetPeak() int64 {
	if os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) != nil {
		return 0
	}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(text, []byte("VmRSS:"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kb, _ := strconv.ParseInt(string(fields[0]), 10, 64)
	return kb << 10
}

// table is RESULTS.md.
func (r *runner) table() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: a noisy student\n\n%d cases with manual labels, %d without.\n\n", r.raw.Name, len(r.raw.Cases), len(r.unlabelled))
	for i, k := range r.results.Rounds {
		fmt.Fprintf(&b, "Round %d: %d cases labelled by the teacher, %d kept (`%s/selection.json`); the training's curve is `%[4]s/student/progress.png`.\n", i+1,
			len(k.Labelled), k.Kept, roundFolder(i+1))
	}
	for _, s := range r.results.Skipped {
		fmt.Fprintf(&b, "Skipped: %s (%s)\n", s.Case, s.Reason)
	}
	if len(r.results.Models) == 0 {
		b.WriteString("\nThere are no test cases to compare the models on.\n")
		return b.Bytes()
	}
	fmt.Fprintf(&b, "\nDice on %d test cases, mean; seconds for a case, median; memory beyond what the process held before.\n\n", len(r.test))
	b.WriteString("| model | passes |")
	for _, l := range r.results.Labels {
		fmt.Fprintf(&b, " %s |", l)
	}
	b.WriteString(" mean | seconds | memory |\n|---|---|" + strings.Repeat("---|", len(r.results.Labels)+3) + "\n")
	for _, m := range r.results.Models {
		fmt.Fprintf(&b, "| %s | %d |", m.Name, m.Passes)
		for _, d := range append(slices.Clone(m.Dice), m.Mean) {
			fmt.Fprintf(&b, " %.4f |", d)
		}
		memory := "-"
		if m.Memory > 0 {
			memory = fmt.Sprintf("%.2f GB", float64(m.Memory)/1e9)
		}
		fmt.Fprintf(&b, " %.2f | %s |\n", m.Seconds, memory)
	}
	return b.Bytes()
}
