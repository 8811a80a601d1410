package segment

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// list is a .json file that makes one model of several:
//
//	{"flare_list": 1, "combine": "parts", "models": [
//	  {"path": "organs.onnx", "labels": {"spleen": 1, "liver": 5}},
//	  {"path": "vessels.onnx", "labels": {"aorta": 52}}]}
//
// Paths are relative to the file and name bundles or folders. combine is one of
//
//   - "parts": every model's labels enter one map, under the numbers that "labels"
//     gives to its label names (those not named are dropped; without "labels" the
//     numbers stay). Later models overwrite earlier ones where they are foreground.
//   - "ensemble": models of the same labels; their probabilities are averaged, as
//     nnUNetv2_ensemble does.
//   - "cascade": two models; the labels of the first enter the second, whose
//     configuration names the first's as its previous stage.
type list struct {
	Version int         `json:"flare_list"`
	Combine string      `json:"combine"`
	Models  []listModel `json:"models"`

	labels []Label // of the whole
}

type listModel struct {
	Path   string         `json:"path"`
	Labels map[string]int `json:"labels"`

	to []uint16 // of parts: the final label of each of the model's
}

const (
	combineParts    = "parts"
	combineEnsemble = "ensemble"
	combineCascade  = "cascade"
)

// isList tells a list by its name; a results folder or bundle has another.
func isList(path string) bool { return strings.EqualFold(filepath.Ext(path), ".json") }

// openList reads the list and checks all its models without opening their networks.
func (m *Model) openList(o OpenOptions) error {
	text, err := readFile(m.path)
	if err != nil {
		return err
	}
	l := &list{}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(l); err != nil || l.Version != 1 {
		return fault.New(fault.Format, "%s: not a list of models: expected {\"flare_list\": 1, \"combine\": ..., \"models\": [...]} (%v)", m.path, err)
	}
	if len(l.Models) < 1 || l.Combine == combineCascade && len(l.Models) != 2 {
		return fault.New(fault.Format, "%s: %d models, expected at least 1 (2 for a cascade)", m.path, len(l.Models))
	}
	for i := range l.Models {
		k := &l.Models[i]
		if !filepath.IsAbs(k.Path) {
			k.Path = filepath.Join(filepath.Dir(m.path), k.Path)
		}
		p := &part{path: k.Path, options: o}
		if err := p.read(); err != nil {
			return fault.New(fault.KindOf(err), "%s: model %d: %w", m.path, i+1, err)
		}
		if i > 0 && len(p.dataset.Channels) != len(m.parts[0].dataset.Channels) {
			return fault.New(fault.Model, "%s: %s expects %d channels, %s %d: one image must fit all models", m.path,
				m.parts[0].path, len(m.parts[0].dataset.Channels), p.path, len(p.dataset.Channels))
		}
		m.parts = append(m.parts, p)
	}
	switch l.Combine {
	case combineParts:
		err = l.mapLabels(m.parts)
	case combineEnsemble:
		err = l.sameLabels(m.parts)
	case combineCascade:
		if err = l.sameLabels(m.parts); err == nil && m.parts[1].configuration.PreviousStage != m.parts[0].configuration.Name {
			err = fault.New(fault.Model, "configuration %s of %s follows stage %q, the first model is configuration %s",
				m.parts[1].configuration.Name, m.parts[1].path, m.parts[1].configuration.PreviousStage, m.parts[0].configuration.Name)
		}
	default:
		err = fault.New(fault.Format, "combine is %q, expected parts, ensemble or cascade", l.Combine)
	}
	if err != nil {
		return fault.New(fault.KindOf(err), "%s: %w", m.path, err)
	}
	m.list = l
	return nil
}

// mapLabels makes the tables from each model's labels to the list's.
func (l *list) mapLabels(parts []*part) error {
	l.labels = []Label{{Name: "background"}}
	taken := map[int]string{0: "background"}
	for i, p := range parts {
		k := &l.Models[i]
		k.to = make([]uint16, p.highest()+1)
		unknown := map[string]bool{}
		for name := range k.Labels {
			unknown[name] = true
		}
		for _, label := range p.labels()[1:] {
			value, named := k.Labels[label.Name]
			delete(unknown, label.Name)
			if k.Labels == nil {
				value = label.Value
			} else if !named {
				continue
			}
			if value < 1 || value > 65535 {
				return fault.New(fault.Format, "%s: label %q is given number %d, expected 1 to 65535", p.path, label.Name, value)
			}
			if other, ok := taken[value]; ok && other != label.Name {
				return fault.New(fault.Model, "labels %q and %q (of %s) both have number %d", other, label.Name, p.path, value)
			} else if !ok {
				l.labels = append(l.labels, Label{Name: label.Name, Value: value})
			}
			taken[value] = label.Name
			k.to[label.Value] = uint16(value)
		}
		for name := range unknown {
			return fault.New(fault.Model, "%s has no label %q", p.path, name)
		}
	}
	slices.SortFunc(l.labels, func(a, b Label) int { return a.Value - b.Value })
	return nil
}

