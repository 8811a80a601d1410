package report

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// grid is an image in RAS (both x and y run against LPS) with voxels of 0.7 x 0.8 x 2.5 mm.
func grid(x, y, z int) volume.Geometry {
	return volume.Geometry{Size: [3]int{x, y, z}, Spacing: [3]float64{0.7, 0.8, 2.5}, Origin: [3]float64{10, -20, 30},
		Direction: [9]float64{-1, 0, 0, 0, -1, 0, 0, 0, 1}}
}

func wrap[T any](t *testing.T, g volume.Geometry, channels int, d volume.DType, v []T) *volume.Volume {
	t.Helper()
	w, err := volume.Wrap(g, channels, d, cmem.Bytes(v))
	require.NoError(t, err)
	return w
}

// largest marks the voxels of the largest part that has a label, by filling one part after the
// other, and counts the parts.
func largest(labels []uint16, g volume.Geometry, label int) (best map[int]bool, parts int) {
	seen := map[int]bool{}
	nx, ny, nz := g.Size[0], g.Size[1], g.Size[2]
	for start := range labels {
		if int(labels[start]) != label || seen[start] {
			continue
		}
		seen[start] = true
		part, stack := map[int]bool{start: true}, []int{start}
		for len(stack) > 0 {
			x, y, z := stack[len(stack)-1]%nx, stack[len(stack)-1]/nx%ny, stack[len(stack)-1]/nx/ny
			stack = stack[:len(stack)-1]
			for k := max(z-1, 0); k <= min(z+1, nz-1); k++ {
				for j := max(y-1, 0); j <= min(y+1, ny-1); j++ {
					for i := max(x-1, 0); i <= min(x+1, nx-1); i++ {
						if at := (k*ny+j)*nx + i; int(labels[at]) == label && !seen[at] {
							seen[at], part[at] = true, true
							stack = append(stack, at)
						}
					}
				}
			}
		}
		if parts++; len(part) > len(best) {
			best = part
		}
	}
	return best, parts
}

// plain is Measure one voxel at a time.
func plain(image func(channel, i int) float64, channels int, labels []uint16, g volume.Geometry, l Label) Organ {
	o := Organ{Label: l.Value, Name: l.Name, Mean: []float64{}, SD: []float64{}, Border: []string{}}
	best, parts := largest(labels, g, l.Value)
	var sum [3]float64
	lo, hi := [3]int{1 << 30, 1 << 30, 1 << 30}, [3]int{}
	each := func(body func(i int, at [3]int)) {
		for i, v := range labels {
			if int(v) == l.Value {
				body(i, [3]int{i % g.Size[0], i / g.Size[0] % g.Size[1], i / g.Size[0] / g.Size[1]})
			}
		}
	}
	each(func(i int, at [3]int) {
		o.Voxels++
		for k := range 3 {
			if best[i] {
				sum[k] += float64(at[k])
			}
			lo[k], hi[k] = min(lo[k], at[k]), max(hi[k], at[k]+1)
		}
	})
	if o.Voxels == 0 {
		return o
	}
	n := float64(o.Voxels)
	o.Components, o.Largest = parts, float64(len(best))/n
	o.Volume = n * 0.7 * 0.8 * 2.5 / 1000
	o.Box = [6]int{lo[0], lo[1], lo[2], hi[0], hi[1], hi[2]}
	for c := range channels {
		mean, square := 0.0, 0.0
		each(func(i int, _ [3]int) { mean += image(c, i) / n })
		each(func(i int, _ [3]int) { square += math.Pow(image(c, i)-mean, 2) / n })
		o.Mean, o.SD = append(o.Mean, mean), append(o.SD, math.Sqrt(square))
	}
	nearest := math.Inf(1)
	each(func(i int, at [3]int) {
		d := 0.0
		for k := range 3 {
			d += math.Pow((float64(at[k])-sum[k]/float64(len(best)))*g.Spacing[k], 2)
		}
		if best[i] && d < nearest {
			o.Centre, nearest = at, d
		}
	})
	for _, side := range []struct {
		name string
		is   bool
	}{{"left", lo[0] == 0}, {"right", hi[0] == g.Size[0]}, {"posterior", lo[1] == 0}, {"anterior", hi[1] == g.Size[1]},
		{"inferior", lo[2] == 0}, {"superior", hi[2] == g.Size[2]}} {
		if side.is {
			o.Border = append(o.Border, side.name)
		}
	}
	return o
}

