package evaluate

import "math/bits"

// point is a corner of the grid: (x, y, z) lies between the voxels (x-1, y-1, z-1) and
// (x, y, z).
type point struct{ x, y, z int32 }

// surface is the surface of an organ in one map: an element at every corner of the grid whose
// eight voxels are neither all inside nor all outside, as DeepMind's surface-distance has it.
type surface struct {
	at     []point   // of all elements, in the order z, y, x
	shared float64   // mm^2 of those where the other map has an element too
	away   []int32   // the others, as indices of at ...
	area   []float64 // ... and their mm^2
}

// overlap is what two maps have of a label, and where its surfaces are. What lies outside
// the box that was looked at counts as another label.
type overlap struct {
	predicted, expected, both int // voxels
	prediction, reference     surface
}

// overlapOf compares a label of two maps of the same size (x, y, z) between the voxels lo and
// before hi. area is that of the 256 codes. A voxel is a bit; so 64 corners of the grid are
// looked at together.
func overlapOf[T value](p, r []T, size, lo, hi [3]int, label T, area *[256]float64) (o overlap) {
	n := [3]int{hi[0] - lo[0], hi[1] - lo[1], hi[2] - lo[2]}
	words := n[0]/64 + 1 // of n[0]+1 bits
	rows := n[1] + 2     // with an empty one before and after
	buffer := make([]uint64, 4*rows*words)
	plane := func(i int) []uint64 { return buffer[i*rows*words : (i+1)*rows*words] }
	pBefore, pHere, rBefore, rHere := plane(0), plane(1), plane(2), plane(3)
	for z := range n[2] + 1 {
		if z == n[2] {
			clear(pHere)
			clear(rHere)
		} else {
			for y := range n[1] {
				start := ((lo[2]+z)*size[1]+lo[1]+y)*size[0] + lo[0]
				a, b := pHere[(y+1)*words:(y+2)*words], rHere[(y+1)*words:(y+2)*words]
				o.predicted += pack(a, p[start:start+n[0]], label)
				o.expected += pack(b, r[start:start+n[0]], label)
				for w := range a {
					o.both += bits.OnesCount64(a[w] & b[w])
				}
			}
		}
		for y := range n[1] + 1 {
			pc := corners{pBefore[y*words:], pBefore[(y+1)*words:], pHere[y*words:], pHere[(y+1)*words:]}
			rc := corners{rBefore[y*words:], rBefore[(y+1)*words:], rHere[y*words:], rHere[(y+1)*words:]}
			for w := range words {
				inP, inR := pc.border(w), rc.border(w)
				if inP|inR != 0 {
					at := point{int32(lo[0] + 64*w), int32(lo[1] + y), int32(lo[2] + z)}
					o.prediction.add(pc, w, inP, inR, at, area)
					o.reference.add(rc, w, inR, inP, at, area)
				}
			}
		}
		pBefore, pHere, rBefore, rHere = pHere, pBefore, rHere, rBefore
	}
	return o
}

// corners are the four rows of voxels around a row of corners: of the slice before and this
// one, each the row before and this one.
type corners [4][]uint64

// border returns the bits of word w of the corners whose voxels are not all the same.
func (c corners) border(w int) uint64 {
	any, all := c[0][w]|c[1][w]|c[2][w]|c[3][w], c[0][w]&c[1][w]&c[2][w]&c[3][w]
	left, leftAll := any<<1, all<<1 // the voxel before
	if w > 0 {
		left |= (c[0][w-1] | c[1][w-1] | c[2][w-1] | c[3][w-1]) >> 63
		leftAll |= (c[0][w-1] & c[1][w-1] & c[2][w-1] & c[3][w-1]) >> 63
	}
	return (any | left) &^ (all & leftAll)
}

// add appends the elements at the bits here of word w; other has the other map's. at is that of bit
// 0.
func (s *surface) add(c corners, w int, here, other uint64, at point, area *[256]float64) {
	if here == 0 {
		return
	}
	var left [4]uint64
	for i := range c {
		left[i] = c[i][w] << 1
		if w > 0 {
			left[i] |= c[i][w-1] >> 63
		}
	}
	for ; here != 0; here &= here - 1 {
		i := bits.TrailingZeros64(here)
		code := 0
		for k := 3; k >= 0; k-- {
			code = code<<2 | int(c[k][w]>>i&1)<<1 | int(left[k]>>i&1)
		}
		if other>>i&1 == 1 {
			s.shared += area[code]
		} else {
			s.away = append(s.away, int32(len(s.at)))
			s.area = append(s.area, area[code])
		}
		s.at = append(s.at, point{at.x + int32(i), at.y, at.z})
	}
}
