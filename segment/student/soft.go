package student

import (
	"archive/zip"
	"compress/flate"
	"encoding/binary"
	"io"
	"math"

	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/volume"
)

// softWriter writes the probabilities of uncertain voxels, those whose largest is below a
// bound (of regions: any that is, and whose complement is), as a compressed .npz file, which
// numpy.load reads:
//
//	shape          int64, 3: the image's z, y, x
//	voxels         int64, n: (z ny + y) nx + x of each uncertain voxel, rising
//	probabilities  uint8, heads x n: 255 is 1
//
// probabilities is heads x z x y x x.
func softWriter(probabilities []float32, g volume.Geometry, regions bool, below float64) func(io.Writer) error {
	return func(w io.Writer) error {
		all := g.Voxels()
		heads, bound := len(probabilities)/all, float32(below)
		uncertain := func(i int) bool {
			for head := range heads {
				p := probabilities[head*all+i]
				if regions && max(p, 1-p) < bound {
					return true
				} else if !regions && p >= bound {
					return false
				}
			}
			return !regions
		}
		var voxels []byte
		var at []int
		for i := range all {
			if uncertain(i) {
				at = append(at, i)
				voxels = binary.LittleEndian.AppendUint64(voxels, uint64(i))
			}
		}
		var shape []byte
		for axis := 2; axis >= 0; axis-- {
			shape = binary.LittleEndian.AppendUint64(shape, uint64(g.Size[axis]))
		}
		z := zip.NewWriter(w)
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
		add := func(name string, parts ...[]byte) error {
			f, err := z.Create(name + ".npy")
			for _, p := range parts {
				if err == nil {
					_, err = f.Write(p)
				}
			}
			return err
		}
		if err := add("shape", npy.Header("<i8", 3), shape); err != nil {
			return err
		}
		if err := add("voxels", npy.Header("<i8", len(at)), voxels); err != nil {
			return err
		}
		parts := [][]byte{npy.Header("|u1", heads, len(at))}
		for head := range heads {
			row := make([]byte, len(at))
			for k, i := range at {
				row[k] = uint8(math.Round(255 * float64(probabilities[head*all+i])))
			}
			parts = append(parts, row)
		}
		if err := add("probabilities", parts...); err != nil {
			return err
		}
		return z.Close()
	}
}
