package student

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/resident"
	"github.com/libflare/libflare/segment/nnunet"
)

// Results is RESULTS.json.
type Results struct {
	Bundle  string        `json:"bundle"`
	Labels  []string      `json:"labels"` // names, without the background
	Rounds  []RoundResult `json:"rounds"`
	Models  []ModelResult `json:"models"` // on the test cases; none without
	Skipped []Skipped     `json:"skipped"`

	Tolerance float64 `json:"tolerance_mm,omitempty"` // of NSD

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
	Passes  int          `json:"passes"` // of a network for each tile: folds x flips
	Agreed               // with the right labels
	Seconds float64      `json:"seconds"`      // for a case, median
	Memory  int64        `json:"memory_bytes"` // largest resident size, beyond what the process held before the model was opened; 0: not known
	Cases   []CaseScores `json:"cases"`
}

// Agreed is how well a model's labels agree with the right ones.
type Agreed struct {
	Dice        []float64  `json:"dice"`          // of each label, mean over the cases
	NSD         []float64  `json:"nsd"`           // likewise
	Mean        float64    `json:"mean_dice"`     // of those
	MeanNSD     float64    `json:"mean_nsd"`      // likewise
	Interval    [2]float64 `json:"dice_interval"` // of the mean over the cases, 95 %, by bootstrap
	NSDInterval [2]float64 `json:"nsd_interval"`
}

// CaseScores is one test case. A label that neither map has scores 1.
type CaseScores struct {
	Case    string    `json:"case"`
	Dice    []float64 `json:"dice"` // of each label
	NSD     []float64 `json:"nsd"`  // likewise
	Seconds float64   `json:"seconds"`
}

// testCase is an image with the labels that are right.
type testCase struct{ name, image, label string }

// model is a bundle that is compared.
type model struct {
	name, file string
	mirror     bool
}

// compare segments the test cases with all models, scores the labels and writes RESULTS.md
// and RESULTS.json.
func (r *runner) compare(models []model) error {
	for _, l := range r.foreground() {
		r.results.Labels = append(r.results.Labels, l.Name)
	}
	test, err := r.testIdentity()
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
		name := strings.NewReplacer(", ", "_", " ", "_", "-", "_").Replace(m.name)
		folder := filepath.Join("comparison", name)
		result := ModelResult{}
		key, err := r.stage(stage{name: "compare_" + name, folder: folder, depends: []any{sum, test, m.mirror, r.Mode}, result: &result, outputs: r.predictions(folder), do: func() error {
			result = ModelResult{}
			return r.evaluate(m, folder, &result)
		}})
		if err != nil {
			return err
		}
		scores := scored{}
		if _, err := r.stage(stage{name: "score_" + name, depends: []any{key, r.Test.Tolerance}, result: &scores, do: func() (err error) {
			scores, err = r.score(folder)
			return err
		}}); err != nil {
			return err
		}
		result.Name, result.File, result.Agreed = m.name, m.file, scores.Agreed
		for i := range result.Cases {
			result.Cases[i].Dice, result.Cases[i].NSD = scores.Cases[i].Dice, scores.Cases[i].NSD
		}
		r.results.Models, r.results.Tolerance = append(r.results.Models, result), r.Test.Tolerance
	}
	if err := r.write(r.path("RESULTS.json"), marshal(&r.results)); err != nil {
		return err
	}
	return r.write(r.path("RESULTS.md"), r.table())
}

// testIdentity digests the test cases' files.
func (r *runner) testIdentity() (string, error) {
	var ids [][]string
	for _, k := range r.test {
		ids = append(ids, []string{k.name, k.image, k.label})
	}
	return r.identity("test", ids)
}

// foreground returns the labels or regions that are compared.
func (r *runner) foreground() []nnunet.Label {
	return slices.DeleteFunc(slices.Clone(r.raw.Dataset.Labels), func(l nnunet.Label) bool { return l.Name == "background" })
}

// predictions returns the files of a model's labels, of the run.
func (r *runner) predictions(folder string) (files []string) {
	for _, k := range r.test {
		files = append(files, filepath.Join(folder, k.name+imageio.Ending(k.image)))
	}
	return files
}

// evaluate segments the test cases with a model, and takes time and memory.
func (r *runner) evaluate(m model, folder string, out *ModelResult) error {
	if err := os.MkdirAll(r.path(folder), 0o777); err != nil {
		return fault.File(r.path(folder), err)
	}
	stop := sync.OnceValue(resident.Watch())
	defer stop()
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
	var seconds []float64
	for i, file := range r.predictions(folder) {
		k := r.test[i]
		r.tell(float64(i)/float64(len(r.test)), "%s", k.name)
		stats, err := s.SegmentFile(r.ctx, k.image, r.path(file), segment.Options{Mirror: m.mirror})
		if err != nil {
			return err
		}
		seconds = append(seconds, stats.Seconds.Total)
		out.Cases = append(out.Cases, CaseScores{Case: k.name, Seconds: stats.Seconds.Total})
	}
	out.Memory = stop()
	slices.Sort(seconds)
	out.Seconds = seconds[len(seconds)/2]
	return nil
}

// table is RESULTS.md.
func (r *runner) table() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: a noisy student\n\n%d cases with manual labels, %d without.\n\n", r.raw.Name, len(r.raw.Cases), len(r.unlabelled))
	for i, k := range r.results.Rounds {
		fmt.Fprintf(&b, "Round %d: %d cases labelled by the teacher, %d kept (`%s/selection.json`); the training's curve is `%[4]s/student/progress.png` (its Dice is of manual labels, on which it is trained).\n", i+1,
			len(k.Labelled), k.Kept, roundFolder(i+1))
	}
	for _, s := range r.results.Skipped {
		fmt.Fprintf(&b, "Skipped: %s (%s)\n", s.Case, s.Reason)
	}
	if len(r.results.Models) == 0 {
		b.WriteString("\nThere are no test cases to compare the models on.\n")
		return b.Bytes()
	}
	fmt.Fprintf(&b, "\nOn %d test cases: mean Dice and NSD (%g mm) with their intervals (bootstrap over the cases); seconds for a case, median; memory beyond what the process held before.\n\n",
		len(r.test), r.results.Tolerance)
	b.WriteString("| model | passes | Dice | 95 % | NSD | 95 % | seconds | memory |\n|---|---|---|---|---|---|---|---|\n")
	for _, m := range r.results.Models {
		memory := "-"
		if m.Memory > 0 {
			memory = fmt.Sprintf("%.0f MB", float64(m.Memory)/1e6)
		}
		fmt.Fprintf(&b, "| %s | %d | %.4f | %.4f to %.4f | %.4f | %.4f to %.4f | %.2f | %s |\n", m.Name, m.Passes, m.Mean, m.Interval[0], m.Interval[1],
			m.MeanNSD, m.NSDInterval[0], m.NSDInterval[1], m.Seconds, memory)
	}
	b.WriteString("\nDice / NSD of each label, means over the cases:\n\n| |")
	for _, m := range r.results.Models {
		fmt.Fprintf(&b, " %s |", m.Name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(r.results.Models)) + "\n")
	for i, l := range r.results.Labels {
		fmt.Fprintf(&b, "| %s |", l)
		for _, m := range r.results.Models {
			fmt.Fprintf(&b, " %.4f / %.4f |", m.Dice[i], m.NSD[i])
		}
		b.WriteString("\n")
	}
	return b.Bytes()
}
