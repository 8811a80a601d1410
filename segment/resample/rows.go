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

	rows    []kernel.Row
	runs    []kernel.Run // of those rows
	panel   []float32    // channels x (room + kernel.Slack): voxels of some rows that are interpolated
	settled []uint16     // their labels
	room    int          // how many there may be

	// Where probabilities are asked for, or splines are above order 1.
	labels   []uint16     // of a row
	whole    []kernel.Run // all of a row
	one      [1]kernel.Row
	logits   []float32 // classes x out[2]
	features []float32 // with a head: channels x out[2]
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
		if !l.few() {
			w.panel = make([]float32, l.channels*(w.room+kernel.Slack))
		}
		w.settled = make([]uint16, w.room+kernel.Slack)
		w.runs = make([]kernel.Run, 2*l.band*l.low[2])
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

// write writes output rows y0 to y1 (exclusive) of the planes z0 to z1.
func (l *Labels) write(w *worker, z0, z1, y0, y1 int) {
	w.rows = w.rows[:0]
	for zo := z0; zo < z1; { // planes that lie between the same two: there are one or two such pairs
		first, pair := zo, l.pair(zo)
		for zo < z1 && l.pair(zo) == pair {
			zo++
		}
		for y := y0; y < y1; y++ {
			for k := first; k < zo; k++ {
				w.rows = append(w.rows, l.row(pair, k, y))
			}
		}
	}
	if !l.first() {
		for i := range w.rows {
			l.rowOfProbabilities(w, &w.rows[i])
		}
		return
	}
	w.line.Settle(w.rows, w.runs, &l.planes)
	for rows := w.rows; len(rows) > 0; {
		some, n := 0, 0
		for ; some < len(rows) && n+int(rows[some].Unsure) <= w.room; some++ {
			if rows[some].Place = int32(n); rows[some].Unsure > 0 {
				n += int(rows[some].Unsure) + kernel.Slack
			}
		}
		if n > 0 && l.few() {
			w.line.Decide(w.settled, &l.planes, rows[:some], w.runs)
		} else if n > 0 {
			w.line.Sample(w.panel, w.room+kernel.Slack, &l.planes, rows[:some], w.runs)
			l.judge(w, w.settled, w.panel, w.room+kernel.Slack, n)
		}
		l.paint(rows[:some], w.runs, w.settled)
		rows = rows[some:]
	}
}

// pair returns which of the last two planes lie below and above output plane z.
func (l *Labels) pair(z int) [2]int32 { return [2]int32{l.z0[z] % 2, int32(l.upper(z) % 2)} }

// row returns where output row (z, y) lies, between a pair of planes.
func (l *Labels) row(pair [2]int32, z, y int) kernel.Row {
	wz, wy, v := l.wz[z], l.wy[y], l.target.View
	y0 := int64(l.y0[y])
	y1 := y0
	if wy != 0 {
		y1++
	}
	columns := int64(l.low[2])
	return kernel.Row{
		At: int64(v.Offset + z*v.Stride[0] + y*v.Stride[1]), Offset: [2]int64{y0 * columns, y1 * columns}, Plane: pair,
		Weight: [4]float32{(1 - wz) * (1 - wy), (1 - wz) * wy, wz * (1 - wy), wz * wy},
	}
}

// paint writes rows of labels to the target.
func (l *Labels) paint(rows []kernel.Row, runs []kernel.Run, settled []uint16) {
	step := l.target.View.Stride[2]
	if l.target.Labels.DType == volume.Uint16 {
		kernel.Paint(volume.As[uint16](l.target.Labels), step, rows, runs, settled, l.values)
	} else {
		kernel.Paint(l.target.Labels.Data, step, rows, runs, settled, l.values)
	}
}

// paintWhole writes the row of labels that begins at element at.
func (l *Labels) paintWhole(w *worker, at int, labels []uint16) {
	w.one[0] = kernel.Row{At: int64(at), Count: 1}
	l.paint(w.one[:], w.whole, labels)
}

// rowOfProbabilities writes the labels and probabilities of a row; they need the logits of
// all voxels.
func (l *Labels) rowOfProbabilities(w *worker, r *kernel.Row) {
	n, channels := l.out[2], w.logits
	if l.head != nil {
		channels = w.features
	}
	for i := range l.channels {
		w.line.Logits(channels[i*n:(i+1)*n], &l.planes, r, i)
	}
	if l.head != nil {
		l.head.Product(w.logits, n, channels, n, n, w.scratch)
	}
	l.pick(w.labels, w.logits, n, n)
	l.paintWhole(w, int(r.At), w.labels)
	l.probabilities(w, int(r.At))
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
