package sliding

import (
	"context"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// load makes the image's planes up to end available, and as many more as there is
// room for besides those from keep on.
func (r *run) load(ctx context.Context, keep, end int) error {
	if end <= r.loaded {
		return nil
	}
	z, plane, ring := &r.axes[0], r.bandSize(), r.axes[0].imageRing()
	for want := min(z.n, keep+ring); r.loaded < want; {
		first, n := r.loaded, min(ring, want-r.loaded) // planes before keep, of tiles not wanted, pass through
		r.loaded += n
		err := r.Load(ctx, n, func(channel, i int) []float32 {
			at := (channel*ring + (first+i)%ring) * plane
			return r.image[at : at+plane]
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// gather copies a tile into the network's input, zero outside the image.
func (r *run) gather(ctx context.Context, p pass) error {
	z, y, x := &r.axes[0], &r.axes[1], &r.axes[2]
	tx, ix, cx := x.inside(p.tile[2])
	ty, iy, cy := y.inside(p.tile[1])
	tz, iz, cz := z.inside(p.tile[0])
	if err := r.load(ctx, iz, iz+cz); err != nil {
		return err
	}
	input, ring := r.Inputs[p.slot], z.imageRing()
	return parallel.For(r.Channels*z.tile, r.Threads, func(_, i int) error {
		channel, dz := i/z.tile, i%z.tile
		slice := input[i*y.tile*x.tile : (i+1)*y.tile*x.tile]
		if p.flip[0] {
			dz = z.tile - 1 - dz
		}
		if cx < x.tile || cy < y.tile || dz < tz || dz >= tz+cz {
			clear(slice)
		}
		if dz < tz || dz >= tz+cz {
			return nil
		}
		plane := r.image[(channel*ring+(iz+dz-tz)%ring)*r.bandSize():]
		for j := range cy {
			src := plane[(iy-r.band[0]+j)*x.n+ix:][:cx]
			row := ty + j
			if p.flip[1] {
				row = y.tile - 1 - row
			}
			if !p.flip[2] {
				copy(slice[row*x.tile+tx:], src)
				continue
			}
			for dx, v := range src {
				slice[row*x.tile+x.tile-1-tx-dx] = v
			}
		}
		return nil
	})
}

// accumulate adds the network's output for a tile, times its share of every voxel, to the
// accumulators, which are float32 whatever it is: of rows the strip's.
func (r *run) accumulate(p pass) error {
	z, y, x := &r.axes[0], &r.axes[1], &r.axes[2]
	tx, ix, _ := x.inside(p.tile[2])
	ty, iy, _ := y.inside(p.tile[1])
	tz, iz, cz := z.inside(p.tile[0])
	wz := z.shares(p.tile[0])
	wy, wx := y.shares(p.tile[1]), x.shares(p.tile[2])
	skip := max(0, r.lines[0]-iy)
	ty, iy = ty+skip, iy+skip
	wy = wy[skip:min(len(wy), r.lines[1]-iy+skip)]
	size, ring, first := y.tile*x.tile, z.ring(), 0
	if r.Apart {
		first = p.network * r.Classes
	}
	return parallel.For(r.Classes*cz, r.Threads, func(_, i int) error {
		class, dz := i/cz, i%cz
		from := tz + dz
		if p.flip[0] {
			from = z.tile - 1 - from
		}
		at, end := (class*z.tile+from)*size, (class*z.tile+from+1)*size
		dst := r.sums[((first+class)*ring+(iz+dz)%ring)*r.lineSize()+(iy-r.lines[0])*x.n+ix:]
		window := kernel.Window{Y: ty, X: tx, TileY: y.tile, TileX: x.tile, FlipY: p.flip[1], FlipX: p.flip[2]}
		weight, bad := r.share*wz[dz], 0
		if r.HalfOutputs != nil {
			bad = kernel.AccumulateHalf(dst, x.n, r.HalfOutputs[p.slot][at:end], window, weight, wy, wx)
		} else {
			bad = kernel.Accumulate(dst, x.n, r.Outputs[p.slot][at:end], window, weight, wy, wx)
		}
		if bad > 0 {
			return fault.New(fault.Model, "the network gave %d values that are NaN or infinite in plane %d of channel %d", bad, iz+dz, first+class)
		}
		return nil
	})
}

// handOver gives a plane that no further tile touches to Plane, and empties the one before,
// which Plane still needed, for reuse.
func (r *run) handOver(plane int) error {
	n, ring := r.lineSize(), r.axes[0].ring()
	if err := r.Plane(plane, r.sums[plane%ring*n:], ring*n); err != nil {
		return err
	}
	if before := plane - 1; before >= 0 && before+ring < r.Shape[0] {
		return parallel.For(r.Accumulated(), r.Threads, func(_, channel int) error {
			clear(r.sums[(channel*ring+before%ring)*n:][:n])
			return nil
		})
	}
	return nil
}