// TestMeasure compares with counting one voxel at a time, for every voxel type, narrow and
// wide labels, several channels, any number of threads.
func TestMeasure(t *testing.T) {
	g := grid(37, 11, 9)
	random := rand.New(rand.NewPCG(3, 4))
	names := []Label{{3, "three"}, {300, "wide"}, {1, "one"}, {7, "missing"}, {5, "inside"}}
	n, channels := g.Voxels(), 2
	wide, narrow := make([]uint16, n), make([]uint8, n)
	for i := range wide {
		x, y, z := i%37, i/37%11, i/37/11
		switch {
		case x > 10 && x < 20 && y > 2 && y < 8 && z > 2 && z < 6 && random.IntN(3) > 0:
			wide[i] = 5
		case x < 15 && random.IntN(4) == 0:
			wide[i] = 1
		case y > 5 && random.IntN(4) == 0:
			wide[i] = 3
		case x == 30 && y == 3:
			wide[i] = 300
		}
		narrow[i] = uint8(wide[i])
	}
	for _, d := range []volume.DType{volume.Uint8, volume.Int16, volume.Uint16, volume.Int32, volume.Float32, volume.Float64} {
		image, err := volume.New(g, channels, d)
		require.NoError(t, err)
		defer image.Free()
		for i := range channels * n {
			switch d {
			case volume.Uint8:
				image.Data[i] = uint8(random.IntN(256))
			case volume.Int16:
				volume.As[int16](image)[i] = int16(random.IntN(4000) - 1000)
			case volume.Uint16:
				volume.As[uint16](image)[i] = uint16(random.IntN(65536))
			case volume.Int32:
				volume.As[int32](image)[i] = int32(random.IntN(1000) + 1e9)
			case volume.Float32:
				volume.As[float32](image)[i] = random.Float32()
			case volume.Float64: // sums of squares alone would leave nothing of the spread
				volume.As[float64](image)[i] = 1e9 + random.Float64()
			}
		}
		voxels := valuesOf(image)
		for _, labels := range []*volume.Volume{wrap(t, g, 1, volume.Uint16, wide), wrap(t, g, 1, volume.Uint8, narrow)} {
			for threads := range 4 {
				got, err := Measure(image, labels, names, threads)
				require.NoError(t, err)
				require.Len(t, got, len(names))
				for i, l := range names {
					values := wide
					if labels.DType == volume.Uint8 {
						values = make([]uint16, n)
						for k, v := range narrow {
							values[k] = uint16(v)
						}
					}
					want := plain(func(c, i int) float64 { return voxels.at(c*n + i) }, channels, values, g, l)
					assert.InDelta(t, want.Volume, got[i].Volume, 1e-9)
					assert.InDeltaSlice(t, want.Mean, got[i].Mean, 1e-5)
					assert.InDeltaSlice(t, want.SD, got[i].SD, 1e-5)
					want.Mean, want.SD, want.Volume = got[i].Mean, got[i].SD, got[i].Volume
					assert.Equal(t, want, got[i], "%s, labels %s", d, labels.DType)
				}
			}
		}
	}
}

func TestMeasureParts(t *testing.T) {
	g := grid(10, 4, 3)
	v := make([]uint8, g.Voxels())
	for _, x := range []int{0, 1, 2, 5, 6, 9} { // parts of 3, 2 and 1 voxels
		v[x] = 2
	}
	v[40+7] = 2 // (7, 0, 1) touches (6, 0, 0) by an edge
	got, err := Measure(wrap(t, g, 1, volume.Uint8, make([]uint8, len(v))), wrap(t, g, 1, volume.Uint8, v), []Label{{2, "a"}}, 2)
	require.NoError(t, err)
	assert.Equal(t, 3, got[0].Components)
	assert.InDelta(t, 3.0/7, got[0].Largest, 1e-12)
	assert.Equal(t, []string{"left", "right", "posterior", "inferior"}, got[0].Border)
	assert.Equal(t, []float64{0}, got[0].SD)

	flat := grid(10, 4, 1) // a 2-D image: its one slice is no border
	got, err = Measure(wrap(t, flat, 1, volume.Uint8, make([]uint8, 40)), wrap(t, flat, 1, volume.Uint8, slices.Repeat([]uint8{2}, 40)), []Label{{2, "a"}}, 1)
	require.NoError(t, err)
	assert.Equal(t, []string{"left", "right", "posterior", "anterior"}, got[0].Border)
}
