package nnunet

// studentSpacing is the spacing of the preset Student in mm, the coarsest axis first.
var studentSpacing = [3]float64{4, 1.2, 1.2}

// student is the small network of FLARE22's winner (github.com/Ziyan-Huang/FLARE22): made
// for abdominal CT on a laptop. spacing and shape are transposed.
func (e *experiment) student(spacing, shape []float64) *configurationJSON {
	t := topology{
		patch:   []int{32, 128, 192},
		kernels: [][]int{{1, 3, 3}, {3, 3, 3}, {3, 3, 3}, {3, 3, 3}, {3, 3, 3}},
		strides: [][]int{{1, 1, 1}, {1, 2, 2}, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}},
	}
	features, encoder, decoder := e.blocks(len(t.strides), 256)
	c := e.describe("3d_fullres", spacing, t, features, encoder, decoder)
	c.MedianSize, c.BatchSize = pythonFloats(shape), minBatch
	c.BatchDice = float64(product(t.patch)) < lowresThreshold*shape[0]*shape[1]*shape[2] // where organs may be missing
	c.Mirroring = new(bool)
	return c
}
