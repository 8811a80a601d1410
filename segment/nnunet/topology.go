package nnunet

import "math"

// minEdge is the smallest edge of a feature map that may be halved to
// (UNet_featuremap_min_edge_length).
const minEdge = 4

// topology is how a U-Net halves a patch (network_topology.py, get_pool_and_conv_props).
type topology struct {
	strides, kernels [][]int // of each stage
	patch            []int   // voxels, padded so that every halving is exact
	divisor          []int   // of each axis: 2 to the number of its halvings
}

// newTopology halves, again and again, the axes that are long enough and whose voxels are
// within a factor of 2 of the finest. An axis gets kernels of 3 once its voxels are within
// that factor. patch may hold halves: medians of even numbers of cases.
func newTopology(spacing, patch []float64) topology {
	dims := len(spacing)
	space, size := append([]float64(nil), spacing...), append([]float64(nil), patch...)
	t := topology{strides: [][]int{repeat(1, dims)}, divisor: repeat(1, dims)}
	kernel := repeat(1, dims)
	for {
		finest := math.Inf(1) // of the axes that are long enough
		for i := range dims {
			if size[i] >= 2*minEdge {
				finest = min(finest, space[i])
			}
		}
		var halve []int
		for i := range dims {
			if size[i] >= 2*minEdge && space[i]/finest < 2 {
				halve = append(halve, i)
			}
		}
		if len(halve) == 0 || len(halve) == 1 && size[halve[0]] < 3*minEdge {
			break
		}
		finest = math.Inf(1) // of all
		for _, s := range space {
			finest = min(finest, s)
		}
		for i := range dims {
			if space[i]/finest < 2 {
				kernel[i] = 3
			}
		}
		stride := repeat(1, dims)
		for _, i := range halve {
			stride[i] = 2
			t.divisor[i] *= 2
			space[i] *= 2
			size[i] = math.Ceil(size[i] / 2)
		}
		t.strides = append(t.strides, stride)
		t.kernels = append(t.kernels, append([]int(nil), kernel...))
	}
	t.kernels = append(t.kernels, repeat(3, dims))
	for i, d := range t.divisor {
		t.patch = append(t.patch, int(math.Ceil(patch[i]/float64(d)))*d)
	}
	return t
}

// featureMaps returns how many numbers the convolutions of the network put out for one
// patch, nnU-Net's measure of memory (dynamic_network_architectures,
// compute_conv_feature_map_size of PlainConvUNet and ResidualEncoderUNet). heads is the
// number of output channels; blocks are those of each stage.
func (t *topology) featureMaps(features, encoder, decoder []int, heads int, residual bool) int {
	size := t.patch
	total, before := 0, features[0] // channels before the stage: the stem's
	if residual {
		total = features[0] * product(size) // the stem
	}
	sizes := make([][]int, len(t.strides))
	for s, stride := range t.strides {
		halved, smaller := make([]int, len(size)), false
		for i := range size {
			halved[i] = size[i] / stride[i]
			smaller = smaller || stride[i] != 1
		}
		size, sizes[s] = halved, halved
		maps := encoder[s]
		if residual {
			maps *= 2
			if smaller || features[s] != before {
				maps++ // the first block's projection
			}
		}
		total += maps * features[s] * product(size)
		before = features[s]
	}
	for s := range decoder { // coarsest first; its convolutions and the upsampling
		at := len(sizes) - 2 - s
		total += (decoder[s] + 1) * features[at] * product(sizes[at])
	}
	if len(decoder) > 0 {
		total += heads * product(sizes[0])
	}
	return total
}

func product(sizes []int) int {
	n := 1
	for _, s := range sizes {
		n *= s
	}
	return n
}
