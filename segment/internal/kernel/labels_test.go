package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWinnerTopAndLast(t *testing.T) {
	eachSet(t, func(t *testing.T) {
		for _, classes := range []int{1, 2, 3, 4, 5, 6, 14, 118} {
			for _, n := range []int{1, 5, 63, 64, 255, 256, 257, 700, 8192, 8193} {
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
				top, second := make([]uint16, n+1), make([]float32, n+1)
				top[n], second[n] = winner[n], 79
				Top(top, second, logits, stride, classes, n)
				require.Equal(t, winner, top)
				require.EqualValues(t, 79, second[n])
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
					others := float32(math.Inf(-1))
					for c := range classes {
						if c != best {
							others = max(others, logits[c*stride+i])
						}
					}
					if classes > 1 {
						require.Equal(t, others, second[i], "%d classes, voxel %d of %d", classes, i, n)
					}
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

// cases returns rows of the two planes of three rows: in the same cells with different
// weights, in other rows, in one row, in one plane.
func cases(in int) []Row {
	n := int64(in)
	return []Row{
		{Offset: [2]int64{n, 2 * n}, Plane: [2]int32{0, 1}, Weight: [4]float32{0.1, 0.4, 0.2, 0.3}},
		{Offset: [2]int64{n, 2 * n}, Plane: [2]int32{0, 1}, Weight: [4]float32{0.3, 0.2, 0.4, 0.1}},
		{Offset: [2]int64{n, 2 * n}, Plane: [2]int32{0, 1}, Weight: [4]float32{0.7, 0.1, 0.1, 0.1}},
		{Offset: [2]int64{0, n}, Plane: [2]int32{0, 1}, Weight: [4]float32{0.25, 0.25, 0.25, 0.25}},
		{Offset: [2]int64{0, n}, Plane: [2]int32{1, 1}, Weight: [4]float32{0.2, 0.8, 0, 0}},
		{Offset: [2]int64{n, n}, Plane: [2]int32{0, 0}, Weight: [4]float32{1, 0, 0, 0}},
	}
}

func TestSettle(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	eachSet(t, func(t *testing.T) {
		for _, line := range tables() {
			name := line.name
			in := line.In
			p := &Planes{Labels: [2][]uint16{blobs(r, 3, in), blobs(r, 3, in)}}
			if r.IntN(2) == 0 {
				copy(p.Labels[1], p.Labels[0])
			}
			rows := cases(in)
			runs := make([]Run, len(rows)*in)
			line.Settle(rows, runs, p)
			assert.Equal(t, rows[0].Runs, rows[2].Runs, "they share a cell")
			for _, row := range rows {
				got := expand(t, runs[row.Runs:row.Runs+row.Count], len(line.X0))
				corners := func(x int) uint16 {
					low, high := p.Labels[row.Plane[0]], p.Labels[row.Plane[1]]
					a := low[int(row.Offset[0])+x]
					if low[int(row.Offset[1])+x] != a || high[int(row.Offset[0])+x] != a || high[int(row.Offset[1])+x] != a {
						return Unsure
					}
					return a
				}
				unsure := int32(0)
				for x, x0 := range line.X0 {
					want := corners(int(x0))
					if line.between && int(x0) < in-1 && corners(int(x0)+1) != want {
						want = Unsure
					}
					require.Equal(t, want, got[x], "%s voxel %d", name, x)
					if want == Unsure {
						unsure++
					}
				}
				require.Equal(t, unsure, row.Unsure, name)
			}
		}
	})
}

// What Sample computes is equal, bit for bit, to what Logits does; and the way over the
// low-resolution labels gives the labels that those logits have, with Sample and with Decide.
func TestSampleIsLogits(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	eachSet(t, func(t *testing.T) {
		for _, line := range tables() {
			name := line.name
			for _, classes := range []int{1, 2, 14} {
				in, n := line.In, len(line.X0)
				plane := 3 * in
				p := &Planes{Logits: [2][]float32{noise(classes*plane + Slack), noise(classes*plane + Slack + 1)}, Stride: plane, Channels: classes}
				// One class stands out over stretches, so that some cells agree.
				for i, label := range blobs(r, 3, in) {
					p.Logits[0][int(label)%classes*plane+i] += 6
					p.Logits[1][int(label)%classes*plane+i] += 6
				}
				values := make([]uint16, classes)
				for i := range values {
					values[i] = uint16(i * 37 % 251)
				}
				for _, regions := range []bool{false, true} {
					pick, written := Winner, []uint16(nil)
					if regions {
						pick, written = Last, append([]uint16{0}, values...)
					}
					for i := range p.Labels {
						p.Labels[i] = make([]uint16, plane)
						pick(p.Labels[i], p.Logits[i], plane, classes, plane)
					}
					rows := cases(in)
					runs := make([]Run, len(rows)*in)
					line.Settle(rows, runs, p)
					room := 0
					for i := range rows {
						rows[i].At, rows[i].Place = int64(i*n), int32(room)
						room += int(rows[i].Unsure) + Slack
					}
					panel, settled := make([]float32, classes*room), make([]uint16, room)
					line.Sample(panel, room, p, rows, runs)
					pick(settled, panel, room, classes, room)
					got, want, logits := make([]uint16, len(rows)*n), make([]uint16, n), make([]float32, classes*n)
					Paint(got, 1, rows, runs, settled, written)
					if !regions {
						for i := range p.Second {
							p.Second[i] = make([]float32, plane+Slack)
							Top(p.Labels[i], p.Second[i], p.Logits[i], plane, classes, plane)
						}
						clear(settled)
						line.Decide(settled, p, rows, runs)
						decided := make([]uint16, len(got))
						Paint(decided, 1, rows, runs, settled, nil)
						require.Equal(t, got, decided, "%s", name)
					}
					for k, row := range rows {
						for class := range classes {
							line.Logits(logits[class*n:(class+1)*n], p, &row, class)
							i := int(row.Place)
							for x, label := range expand(t, runs[row.Runs:row.Runs+row.Count], n) {
								if label == Unsure {
									require.Equal(t, logits[class*n+x], panel[class*room+i], "%s row %d class %d voxel %d", name, k, class, x)
									i++
								}
							}
						}
						pick(want, logits, n, classes, n)
						for x := range want {
							if regions {
								want[x] = written[want[x]]
							}
						}
						require.Equal(t, want, got[k*n:(k+1)*n], "%s row %d regions %t", name, k, regions)
					}
				}
			}
		}
	})
}

func TestPaint(t *testing.T) {
	runs := []Run{{0, 75, 3}, {0, 3, 1}, {3, 5, Unsure}, {5, 40, 0}, {40, 41, Unsure}, {41, 75, 2}}
	settled, values := []uint16{99, 99, 2, 0, 1}, []uint16{9, 200, 77, 4}
	eachSet(t, func(t *testing.T) {
		for _, step := range []int{1, -1, 3, -2} {
			for _, v := range [][]uint16{nil, values} {
				n := 75
				rows := []Row{{At: 5, Runs: 1, Count: 5, Unsure: 3, Place: 2}, {At: 300, Count: 1}}
				if step < 0 {
					rows[0].At -= int64((n - 1) * step)
					rows[1].At -= int64((n - 1) * step)
				}
				narrow, wide := make([]uint8, 600), make([]uint16, 600)
				Paint(narrow, step, rows, runs, settled, v)
				Paint(wide, step, rows, runs, settled, v)
				want := make([]uint16, 600)
				for _, row := range rows {
					next := row.Place
					for x, label := range expand(t, runs[row.Runs:row.Runs+row.Count], n) {
						if label == Unsure {
							label = settled[next]
							next++
						}
						if v != nil {
							label = v[label]
						}
						want[int(row.At)+x*step] = label
					}
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
