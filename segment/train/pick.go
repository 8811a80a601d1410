package train

import (
	"math"

	"github.com/libflare/libflare/segment/train/dataset"
	"github.com/libflare/libflare/segment/train/random"
)

// pick chooses the case of a batch's sample and the first voxel of its box, as nnU-Net's
// nnUNetDataLoader: the last third of a batch holds foreground.
func (d *data) pick(r *random.Rand, kind, sample int) (*dataset.Case, [3]int) {
	k := &d.kinds[kind]
	c := k.cases[r.IntN(len(k.cases))]
	forced := sample >= int(math.RoundToEven(float64(d.batch)*(1-d.foreground)))
	box := k.pipeline.Spatial.Box
	var lo, hi [3]int // of the box's first voxel
	for i := range 3 {
		pad := max(box[i]-d.patch[i], box[i]-c.Shape[i])
		lo[i] = -((pad + 1) / 2)
		hi[i] = c.Shape[i] + pad/2 + pad%2 - box[i]
	}
	voxels := d.locations(c, forced, r)
	var corner [3]int
	if n := len(voxels) / 3; n > 0 {
		at := 3 * r.IntN(n)
		for i := range 3 {
			corner[i] = max(lo[i], int(voxels[at+i])-box[i]/2)
		}
		return c, corner
	}
	for i := range 3 {
		corner[i] = r.Integer(lo[i], hi[i]+1)
	}
	return c, corner
}

// locations returns the voxels of which one is the centre of a sample's box: those of one
// of the case's classes or, with an ignore label and where foreground is not forced, what
// is annotated; nil for anywhere.
func (d *data) locations(c *dataset.Case, forced bool, r *random.Rand) []int32 {
	all := c.Locations
	var annotated []int32
	if d.ignore { // the last entry
		all, annotated = all[:len(all)-1], all[len(all)-1]
	}
	if !forced {
		return annotated
	}
	n := 0
	for _, l := range all {
		if len(l) > 0 {
			n++
		}
	}
	if n == 0 {
		return annotated
	}
	chosen := r.IntN(n)
	for _, l := range all {
		if len(l) > 0 {
			if chosen == 0 {
				return l
			}
			chosen--
		}
	}
	return nil
}
