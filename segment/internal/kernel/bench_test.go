package kernel

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel/peak"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// The benchmarks say how many GB/s a kernel moves (read and written, each array once)
// and what part that is of the rate at which as many threads copy memory, measured just
// before and after. They run over arrays larger than the second-level cache, an item (a
// slice, a plane) at a time, as the library does.

const megabyte = 1 << 20

// buffer returns n floats of C memory with noise in them.
func buffer(b *testing.B, n int) []float32 {
	s, err := cmem.Alloc[float32](n)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmem.Free(s) })
	few := noise(4099)
	for i := range s {
		s[i] = few[i%len(few)]
	}
	return s
}

// copyRate returns the bytes per second, read and written, of copying 64 MB (more than
// the caches of most machines) in pieces of 1 MB.
func copyRate(b *testing.B, threads int) float64 {
	const n = 64
	src, dst := buffer(b, n*megabyte/4), buffer(b, n*megabyte/4)
	best := 0.0
	for range 8 {
		start := time.Now()
		_ = parallel.For(n, threads, func(_, i int) error {
			copy(dst[i*megabyte/4:][:megabyte/4], src[i*megabyte/4:])
			return nil
		})
		best = max(best, 2*n*megabyte/time.Since(start).Seconds())
	}
	return best
}

// moves runs body over the items with one and with all threads, for each instruction
// set. bytes is what all items read and write together, operations what they compute
// (0: not worth reporting).
func moves(b *testing.B, items, bytes, operations int, body func(worker, item int)) {
	defer Choose(Best())
	for set, name := range []string{"plain", "avx2", "avx512"} {
		if !Choose(set) {
			continue
		}
		for _, threads := range counts() {
			b.Run(fmt.Sprintf("%s/%d", name, threads), func(b *testing.B) {
				before := copyRate(b, threads)
				b.ResetTimer()
				for b.Loop() {
					_ = parallel.For(items, threads, func(worker, i int) error {
						body(worker, i)
						return nil
					})
				}
				seconds := b.Elapsed().Seconds() / float64(b.N)
				rate := float64(bytes) / seconds
				b.ReportMetric(rate*1e-9, "GB/s")
				b.ReportMetric(100*rate/max(before, copyRate(b, threads)), "%copy")
				if operations > 0 {
					b.ReportMetric(float64(operations)/seconds*1e-9, "GFLOP/s")
					b.ReportMetric(float64(operations)/seconds*1e-9/float64(threads)/corePeak()*100, "%peak")
				}
			})
		}
	}
}

// corePeak is what one core computes at most, in GFLOP/s.
var corePeak = sync.OnceValue(peak.GFLOPs)

// counts returns the numbers of threads to measure with: one, and one per processor.
func counts() []int {
	if n := runtime.NumCPU(); n > 1 {
		return []int{1, n}
	}
	return []int{1}
}

// A CT of 64 slices of 512 x 512 voxels, the first line's as stored, the second's seen
// from the side.
func BenchmarkLoad(b *testing.B) {
	const slices, n = 64, 512
	data, dst := make([]int16, slices*n*n), buffer(b, counts()[len(counts())-1]*n*n)
	for i := range data {
		data[i] = int16(i * 31 % 2000)
	}
	affine := Affine{Lo: -900, Hi: 900, Sub: 80, Div: 130}
	for _, v := range []struct {
		name   string
		stride [3]int
	}{{"straight", [3]int{n * n, n, 1}}, {"mirrored", [3]int{n * n, n, -1}}, {"sideways", [3]int{n * n, 1, n}}, {"sagittal", [3]int{1, n * n, n}}} {
		b.Run(v.name, func(b *testing.B) {
			shape, items := [2]int{n, n}, slices
			if v.stride[0] == 1 {
				shape, items = [2]int{slices, n}, n
			}
			moves(b, items, slices*n*n*(2+4), 0, func(worker, i int) {
				offset := i * v.stride[0]
				if v.stride[2] < 0 {
					offset += n - 1
				}
				Load(dst[worker*n*n:], Plane{Data: cmem.Bytes(data), DType: 2, Offset: offset,
					Stride: [2]int{v.stride[1], v.stride[2]}, Shape: shape}, affine)
			})
		})
	}
}

