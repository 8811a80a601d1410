package resample

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/volume"
)

// A stream gives what Image gives, however many planes are asked for at a time.
func TestStreamIsImage(t *testing.T) {
	force, never := true, false
	spline := func(order, orderZ int, separate *bool) Method {
		return Method{Function: Spline, Order: order, OrderZ: orderZ, SeparateZ: separate, Threshold: 3}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, m := range []Method{spline(3, 0, &never), spline(3, 0, nil), spline(3, 1, &force), spline(1, 1, &never), spline(0, 0, &never),
		spline(3, 3, &force), spline(2, 0, &never), spline(5, 0, &never), {Function: NoResampling}} {
		for _, c := range []struct {
			in, out  [3]int
			from, to [3]float64
		}{
			{[3]int{70, 9, 11}, [3]int{35, 7, 13}, [3]float64{2, 1, 1}, [3]float64{4, 1.3, 0.85}},
			{[3]int{40, 9, 11}, [3]int{121, 9, 11}, [3]float64{3, 1, 1}, [3]float64{1, 1, 1}},
			{[3]int{5, 6, 7}, [3]int{12, 7, 5}, [3]float64{5, 1, 1}, [3]float64{2, 0.9, 1.4}},
			{[3]int{1, 6, 7}, [3]int{3, 7, 5}, [3]float64{5, 1, 1}, [3]float64{2, 0.9, 1.4}},
			{[3]int{60, 6, 7}, [3]int{1, 6, 7}, [3]float64{1, 1, 1}, [3]float64{60, 1, 1}},
			{[3]int{50, 6, 7}, [3]int{50, 7, 5}, [3]float64{1, 1, 1}, [3]float64{1, 0.9, 1.4}},
			{[3]int{33, 6, 7}, [3]int{33, 6, 7}, [3]float64{1, 1, 1}, [3]float64{1, 1, 1}},
			{[3]int{20, 30, 7}, [3]int{10, 60, 7}, [3]float64{1, 8, 1}, [3]float64{2, 4, 1}}, // apart: not the slowest axis
		} {
			if m.Function == NoResampling {
				c.out = c.in
			}
			data := make([]int16, c.in[0]*c.in[1]*c.in[2])
			for i := range data {
				data[i] = int16(r.IntN(2000) - 1000)
			}
			src := Source{Data: cmem.Bytes(data), DType: volume.Int16, Affine: kernel.Affine{Lo: -900, Hi: 900, Sub: 10, Div: 300},
				View: volume.View{Shape: c.in, Stride: [3]int{c.in[1] * c.in[2], c.in[2], 1}}}
			n := c.out[1] * c.out[2]
			want := make([]float32, c.out[0]*n)
			require.NoError(t, m.Image(want, c.out, src, c.from, c.to, -2, 2, 2))
			for _, step := range []int{1, 3, 16, 40, 1000} {
				s, err := m.Stream(c.out, src, c.from, c.to, -2, 2, 2)
				require.NoError(t, err)
				got := make([]float32, c.out[0]*n)
				for z := 0; z < c.out[0]; z += step {
					var planes [][]float32
					for i := z; i < min(z+step, c.out[0]); i++ {
						planes = append(planes, got[i*n:(i+1)*n])
					}
					require.NoError(t, s.Next(t.Context(), planes))
				}
				s.Close()
				require.Equal(t, want, got, "%+v: %v to %v by %d", m, c.in, c.out, step)
			}
		}
	}
	assert.Zero(t, cmem.Live())
}

func TestStreamStops(t *testing.T) {
	data := make([]int16, 20*8*8)
	src := Source{Data: cmem.Bytes(data), DType: volume.Int16, Affine: kernel.Identity,
		View: volume.View{Shape: [3]int{20, 8, 8}, Stride: [3]int{64, 8, 1}}}
	s, err := (Method{Function: Spline, Order: 3, Threshold: 3}).Stream([3]int{10, 4, 4}, src, [3]float64{1, 1, 1}, [3]float64{2, 2, 2}, 0, 0, 2)
	require.NoError(t, err)
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, fault.Cancelled, fault.KindOf(s.Next(ctx, [][]float32{make([]float32, 16)})))
}
