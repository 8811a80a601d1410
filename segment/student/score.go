package student

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train/dataset"
	"github.com/libflare/libflare/segment/volume"
)

// scored is what the stage that scores a model's labels leaves; Cases without seconds.
type scored struct {
	Agreed
	Cases []CaseScores `json:"cases"`
}

// checkTest refuses test cases that could not be scored in the end: those that nnU-Net would
// not train on either. Errors: those of dataset.OpenLabelled.
func (r *runner) checkTest() error {
	if len(r.test) == 0 {
		return nil
	}
	test, err := r.testIdentity()
	if err != nil {
		return err
	}
	_, err = r.stage(stage{name: "test", depends: []any{test, string(r.raw.Dataset.Raw)}, do: func() error {
		for i, k := range r.test {
			r.tell(float64(i)/float64(len(r.test)), "%s", k.name)
			images, err := imageio.CaseFiles(k.image)
			if err != nil {
				return err
			}
			l, err := dataset.OpenLabelled(r.ctx, r.raw.Dataset, nnunet.RawCase{Name: k.name, Images: images, Label: k.label})
			if err != nil {
				return err
			}
			l.Free()
		}
		return nil
	}})
	return err
}

// score compares a model's labels of the test cases with the right ones.
func (r *runner) score(folder string) (out scored, err error) {
	n := len(r.results.Labels)
	out.Dice, out.NSD = make([]float64, n), make([]float64, n)
	var dice, nsd []float64 // means of each case
	for i, file := range r.predictions(folder) {
		k := r.test[i]
		r.tell(float64(i)/float64(len(r.test)), "%s", k.name)
		c := CaseScores{Case: k.name}
		if c.Dice, c.NSD, err = r.scoreCase(r.path(file), k.label); err != nil {
			return scored{}, err
		}
		for at := range n {
			out.Dice[at] += c.Dice[at] / float64(len(r.test))
			out.NSD[at] += c.NSD[at] / float64(len(r.test))
		}
		out.Cases = append(out.Cases, c)
		dice, nsd = append(dice, mean(c.Dice)), append(nsd, mean(c.NSD))
	}
	out.Mean, out.MeanNSD = mean(out.Dice), mean(out.NSD)
	out.Interval, out.NSDInterval = interval(dice), interval(nsd)
	return out, nil
}

// scoreCase returns Dice and NSD of each label or region. Voxels that the reference ignores are
// background in both maps; where a label is in neither, it scores 1.
func (r *runner) scoreCase(prediction, reference string) (dice, nsd []float64, err error) {
	p, err := imageio.Read(r.ctx, prediction)
	if err != nil {
		return nil, nil, err
	}
	defer p.Free()
	right, err := imageio.Read(r.ctx, reference)
	if err != nil {
		return nil, nil, err
	}
	defer right.Free()
	if p.Size != right.Size { // the rest of the grid is the image's, and checkTest compared it
		return nil, nil, fault.New(fault.Model, "%s: %v voxels, but the reference %s has %v", prediction, p.Size, reference, right.Size)
	}
	a, err := values(p.Volume)
	if err != nil {
		return nil, nil, fault.New(fault.KindOf(err), "%s: %w", prediction, err)
	}
	b, err := values(right.Volume)
	if err != nil {
		return nil, nil, fault.New(fault.KindOf(err), "%s: %w", reference, err)
	}
	maps := [2]*volume.Volume{}
	for i := range maps {
		data, err := cmem.Alloc[uint8](2 * right.Voxels())
		if err != nil {
			return nil, nil, err
		}
		defer cmem.Free(data)
		if maps[i], err = volume.Wrap(right.Geometry, 1, volume.Uint16, data); err != nil {
			return nil, nil, err
		}
	}
	ignore := r.raw.Dataset.IgnoreLabel
	for _, look := range r.looks() {
		mine, truth := volume.As[uint16](maps[0]), volume.As[uint16](maps[1])
		for i := range truth {
			v, w := a(i), b(i)
			if mine[i], truth[i] = look.of(v), look.of(w); ignore >= 0 && w == ignore {
				mine[i], truth[i] = 0, 0
			}
		}
		report, err := evaluate.Volumes(r.ctx, maps[0], maps[1], evaluate.Options{Labels: look.labels, Tolerance: r.Test.Tolerance, Threads: r.Threads})
		if err != nil {
			return nil, nil, fault.New(fault.KindOf(err), "%s: %w", prediction, err)
		}
		for _, s := range report.Cases[0].Scores {
			dice, nsd = append(dice, orOne(s.DSC)), append(nsd, orOne(s.NSD))
		}
	}
	return dice, nsd, nil
}

// look is one way of looking at label maps: some labels, numbered from 1 on.
type look struct {
	labels []evaluate.Label
	number []uint16 // of the label that has a value
}

// looks returns one for all labels, or for every region, as they share values, its own.
func (r *runner) looks() (looks []look) {
	most := slices.Max(r.raw.Dataset.Values())
	for i, l := range r.foreground() {
		if i == 0 || r.raw.Dataset.HasRegions() {
			looks = append(looks, look{number: make([]uint16, most+1)})
		}
		k := &looks[len(looks)-1]
		n := len(k.labels) + 1
		k.labels = append(k.labels, evaluate.Label{Value: n, Name: l.Name})
		for _, v := range l.Values {
			k.number[v] = uint16(n)
		}
	}
	return looks
}

// of returns the number of the label that has a value; 0 where none has.
func (l *look) of(value int) uint16 {
	if value < 0 || value >= len(l.number) {
		return 0
	}
	return l.number[value]
}

func orOne(n evaluate.Number) float64 {
	if math.IsNaN(float64(n)) {
		return 1
	}
	return float64(n)
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// interval returns where 95 % of the means of 10000 samples with replacement lie; always the
// same for the same numbers.
func interval(x []float64) [2]float64 {
	const draws = 10000
	random := rand.New(rand.NewPCG(0, 0))
	means := make([]float64, draws)
	for i := range means {
		for range x {
			means[i] += x[random.IntN(len(x))] / float64(len(x))
		}
	}
	slices.Sort(means)
	return [2]float64{means[draws/40], means[draws-1-draws/40]}
}
