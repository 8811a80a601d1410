package segment

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/testenv"
)

var overlapModel = flag.String("overlap.model", "../examples/demo/flare13_phantom.onnx", "the model of BenchmarkOverlap")

// BenchmarkOverlap segments a CT with one slot, where network and the rest take turns, and
// with two, where the rest runs beside the network: with so many threads in all ("within":
// most for the network, at least one for the rest), and with so many for each ("beyond",
// which callers who bound the threads did not allow). It reports seconds in the network, of
// what was not beside it, and of both. ./build.sh bench overlap runs it.
func BenchmarkOverlap(b *testing.B) {
	counts := []int{1, 2}
	if n := runtime.NumCPU(); n > 2 {
		counts = append(counts, n)
	}
	for _, n := range counts {
		rest := max(1, n/8) // what is not the network is about a tenth
		for _, how := range []struct {
			name                 string
			slots, network, rest int
		}{{"one", 1, n, n}, {"within", 2, n - rest, rest}, {"beyond", 2, n, n}} {
			if how.network == 0 {
				continue
			}
			b.Run(fmt.Sprintf("%d/%s", n, how.name), func(b *testing.B) {
				m := openSlots(b, *overlapModel, OpenOptions{Device: "cpu", Threads: how.network}, how.slots)
				m.session.Threads = how.rest + how.slots - 1 // see call.use
				image, err := imageio.Read(context.Background(), testenv.Data(b, "nnunet_golden", "ct_512x512x168.nii.gz"))
				require.NoError(b, err)
				defer image.Free()
				labels := newLabels(b, image.Geometry)
				for slot := range how.slots { // the runtime's own buffers
					require.NoError(b, m.session.Run(context.Background(), 0, slot))
				}
				network, total := 0.0, 0.0
				for b.Loop() {
					stats, err := m.Segment(context.Background(), image.Volume, labels, Options{})
					require.NoError(b, err)
					network, total = network+stats.Seconds.Network, total+stats.Seconds.Total
				}
				b.ReportMetric(network/float64(b.N), "network-s")
				b.ReportMetric((total-network)/float64(b.N), "other-s")
				b.ReportMetric(total/float64(b.N), "total-s")
			})
		}
	}
}
