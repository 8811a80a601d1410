package sliding

import (
	"context"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// Network is what runs a tile: some networks (folds) with shared buffers.
type Network interface {
	Networks() int
	Run(ctx context.Context, i int) error
}

// Task is an image and how to run a network over it.
type Task struct {
	Image    []float32 // channels x Shape, row-major
	Shape    [3]int
	Channels int
	Classes  int
	Patch    []int // the network's input, two or three entries; two: slices are segmented one by one
	Mirror   []int // axes of Patch to flip, nil for none
	Threads  int

	Network Network
	Input   []float32 // the network's input buffer, channels x patch
	Output  []float32 // its output buffer, classes x patch

	Plane func(z int, fill func(dst []float32) error) error // takes the finished planes in order
	Tile  func(done, all int) error                         // called after every tile; an error ends the run
}

// Tiles returns how many tiles the task has.
func (t *Task) Tiles() int {
	n := 1
	for _, a := range t.axes() {
		n *= len(a.positions)
	}
	return n
}

func (t *Task) axes() [3]axis {
	var axes [3]axis
	for i := range 3 {
		if j := i - (3 - len(t.Patch)); j >= 0 {
			axes[i] = newAxis(t.Shape[i], t.Patch[j], false)
		} else {
			axes[i] = newAxis(t.Shape[i], 1, true)
		}
	}
	return axes
}

// Run segments the image tile by tile, slowest axis first. Accumulators exist for
// the planes that unfinished tiles touch: as many as a tile is deep. A plane that no
// further tile touches is divided by its weights and handed to Plane. The networks'
// logits are averaged over folds and mirror flips, as nnU-Net does.
func (t *Task) Run(ctx context.Context) error {
	axes := t.axes()
	z, y, x := axes[0], axes[1], axes[2]
	ny, nx := y.n, x.n
	depth := min(z.tile, z.n)
	acc, err := cmem.AllocZero[float32](t.Classes * depth * ny * nx) // classes x depth x ny x nx; plane z at z mod depth
	if err != nil {
		return err
	}
	defer cmem.Free(acc)
	flips := flips(t.Mirror, 3-len(t.Patch))
	share := 1 / float32(len(flips)*t.Network.Networks())
	all, done, finished := t.Tiles(), 0, 0
	for k, pz := range z.positions {
		for _, py := range y.positions {
			for _, px := range x.positions {
				at := [3]int{pz, py, px}
				for _, flip := range flips {
					if err := t.gather(&axes, at, flip); err != nil {
						return err
					}
					for i := range t.Network.Networks() {
						if ctx.Err() != nil {
							return fault.New(fault.Cancelled, "cancelled")
						}
						if err := t.Network.Run(ctx, i); err != nil {
							return err
						}
						if err := t.accumulate(acc, depth, &axes, at, flip, share); err != nil {
							return err
						}
					}
				}
				done++
				if err := t.Tile(done, all); err != nil {
					return err
				}
			}
		}
		next := z.n // planes below next are touched by no further tile
		if k+1 < len(z.positions) {
			next = z.positions[k+1] - z.pad
		}
		for ; finished < next; finished++ {
			if ctx.Err() != nil {
				return fault.New(fault.Cancelled, "cancelled")
			}
			plane := finished
			err := t.Plane(plane, func(dst []float32) error {
				return t.finish(dst, acc, depth, plane, &axes)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// flips lists the combinations of flipped axes, the unflipped first; the axes are
// those of the patch, from axis first of the image on.
func flips(mirror []int, first int) [][3]bool {
	list := [][3]bool{{}}
	for _, m := range mirror {
		for _, f := range list {
			f[first+m] = true
			list = append(list, f)
		}
	}
	return list
}

// gather copies a tile into the network's input, zero outside the image.
func (t *Task) gather(axes *[3]axis, at [3]int, flip [3]bool) error {
	z, y, x := &axes[0], &axes[1], &axes[2]
	tx, ix, cx := x.inside(at[2])
	ty, iy, cy := y.inside(at[1])
	tz, iz, cz := z.inside(at[0])
	return parallel.For(t.Channels*z.tile, t.Threads, func(_, i int) error {
		channel, dz := i/z.tile, i%z.tile
		slice := t.Input[i*y.tile*x.tile : (i+1)*y.tile*x.tile]
		if flip[0] {
			dz = z.tile - 1 - dz
		}
		if cx < x.tile || cy < y.tile || dz < tz || dz >= tz+cz {
			clear(slice)
		}
		if dz < tz || dz >= tz+cz {
			return nil
		}
		plane := t.Image[(channel*z.n+iz+dz-tz)*y.n*x.n:]
		for j := range cy {
			src := plane[(iy+j)*x.n+ix : (iy+j)*x.n+ix+cx]
			row := ty + j
			if flip[1] {
				row = y.tile - 1 - row
			}
			if !flip[2] {
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

// accumulate adds the network's output for a tile to the accumulators.
func (t *Task) accumulate(acc []float32, depth int, axes *[3]axis, at [3]int, flip [3]bool, share float32) error {
	z, y, x := &axes[0], &axes[1], &axes[2]
	tx, ix, cx := x.inside(at[2])
	ty, iy, cy := y.inside(at[1])
	tz, iz, cz := z.inside(at[0])
	size := y.tile * x.tile
	return parallel.For(t.Classes*cz, t.Threads, func(_, i int) error {
		class, dz := i/cz, i%cz
		from := tz + dz
		if flip[0] {
			from = z.tile - 1 - from
		}
		src := t.Output[(class*z.tile+from)*size : (class*z.tile+from+1)*size]
		dst := acc[((class*depth+(iz+dz)%depth)*y.n+iy)*x.n+ix:]
		kernel.Accumulate(dst, x.n, src, kernel.Window{Y: ty, X: tx, TileY: y.tile, TileX: x.tile, FlipY: flip[1], FlipX: flip[2]},
			share*z.weights[tz+dz], y.weights[ty:ty+cy], x.weights[tx:tx+cx])
		return nil
	})
}

// finish divides plane of the accumulators by its weights into dst (classes x ny x
// nx) and empties it for reuse.
func (t *Task) finish(dst, acc []float32, depth, plane int, axes *[3]axis) error {
	z, y, x := &axes[0], &axes[1], &axes[2]
	n := y.n * x.n
	wy := make([]float32, y.n)
	for i, w := range y.inverse {
		wy[i] = w * z.inverse[plane]
	}
	return parallel.For(t.Classes, t.Threads, func(_, class int) error {
		a := (class*depth + plane%depth) * n
		if bad := kernel.Finish(dst[class*n:(class+1)*n], acc[a:a+n], wy, x.inverse); bad > 0 {
			return fault.New(fault.Model, "the network gave %d logits that are NaN or infinite in plane %d of class %d", bad, plane, class)
		}
		return nil
	})
}
