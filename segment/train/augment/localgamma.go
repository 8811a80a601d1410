package augment

import "github.com/libflare/libflare/segment/train/random"

// LocalGamma raises, with probability PChannel, a channel to a power as Gamma does, but
// leaves mean and deviation alone and mixes the result with the channel by a local weight.
// The power is from [0.01, 0.8) or [1.5, 4). Parameters: for each channel the power, 0
// where nothing changes, and the weight's.
type LocalGamma struct{ PChannel float64 }

func (t LocalGamma) Draw(p []float64, r *random.Rand, channels int, shape [3]int) []float64 {
	return drawLocal(p, r, channels, shape, t.PChannel, func(r *random.Rand) float64 {
		if r.Chance(0.5) {
			return r.Uniform(0.01, 0.8)
		}
		return r.Uniform(1.5, 4)
	})
}

func (t LocalGamma) Apply(s *Sample, p []float64, w *Scratch) {
	weight := w.row[:s.Shape[2]]
	for c := 0; len(p) > 0; c, p = c+1, p[1+blobNumbers:] {
		if p[0] == 0 {
			continue
		}
		x := s.channel(c)
		f := statistics(x)
		size := max(f.hi-f.lo, 1e-8)
		scale := 1 / size
		w.power.set(p[0])
		b := w.setBlob(p[1:], s.Shape)
		for z := range s.Shape[0] {
			for y := range s.Shape[1] {
				b.row(weight, z, y)
				row := x[:len(weight)]
				for i, v := range row {
					u := (v - f.lo) * scale
					row[i] = (u+(w.power.of(u)-u)*weight[i])*size + f.lo
				}
				x = x[len(weight):]
			}
		}
	}
}
