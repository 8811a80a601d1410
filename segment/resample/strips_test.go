package resample

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/volume"
)

// stripGrids are changes of shape, some of which leave an axis as it is, and some of which
// have as many rows in a strip as there are on the other side.
var stripGrids = []struct {
	in, out  [3]int
	from, to [3]float64
}{
	{[3]int{30, 19, 11}, [3]int{15, 14, 13}, [3]float64{2, 1, 1}, [3]float64{4, 1.35, 0.85}},
	{[3]int{12, 20, 11}, [3]int{36, 40, 11}, [3]float64{3, 2, 1}, [3]float64{1, 1, 1}},
	{[3]int{9, 13, 7}, [3]int{9, 13, 5}, [3]float64{1, 1, 1}, [3]float64{1, 1, 1.4}},
	{[3]int{9, 13, 7}, [3]int{9, 13, 7}, [3]float64{1, 1, 1}, [3]float64{1, 1, 1}},
	{[3]int{40, 200, 20}, [3]int{24, 90, 70}, [3]float64{3, 1, 3}, [3]float64{5, 2.2, 0.85}}, // windows smaller than groups
	{[3]int{5, 1, 7}, [3]int{5, 3, 7}, [3]float64{1, 3, 1}, [3]float64{1, 1, 1}},
	{[3]int{10, 30, 7}, [3]int{5, 60, 7}, [3]float64{1, 8, 1}, [3]float64{2, 4, 1}}, // apart: the middle axis
}

func stripMethods() []Method {
	force := true
	list := []Method{{Function: Torch, Threshold: 3}, {Function: Torch, Threshold: 3, Mode: Nearest, ModeZ: Linear, SeparateZ: &force}, {Function: TorchSimple, Mode: Nearest}}
	for _, order := range []int{0, 1, 2, 3, 5} {
		list = append(list, Method{Function: Spline, Order: order, Threshold: 3}, Method{Function: Spline, Order: order, OrderZ: 1, SeparateZ: &force})
	}
	return list
}

// Rows of a stream are those of the whole planes to the last bit, from the start again
// and again; a stream takes no more memory than foreseen.
func TestStreamOfRows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, m := range stripMethods() {
		for _, c := range stripGrids {
			data := make([]int16, c.in[0]*c.in[1]*c.in[2])
			for i := range data {
				data[i] = int16(r.IntN(2000) - 1000)
			}
			for _, stride := range [][3]int{{c.in[1] * c.in[2], c.in[2], 1}, {c.in[1] * c.in[2], 1, c.in[1]}} { // upright, on the side
				src := Source{Data: cmem.Bytes(data), DType: volume.Int16, Affine: kernel.Affine{Lo: -900, Hi: 900, Sub: 10, Div: 300},
					View: volume.View{Shape: c.in, Stride: stride}}
				s, err := m.Stream(c.out, src, c.from, c.to, -2, 2, 2)
				require.NoError(t, err)
				planes := func(rows int) [][]float32 {
					list := make([][]float32, c.out[0])
					for i := range list {
						list[i] = make([]float32, rows*c.out[2])
					}
					return list
				}
				whole := planes(c.out[1])
				require.NoError(t, s.Next(t.Context(), whole))
				for from := 0; from < c.out[1]; from += 1 + c.out[1]/9 {
					for to := from + 1; to <= c.out[1]; to += 1 + c.out[1]/30 {
						got := planes(to - from)
						s.Rows(from, to)
						require.NoError(t, s.Next(t.Context(), got[:2]))
						require.NoError(t, s.Next(t.Context(), got[2:]))
						for z, plane := range got {
							require.Equal(t, whole[z][from*c.out[2]:to*c.out[2]], plane, "%+v: %v to %v, rows %d to %d of plane %d", m, c.in, c.out, from, to, z)
						}
						most, err := m.StreamMemory(c.in, c.out, c.from, c.to, to-from, 2)
						require.NoError(t, err)
						require.LessOrEqual(t, cmem.Live(), most)
					}
				}
				s.Close()
			}
		}
	}
	assert.Zero(t, cmem.Live())
}

// Labels and probabilities written strip by strip are those of the whole; outside a
// strip nothing is written.
func TestLabelsOfRows(t *testing.T) {
	const classes = 4
	r := rand.New(rand.NewPCG(3, 4))
	for _, m := range stripMethods() {
		for _, c := range stripGrids {
			n := c.in[1] * c.in[2]
			logits := make([]float32, classes*c.in[0]*n+kernel.Slack)
			for i := range logits {
				logits[i] = float32(r.NormFloat64())
			}
			for _, probabilities := range []bool{false, true} {
				for _, regions := range [][]uint16{nil, {3, 1, 7, 2}} {
					write := func(target Target, rows [2]int) bool {
						target.Regions, target.Rows = regions, rows
						needs, splits, err := m.Needs(c.in, c.out, c.from, c.to)
						require.NoError(t, err)
						need := needs(rows)
						most, err := m.LabelsMemory(c.in, classes, c.from, c.to, target, need[1]-need[0], 2)
						require.NoError(t, err)
						before := cmem.Live()
						l, err := m.Labels(t.Context(), c.in, classes, c.from, c.to, target, 2)
						require.NoError(t, err)
						defer l.Close()
						for z := range c.in[0] {
							require.NoError(t, l.Plane(z, logits[z*n+need[0]*c.in[2]:], c.in[0]*n))
							require.LessOrEqual(t, cmem.Live()-before, most)
						}
						return splits
					}
					want, got := wholeTarget(t, c.out, classes, false), wholeTarget(t, c.out, classes, false)
					if probabilities {
						want.Probabilities = make([]float32, classes*c.out[0]*c.out[1]*c.out[2])
						got.Probabilities = make([]float32, len(want.Probabilities))
					}
					if !write(want, [2]int{0, c.out[1]}) {
						continue // splines
					}
					for _, strips := range []int{2, 3} {
						clear(got.Labels.Data)
						for i := range strips {
							rows := [2]int{i * c.out[1] / strips, (i + 1) * c.out[1] / strips}
							if rows[0] == rows[1] {
								continue
							}
							write(got, rows)
							for at, label := range got.Labels.Data {
								if y := at / c.out[2] % c.out[1]; y >= rows[1] {
									require.Zero(t, label, "row %d was written with rows %v", y, rows)
								}
							}
						}
						require.Equal(t, want.Labels.Data, got.Labels.Data, "%+v: %v to %v in %d strips", m, c.in, c.out, strips)
						require.Equal(t, want.Probabilities, got.Probabilities, "%+v: %v to %v in %d strips", m, c.in, c.out, strips)
					}
				}
			}
		}
	}
}
