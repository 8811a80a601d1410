package preprocess

import (
	"context"
	"math"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/volume"
)

// Mask is a coarse mask of a view's voxels: blocks that are in or out.
type Mask struct {
	shape, step, blocks [3]int
	in                  []bool  // blocks, slowest axis first
	sums                []int32 // of in over all blocks before; one longer along each axis
}

// NewMask returns an empty mask of a view of shape, of blocks of step voxels.
func NewMask(shape, step [3]int) *Mask {
	m := &Mask{shape: shape, step: step}
	for i := range 3 {
		m.blocks[i] = (shape[i] + step[i] - 1) / step[i]
	}
	m.in = make([]bool, m.blocks[0]*m.blocks[1]*m.blocks[2])
	return m
}

func (m *Mask) index(z, y, x int) int { return (z*m.blocks[1]+y)*m.blocks[2] + x }

// seal makes the table behind Any.
func (m *Mask) seal() *Mask {
	n := [3]int{m.blocks[0] + 1, m.blocks[1] + 1, m.blocks[2] + 1}
	m.sums = make([]int32, n[0]*n[1]*n[2])
	for z := range m.blocks[0] {
		for y := range m.blocks[1] {
			row := int32(0)
			for x := range m.blocks[2] {
				if m.in[m.index(z, y, x)] {
					row++
				}
				at := ((z+1)*n[1]+y+1)*n[2] + x + 1
				m.sums[at] = row + m.sums[at-n[2]] + m.sums[at-n[1]*n[2]] - m.sums[at-n[1]*n[2]-n[2]]
			}
		}
	}
	return m
}

// Any reports whether a half-open box of the view's voxels touches a block that is in.
func (m *Mask) Any(lo, hi [3]int) bool {
	for i := range 3 {
		lo[i], hi[i] = max(lo[i], 0)/m.step[i], (min(hi[i], m.shape[i])+m.step[i]-1)/m.step[i]
		if lo[i] >= hi[i] {
			return false
		}
	}
	n1, n2 := m.blocks[1]+1, m.blocks[2]+1
	at := func(z, y, x int) int32 { return m.sums[(z*n1+y)*n2+x] }
	return at(hi[0], hi[1], hi[2])-at(lo[0], hi[1], hi[2])-at(hi[0], lo[1], hi[2])-at(hi[0], hi[1], lo[2])+
		at(lo[0], lo[1], hi[2])+at(lo[0], hi[1], lo[2])+at(hi[0], lo[1], lo[2])-at(lo[0], lo[1], lo[2]) > 0
}

// At reports whether a voxel of the view is in.
func (m *Mask) At(z, y, x int) bool { return m.in[m.index(z/m.step[0], y/m.step[1], x/m.step[2])] }

// Fraction returns how much of the view is in.
func (m *Mask) Fraction() float64 {
	return float64(m.sums[len(m.sums)-1]) / float64(len(m.in))
}

// dilate adds blocks that are up to so many away from one that is in, along each axis
// (a box, of which the ball is a part).
func (m *Mask) dilate(margin [3]int) {
	strides := [3]int{m.blocks[1] * m.blocks[2], m.blocks[2], 1}
	for axis, stride := range strides {
		n, old := m.blocks[axis], append([]bool(nil), m.in...)
		for i := range m.in {
			at := i / stride % n
			for d := -min(margin[axis], at); d <= min(margin[axis], n-1-at) && !m.in[i]; d++ {
				m.in[i] = old[i+d*stride]
			}
		}
	}
}

// MaskOf returns the mask of a view of shape in which the wanted labels of a coarse label
// map (of shape coarse, on the same field of view) lie, with a margin in mm around them;
// spacing is the view's, in mm.
func MaskOf(labels []uint16, coarse, shape [3]int, spacing [3]float64, wanted func(uint16) bool, margin float64) *Mask {
	var step, blocks [3]int
	for i := range 3 {
		step[i] = max(1, shape[i]/coarse[i])
	}
	m := NewMask(shape, step)
	for z := range m.blocks[0] {
		for y := range m.blocks[1] {
			for x := range m.blocks[2] {
				var at [3]int
				for i, b := range [3]int{z, y, x} {
					center := (float64(b)*float64(step[i]) + float64(step[i])/2) / float64(shape[i])
					at[i] = min(int(center*float64(coarse[i])), coarse[i]-1)
				}
				m.in[m.index(z, y, x)] = wanted(labels[(at[0]*coarse[1]+at[1])*coarse[2]+at[2]])
			}
		}
	}
	for i := range 3 {
		blocks[i] = 1 + int(math.Ceil(margin/(spacing[i]*float64(step[i]))))
	}
	m.dilate(blocks)
	return m.seal()
}

