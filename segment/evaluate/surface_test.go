package evaluate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// plainOverlap is the reference of overlapOf: corner by corner, voxel by voxel.
func plainOverlap(p, r []uint16, size, lo, hi [3]int, label uint16, area *[256]float64) overlap {
	var o overlap
	in := func(m []uint16, x, y, z int) int {
		at := [3]int{x, y, z}
		for a := range 3 {
			if at[a] < lo[a] || at[a] >= hi[a] {
				return 0
			}
		}
		if m[(z*size[1]+y)*size[0]+x] == label {
			return 1
		}
		return 0
	}
	code := func(m []uint16, x, y, z int) (code int) {
		for v := range 8 {
			code |= in(m, x-1+v&1, y-1+v>>1&1, z-1+v>>2) << v
		}
		return code
	}
	for z := lo[2]; z <= hi[2]; z++ {
		for y := lo[1]; y <= hi[1]; y++ {
			for x := lo[0]; x <= hi[0]; x++ {
				a, b := in(p, x, y, z), in(r, x, y, z)
				o.predicted, o.expected, o.both = o.predicted+a, o.expected+b, o.both+a*b
				cp, cr := code(p, x, y, z), code(r, x, y, z)
				isP, isR := cp != 0 && cp != 255, cr != 0 && cr != 255
				for _, s := range []struct {
					is, other bool
					code      int
					to        *surface
				}{{isP, isR, cp, &o.prediction}, {isR, isP, cr, &o.reference}} {
					switch {
					case !s.is:
						continue
					case s.other:
						s.to.shared += area[s.code]
					default:
						s.to.away = append(s.to.away, int32(len(s.to.at)))
						s.to.area = append(s.to.area, area[s.code])
					}
					s.to.at = append(s.to.at, point{int32(x), int32(y), int32(z)})
				}
			}
		}
	}
	return o
}

// TestOverlapAgreesWithThePlainOne is about rows around the length of a word, both types of
// voxel, and parts of the volume.
func TestOverlapAgreesWithThePlainOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	area := areas([3]float64{0.7, 1.1, 2})
	for _, nx := range []int{1, 3, 7, 8, 62, 63, 64, 65, 127, 128, 130} {
		size := [3]int{nx, 4, 3}
		p, r := make([]uint16, nx*12), make([]uint16, nx*12)
		for i := range p {
			p[i], r[i] = uint16(1+rng.IntN(2)), uint16(1+rng.IntN(2))
		}
		small := func(m []uint16) []uint8 {
			out := make([]uint8, len(m))
			for i, v := range m {
				out[i] = uint8(v)
			}
			return out
		}
		for range 4 {
			var lo, hi [3]int
			for a := range 3 {
				lo[a] = rng.IntN(size[a])
				hi[a] = lo[a] + 1 + rng.IntN(size[a]-lo[a])
			}
			want := plainOverlap(p, r, size, lo, hi, 2, &area)
			assert.Equal(t, want, overlapOf(p, r, size, lo, hi, 2, &area))
			assert.Equal(t, want, overlapOf(small(p), small(r), size, lo, hi, 2, &area))
		}
	}
}

// TestNearestAgreesWithAllPairs compares the tree with a look at every point.
func TestNearestAgreesWithAllPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, spacing := range [][3]float64{{1, 1, 1}, {0.7, 0.9, 5}, {3, 0.1, 0.1}} {
		for _, n := range []int{1, 2, 8, 9, 40, 700} {
			points := make([]point, n)
			extent := 1 + rng.IntN(60)
			for i := range points {
				points[i] = point{int32(rng.IntN(extent)), int32(rng.IntN(extent)), int32(rng.IntN(extent))}
			}
			seen := map[point]bool{} // surfaces have no point twice
			unique := points[:0]
			for _, p := range points {
				if !seen[p] {
					unique = append(unique, p)
				}
				seen[p] = true
			}
			tr := newTree(unique, spacing)
			hint := int32(0)
			for range 200 {
				q := point{int32(rng.IntN(80) - 10), int32(rng.IntN(80) - 10), int32(rng.IntN(80) - 10)}
				best := math.Inf(1)
				for p := range seen {
					best = min(best, tr.square(p.x-q.x, p.y-q.y, p.z-q.z))
				}
				var got float64
				got, hint = tr.distance(q, hint)
				require.Equal(t, math.Sqrt(best), got)
			}
		}
	}
}

// TestNearestOnALongLine has boxes that cannot be halved evenly, at the largest coordinates.
func TestNearestOnALongLine(t *testing.T) {
	var points []point
	for i := range int32(31) {
		points = append(points, point{1 << i >> 1, 0, 0}, point{0, 1 << i >> 1, 1})
	}
	tr := newTree(points, [3]float64{1, 1, 1})
	for i := int32(1); i < 31; i++ {
		mm, _ := tr.distance(point{1<<i>>1 + 1, 0, 0}, 0)
		assert.LessOrEqual(t, mm, 1.0)
	}
}

func TestExtents(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	size := [3]int{37, 5, 6}
	p, r := make([]uint16, 37*30), make([]uint16, 37*30)
	for i := range p { // runs, as label maps have them
		if i > 0 && rng.IntN(4) > 0 {
			p[i], r[i] = p[i-1], r[i-1]
			continue
		}
		p[i], r[i] = uint16(rng.IntN(6)), uint16(rng.IntN(6))
	}
	want := make([]extent, 300)
	for i := range p {
		x, y, z := i%37, i/37%5, i/37/5
		if p[i] > 0 {
			want[p[i]].predicted++
			want[p[i]].add(x, x+1, y, z)
		}
		if r[i] > 0 {
			want[r[i]].expected++
			want[r[i]].add(x, x+1, y, z)
			want[r[i]].addSlice(z, z+1)
		}
	}
	for _, threads := range []int{1, 2, 9} {
		assert.Equal(t, want, extents(p, r, size, 299, threads))
	}
}
