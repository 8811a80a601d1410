package augment

// ball is the structuring element skimage.morphology.ball of a radius below 8 that need not
// be whole.
type ball struct {
	size   int          // along each axis
	before int          // how many of these come before the middle
	from   [17][17]int8 // of each z and y in the ball: its first x,
	to     [17][17]int8 // and the one after its last; none where from >= to
}

func newBall(radius float64) ball {
	b := ball{size: int(2*radius + 1)}
	b.before = (b.size - 1) / 2
	step := 2 * radius / float64(b.size-1)
	at := func(i int) float64 { return float64(i)*step - radius }
	for z := range b.size {
		for y := range b.size {
			for x := range b.size {
				if at(x)*at(x)+at(y)*at(y)+at(z)*at(z) <= radius*radius {
					if b.from[z][y] >= b.to[z][y] {
						b.from[z][y] = int8(x)
					}
					b.to[z][y] = int8(x + 1)
				}
			}
		}
	}
	return b
}

// run is a row's voxels from one to below the other.
type run struct{ from, to int16 }

// dilate sets in dst the voxels from which the ball reaches one of src that has the value
// (of 0 and 1) to that value, and the others to the other one: for 1 a dilation, for 0 an
// erosion.
func (w *Scratch) dilate(dst, src []uint8, shape [3]int, b *ball, value uint8) {
	d, h, wide := shape[0], shape[1], shape[2]
	runs, first := w.findRuns(src, d*h, wide, value)
	// change[x] counts the ball's rows that begin to reach a run at x, less those that end.
	change := w.nearest[2][:wide]
	for z := range d {
		for y := range h {
			clear(change)
			for i := max(0, b.before-z); i < min(b.size, d-z+b.before); i++ {
				for j := max(0, b.before-y); j < min(b.size, h-y+b.before); j++ {
					from, to := int(b.from[i][j])-b.before, int(b.to[i][j])-b.before
					if from >= to {
						continue
					}
					row := (z+i-b.before)*h + y + j - b.before
					for _, r := range runs[first[row]:first[row+1]] {
						start, end := max(0, int(r.from)-to+1), int(r.to)-from
						if start < wide && end > 0 {
							change[start]++
							if end < wide {
								change[end]--
							}
						}
					}
				}
			}
			out, reached := dst[(z*h+y)*wide:][:wide], int32(0)
			for x := range out {
				if reached += change[x]; reached > 0 {
					out[x] = value
				} else {
					out[x] = 1 - value
				}
			}
		}
	}
}

// findRuns returns the runs of a value in rows of wide voxels, and of each row, and of one
// more, its first.
func (w *Scratch) findRuns(src []uint8, rows, wide int, value uint8) ([]run, []int32) {
	runs, first := w.runs[:0], w.firstRun[:0]
	for row := range rows {
		first = append(first, int32(len(runs)))
		v := src[row*wide:][:wide]
		for x := 0; x < wide; x++ {
			if v[x] != value {
				continue
			}
			from := x
			for x < wide && v[x] == value {
				x++
			}
			runs = append(runs, run{int16(from), int16(x)})
		}
	}
	return runs, append(first, int32(len(runs)))
}
