package train

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/volume"
)

// Metrics is how one label or region of a prediction and its reference agree, in voxels
// that the reference does not ignore (nnunetv2/evaluation/evaluate_predictions.py).
type Metrics struct {
	Dice, IoU        float64 // NaN where the label is in neither
	TP, FP, FN, TN   float64
	Predicted, Truth float64 // n_pred, n_ref
}

// values returns the numbers under nnU-Net's keys, sorted.
func (m *Metrics) values() ([]string, []*float64) {
	return []string{"Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref"},
		[]*float64{&m.Dice, &m.FN, &m.FP, &m.IoU, &m.TN, &m.TP, &m.Predicted, &m.Truth}
}

// CaseMetrics is the comparison of one case.
type CaseMetrics struct {
	Name                  string
	Prediction, Reference string // files
	Metrics               []Metrics
}

// Summary compares a set of predictions with their references: nnU-Net's summary.json.
type Summary struct {
	Keys       []string // of each label or region: "1", or "(1, 2)"
	Cases      []CaseMetrics
	Mean       []Metrics // over the cases that have the label
	Foreground Metrics   // mean of Mean
}

// regions returns the labels or regions that are compared: those of the foreground.
func regions(d *nnunet.Dataset) (keys []string, values [][]int) {
	if !d.HasRegions() {
		for _, v := range d.Values() {
			if v > 0 {
				keys, values = append(keys, strconv.Itoa(v)), append(values, []int{v})
			}
		}
		return keys, values
	}
	for _, r := range d.Regions() {
		key := strconv.Itoa(r.Values[0])
		if len(r.Values) > 1 {
			key = "(" + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(r.Values)), ", "), "[]") + ")"
		}
		keys, values = append(keys, key), append(values, r.Values)
	}
	return keys, values
}

// compare adds the comparison of two label files.
func (s *Summary) compare(ctx context.Context, d *nnunet.Dataset, name, prediction, reference string) error {
	keys, labels := regions(d)
	m, err := compare(ctx, prediction, reference, labels, d.IgnoreLabel)
	if err != nil {
		return err
	}
	s.Keys = keys
	s.Cases = append(s.Cases, CaseMetrics{name, prediction, reference, m})
	return nil
}

// compare compares two label files, for labels and regions that are given by their values;
// ignore is the label that is ignored, or less than 0. Errors: those of reading, Model (maps
// of other sizes).
func compare(ctx context.Context, prediction, reference string, labels [][]int, ignore int) ([]Metrics, error) {
	p, err := imageio.Read(ctx, prediction)
	if err != nil {
		return nil, err
	}
	defer p.Free()
	r, err := imageio.Read(ctx, reference)
	if err != nil {
		return nil, err
	}
	defer r.Free()
	if p.Size != r.Size || p.Channels != 1 || r.Channels != 1 {
		return nil, fault.New(fault.Model, "%s: %v voxels, but the reference %s has %v", prediction, p.Size, reference, r.Size)
	}
	return metrics(values(p.Volume), values(r.Volume), labels, ignore), nil
}

// metrics compares label maps.
func metrics(prediction, reference []float32, regions [][]int, ignore int) []Metrics {
	type pair struct{ p, r float32 }
	counts := map[pair]int{}
	for i := 0; i < len(prediction); { // long runs of the same pair
		k, start := pair{prediction[i], reference[i]}, i
		for i++; i < len(prediction) && prediction[i] == k.p && reference[i] == k.r; i++ {
		}
		counts[k] += i - start
	}
	out := make([]Metrics, len(regions))
	for i, region := range regions {
		m := &out[i]
		for k, n := range counts {
			if ignore >= 0 && int(k.r) == ignore {
				continue
			}
			switch p, r := slices.Contains(region, int(k.p)), slices.Contains(region, int(k.r)); {
			case p && r:
				m.TP += float64(n)
			case p:
				m.FP += float64(n)
			case r:
				m.FN += float64(n)
			default:
				m.TN += float64(n)
			}
		}
		m.Dice, m.IoU = 2*m.TP/(2*m.TP+m.FP+m.FN), m.TP/(m.TP+m.FP+m.FN) // NaN where all are 0
		m.Predicted, m.Truth = m.FP+m.TP, m.FN+m.TP
	}
	return out
}

// average fills Mean and Foreground.
func (s *Summary) average() {
	s.Mean = make([]Metrics, len(s.Keys))
	for i := range s.Keys {
		_, mean := s.Mean[i].values()
		for k := range mean {
			sum, n := 0.0, 0.0
			for j := range s.Cases {
				_, v := s.Cases[j].Metrics[i].values()
				if !math.IsNaN(*v[k]) {
					sum, n = sum+*v[k], n+1
				}
			}
			*mean[k] = sum / n
		}
	}
	_, all := s.Foreground.values()
	for k := range all {
		*all[k] = 0
		for i := range s.Mean {
			_, v := s.Mean[i].values()
			*all[k] += *v[k] / float64(len(s.Mean))
		}
	}
}

// write writes the summary as nnU-Net's summary.json, keys sorted.
func (s *Summary) write(w io.Writer) error {
	var b strings.Builder
	number := func(v float64, whole bool) string {
		switch {
		case math.IsNaN(v):
			return "NaN" // as Python's json module has it
		case whole:
			return strconv.FormatFloat(v, 'f', 0, 64)
		case v == math.Trunc(v) && math.Abs(v) < 1e15:
			return strconv.FormatFloat(v, 'f', 1, 64)
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	object := func(indent string, m Metrics, whole bool) {
		b.WriteString("{\n")
		keys, values := m.values()
		for i, key := range keys {
			comma := ","
			if i == len(keys)-1 {
				comma = ""
			}
			fmt.Fprintf(&b, "%s    %q: %s%s\n", indent, key, number(*values[i], whole && key != "Dice" && key != "IoU"), comma)
		}
		b.WriteString(indent + "}")
	}
	order := make([]int, len(s.Keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return strings.Compare(s.Keys[i], s.Keys[j]) })
	each := func(indent string, m []Metrics, whole bool) {
		b.WriteString("{\n")
		for n, i := range order {
			fmt.Fprintf(&b, "%s    %q: ", indent, s.Keys[i])
			object(indent+"    ", m[i], whole)
			if n < len(order)-1 {
				b.WriteString(",")
			}
			b.WriteString("\n")
		}
		b.WriteString(indent + "}")
	}
	b.WriteString("{\n    \"foreground_mean\": ")
	object("    ", s.Foreground, false)
	b.WriteString(",\n    \"mean\": ")
	each("    ", s.Mean, false)
	b.WriteString(",\n    \"metric_per_case\": [\n")
	for i, c := range s.Cases {
		b.WriteString("        {\n            \"metrics\": ")
		each("            ", c.Metrics, true)
		fmt.Fprintf(&b, ",\n            \"prediction_file\": %s,\n            \"reference_file\": %s\n        }", quoted(c.Prediction), quoted(c.Reference))
		if i < len(s.Cases)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	b.WriteString("    ]\n}")
	_, err := io.WriteString(w, b.String())
	return err
}

// values returns the voxels of a label map, in which labels, whole numbers, are exact.
func values(v *volume.Volume) []float32 {
	out, rows := make([]float32, v.Voxels()), v.Size[1]*v.Size[2]
	kernel.Load(out, kernel.Plane{Data: v.Data, DType: int32(v.DType), Stride: [2]int{v.Size[0], 1}, Shape: [2]int{rows, v.Size[0]}}, kernel.Identity)
	return out
}

// quoted is a JSON text.
func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
