package evaluate

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

//go:embed report.html
var page string

var pageTemplate = template.Must(template.New("report").Parse(page))

// worstCases is how many of the worst are shown.
const worstCases = 12

// worst is a label of a case that agrees badly.
type worst struct {
	*Score
	Case    *Case
	Title   string
	Facts   string
	Picture *picture // nil in memory
}

// HTML returns the report as a page that needs no other file: means, box plots of every label,
// and pictures of the worst cases, whose files are read once more. Errors are those of reading,
// and Cancelled.
func (r *Report) HTML(ctx context.Context) ([]byte, error) {
	found, err := r.worst(ctx)
	if err != nil {
		return nil, err
	}
	heads := []string{"label", "cases", "tolerance mm"}
	for _, c := range columns {
		heads = append(heads, c.title)
	}
	var rows [][]string
	for i := range r.Labels {
		m := &r.Labels[i]
		row := []string{m.title(), fmt.Sprint(m.Cases), fmt.Sprintf("%g", m.Tolerance)}
		for _, c := range columns {
			row = append(row, c.ofMean(m).text(c.digits))
		}
		rows = append(rows, row)
	}
	var failed []string
	for name, why := range r.Failed {
		failed = append(failed, name+": "+why)
	}
	slices.Sort(failed)
	var b bytes.Buffer
	err = pageTemplate.Execute(&b, map[string]any{
		"Rules": r.Rules, "Cases": len(r.Cases), "DSC": r.DSC.text(4), "NSD": r.NSD.text(4), "Apart": r.apart(), "Heads": heads, "Rows": rows,
		"Plots": []template.HTML{
			r.boxes("DSC", 1, func(s *Score) Number { return s.DSC }), r.boxes("NSD", 1, func(s *Score) Number { return s.NSD }),
			r.boxes("HD95 mm", 0, func(s *Score) Number { return s.HD95 }),
		},
		"Worst": found, "Notes": r.allNotes(), "Failed": failed,
	})
	return b.Bytes(), err
}

// worst finds the labels of cases with the lowest DSC below 1, and draws those.
func (r *Report) worst(ctx context.Context) ([]worst, error) {
	var all []worst
	for i := range r.Cases {
		c := &r.Cases[i]
		for k := range c.Scores {
			if s := &c.Scores[k]; s.DSC < 1 {
				facts := fmt.Sprintf("DSC %s, NSD %s, HD95 %s mm, %s of %s ml", s.DSC.text(4), s.NSD.text(4), s.HD95.text(1), s.Volume.text(1), s.Reference.text(1))
				all = append(all, worst{Score: s, Case: c, Title: (&Label{Value: s.Label, Name: s.Name}).title(), Facts: facts})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b worst) int {
		switch {
		case a.DSC < b.DSC:
			return -1
		case a.DSC > b.DSC:
			return 1
		}
		return strings.Compare(a.Case.Name, b.Case.Name)
	})
	all = all[:min(worstCases, len(all))]
	byCase := map[*Case][]*worst{} // so that a case is read once
	for i := range all {
		byCase[all[i].Case] = append(byCase[all[i].Case], &all[i])
	}
	for c, of := range byCase {
		if c.Prediction == "" {
			continue
		}
		if err := r.draw(ctx, c, of); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Geometry of a box plot, in pixels.
const (
	plotWidth, plotRight = 460, 50
	plotTop, plotRow     = 26, 24
	plotLetter           = 7 // for names, on the left
)

// boxes draws for each label the spread of a score over the cases: the box from quartile to quartile
// with the median in it, whiskers to the last case within 1.5 times the box's width beyond it
// (Tukey, 1977), dots for cases beyond. The axis goes from 0 to most, or if that is 0 to the end of the
// last whisker: dots beyond it stand at its end, with the number.
func (r *Report) boxes(title string, most float64, of func(*Score) Number) template.HTML {
	values := make([][]float64, len(r.Labels))
	for i, l := range r.Labels {
		for c := range r.Cases {
			for k := range r.Cases[c].Scores {
				if s := &r.Cases[c].Scores[k]; s.Label == l.Value && of(s).defined() {
					values[i] = append(values[i], float64(of(s)))
				}
			}
		}
		slices.Sort(values[i])
	}
	if most == 0 {
		for _, v := range values {
			if len(v) > 0 {
				_, last := whiskers(v)
				most = max(most, last)
			}
		}
		most = max(niceAbove(most), 1)
	}
	left := 0
	for _, l := range r.Labels {
		left = max(left, 20+plotLetter*min(utf8.RuneCountInString(l.title()), 60))
	}
	var b strings.Builder
	height := plotTop + plotRow*len(values) + 24
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" aria-label="%[3]s by label">`, left+plotWidth+plotRight, height, title)
	fmt.Fprintf(&b, `<text x="%d" y="16" class="title">%s</text>`, left, title)
	x := func(v float64) float64 { return float64(left) + plotWidth*v/most }
	for i := range 6 {
		v := most * float64(i) / 5
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1[1]f" y1="%d" y2="%d" class="grid"/><text x="%.1[1]f" y="%[4]d" class="tick">%.4[5]g</text>`, x(v), plotTop, height-20, height-4, v)
	}
	for i, v := range values {
		y := float64(plotTop + plotRow*i + plotRow/2)
		l := r.Labels[i].Label
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" class="name">%s</text>`, left-8, y+4, template.HTMLEscapeString(l.title()))
		if len(v) == 0 {
			continue
		}
		low, middle, high := quantile(v, 0.25), quantile(v, 0.5), quantile(v, 0.75)
		least, last := whiskers(v)
		for _, one := range v {
			if one < least || one > last {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="2.5" class="dot"/>`, x(min(one, most)), y)
			}
		}
		if beyond := v[len(v)-1]; beyond > most {
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" class="beyond">%.3g</text>`, x(most)+6, y+4, beyond)
		}
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1[3]f" class="whisker"/>`, x(least), x(last), y)
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="14" class="box"/>`, x(low), y-7, max(x(high)-x(low), 1))
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1[1]f" y1="%.1f" y2="%.1f" class="median"/>`, x(middle), y-7, y+7)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// whiskers returns where the whiskers of sorted values end.
func whiskers(v []float64) (least, last float64) {
	low, high := quantile(v, 0.25), quantile(v, 0.75)
	reach := 1.5 * (high - low)
	least, last = low, high
	for _, one := range v {
		if one >= low-reach && one <= high+reach {
			least, last = min(least, one), max(last, one)
		}
	}
	return least, last
}

// quantile of sorted values, interpolated linearly as numpy does.
func quantile(v []float64, q float64) float64 {
	at := q * float64(len(v)-1)
	i := int(at)
	if i+1 == len(v) {
		return v[i]
	}
	return v[i] + (at-float64(i))*(v[i+1]-v[i])
}

// niceAbove is the next of 1, 2, 5, 10, 20 .. from x on.
func niceAbove(x float64) float64 {
	if x <= 0 {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(x)))
	for _, n := range []float64{1, 2, 5} {
		if n*unit >= x {
			return n * unit
		}
	}
	return 10 * unit
}
