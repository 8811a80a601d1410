package evaluate

import (
	"math"

	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// onGrid returns a label map on another grid: every voxel takes the label of the nearest voxel
// of v, 0 where it lies outside v. The caller frees it.
func onGrid(v *volume.Volume, g *volume.Geometry, threads int) (*volume.Volume, error) {
	out, err := volume.New(*g, v.Channels, v.DType)
	if err != nil {
		return nil, err
	}
	// The index in v, x, y, z, of voxel (i, j, k) of out is at + i*step[0] + j*step[1] + k*step[2].
	var step [3][3]float64
	var at [3]float64
	for to := range 3 {
		for mm := range 3 { // the inverse of a direction is its transpose
			d := v.Direction[3*mm+to] / v.Spacing[to]
			at[to] += d * (g.Origin[mm] - v.Origin[mm])
			for from := range 3 {
				step[from][to] += d * g.Direction[3*mm+from] * g.Spacing[from]
			}
		}
	}
	size := v.DType.Size()
	n, from := out.Size, v.Size
	err = parallel.For(v.Channels*n[2], threads, func(_, plane int) error {
		channel, k := plane/n[2], plane%n[2]
		data := v.Data[channel*v.Voxels()*size:]
		for j := range n[1] {
			row := out.Data[((plane*n[1])+j)*n[0]*size:]
			for i := range n[0] {
				var index [3]int
				inside := true
				for a := range 3 {
					x := math.Floor(at[a] + float64(i)*step[0][a] + float64(j)*step[1][a] + float64(k)*step[2][a] + 0.5)
					inside = inside && x >= 0 && x < float64(from[a])
					index[a] = int(x)
				}
				if !inside {
					clear(row[i*size : (i+1)*size])
					continue
				}
				place := ((index[2]*from[1]+index[1])*from[0] + index[0]) * size
				copy(row[i*size:(i+1)*size], data[place:place+size])
			}
		}
		return nil
	})
	return out, err
}
