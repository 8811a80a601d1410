package segment

import (
	"math"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/volume"
)

// last returns the part whose logits become the model's labels.
func (m *Model) last() *part { return m.parts[len(m.parts)-1] }

// Dataset returns what the model was trained on: its channels and labels, ignored ones
// included. It is not to be changed.
func (m *Model) Dataset() *nnunet.Dataset { return m.last().dataset }

// heads returns how many probabilities a voxel has; 0 where the model has none.
func (m *Model) heads() int {
	if m.list != nil && m.list.Combine == combineParts {
		return 0
	}
	return m.last().heads
}

// labels returns the names and numbers of the label map, background first.
func (m *Model) labels() []Label {
	if m.list != nil {
		return m.list.labels
	}
	return m.parts[0].labels()
}

// segments returns the labels but background, for files that store their names.
func (m *Model) segments() (all []imageio.Segment) {
	for _, l := range m.labels() {
		if l.Value > 0 {
			all = append(all, imageio.Segment{Value: l.Value, Name: l.Name})
		}
	}
	return all
}

// labelType returns the voxel type of label files, as nnU-Net chooses it.
func (m *Model) labelType() volume.DType {
	for _, l := range m.labels() {
		if l.Value > math.MaxUint8 {
			return volume.Uint16
		}
	}
	return volume.Uint8
}

// checkOptions refuses what the model cannot do, before anything is read.
func (m *Model) checkOptions(o *Options, previous, probabilities bool) error {
	if probabilities && m.heads() == 0 {
		return fault.New(fault.Unsupported, "a list of parts has labels only, no probabilities")
	}
	if o.Postprocess {
		if m.list != nil && m.list.Combine == combineEnsemble {
			return fault.New(fault.Argument, "%s: an ensemble stores no post-processing", m.path)
		}
		for _, p := range m.parts {
			if p.steps == nil && (m.heads() == 0 || p == m.last()) { // of a cascade the last alone counts
				return fault.New(fault.Argument, "%s stores no post-processing", p.path)
			}
		}
	}
	if err := m.checkROI(o, probabilities); err != nil {
		return err
	}
	if o.MaxMemory < 0 {
		return fault.New(fault.Argument, "a memory bound of %d bytes: expected 0 (none) or more", o.MaxMemory)
	}
	needed := false
	for i, p := range m.parts {
		stage := p.configuration.PreviousStage
		if stage == "" || i > 0 && m.list.Combine == combineCascade {
			continue
		}
		if needed = true; !previous {
			return fault.New(fault.Argument, "configuration %s of %s is the second stage of a cascade: it needs the labels of stage %s as well (previous)",
				p.configuration.Name, p.path, stage)
		}
	}
	if previous && !needed {
		return fault.New(fault.Argument, "configuration %s takes no labels of a previous stage", m.parts[0].configuration.Name)
	}
	return nil
}

// check refuses volumes that do not fit the model or each other.
func (m *Model) check(image, labels, previous *volume.Volume, probabilities []float32) error {
	for name, v := range map[string]*volume.Volume{"image": image, "labels": labels, "previous labels": previous} {
		if v == nil && name == "previous labels" {
			continue
		}
		if err := v.Check(); err != nil {
			return fault.New(fault.KindOf(err), "%s: %w", name, err)
		}
	}
	if labels.Size != image.Size || labels.Channels != 1 {
		return fault.New(fault.Argument, "labels of %v voxels and %d channels for an image of %v voxels: sizes must agree, with one channel",
			labels.Size, labels.Channels, image.Size)
	}
	if labels.DType != volume.Uint16 && (labels.DType != volume.Uint8 || m.labelType() == volume.Uint16) {
		return fault.New(fault.Argument, "labels of type %s cannot hold the model's labels: use uint8, or uint16 for labels above 255", labels.DType)
	}
	if n := m.heads() * image.Voxels(); probabilities != nil && len(probabilities) != n {
		return fault.New(fault.Argument, "a buffer of %d probabilities, %d heads of %d voxels need %d", len(probabilities), m.heads(), image.Voxels(), n)
	}
	if previous != nil && (previous.Size != image.Size || previous.Channels != 1) {
		return fault.New(fault.Argument, "previous labels of %v voxels and %d channels for an image of %v voxels: sizes must agree, with one channel",
			previous.Size, previous.Channels, image.Size)
	}
	if labels.Overlaps(image) || previous != nil && labels.Overlaps(previous) {
		return fault.New(fault.Argument, "the labels' memory overlaps the image's or the previous labels'")
	}
	return nil
}

// Mode returns the mode in which the model was opened: exact or fast.
func (m *Model) Mode() string {
	if m.parts[0].options.fast() {
		return modeFast
	}
	return modeExact
}

// Describe returns what the model says of itself.
func (m *Model) Describe() Description {
	if m.list == nil {
		d := m.parts[0].describe()
		d.Device, d.Precision, d.Threads = m.session.Device, m.session.Precision, m.session.Threads
		d.Notes = append(d.Notes, m.session.Notes...)
		return d
	}
	d := m.last().describe()
	d.Path, d.Combine, d.Labels, d.Heads = m.path, m.list.Combine, m.labels(), m.heads()
	for _, p := range m.parts {
		d.Models = append(d.Models, p.describe())
	}
	return d
}

func (p *part) describe() Description {
	return Description{
		Path: p.path, Task: p.task(), Configuration: p.configuration.Name, Network: p.network, Parameters: p.parameters, Heads: p.heads,
		Labels: p.labels(), Channels: p.dataset.Channels, Spacing: p.configuration.Spacing, PatchSize: p.configuration.PatchSize, Folds: p.folds,
		MirrorAxes: append([]int{}, p.mirrorAxes...), Normalization: p.configuration.Normalization, Orientation: p.preprocess.Orientation,
		PreviousStage: p.configuration.PreviousStage, Postprocessing: p.steps != nil, Notes: []string{},
	}
}
