package student

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Decision is what was decided on a case's pseudo-labels.
type Decision struct {
	Case       string   `json:"case"`
	Kept       bool     `json:"kept"`
	Reason     string   `json:"reason"` // why it was not kept; "" else
	Agreement  *float64 `json:"fold_agreement"`
	Previous   *float64 `json:"round_agreement"`
	Foreground int      `json:"foreground_voxels"`
}

// choose decides which cases are kept, in the order of scores. Error: Model (none is).
func (s *Selection) choose(scores []Scores) ([]Decision, error) {
	var out []Decision
	var rest []int // that pass the bounds
	for i, c := range scores {
		d := Decision{Case: c.Case, Agreement: c.Agreement, Previous: c.Previous, Foreground: c.Foreground}
		switch {
		case c.Foreground == 0:
			d.Reason = "no label was found"
		case c.Agreement != nil && *c.Agreement < s.FoldAgreement:
			d.Reason = fmt.Sprintf("fold agreement %.4f is below %g", *c.Agreement, s.FoldAgreement)
		case c.Previous != nil && *c.Previous < s.RoundAgreement:
			d.Reason = fmt.Sprintf("round agreement %.4f is below %g", *c.Previous, s.RoundAgreement)
		default:
			rest = append(rest, i)
		}
		out = append(out, d)
	}
	// By the agreement of folds, or where there is none by that of rounds; by name where
	// both are equal or missing.
	score := func(i int) float64 {
		for _, v := range []*float64{out[i].Agreement, out[i].Previous} {
			if v != nil {
				return *v
			}
		}
		return 1
	}
	slices.SortStableFunc(rest, func(a, b int) int { return cmp.Compare(score(b), score(a)) })
	keep := int(s.Keep*float64(len(rest)) + 0.5)
	if s.Keep > 0 && len(rest) > 0 {
		keep = max(keep, 1)
	}
	for rank, i := range rest {
		if out[i].Kept = rank < keep; !out[i].Kept {
			out[i].Reason = fmt.Sprintf("rank %d of %d by agreement, of which a share of %g is kept", rank+1, len(rest), s.Keep)
		}
	}
	if keep == 0 {
		return out, s.rejected(out)
	}
	return out, nil
}

// rejected explains that no case is left.
func (s *Selection) rejected(all []Decision) error {
	const shown = 10
	if len(all) == 0 {
		return fault.New(fault.Model, "there is no pseudo-label: no unlabelled case could be read")
	}
	best := slices.Clone(all)
	slices.SortStableFunc(best, func(a, b Decision) int { return cmp.Compare(value(b.Agreement), value(a.Agreement)) })
	var list []string
	for _, d := range best[:min(shown, len(best))] {
		list = append(list, d.Case+": "+d.Reason)
	}
	if len(best) > shown {
		list = append(list, fmt.Sprintf("and %d more", len(best)-shown))
	}
	return fault.New(fault.Model, "all %d pseudo-labels were rejected, so there is nothing to train the student on beside the manual labels: "+
		"lower the bounds of \"selection\", or train a better teacher. The best: %s", len(all), strings.Join(list, "; "))
}

func value(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}
