package augment

import "github.com/libflare/libflare/segment/train/random"

// Pipeline is all that happens to a sample. It does not change and may be used from
// several goroutines.
type Pipeline struct {
	Channels   int // of the cases' images
	Maps       int // of the cases' labels: 1, for cascades 2
	Spatial    Spatial
	Transforms []Transform // in this order, after Spatial
}

// Parameters are all that was drawn for a sample.
type Parameters struct {
	Numbers []float64 // those of Spatial, then those of the transforms
	End     []int     // where those of each end
}

// Draw replaces p by parameters for one sample.
func (t *Pipeline) Draw(p *Parameters, r *random.Rand) {
	p.Numbers, p.End = t.Spatial.Draw(p.Numbers[:0], r), p.End[:0]
	p.End = append(p.End, len(p.Numbers))
	for _, step := range t.Transforms {
		p.Numbers = step.Draw(p.Numbers, r, t.Channels, t.Spatial.Patch)
		p.End = append(p.End, len(p.Numbers))
	}
}

// Make fills a sample of the pipeline's patch from a case. corner is the first voxel of
// Spatial.Box in the case. s.Image has the capacity for the case's channels and, in
// cascades, for the one-hot ones; s.Labels that for the maps, of which one stays; s.Targets
// is as long as the case's soft targets. The sample is a function of the case, corner and
// p. Errors are the source's.
func (t *Pipeline) Make(s *Sample, src Source, corner [3]int, p *Parameters, w *Scratch) error {
	s.Shape = t.Spatial.Patch
	s.Image, s.Labels = s.Image[:t.Channels*s.voxels()], s.Labels[:t.Maps*s.voxels()]
	if err := t.Spatial.Cut(s, src, corner, p.Numbers[:p.End[0]], w); err != nil {
		return err
	}
	for i, step := range t.Transforms {
		if numbers := p.Numbers[p.End[i]:p.End[i+1]]; len(numbers) > 0 {
			step.Apply(s, numbers, w)
		}
	}
	return nil
}
