package resample

import (
	"math"

	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/volume"
)

// Output rows. Where the low-resolution voxels around an output voxel have one label, it
// has that label (see package kernel); only for the few percent where they differ are
// the logits of all classes interpolated. Those of several rows are gathered, for the
// arithmetic to have long vectors.

// worker is one goroutine's memory.
type worker struct {
	line    *kernel.Line
	product []float32 // of the head, classes x headBlock
	scratch []float32 // for the head

	runs    []kernel.Run // of the rows that wait: used of them
	used    int
	cells   cells        // of the row at hand
	between []kernel.Run // its runs, the last of those used
	unsure  int          // how many of its voxels are interpolated
	waiting []waitingRow
	panel   []float32 // channels x (room + kernel.Slack): the voxels of those rows that are interpolated
	settled []uint16  // their labels
	room, n int       // how many there may be, and are

	// Where probabilities are asked for, or splines are above order 1.
	labels   []uint16     // of a row
	whole    []kernel.Run // all of a row
	logits   []float32    // classes x out[2]
	features []float32    // with a head: channels x out[2]
}

// waitingRow is an output row whose interpolated voxels have no labels yet.
type waitingRow struct {
	runs []kernel.Run
	n    int // of the panel's voxels: those before this row
	at   int // where its first voxel goes
}

// cells are the low-resolution cells in which an output row lies: between two planes (0
// or 1) and two rows of them, which may be the same.
type cells struct {
	low, high int
	y0, y1    int
}

func (l *Labels) newWorker() worker {
	w := worker{whole: []kernel.Run{{From: 0, To: int32(l.out[2]), Label: kernel.Unsure}}}
	x := l.plan.pass[2]
	if l.collected == nil {
		w.line = kernel.NewLine(l.low[2], x.start, x.weight)
	}
	if l.head != nil {
		w.product = make([]float32, l.classes*headBlock)
		w.scratch = make([]float32, l.head.ProductScratch())
	}
	if l.first() {
		w.room = max(l.out[2], 512)
		w.panel = make([]float32, l.channels*(w.room+kernel.Slack))
		w.settled = make([]uint16, w.room)
		w.runs = make([]kernel.Run, 8*l.low[2])
		return w
	}
	w.labels = make([]uint16, l.out[2])
	if l.target.Probabilities != nil {
		w.logits = make([]float32, l.classes*l.out[2])
		if l.head != nil {
			w.features = make([]float32, l.channels*l.out[2])
		}
	}
	return w
}

// row writes output row (z, y), which lies between the planes low and high (0 or 1), or
// leaves it waiting for flush.
func (l *Labels) row(w *worker, low, high, z, y int) {
	wz, wy := l.wz[z], l.wy[y]
	y0 := int(l.y0[y])
	y1 := y0
	if wy != 0 {
		y1++
	}
	c := kernel.Corner{
		Low: l.planes[low], High: l.planes[high], Row: [2]int{y0 * l.low[2], y1 * l.low[2]},
		Weight: [4]float32{(1 - wz) * (1 - wy), (1 - wz) * wy, wz * (1 - wy), wz * wy},
		Stride: l.stride, Classes: l.channels,
	}
	v := l.target.View
	at := v.Offset + z*v.Stride[0] + y*v.Stride[1]
	if !l.first() {
		l.rowOfProbabilities(w, &c, at)
		return
	}
	if here := (cells{low, high, y0, y1}); w.between == nil || here != w.cells {
		if len(w.runs)-w.used < l.low[2] {
			l.flush(w)
		}
		n, unsure := w.line.Settle(w.runs[w.used:], l.labels[low], l.labels[high], c.Row)
		w.cells, w.between, w.unsure = here, w.runs[w.used:w.used+n], unsure
		w.used += n
	}
	if w.unsure == 0 {
		l.paint(at, w.between, nil)
		return
	}
	if w.n+w.unsure > w.room {
		l.flush(w)
	}
	w.line.Sample(w.panel[w.n:], w.room+kernel.Slack, &c, w.between)
	w.waiting = append(w.waiting, waitingRow{w.between, w.n, at})
	w.n += w.unsure
}

// flush labels what is gathered and writes the rows that wait for it.
func (l *Labels) flush(w *worker) {
	if w.n > 0 {
		l.judge(w, w.settled, w.panel, w.room+kernel.Slack, w.n)
	}
	for _, r := range w.waiting {
		l.paint(r.at, r.runs, w.settled[r.n:])
	}
	w.waiting, w.n = w.waiting[:0], 0
	w.used = copy(w.runs, w.between)
	w.between = w.runs[:w.used]
}

// paint writes a row of labels to the target, the first at element at.
func (l *Labels) paint(at int, runs []kernel.Run, settled []uint16) {
	step := l.target.View.Stride[2]
	if l.target.Labels.DType == volume.Uint16 {
		kernel.Paint(volume.As[uint16](l.target.Labels), at, step, runs, settled, l.values)
	} else {
		kernel.Paint(l.target.Labels.Data, at, step, runs, settled, l.values)
	}
}

// rowOfProbabilities writes the labels and probabilities of a row, the first at element
// at; they need the logits of all voxels.
func (l *Labels) rowOfProbabilities(w *worker, c *kernel.Corner, at int) {
	n, channels := l.out[2], w.logits
	if l.head != nil {
		channels = w.features
	}
	for i := range l.channels {
		w.line.Logits(channels[i*n:(i+1)*n], c, i)
	}
	if l.head != nil {
		l.head.Product(w.logits, n, channels, n, n, w.scratch)
	}
	l.pick(w.labels, w.logits, n, n)
	l.paint(at, w.whole, w.labels)
	l.probabilities(w, at)
}

// probabilities writes the softmax over the classes of one row of logits, or the
// sigmoid of each region.
func (l *Labels) probabilities(w *worker, at int) {
	n, step := l.out[2], l.target.View.Stride[2]
	grid := len(l.target.Probabilities) / l.classes
	for x := range n {
		if l.target.Regions != nil {
			for class := range l.classes {
				v := float64(w.logits[class*n+x])
				l.target.Probabilities[class*grid+at+x*step] = float32(1 / (1 + math.Exp(-v)))
			}
			continue
		}
		highest, sum := w.logits[x], 0.0
		for class := 1; class < l.classes; class++ {
			highest = max(highest, w.logits[class*n+x])
		}
		for class := range l.classes {
			e := math.Exp(float64(w.logits[class*n+x] - highest))
			w.logits[class*n+x] = float32(e)
			sum += e
		}
		for class := range l.classes {
			l.target.Probabilities[class*grid+at+x*step] = w.logits[class*n+x] / float32(sum)
		}
	}
}