func BenchmarkScan(b *testing.B) {
	const slices, n = 64, 512
	data := make([]int16, slices*n*n)
	for i := range data {
		data[i] = int16(i * 31 % 2000)
	}
	moves(b, slices, slices*n*n*2, 0, func(_, i int) {
		Scan(Plane{Data: cmem.Bytes(data), DType: 2, Offset: i * n * n, Stride: [2]int{n, 1}, Shape: [2]int{n, n}}, 100)
	})
}

func BenchmarkExtremesAndClip(b *testing.B) {
	const slices, n = 64, 512 * 512
	x := buffer(b, slices*n)
	b.Run("extremes", func(b *testing.B) {
		moves(b, slices, slices*n*4, 0, func(_, i int) { Extremes(x[i*n : (i+1)*n]) })
	})
	b.Run("clip", func(b *testing.B) {
		moves(b, slices, slices*n*8, 0, func(_, i int) { Clip(x[i*n:], n, 1, n, -1, 1) })
	})
}

// 64 slices of 512 rows become 64 of 320, and then their rows of 512 voxels such of 320, 64 at
// a time that lie in the second-level cache; 4 operations per value in, 7 per value out.
func BenchmarkCubic(b *testing.B) {
	const slices, in, out, group = 64, 512, 320, 64
	cubic, _ := cubicCase(in, out, Lanes)
	voxels, dst := make([]int16, slices*in*in), buffer(b, slices*out*in)
	var state, rows [][]float32
	for range runtime.NumCPU() {
		state, rows = append(state, make([]float32, in)), append(rows, noise((group+Slack)*(in+Slack)))
	}
	b.Run("rows", func(b *testing.B) {
		moves(b, slices, slices*in*(2*in+4*out), slices*in*(4*in+7*out), func(worker, i int) {
			cubic.Rows(dst[i*out*in:], in, Plane{Data: cmem.Bytes(voxels), DType: 2, Offset: i * in * in, Stride: [2]int{in, 1},
				Shape: [2]int{in, in}}, 0, Affine{-900, 900, 80, 1}, 0, out, state[worker], true)
		})
	})
	b.Run("across", func(b *testing.B) {
		moves(b, slices*out/group, 4*slices*out*(in+out), slices*out*(4*in+7*out), func(worker, i int) {
			cubic.Across(dst[i%8*group*out:], out, rows[worker], in+Slack, group)
		})
	})
}

func BenchmarkTranspose(b *testing.B) {
	const slices, n = 64, 512
	for _, m := range []int{512, 320} {
		b.Run(fmt.Sprintf("%dx%d", n, m), func(b *testing.B) {
			src, dst := buffer(b, slices*n*m), buffer(b, slices*n*m)
			moves(b, slices, 8*slices*n*m, 0, func(_, i int) {
				Transpose(dst[i*n*m:], n, src[i*n*m:], m, n, m)
			})
		})
	}
}

// A tile of 14 classes x 32 x 128 x 192 added to accumulators of 32 x 320 x 320.
func BenchmarkAccumulate(b *testing.B) {
	const classes, depth, ny, nx, n = 14, 32, 128, 192, 320
	src, dst, wy, wx := buffer(b, classes*depth*ny*nx), buffer(b, classes*depth*n*n), noise(ny), noise(nx)
	for _, flip := range []bool{false, true} {
		b.Run(fmt.Sprintf("mirrored=%t", flip), func(b *testing.B) {
			moves(b, classes*depth, 3*4*classes*depth*ny*nx, 0, func(_, i int) {
				Accumulate(dst[i*n*n+50*n+50:], n, src[i*ny*nx:(i+1)*ny*nx], Window{TileY: ny, TileX: nx, FlipX: flip}, 1e-6, wy, wx)
			})
		})
	}
}

// The same of float16.
func BenchmarkAccumulateHalf(b *testing.B) {
	const classes, depth, ny, nx, n = 14, 32, 128, 192, 320
	dst, wy, wx := buffer(b, classes*depth*n*n), noise(ny), noise(nx)
	src, err := cmem.Alloc[uint16](classes * depth * ny * nx)
	if err != nil {
		b.Fatal(err)
	}
	defer cmem.Free(src)
	for i := range src {
		src[i] = uint16(i*40503)&0x8fff | 0x3000 // 0.125 to 2 in magnitude
	}
	for _, flip := range []bool{false, true} {
		b.Run(fmt.Sprintf("mirrored=%t", flip), func(b *testing.B) {
			moves(b, classes*depth, (2*4+2)*classes*depth*ny*nx, 0, func(_, i int) {
				AccumulateHalf(dst[i*n*n+50*n+50:], n, src[i*ny*nx:(i+1)*ny*nx], Window{TileY: ny, TileX: nx, FlipX: flip}, 1e-6, wy, wx)
			})
		})
	}
}

