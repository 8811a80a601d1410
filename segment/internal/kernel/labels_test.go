package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWinnerAndLast(t *testing.T) {
	eachSet(t, func(t *testing.T) {
		for _, classes := range []int{1, 2, 14, 118} {
			for _, n := range []int{1, 5, 255, 256, 257, 700} {
				r := rand.New(rand.NewPCG(uint64(classes), uint64(n)))
				stride := n + 3
				logits := make([]float32, classes*stride)
				for i := range logits {
					logits[i] = float32(r.IntN(40) - 37) // few values: many are equal
				}
				winner, last := make([]uint16, n+1), make([]uint16, n+1)
				winner[n], last[n] = 77, 78
				Winner(winner, logits, stride, classes, n)
				Last(last, logits, stride, classes, n)
				for i := range n {
					best, positive := 0, 0
					for c := range classes {
						if logits[c*stride+i] > logits[best*stride+i] {
							best = c
						}
						if logits[c*stride+i] > 0 {
							positive = c + 1
						}
					}
					require.EqualValues(t, best, winner[i], "%d classes, voxel %d of %d", classes, i, n)
					require.EqualValues(t, positive, last[i], "%d classes, voxel %d of %d", classes, i, n)
				}
				require.EqualValues(t, [2]uint16{77, 78}, [2]uint16{winner[n], last[n]})
			}
		}
	})
}

type table struct {
	*Line
	name string
}

// tables are lines of many sizes: finer, coarser and equal grids, interpolated or nearest.
func tables() []table {
	var lines []table
	for _, s := range [][2]int{{1, 1}, {1, 9}, {2, 7}, {31, 40}, {33, 200}, {64, 64}, {65, 30}, {200, 7}, {97, 97}, {100, 163}} {
		for _, linear := range []bool{true, false} {
			in, out := s[0], s[1]
			x0, w := make([]int32, out), make([]float32, out)
			for x := range x0 {
				p := min(max((float32(x)+0.5)*float32(in)/float32(out)-0.5, 0), float32(in-1))
				x0[x] = int32(p)
				if linear {
					w[x] = p - float32(int32(p))
				}
			}
			lines = append(lines, table{NewLine(in, x0, w), fmt.Sprintf("%d to %d, linear %t", in, out, linear)})
		}
	}
	return lines
}

// blobs returns rows x in labels in runs of random length, most rows like the one before.
func blobs(r *rand.Rand, rows, in int) []uint16 {
	s := make([]uint16, rows*in)
	for i := range s {
		switch k := r.IntN(40); {
		case i >= in && k > 3:
			s[i] = s[i-in]
		case i > 0 && k > 1:
			s[i] = s[i-1]
		default:
			s[i] = uint16(r.IntN(4))
		}
	}
	return s
}

// expand returns the label of every voxel of a row, and checks that the runs cover it.
func expand(t *testing.T, runs []Run, n int) []uint16 {
	t.Helper()
	labels, at := make([]uint16, n), int32(0)
	for _, r := range runs {
		require.Equal(t, at, r.From)
		require.Greater(t, r.To, r.From)
		for ; at < r.To; at++ {
			labels[at] = r.Label
		}
	}
	require.EqualValues(t, n, at)
	return labels
}

func TestSettle(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	eachSet(t, func(t *testing.T) {
		for _, line := range tables() {
			name := line.name
			in := line.In
			low, high := blobs(r, 3, in), blobs(r, 3, in)
			if r.IntN(2) == 0 {
				copy(high, low)
			}
			row := [2]int{in, 2 * in}
			runs := make([]Run, in)
			n, unsure := line.Settle(runs, low, high, row)
			got := expand(t, runs[:n], len(line.X0))
			corners := func(x int) uint16 {
				a := low[row[0]+x]
				if low[row[1]+x] != a || high[row[0]+x] != a || high[row[1]+x] != a {
					return Unsure
				}
				return a
			}
			for x, x0 := range line.X0 {
				want := corners(int(x0))
				if line.between && int(x0) < in-1 && corners(int(x0)+1) != want {
					want = Unsure
				}
				require.Equal(t, want, got[x], "%s voxel %d", name, x)
				if want == Unsure {
					unsure--
				}
			}
			require.Zero(t, unsure, name)
		}
	})
}