// What Body takes for the patient: blocks of about bodyBlock mm in which more than one
// voxel of eight is denser than bodyLevel HU (fat begins at -120, foam and air lie below
// -700), in parts of at least bodyPart of the largest; bodyMargin mm around it belong to it.
const (
	bodyBlock  = 4.0
	bodyLevel  = -400
	bodyPart   = 0.01
	bodyMargin = 12.0
)

// Body returns a coarse mask of the patient in a CT (its first channel), with a margin;
// spacing is the view's, in mm. What lies between two of its parts along the fastest axis
// belongs to it, so the lungs and the bowel's gas do; where in doubt (the table) more is
// kept. Errors: Cancelled.
func Body(ctx context.Context, image *volume.Volume, view volume.View, spacing [3]float64, threads int) (*Mask, error) {
	var step [3]int
	for i := range 3 {
		step[i] = max(1, int(bodyBlock/spacing[i]+0.5))
	}
	m := NewMask(view.Shape, step)
	source := resample.Source{Data: image.Data[:len(image.Data)/image.Channels], DType: image.DType, View: view}
	columns := view.Shape[2]
	rows := make([][]float32, max(1, threads))
	err := parallel.For(m.blocks[0], threads, func(worker, z int) error {
		if ctx.Err() != nil {
			return fault.New(fault.Cancelled, "cancelled")
		}
		if rows[worker] == nil {
			rows[worker] = make([]float32, columns)
		}
		row, dense, all := rows[worker], make([]int, m.blocks[2]), make([]int, m.blocks[2])
		for y := range m.blocks[1] {
			clear(dense)
			clear(all)
			// Every second voxel of a slice, and slices at most 2 mm apart, tell enough.
			for i := z * step[0]; i < min((z+1)*step[0], view.Shape[0]); i += max(1, step[0]/2) {
				plane := source.Plane(i)
				for j := y * step[1]; j < min((y+1)*step[1], view.Shape[1]); j += max(1, step[1]/2) {
					line := plane
					line.Offset += j * plane.Stride[0]
					line.Shape[0] = 1
					kernel.Load(row, line, kernel.Identity)
					for k, v := range row {
						all[k/step[2]]++
						if v > bodyLevel {
							dense[k/step[2]]++
						}
					}
				}
			}
			for x := range dense {
				m.in[m.index(z, y, x)] = 8*dense[x] > all[x]
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	m.dropSmall(bodyPart)
	for i := range m.blocks[0] * m.blocks[1] {
		row := m.in[i*m.blocks[2] : (i+1)*m.blocks[2]]
		first, last := -1, -1
		for x, in := range row {
			if in && first < 0 {
				first = x
			}
			if in {
				last = x
			}
		}
		for x := max(first, 0); x <= last; x++ {
			row[x] = true
		}
	}
	var margin [3]int
	for i := range 3 {
		margin[i] = int(math.Ceil(bodyMargin / (spacing[i] * float64(step[i]))))
	}
	m.dilate(margin)
	return m.seal(), nil
}

// dropSmall takes out the connected parts (over faces) smaller than a share of the largest.
func (m *Mask) dropSmall(share float64) {
	part := make([]int32, len(m.in)) // 0: none yet
	sizes := []int{0}
	var stack []int
	strides := [3]int{m.blocks[1] * m.blocks[2], m.blocks[2], 1}
	largest := 0
	for seed, in := range m.in {
		if !in || part[seed] > 0 {
			continue
		}
		id := int32(len(sizes))
		part[seed], stack = id, append(stack[:0], seed)
		size := 0
		for len(stack) > 0 {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			size++
			for axis, stride := range strides {
				at := i / stride % m.blocks[axis]
				if at > 0 && m.in[i-stride] && part[i-stride] == 0 {
					part[i-stride], stack = id, append(stack, i-stride)
				}
				if at < m.blocks[axis]-1 && m.in[i+stride] && part[i+stride] == 0 {
					part[i+stride], stack = id, append(stack, i+stride)
				}
			}
		}
		sizes, largest = append(sizes, size), max(largest, size)
	}
	for i, id := range part {
		m.in[i] = id > 0 && float64(sizes[id]) >= share*float64(largest)
	}
}
