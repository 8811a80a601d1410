package augment

// Source is what samples are cut from: a preprocessed case. Its methods copy the voxels of
// a box that lies inside the case, from lo to below hi: voxel (z, y, x) to
// dst[(z-lo[0])*stride[0] + (y-lo[1])*stride[1] + x-lo[2]]. Samples may ask from several
// goroutines at a time.
type Source interface {
	Shape() [3]int // voxels along z, y, x
	Image(channel int, dst []float32, stride [2]int, lo, hi [3]int) error
	Labels(channel int, dst []int16, stride [2]int, lo, hi [3]int) error
	Targets(channel int, dst []float32, stride [2]int, lo, hi [3]int) error
}

// Arrays is a Source in memory. Arrays of another shape than Size panic.
type Arrays struct {
	Size    [3]int
	Voxels  []float32 // channels x D x H x W
	Classes []int16   // maps x D x H x W
	Soft    []float32 // channels x D x H x W
}

func (a *Arrays) Shape() [3]int { return a.Size }

func (a *Arrays) Image(channel int, dst []float32, stride [2]int, lo, hi [3]int) error {
	copyBox(dst, stride, a.Voxels, a.Size, channel, lo, hi)
	return nil
}

func (a *Arrays) Labels(channel int, dst []int16, stride [2]int, lo, hi [3]int) error {
	copyBox(dst, stride, a.Classes, a.Size, channel, lo, hi)
	return nil
}

func (a *Arrays) Targets(channel int, dst []float32, stride [2]int, lo, hi [3]int) error {
	copyBox(dst, stride, a.Soft, a.Size, channel, lo, hi)
	return nil
}

func copyBox[T any](dst []T, stride [2]int, src []T, size [3]int, channel int, lo, hi [3]int) {
	for z := lo[0]; z < hi[0]; z++ {
		for y := lo[1]; y < hi[1]; y++ {
			row := src[((channel*size[0]+z)*size[1]+y)*size[2]:]
			copy(dst[(z-lo[0])*stride[0]+(y-lo[1])*stride[1]:], row[lo[2]:hi[2]])
		}
	}
}
