package resample

import (
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/kernel/peak"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/volume"
)

// copyRate returns the bytes per second, read and written, at which so many threads copy
// 128 MB, in pieces of 1 MB.
func copyRate(b *testing.B, threads int) float64 {
	const n, piece = 128, 1 << 20
	src, dst := buffer[byte](b, n*piece), buffer[byte](b, n*piece)
	best := 0.0
	for range 8 {
		start := time.Now()
		_ = parallel.For(n, threads, func(_, i int) error {
			copy(dst[i*piece:][:piece], src[i*piece:])
			return nil
		})
		best = max(best, 2*n*piece/time.Since(start).Seconds())
	}
	return best
}

// buffer returns C memory, touched.
func buffer[T any](b *testing.B, n int) []T {
	s, err := cmem.AllocZero[T](n)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmem.Free(s) })
	return s
}

// report adds GB/s of so many bytes per run and their part of the copy's rate before and
// after.
func report(b *testing.B, bytes, before, after float64) {
	rate := bytes * float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(rate*1e-9, "GB/s")
	b.ReportMetric(100*rate/max(before, after), "%copy")
}

func counts() []int {
	if n := runtime.NumCPU(); n > 1 {
		return []int{1, n}
	}
	return []int{1}
}

// cubicLimit returns how many seconds a core takes for the multiply-adds of cubic splines at
// least. A value of an axis that goes in takes two, one of either recursion, each of which
// waits for the one before, kernel.Lanes values side by side; one that comes out takes four at
// the core's peak. NaN where peak doesn't know the processor.
func cubicLimit(p *plan) float64 {
	shape, in, out := p.in, 0, 0
	for _, axis := range []int{1, 2, 0} {
		if p.pass[axis].order == 3 {
			in += shape[0] * shape[1] * shape[2]
			shape[axis] = p.out[axis]
			out += shape[0] * shape[1] * shape[2]
		}
	}
	if peak.GFLOPs() == 0 {
		return math.NaN()
	}
	return 2*float64(in)/kernel.Lanes*peak.Chain()*1e-9 + 4*2*float64(out)/peak.GFLOPs()*1e-9
}

// A CT of 168x512x512 (int16) goes to a network's grid of 84x320x320, as a whole, or slice
// by slice and then to the nearest. Traffic is the image, read once, and the grid, written
// once. %limit is what part cubicLimit is of the time.
func BenchmarkImageResampling(b *testing.B) {
	in := [3]int{168, 512, 512}
	data := buffer[int16](b, in[0]*in[1]*in[2])
	for i := range data {
		data[i] = int16(i * 31 % 1800)
	}
	source := Source{Data: cmem.Bytes(data), DType: volume.Int16, View: full(in), Affine: kernel.Affine{Lo: -900, Hi: 900, Sub: 80, Div: 130}}
	for _, c := range []struct {
		name     string
		from, to [3]float64
	}{{"cubic", [3]float64{1.5, 0.8, 0.8}, [3]float64{3, 1.28, 1.28}}, {"slices-apart", [3]float64{3, 0.8, 0.8}, [3]float64{6, 1.28, 1.28}}} {
		b.Run(c.name, func(b *testing.B) {
			out, err := cubic.Shape(in, c.from, c.to)
			if err != nil {
				b.Fatal(err)
			}
			p, err := cubic.plan(in, out, c.from, c.to)
			if err != nil {
				b.Fatal(err)
			}
			dst, limit := buffer[float32](b, out[0]*out[1]*out[2]), cubicLimit(p)
			for _, threads := range counts() {
				b.Run(fmt.Sprint(threads), func(b *testing.B) {
					before := copyRate(b, threads)
					b.ResetTimer()
					for b.Loop() {
						if err := cubic.Image(dst, out, source, c.from, c.to, -7.6, 6.4, threads); err != nil {
							b.Fatal(err)
						}
					}
					report(b, float64(2*len(data)+4*len(dst)), before, copyRate(b, threads))
					b.ReportMetric(100*limit/float64(threads)*float64(b.N)/b.Elapsed().Seconds(), "%limit")
				})
			}
		})
	}
}

// Logits of a network at 84x320x320 become labels of a CT of 168x512x512. Traffic is the
// logits (or a head's 32 channels), read once, and the labels, written once.
func BenchmarkLabels(b *testing.B) {
	const stored = 21 // planes, gone through to and fro
	low, out := [3]int{84, 320, 320}, [3]int{168, 512, 512}
	spacing := [3]float64{1, 1, 1}
	n := low[1] * low[2]
	g := volume.Geometry{Size: [3]int{out[2], out[1], out[0]}, Spacing: spacing, Direction: volume.Identity}
	labels, err := volume.New(g, 1, volume.Uint8)
	if err != nil {
		b.Fatal(err)
	}
	defer labels.Free()
	for _, c := range []struct {
		name              string
		classes, channels int
		noise             float32
	}{{"14", 14, 14, 0.2}, {"118", 118, 118, 0.2}, {"14-noise", 14, 14, 30}, {"14-head", 14, 32, 0.2}, {"118-head", 118, 32, 0.2}} {
		b.Run(c.name, func(b *testing.B) {
			source := buffer[float32](b, c.channels*stored*n+kernel.Slack)
			copy(source, organs(c.channels, [3]int{stored, low[1], low[2]}, c.noise))
			target, operations := Target{Labels: labels, View: g.Full()}, 0
			if c.classes != c.channels {
				target.Head = &Head{make([]float32, c.classes*c.channels), make([]float32, c.classes)}
				for i := range target.Head.Weight { // the first channels are the logits
					if i/c.channels == i%c.channels {
						target.Head.Weight[i] = 1
					} else if i/c.channels >= c.channels {
						target.Head.Weight[i] = -1
					}
				}
				operations = 2 * c.classes * c.channels * low[0] * n
			}
			for _, threads := range counts() {
				b.Run(fmt.Sprint(threads), func(b *testing.B) {
					before := copyRate(b, threads)
					b.ResetTimer()
					for b.Loop() {
						l, err := linear.Labels(b.Context(), low, c.classes, spacing, spacing, target, threads)
						if err != nil {
							b.Fatal(err)
						}
						for z := range low[0] {
							plane := z % (2*stored - 2)
							plane = min(plane, 2*stored-2-plane)
							if err := l.Plane(z, source[plane*n:], stored*n); err != nil {
								b.Fatal(err)
							}
						}
						l.Close()
					}
					report(b, float64(low[0]*n*4*c.channels+labels.Voxels()), before, copyRate(b, threads))
					if operations > 0 {
						rate := float64(operations) * float64(b.N) / b.Elapsed().Seconds() * 1e-9
						b.ReportMetric(rate, "GFLOP/s")
						b.ReportMetric(100*rate/float64(threads)/peak.GFLOPs(), "%peak")
					}
				})
			}
		})
	}
}
