// Package augment is the augmentation of nnU-Net 2.8.1: the transforms of its trainer and
// of its nnUNetTrainerDA5 (both are built of batchgeneratorsv2 0.3.6) in their order, with
// their probabilities and ranges. A transform draws parameters, which are plain numbers,
// and applies them: the same parameters give the same sample again.
//
// Arrays are C-contiguous, index order z,y,x, channels first. A sample of depth 1 is 2-D:
// no transform works along its z axis.
package augment

import "github.com/libflare/libflare/segment/train/random"

// Sample is one patch, in the caller's memory. Transforms work in place.
type Sample struct {
	Shape   [3]int    // D, H, W; D is 1 for two-dimensional samples
	Image   []float32 // channels x D x H x W
	Labels  []int16   // maps x D x H x W: the reference, then for cascades the previous stage; -1 is outside of the case
	Targets []float32 // soft targets and their weights: channels x D x H x W, moved and interpolated as the image, else left alone; may be empty
}

func (s *Sample) voxels() int { return s.Shape[0] * s.Shape[1] * s.Shape[2] }

func (s *Sample) channels() int { return len(s.Image) / s.voxels() }

// channel returns the voxels of a channel of the image.
func (s *Sample) channel(c int) []float32 {
	n := s.voxels()
	return s.Image[c*n : (c+1)*n : (c+1)*n]
}

// Transform is one kind of change. Both methods may be called from several goroutines,
// each with its own p, s and w.
type Transform interface {
	// Draw appends random parameters for a sample of so many channels and that shape to p.
	// No parameters mean no change; a transform with nothing to draw appends a 1.
	Draw(p []float64, r *random.Rand, channels int, shape [3]int) []float64
	// Apply changes the sample: a function of the sample and p, of which there is one
	// number at least. w is scratch memory for samples of that shape.
	Apply(s *Sample, p []float64, w *Scratch)
}

// Random draws its transform's parameters with probability P, else none.
type Random struct {
	P float64
	Transform
}

func (t Random) Draw(p []float64, r *random.Rand, channels int, shape [3]int) []float64 {
	if r.Chance(t.P) {
		p = t.Transform.Draw(p, r, channels, shape)
	}
	return p
}

// OneOf draws one of its transforms, each as likely. Parameters: its index, then its own.
type OneOf []Transform

func (t OneOf) Draw(p []float64, r *random.Rand, channels int, shape [3]int) []float64 {
	i, n := r.IntN(len(t)), len(p)
	if p = t[i].Draw(append(p, float64(i)), r, channels, shape); len(p) == n+1 {
		p = p[:n]
	}
	return p
}

func (t OneOf) Apply(s *Sample, p []float64, w *Scratch) { t[int(p[0])].Apply(s, p[1:], w) }

// around is nnU-Net's draw of factors (BGContrast): from [lo, 1) and from [1, hi), either
// with probability 1/2.
func around(r *random.Rand, lo, hi float64) float64 {
	if r.Chance(0.5) && lo < 1 {
		return r.Uniform(lo, 1)
	}
	return r.Uniform(max(lo, 1), hi)
}

// perChannel appends for each channel, with probability chance, a number from draw, else
// one that stands for no change.
func perChannel(p []float64, r *random.Rand, channels int, chance, none float64, draw func() float64) []float64 {
	for range channels {
		if r.Chance(chance) {
			p = append(p, draw())
		} else {
			p = append(p, none)
		}
	}
	return p
}

// inRandomOrder appends size parameters for each channel that is drawn with probability
// chance: the channel, and what draw sets.
func inRandomOrder(p []float64, r *random.Rand, channels int, chance float64, size int, draw func(p []float64)) []float64 {
	start := len(p)
	for c := range channels {
		if !r.Chance(chance) {
			continue
		}
		p = append(p, float64(c))
		for range size - 1 {
			p = append(p, 0)
		}
		draw(p[len(p)-size:])
		// Fisher and Yates, from the front.
		last := (len(p)-start)/size - 1
		if other := r.IntN(last + 1); other != last {
			a, b := p[start+other*size:][:size], p[start+last*size:][:size]
			for i := range a {
				a[i], b[i] = b[i], a[i]
			}
		}
	}
	return p
}
