package augment

import "github.com/libflare/libflare/segment/train/random"

// Component removes from each of the last Channels channels, which hold zeros and ones,
// with probability PChannel one of its connected components (voxels that touch, be it at a
// corner) of less than Most of all voxels, each as likely, in random order. Parameters, for
// each removal: the channel among the last, and where from 0 to 1 the component stands
// among those, in the order of their first voxels.
type Component struct {
	Channels       int
	PChannel, Most float64
}

func (t Component) Draw(p []float64, r *random.Rand, _ int, _ [3]int) []float64 {
	return inRandomOrder(p, r, t.Channels, t.PChannel, 2, func(p []float64) { p[1] = r.Float64() })
}

func (t Component) Apply(s *Sample, p []float64, w *Scratch) {
	n, first := s.voxels(), s.channels()-t.Channels
	seen := w.bytes()[:n]
	for ; len(p) > 0; p = p[2:] {
		x := s.channel(first + int(p[0]))
		small := 0
		each := func(found func(component []int32)) {
			clear(seen)
			for i, v := range x {
				if v != 0 && seen[i] == 0 {
					if c := w.component(x, seen, s.Shape, i); float64(len(c)) < t.Most*float64(n) {
						found(c)
					}
				}
			}
		}
		each(func([]int32) { small++ })
		chosen, at := int(p[1]*float64(small)), 0
		each(func(c []int32) {
			if at == chosen {
				for _, i := range c {
					x[i] = 0
				}
			}
			at++
		})
	}
}

// component returns the voxels of the component around voxel i, and marks them seen.
func (w *Scratch) component(x []float32, seen []uint8, shape [3]int, i int) []int32 {
	found := append(w.queue[:0], int32(i))
	seen[i] = 1
	for next := 0; next < len(found); next++ {
		at := int(found[next])
		cz, cy, cx := at/(shape[1]*shape[2]), at/shape[2]%shape[1], at%shape[2]
		for z := max(0, cz-1); z <= min(cz+1, shape[0]-1); z++ {
			for y := max(0, cy-1); y <= min(cy+1, shape[1]-1); y++ {
				for x1 := max(0, cx-1); x1 <= min(cx+1, shape[2]-1); x1++ {
					if j := (z*shape[1]+y)*shape[2] + x1; x[j] != 0 && seen[j] == 0 {
						seen[j] = 1
						found = append(found, int32(j))
					}
				}
			}
		}
	}
	return found
}