// sameLabels checks that all models have the first one's labels.
func (l *list) sameLabels(parts []*part) error {
	l.labels = parts[0].labels()
	for _, p := range parts[1:] {
		if !slices.Equal(p.labels(), l.labels) || p.heads != parts[0].heads || !slices.Equal(p.regions, parts[0].regions) {
			return fault.New(fault.Model, "%s and %s have different labels: %v and %v", parts[0].path, p.path, l.labels, p.labels())
		}
	}
	return nil
}

// segmentList runs the list's models one after the other on one image.
func (c *call) segmentList(image, labels, previous *volume.Volume, probabilities []float32) error {
	m := c.model
	one, err := volume.New(image.Geometry, 1, volume.Uint16)
	if err != nil {
		return err
	}
	defer one.Free()
	clear(labels.Data)
	var own []float32 // one ensemble member's probabilities
	if m.list.Combine == combineEnsemble {
		n := m.heads() * image.Voxels()
		if probabilities == nil {
			if probabilities, err = cmem.Alloc[float32](n); err != nil {
				return err
			}
			defer cmem.Free(probabilities)
		}
		if own, err = cmem.Alloc[float32](n); err != nil {
			return err
		}
		defer cmem.Free(own)
		clear(probabilities)
	}
	for i := range m.parts {
		target, last := resample.Target{Labels: one}, i == len(m.parts)-1
		switch m.list.Combine {
		case combineEnsemble:
			target.Probabilities = own
		case combineCascade:
			if last {
				target, previous = resample.Target{Labels: labels, Probabilities: probabilities}, one
			}
		}
		if c.values = c.roi(); m.list.Combine == combineParts && c.values != nil {
			if c.values = m.list.Models[i].from(c.values); c.values == nil {
				continue // this model has none of them
			}
		}
		box := c.options.Box
		if m.list.Combine == combineCascade && !last {
			c.options.Box = Box{} // the second stage looks at the first's labels around the box as well
		}
		err := c.with(i, func() error { return c.run(image, previous, target) })
		c.options.Box = box
		if err != nil {
			return err
		}
		switch m.list.Combine {
		case combineParts:
			if err := c.postprocess(one); err != nil {
				return err
			}
			merge(labels, one, m.list.Models[i].to, c.threads)
		case combineEnsemble:
			blocks(len(own), c.threads, func(lo, hi int) {
				for j, v := range own[lo:hi] {
					probabilities[lo+j] += v
				}
			})
		}
	}
	switch m.list.Combine {
	case combineEnsemble:
		vote(labels, probabilities, len(m.parts), m.parts[0], c.threads)
	case combineCascade:
		return c.postprocess(labels)
	}
	return nil
}

// from returns the model's own labels behind those of the list; nil: none.
func (k *listModel) from(values []uint16) (own []uint16) {
	for v, to := range k.to {
		if to != 0 && slices.Contains(values, to) {
			own = append(own, uint16(v))
		}
	}
	return own
}

// with opens part i of a list for the time of body. The files must still be those
// that the list was checked with.
func (c *call) with(i int, body func() error) error {
	p := c.model.parts[i]
	r, session, err := p.open(c.ctx, nil)
	if err != nil {
		return err
	}
	defer session.Close()
	if !bytes.Equal(r.plans.Raw, p.plans.Raw) || !bytes.Equal(r.dataset.Raw, p.dataset.Raw) || r.heads != p.heads ||
		r.configuration.Name != p.configuration.Name || !slices.Equal(r.folds, p.folds) {
		return fault.New(fault.Model, "%s has changed since %s was opened", p.path, c.model.path)
	}
	c.use(&part{recipe: *r, path: p.path, options: p.options}, session, i, len(c.model.parts))
	return body()
}

// blocks calls body on parts of [0, n), side by side.
func blocks(n, threads int, body func(lo, hi int)) {
	const block = 1 << 18
	_ = parallel.For((n+block-1)/block, threads, func(_, b int) error {
		body(b*block, min(n, (b+1)*block))
		return nil
	})
}

// merge writes the foreground of one model's labels (uint16) into the whole map.
func merge(labels, one *volume.Volume, to []uint16, threads int) {
	from := volume.As[uint16](one)
	blocks(len(from), threads, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			if v := to[from[i]]; v != 0 {
				setLabel(labels, i, v)
			}
		}
	})
}

// vote averages n models' summed probabilities in place and writes the label map of
// the averages: the most probable class, or the last region above one half.
func vote(labels *volume.Volume, sums []float32, n int, p *part, threads int) {
	voxels, share := labels.Voxels(), 1/float32(n)
	blocks(voxels, threads, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			label, best := uint16(0), float32(-1)
			for class := range p.heads {
				v := sums[class*voxels+i] * share
				sums[class*voxels+i] = v
				if p.regions == nil && v > best {
					label, best = uint16(class), v
				} else if p.regions != nil && v > 0.5 {
					label = p.regions[class]
				}
			}
			setLabel(labels, i, label)
		}
	})
}

func setLabel(v *volume.Volume, i int, label uint16) {
	if v.DType == volume.Uint16 {
		volume.As[uint16](v)[i] = label
	} else {
		v.Data[i] = uint8(label)
	}
}
