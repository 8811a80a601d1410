package augment

import (
	"math"
	"math/bits"

	"github.com/libflare/libflare/segment/train/random"
)

// Median replaces, with probability PChannel, each voxel of a channel by the median of a
// cube (2-D: a square) of 2 to 7 voxels along each axis, as scipy.ndimage.median_filter.
// Parameters: the channels' sizes, 0 where nothing changes.
type Median struct{ PChannel float64 }

// The sizes of the cube.
const minMedian, maxMedian = 2, 7

func (t Median) Draw(p []float64, r *random.Rand, channels int, _ [3]int) []float64 {
	return perChannel(p, r, channels, t.PChannel, 0, func() float64 { return float64(r.Integer(minMedian, maxMedian+1)) })
}

func (t Median) Apply(s *Sample, p []float64, w *Scratch) {
	for c, size := range p {
		if size != 0 {
			w.median.filter(s.channel(c), s.Shape, int(size))
		}
	}
}

// median filters through ranks: the channel with its mirrored border is sorted once, and
// the window along a row is a set of ranks, as bits, that gains and loses one face of the
// cube per voxel. Its median is seldom far from the last one's.
type median struct {
	sorted, other []uint64 // of padded voxels: values as ordered integers above the voxel's index
	rank          []uint32 // of padded voxels
	in            []uint64 // bit r: rank r is in the window
	some          []uint64 // bit i: in[i] may not be 0
	middle        int      // a rank, and
	below         int      // how many ranks of the window are below it
}

// padded returns how many voxels a channel has with the largest border.
func padded(shape [3]int) int {
	n := 1
	for i, s := range shape {
		if i > 0 || s > 1 {
			s += maxMedian - 1
		}
		n *= s
	}
	return n
}

func (m *median) filter(x []float32, shape [3]int, size int) {
	cube := [3]int{size, size, size}
	if shape[0] == 1 {
		cube[0] = 1
	}
	var full [3]int
	for i := range full {
		full[i] = shape[i] + cube[i] - 1
	}
	m.sort(x, shape, full, cube)
	row, plane := full[2], full[1]*full[2]
	count := cube[0] * cube[1] * cube[2]
	for z := range shape[0] {
		for y := range shape[1] {
			for i := range cube[2] - 1 {
				m.enter(m.rank[z*plane+y*row+i:], cube, plane, row)
			}
			for i := range shape[2] {
				left := m.rank[z*plane+y*row+i:]
				m.enter(left[cube[2]-1:], cube, plane, row)
				x[i] = m.at(count / 2)
				m.leave(left, cube, plane, row)
			}
			x = x[shape[2]:]
			for i := range cube[2] - 1 {
				m.leave(m.rank[z*plane+y*row+shape[2]+i:], cube, plane, row)
			}
		}
	}
}

// enter adds a face of the cube, of which rank[0] is the first voxel, to the window.
func (m *median) enter(rank []uint32, cube [3]int, plane, row int) {
	for dz := range cube[0] {
		for dy := range cube[1] {
			r := int(rank[dz*plane+dy*row])
			m.in[r>>6] |= 1 << (r & 63)
			m.some[r>>12] |= 1 << (r >> 6 & 63)
			m.below += int(uint(r-m.middle) >> 63)
		}
	}
}

// leave takes a face out of the window.
func (m *median) leave(rank []uint32, cube [3]int, plane, row int) {
	for dz := range cube[0] {
		for dy := range cube[1] {
			r := int(rank[dz*plane+dy*row])
			m.in[r>>6] &^= 1 << (r & 63)
			m.below -= int(uint(r-m.middle) >> 63)
		}
	}
}

// sort ranks the channel with its border, equal values by their place.
func (m *median) sort(x []float32, shape, full, cube [3]int) {
	a, b := m.sorted[:0], m.other
	const digits, radix = 3, 1 << 11 // 33 bits in three passes
	var counts [digits][radix]uint32
	for z := range full[0] {
		z := mirrored(z-cube[0]/2, shape[0])
		for y := range full[1] {
			from := x[(z*shape[1]+mirrored(y-cube[1]/2, shape[1]))*shape[2]:][:shape[2]]
			for i := range full[2] {
				v := math.Float32bits(from[mirrored(i-cube[2]/2, shape[2])])
				v ^= uint32(int32(v)>>31) | 1<<31 // ordered as the floats
				for d := range counts {
					counts[d][v>>(11*d)%radix]++
				}
				a = append(a, uint64(v)<<32|uint64(len(a)))
			}
		}
	}
	b = b[:len(a)]
	for d := range counts {
		sum := uint32(0)
		for i, n := range counts[d] {
			counts[d][i], sum = sum, sum+n
		}
		for _, v := range a {
			at := &counts[d][v>>(32+11*d)%radix]
			b[*at] = v
			*at++
		}
		a, b = b, a
	}
	m.sorted, m.other = a[:cap(a)], b[:cap(b)]
	for i, v := range a {
		m.rank[uint32(v)] = uint32(i)
	}
	m.middle, m.below = 0, 0
}

// mirrored returns the index at which i arrives when mirrored at the ends of n voxels
// (scipy's mode "reflect").
func mirrored(i, n int) int {
	for i < 0 || i >= n {
		if i < 0 {
			i = -1 - i
		} else {
			i = 2*n - 1 - i
		}
	}
	return i
}

// at returns the value that below others of the window come before.
func (m *median) at(below int) float32 {
	for m.below > below {
		m.middle = m.last(m.middle - 1)
		m.below--
	}
	m.middle = m.first(m.middle)
	for m.below < below {
		m.middle = m.first(m.middle + 1)
		m.below++
	}
	v := uint32(m.sorted[m.middle] >> 32)
	return math.Float32frombits(v ^ (uint32(int32(^v)>>31) | 1<<31))
}

// first returns the window's first rank from rank on.
func (m *median) first(rank int) int {
	i := rank >> 6
	if word := m.in[i] >> (rank & 63); word != 0 {
		return rank + bits.TrailingZeros64(word)
	}
	for i++; ; i++ {
		some := m.some[i>>6] >> (i & 63)
		if some == 0 {
			i |= 63
			continue
		}
		i += bits.TrailingZeros64(some)
		if m.in[i] != 0 {
			return i<<6 + bits.TrailingZeros64(m.in[i])
		}
		m.some[i>>6] &^= 1 << (i & 63)
	}
}

// last returns the window's last rank up to rank.
func (m *median) last(rank int) int {
	i := rank >> 6
	if word := m.in[i] << (63 - rank&63); word != 0 {
		return rank - bits.LeadingZeros64(word)
	}
	for i--; ; i-- {
		some := m.some[i>>6] << (63 - i&63)
		if some == 0 {
			i &^= 63
			continue
		}
		i -= bits.LeadingZeros64(some)
		if m.in[i] != 0 {
			return i<<6 + 63 - bits.LeadingZeros64(m.in[i])
		}
		m.some[i>>6] &^= 1 << (i & 63)
	}
}
