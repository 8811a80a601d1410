package augment

import (
	"math"

	"github.com/libflare/libflare/segment/train/random"
)

// LowResolution shrinks, with probability PChannel, a channel by a factor from [Lo, Hi)
// (nearest neighbour) and enlarges it again (linear); Planar leaves the z axis out.
// Parameters: for each channel the factors of z, y, x; 0 where nothing changes.
type LowResolution struct {
	Lo, Hi, PChannel float64
	Planar           bool
}

func (t LowResolution) Draw(p []float64, r *random.Rand, channels int, shape [3]int) []float64 {
	for range channels {
		if !r.Chance(t.PChannel) {
			p = append(p, 0, 0, 0)
			continue
		}
		factor := r.Uniform(t.Lo, t.Hi)
		if t.Planar || shape[0] == 1 {
			p = append(p, 1, factor, factor)
		} else {
			p = append(p, factor, factor, factor)
		}
	}
	return p
}

func (t LowResolution) Apply(s *Sample, p []float64, w *Scratch) {
	h, wide := s.Shape[1], s.Shape[2]
	for c := 0; len(p) > 0; c, p = c+1, p[3:] {
		if p[0] == 0 {
			continue
		}
		var low [3]int
		for i, n := range s.Shape {
			low[i] = lowResolution(w.nearest[i], w.between[i], n, p[i])
		}
		x, out := s.channel(c), w.spare
		nearY, nearX := w.nearest[1][:low[1]], w.nearest[2][:low[2]]
		plane, row := w.plane[:low[1]*low[2]], w.row[:low[2]]
		for z, at := range w.between[0][:s.Shape[0]] {
			// One plane between two of the small array, then rows between two of that.
			a, b := x[int(w.nearest[0][at.low])*h*wide:], x[int(w.nearest[0][at.high])*h*wide:]
			for i, y := range nearY {
				a, b, to := a[int(y)*wide:][:wide], b[int(y)*wide:][:wide], plane[i*low[2]:][:low[2]]
				for j, near := range nearX {
					to[j] = a[near] + at.weight*(b[near]-a[near])
				}
			}
			for y, at := range w.between[1][:h] {
				a, b := plane[int(at.low)*low[2]:][:low[2]], plane[int(at.high)*low[2]:][:low[2]]
				for j := range row {
					row[j] = a[j] + at.weight*(b[j]-a[j])
				}
				to := out[(z*h+y)*wide:][:wide]
				for i, at := range w.between[2][:wide] {
					to[i] = row[at.low] + at.weight*(row[at.high]-row[at.low])
				}
			}
		}
		copy(x, out)
	}
}

// between is a place between two neighbours: low + weight*(high-low).
type between struct {
	low, high int32
	weight    float32
}

// lowResolution fills in, for an axis of n voxels, which of them each voxel of the smaller
// axis is, and between which of those each voxel lies when it is enlarged again
// (torch.nn.functional.interpolate, "nearest-exact" and "linear"). It returns the smaller
// axis' length.
func lowResolution(nearest []int32, places []between, n int, factor float64) int {
	low := max(1, int(math.RoundToEven(float64(n)*float64(float32(factor)))))
	scale := float32(n) / float32(low)
	for i := range low {
		nearest[i] = int32(min(int((float32(i)+0.5)*scale), n-1))
	}
	scale = float32(low) / float32(n)
	for i := range n {
		at := max(0, (float32(i)+0.5)*scale-0.5)
		j := min(int(at), low-1)
		places[i] = between{int32(j), int32(min(j+1, low-1)), at - float32(j)}
	}
	return low
}
