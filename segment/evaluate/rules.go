package evaluate

import (
	"math"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

// Label is one of the labels that are scored.
type Label struct {
	Value     int     `json:"label"`
	Name      string  `json:"name"` // "" if nothing gives it one
	Tolerance float64 `json:"tolerance_mm"`
}

// Rules says by whose rules label maps are scored. The FLARE challenges' are those of the scripts
// that the organisers published (github.com/JunMa11/FLARE), with their quirks.
type Rules string

// The rules that there are.
const (
	// Plain: every label that either map has (or those that Options names) with one tolerance. A label in
	// neither map of a case has no scores there; one in a single map has DSC and NSD 0, and no distances.
	Plain Rules = "plain"
	// FLARE21: liver, kidney, spleen and pancreas, tolerance 1 mm. A label in neither map has DSC and
	// NSD 1, as in all of FLARE.
	FLARE21 Rules = "flare21"
	// FLARE22: 13 organs with tolerances of their own. NSD is 0 where DSC is below 0.2. Of aorta, inferior
	// vena cava and esophagus only the slices (of the third axis as stored) from the reference's first to
	// before its last one count, so that a reference in a single slice has no score. DSC and NSD are rounded
	// to 4 decimals.
	FLARE22 Rules = "flare22"
	// FLARE23: as FLARE22, with the lesion as 14th label, which has no part in the overall means; means are
	// rounded too.
	FLARE23 Rules = "flare23"
)

// rules is what Rules stands for.
type rules struct {
	labels      []Label
	emptyIsOne  bool  // a label in neither map has DSC and NSD 1
	lowDSC      bool  // NSD is 0 where DSC is below 0.2
	cropped     []int // labels of which only the reference's slices count
	rounded     bool  // DSC and NSD, to 4 decimals
	roundedMean bool
	apart       int // a label that has no part in the overall means; 0: none
}

// organs are the labels of FLARE22 and later, from 1 on.
var organs = []Label{
	{1, "liver", 5}, {2, "right kidney", 3}, {3, "spleen", 3}, {4, "pancreas", 5}, {5, "aorta", 2}, {6, "inferior vena cava", 2},
	{7, "right adrenal gland", 2}, {8, "left adrenal gland", 2}, {9, "gallbladder", 2}, {10, "esophagus", 3}, {11, "stomach", 5},
	{12, "duodenum", 7}, {13, "left kidney", 3}, {14, "lesion", 2},
}

// tubes run on beyond where the reference was drawn: aorta, inferior vena cava, esophagus.
var tubes = []int{5, 6, 10}

// find returns what a name of rules stands for.
func (r Rules) find() (rules, error) {
	switch r {
	case "", Plain:
		return rules{}, nil
	case FLARE21:
		return rules{labels: []Label{{1, "liver", 1}, {2, "kidney", 1}, {3, "spleen", 1}, {4, "pancreas", 1}}, emptyIsOne: true}, nil
	case FLARE22:
		return rules{labels: organs[:13], emptyIsOne: true, lowDSC: true, cropped: tubes, rounded: true}, nil
	case FLARE23:
		return rules{labels: organs, emptyIsOne: true, lowDSC: true, cropped: tubes, rounded: true, roundedMean: true, apart: 14}, nil
	}
	return rules{}, fault.New(fault.Argument, "rules %q are not known: expected %s, %s, %s or %s", string(r), Plain, FLARE21, FLARE22, FLARE23)
}

// round4 rounds to 4 decimals as numpy does, half to even.
func round4(x Number) Number { return Number(math.RoundToEven(float64(x)*1e4) / 1e4) }

// ReadLabels returns the labels of a dataset.json with their names, without the background.
// Datasets with regions or a label to ignore are refused. Other errors are those of
// nnunet.ReadDataset.
func ReadLabels(path string) ([]Label, error) {
	d, err := nnunet.ReadDataset(path)
	if err != nil {
		return nil, err
	}
	if d.HasRegions() || d.IgnoreLabel >= 0 {
		return nil, fault.New(fault.Unsupported, "%s: regions, and labels that are to be ignored, cannot be scored: leave the file out, and single labels are", path)
	}
	var labels []Label
	for _, l := range d.Labels {
		if l.Values[0] != 0 {
			labels = append(labels, Label{Value: l.Values[0], Name: l.Name})
		}
	}
	if len(labels) == 0 {
		return nil, fault.New(fault.Argument, "%s has no label but the background", path)
	}
	return labels, nil
}