// Planes of 14 and of 118 classes, in memory, in blocks as resample.Labels takes.
func BenchmarkTop(b *testing.B) {
	const n, block = 320, 8192
	for _, classes := range []int{14, 118} {
		b.Run(fmt.Sprint(classes), func(b *testing.B) {
			planes, blocks := 4*118/classes, n*n/block
			logits, labels, second := buffer(b, planes*classes*n*n), make([]uint16, n*n), make([]float32, n*n)
			moves(b, planes*blocks, planes*blocks*block*4*classes, 0, func(_, i int) {
				plane, at := i/blocks, i%blocks*block
				Top(labels[at:], second[at:], logits[plane*classes*n*n+at:], n*n, classes, block)
			})
		})
	}
}

// The last layer of a network, 32 channels in, on a plane.
func BenchmarkProduct(b *testing.B) {
	const n, channels, block = 320, 32, 128
	for _, classes := range []int{14, 118} {
		b.Run(fmt.Sprint(classes), func(b *testing.B) {
			m := Matrix{noise(classes * channels), noise(classes)}
			in := buffer(b, channels*n*n)
			out, scratch := make([][]float32, runtime.NumCPU()), make([][]float32, runtime.NumCPU())
			for i := range out {
				out[i], scratch[i] = make([]float32, classes*block), make([]float32, m.ProductScratch())
			}
			moves(b, n*n/block, 4*n*n*channels, 2*n*n*channels*classes, func(worker, i int) {
				m.Product(out[worker], block, in[i*block:], n*n, block, scratch[worker])
			})
		})
	}
}

// Rows of a plane with a class border every 40 voxels, three output rows to a cell.
func BenchmarkSample(b *testing.B) {
	const in, out, rows = 320, 512, 320
	x0, w := make([]int32, out), make([]float32, out)
	for x := range x0 {
		p := min(max((float32(x)+0.5)*in/out-0.5, 0), in-1)
		x0[x], w[x] = int32(p), p-float32(int32(p))
	}
	for _, classes := range []int{14, 118} {
		b.Run(fmt.Sprint(classes), func(b *testing.B) {
			low, high := buffer(b, classes*in*rows+Slack), buffer(b, classes*in*rows+Slack)
			labels := make([]uint16, in*rows)
			for i := range labels {
				labels[i] = uint16(i % in / 40)
			}
			p := &Planes{Logits: [2][]float32{low, high}, Labels: [2][]uint16{labels, labels}, Stride: in * rows, Channels: classes}
			lines, runs, panels := make([]*Line, runtime.NumCPU()), make([][]Run, runtime.NumCPU()), make([][]float32, runtime.NumCPU())
			cells := make([][3]Row, runtime.NumCPU())
			for i := range lines {
				lines[i], runs[i], panels[i] = NewLine(in, x0, w), make([]Run, in), make([]float32, classes*3*(out+Slack))
			}
			settle := func(worker, i int) []Row {
				for k := range cells[worker] {
					cells[worker][k] = Row{Offset: [2]int64{int64(i) * in, int64(i+1) * in}, Plane: [2]int32{0, 1}, Weight: [4]float32{0.25, 0.25, 0.25, 0.25}}
				}
				lines[worker].Settle(cells[worker][:], runs[worker], p)
				return cells[worker][:]
			}
			unsure := int(settle(0, 0)[0].Unsure)
			b.Logf("%d of %d voxels are unsure", unsure, out)
			moves(b, rows-1, (rows-1)*unsure*classes*(3*4+4*4*in/out), 0, func(worker, i int) {
				cell := settle(worker, i)
				for k := range cell {
					cell[k].Place = int32(k * (out + Slack))
				}
				lines[worker].Sample(panels[worker], 3*(out+Slack), p, cell, runs[worker])
			})
		})
	}
}
