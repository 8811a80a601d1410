// Package sliding runs a network over an image tile by tile, as nnU-Net's
// sliding-window predictor: half-overlapping tiles, weighted by a Gaussian,
// accumulated in float32.
package sliding

import "math"

// Positions returns where tiles of length tile start along an axis of length n
// (n >= tile): steps of at most half a tile, evenly spread, rounded half to even
// (nnunetv2/inference/sliding_window_prediction.py, step size 0.5).
func Positions(n, tile int) []int { return positions(n, tile, 0.5) }

// positions is Positions with steps of at most a share of the tile.
func positions(n, tile int, share float64) []int {
	steps := int(math.Ceil(float64(n-tile)/(float64(tile)*share))) + 1
	if steps == 1 {
		return []int{0}
	}
	p := make([]int, steps)
	step := float64(n-tile) / float64(steps-1)
	for i := range p {
		p[i] = int(math.RoundToEven(step * float64(i)))
	}
	return p
}

// gaussian returns the weights of a tile along one axis: a Gaussian with a standard
// deviation of an eighth of the tile around voxel tile/2, normalised as
// scipy.ndimage.gaussian_filter normalises its kernel. A tile's weights are the
// product over its axes.
func gaussian(tile int) []float64 {
	sigma := float64(tile) / 8
	radius := int(4*sigma + 0.5)
	sum := 0.0
	for i := -radius; i <= radius; i++ {
		sum += math.Exp(-0.5 * float64(i*i) / (sigma * sigma))
	}
	w := make([]float64, tile)
	for i := range w {
		d := i - tile/2
		w[i] = math.Exp(-0.5*float64(d*d)/(sigma*sigma)) / sum
	}
	return w
}

// axis is one axis of the tiling.
type axis struct {
	n, tile   int       // length of the image and of a tile
	pad       int       // voxels of padding before the image, where it is shorter than a tile
	positions []int     // tile starts on the padded axis
	weights   []float32 // of a tile's voxels
	sum       []float64 // per voxel of the padded axis, of the weights of the tiles over it
}

// newAxis lays tiles along an axis. Where slices is true every voxel of the axis is
// a tile of its own (2-D networks). The weights of all tiles over a voxel multiply
// out by axes, because the tiles form a grid; so three short tables replace a volume
// of counts.
func newAxis(n, tile int, slices bool, share float64) axis {
	padded := max(n, tile)
	a := axis{n: n, tile: tile, pad: (padded - n) / 2, positions: positions(padded, tile, share)}
	g := gaussian(tile)
	if slices {
		a.positions = make([]int, n)
		for i := range a.positions {
			a.positions[i] = i
		}
		g = []float64{1}
	}
	peak := 0.0
	for _, w := range g {
		peak = max(peak, w)
	}
	a.weights = make([]float32, tile)
	for i, w := range g {
		a.weights[i] = float32(w / peak)
	}
	a.sum = make([]float64, padded)
	for _, p := range a.positions {
		for i, w := range a.weights {
			a.sum[p+i] += float64(w)
		}
	}
	return a
}

// shares returns the weights of a tile at p as parts of the sum over all tiles, for those
// of its voxels that lie in the image.
func (a *axis) shares(p int) []float32 {
	first, _, count := a.inside(p)
	shares := make([]float32, count)
	for i := range shares {
		shares[i] = float32(float64(a.weights[first+i]) / a.sum[p+first+i])
	}
	return shares
}

// inside returns the part of a tile at p that lies in the image: first voxel within
// the tile, first voxel within the image, count.
func (a *axis) inside(p int) (inTile, inImage, count int) {
	inTile = max(0, a.pad-p)
	inImage = p + inTile - a.pad
	return inTile, inImage, min(a.tile-inTile, a.n-inImage)
}
