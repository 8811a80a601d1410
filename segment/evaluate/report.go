package evaluate

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Report is what was found in one or more cases. As JSON it is what `flare evaluate --json`
// writes and the C interface gives.
type Report struct {
	Rules  Rules             `json:"rules"`
	Labels []Mean            `json:"labels"` // of each label over the cases
	DSC    Number            `json:"dsc"`    // means over the labels
	NSD    Number            `json:"nsd"`
	Cases  []Case            `json:"cases"`
	Failed map[string]string `json:"failed"` // cases that could not be scored, and why
	Notes  []string          `json:"notes"`

	job *job
}

// Mean holds the means of a label's scores over the cases that have them.
type Mean struct {
	Label
	Cases     int    `json:"cases"` // that have a DSC
	DSC       Number `json:"dsc"`
	NSD       Number `json:"nsd"`
	ASSD      Number `json:"assd_mm"`
	HD        Number `json:"hd_mm"`
	HD95      Number `json:"hd95_mm"`
	RAVD      Number `json:"ravd"`
	Volume    Number `json:"volume_ml"`
	Reference Number `json:"reference_volume_ml"`
}

// columns are the scores in the order in which they are written.
var columns = []struct {
	name, title string
	of          func(*Score) *Number
	ofMean      func(*Mean) *Number
	digits      int
}{
	{"dsc", "DSC", func(s *Score) *Number { return &s.DSC }, func(m *Mean) *Number { return &m.DSC }, 4},
	{"nsd", "NSD", func(s *Score) *Number { return &s.NSD }, func(m *Mean) *Number { return &m.NSD }, 4},
	{"assd_mm", "ASSD mm", func(s *Score) *Number { return &s.ASSD }, func(m *Mean) *Number { return &m.ASSD }, 2},
	{"hd_mm", "HD mm", func(s *Score) *Number { return &s.HD }, func(m *Mean) *Number { return &m.HD }, 2},
	{"hd95_mm", "HD95 mm", func(s *Score) *Number { return &s.HD95 }, func(m *Mean) *Number { return &m.HD95 }, 2},
	{"ravd", "RAVD", func(s *Score) *Number { return &s.RAVD }, func(m *Mean) *Number { return &m.RAVD }, 3},
	{"volume_ml", "volume ml", func(s *Score) *Number { return &s.Volume }, func(m *Mean) *Number { return &m.Volume }, 1},
	{"reference_volume_ml", "reference ml", func(s *Score) *Number { return &s.Reference }, func(m *Mean) *Number { return &m.Reference }, 1},
}

// report sums cases up.
func (j *job) report(cases []Case) *Report {
	r := &Report{Rules: j.Rules, Cases: cases, Failed: map[string]string{}, Notes: []string{}, job: j}
	labels := j.labels
	if j.found {
		labels = union(cases, j.Tolerance)
	}
	r.Labels = make([]Mean, len(labels))
	sums := make([]mean, len(columns))
	var dsc, nsd mean
	for i, l := range labels {
		m := &r.Labels[i]
		m.Label = l
		clear(sums)
		for c := range cases {
			for k := range cases[c].Scores {
				if s := &cases[c].Scores[k]; s.Label == l.Value {
					for at, column := range columns {
						sums[at].add(*column.of(s))
					}
				}
			}
		}
		m.Cases = sums[0].n
		for at, column := range columns {
			*column.ofMean(m) = sums[at].value()
		}
		if j.roundedMean {
			m.DSC, m.NSD = round4(m.DSC), round4(m.NSD)
		}
		if l.Value != j.apart {
			dsc.add(m.DSC)
			nsd.add(m.NSD)
		}
	}
	if r.DSC, r.NSD = dsc.value(), nsd.value(); j.roundedMean {
		r.DSC, r.NSD = round4(r.DSC), round4(r.NSD)
	}
	return r
}

// union returns the labels of all cases in ascending order.
func union(cases []Case, tolerance float64) (labels []Label) {
	has := make([]bool, maxLabel+1)
	for _, c := range cases {
		for _, s := range c.Scores {
			has[s.Label] = true
		}
	}
	for value, is := range has {
		if is {
			labels = append(labels, Label{Value: value, Tolerance: tolerance})
		}
	}
	return labels
}

// JSON returns the report as indented JSON.
func (r *Report) JSON() []byte {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		panic(err) // the types above always can be written
	}
	return append(b, '\n')
}

// CSV returns a line for each case and label; what is not defined is empty.
func (r *Report) CSV() []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	row := []string{"case", "label", "name"}
	for _, c := range columns {
		row = append(row, c.name)
	}
	_ = w.Write(row) // a buffer takes everything
	for i := range r.Cases {
		c := &r.Cases[i]
		for k := range c.Scores {
			s := &c.Scores[k]
			row = append(row[:0], c.Name, strconv.Itoa(s.Label), s.Name)
			for _, column := range columns {
				text := ""
				if v := *column.of(s); v.defined() {
					text = strconv.FormatFloat(float64(v), 'g', -1, 64)
				}
				row = append(row, text)
			}
			_ = w.Write(row)
		}
	}
	w.Flush()
	return b.Bytes()
}

// Text writes the means of the labels as a table for a terminal, and below it the notes.
func (r *Report) Text(out io.Writer) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "label\tcases\ttolerance mm\t")
	for _, c := range columns {
		fmt.Fprint(w, c.title, "\t")
	}
	fmt.Fprintln(w)
	for i := range r.Labels {
		m := &r.Labels[i]
		fmt.Fprintf(w, "%s\t%d\t%g\t", m.title(), m.Cases, m.Tolerance)
		for _, c := range columns {
			fmt.Fprint(w, c.ofMean(m).text(c.digits), "\t")
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "mean\t%d\t\t%s\t%s\t\n", len(r.Cases), r.DSC.text(4), r.NSD.text(4))
	w.Flush()
	if apart := r.apart(); apart != "" {
		fmt.Fprintf(&b, "The mean is without %s.\n", apart)
	}
	for _, note := range r.allNotes() {
		fmt.Fprintln(&b, note)
	}
	_, err := out.Write(b.Bytes())
	return err
}

// apart names the label that has no part in the means, "" if there is none.
func (r *Report) apart() string {
	for _, m := range r.Labels {
		if m.Value == r.job.apart {
			return m.title()
		}
	}
	return ""
}

// maxNotes bounds how many cases a note names.
const maxNotes = 5

// allNotes gathers the notes of the report and, each kind once, those of its cases.
func (r *Report) allNotes() []string {
	out := append([]string{}, r.Notes...)
	cases := map[string][]string{}
	var order []string
	for _, c := range r.Cases {
		for _, note := range c.Notes {
			what, _, _ := strings.Cut(note, ":") // the numbers of voxels differ
			if cases[what] == nil {
				order = append(order, what)
			}
			cases[what] = append(cases[what], c.Name)
		}
	}
	for _, what := range order {
		in := cases[what]
		switch {
		case len(r.Cases) == 1:
			out = append(out, what)
		case len(in) > maxNotes:
			out = append(out, fmt.Sprintf("%s (%s and %d more cases)", what, strings.Join(in[:maxNotes], ", "), len(in)-maxNotes))
		default:
			out = append(out, fmt.Sprintf("%s (%s)", what, strings.Join(in, ", ")))
		}
	}
	return out
}

// text writes a number with so many decimals, "-" if it is not defined.
func (n Number) text(digits int) string {
	if !n.defined() {
		return "-"
	}
	return strconv.FormatFloat(float64(n), 'f', digits, 64)
}