// What Sample computes is equal, bit for bit, to what Logits does; and the way over the
// low-resolution labels gives the labels of Argmax and Regions.
func TestSampleIsLogits(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	eachSet(t, func(t *testing.T) {
		for _, line := range tables() {
			name := line.name
			for _, classes := range []int{2, 14} {
				in, n := line.In, len(line.X0)
				plane := 3 * in
				low, high := noise(classes*plane+Slack), noise(classes*plane+Slack+1)
				// One class stands out over stretches, so that some cells agree.
				for i, label := range blobs(r, 3, in) {
					low[int(label)%classes*plane+i] += 6
					high[int(label)%classes*plane+i] += 6
				}
				c := &Corner{Low: low, High: high, Row: [2]int{in, 2 * in}, Weight: [4]float32{0.1, 0.4, 0.2, 0.3}, Stride: plane, Classes: classes}
				values := make([]uint16, classes)
				for i := range values {
					values[i] = uint16(i * 37 % 251)
				}
				for _, regions := range []bool{false, true} {
					below, above, runs := make([]uint16, plane), make([]uint16, plane), make([]Run, in)
					pick, written := Winner, []uint16(nil)
					if regions {
						pick, written = Last, append([]uint16{0}, values...)
					}
					pick(below, low, plane, classes, plane)
					pick(above, high, plane, classes, plane)
					count, unsure := line.Settle(runs, below, above, c.Row)
					stride := unsure + Slack
					panel, settled := make([]float32, classes*stride), make([]uint16, unsure+1)
					if unsure > 0 {
						line.Sample(panel, stride, c, runs[:count])
						pick(settled, panel, stride, classes, unsure)
					}
					logits := make([][]float32, classes)
					for class := range logits {
						logits[class] = make([]float32, n)
						line.Logits(logits[class], c, class)
						i := 0
						for x, label := range expand(t, runs[:count], n) {
							if label == Unsure {
								require.Equal(t, logits[class][x], panel[class*stride+i], "%s class %d voxel %d", name, class, x)
								i++
							}
						}
					}
					got, want := make([]uint16, n), make([]uint16, n)
					Paint(got, 0, 1, runs[:count], settled, written)
					if regions {
						line.Regions(want, c, values)
					} else {
						line.Argmax(want, c)
					}
					require.Equal(t, want, got, "%s regions %t", name, regions)
				}
			}
		}
	})
}

func TestPaint(t *testing.T) {
	runs := []Run{{0, 3, 1}, {3, 5, Unsure}, {5, 40, 0}, {40, 41, Unsure}, {41, 75, 2}}
	settled, values := []uint16{2, 0, 1}, []uint16{9, 200, 77}
	eachSet(t, func(t *testing.T) {
		for _, step := range []int{1, -1, 3, -2} {
			for _, v := range [][]uint16{nil, values} {
				at, n := 5, 75
				if step < 0 {
					at = 5 - (n-1)*step
				}
				narrow, wide := make([]uint8, 300), make([]uint16, 300)
				Paint(narrow, at, step, runs, settled, v)
				Paint(wide, at, step, runs, settled, v)
				want, next := make([]uint16, 300), 0
				for x, label := range expand(t, runs, n) {
					if label == Unsure {
						label = settled[next]
						next++
					}
					if v != nil {
						label = v[label]
					}
					want[at+x*step] = label
				}
				require.Equal(t, want, wide, "step %d", step)
				for i := range want {
					require.EqualValues(t, want[i], narrow[i], "step %d", step)
				}
			}
		}
	})
}

func TestProduct(t *testing.T) {
	eachSet(t, func(t *testing.T) {
		for _, s := range [][2]int{{1, 1}, {2, 3}, {5, 32}, {6, 7}, {14, 32}, {118, 160}} {
			for _, n := range []int{1, 15, 64, 65, 200} {
				rows, channels := s[0], s[1]
				m := Matrix{Weight: noise(rows * channels), Bias: noise(rows)}
				inStride, outStride := n+5, n+2
				in, out := noise(channels*inStride), make([]float32, rows*outStride)
				m.Product(out, outStride, in, inStride, n, make([]float32, m.ProductScratch()))
				for r := range rows {
					for i := range n {
						want := float64(m.Bias[r])
						for k := range channels {
							want += float64(m.Weight[r*channels+k]) * float64(in[k*inStride+i])
						}
						require.InDelta(t, want, out[r*outStride+i], 1e-6*float64(channels+2), "%v row %d voxel %d of %d", s, r, i, n)
					}
					require.Equal(t, []float32{0, 0}, out[r*outStride+n:(r+1)*outStride])
				}
			}
		}
	})
}
