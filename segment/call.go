package segment

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/internal/fault"
)

// The phases of a call, in order.
const (
	phaseRead = iota
	phasePreprocess
	phaseNetwork
	phaseExport
	phaseWrite
	phases
)

var phaseNames = [phases]string{"read", "preprocess", "network", "export", "write"}

// reached is the fraction of a call that is done when a phase begins; typical of a
// clinical CT on two cores.
var reached = [phases]float64{0, 0.05, 0.15, 0.15, 0.97}

// call is one run of a model: its clock, progress and cancellation.
type call struct {
	model     *Model
	options   Options
	ctx       context.Context
	release   func()
	part      *part // the network that runs, or ran last
	session   *engine.Session
	device    string // of the session, also after it was closed
	precision string // likewise
	threads   int    // that the call's own loops may use
	allowed   int    // threads, of the session

	start, last time.Time
	current     int
	seconds     [phases]float64
	told        time.Time
	tiles       int      // of the networks that ran before
	done        int      // tiles of the network that runs
	skipped     int      // tiles
	values      []uint16 // of the region of interest, in the network's labels; nil: all
	body        float64  // fraction of the image
	notes       []string
	organs      []Organ
	from, share float64 // the fraction of the whole at which the running network begins, and its part of it
}

var errClosed = fault.New(fault.Handle, "the model is closed")

// begin waits for the model's turn.
func (m *Model) begin(ctx context.Context, o Options) (*call, error) {
	ctx, cancel := context.WithCancel(ctx)
	unlink := context.AfterFunc(m.closed, cancel)
	c := &call{model: m, options: o, ctx: ctx, start: time.Now(), current: -1, share: 1, body: 1, notes: []string{}, organs: []Organ{}}
	c.release = func() { unlink(); cancel() }
	select {
	case m.busy <- struct{}{}:
	case <-ctx.Done():
		c.release()
		if m.closed.Err() != nil {
			return nil, errClosed
		}
		return nil, cancelled(ctx)
	}
	if m.gone {
		<-m.busy
		c.release()
		return nil, errClosed
	}
	return c, nil
}

// end gives the turn back.
func (c *call) end() {
	<-c.model.busy
	c.release()
}

// phase ends the current phase and begins another.
func (c *call) phase(p int) {
	now := time.Now()
	if c.current >= 0 {
		c.seconds[c.current] += now.Sub(c.last).Seconds()
	}
	c.current, c.last = p, now
	// Those between reading and writing alternate tile by tile; tile tells of them.
	if p == phaseRead || p == phaseWrite || p == phasePreprocess && c.done == 0 {
		c.tell(phaseNames[p], reached[p])
	}
}

// tell reports progress, at most 20 times a second.
func (c *call) tell(phase string, fraction float64) {
	if c.options.Progress == nil || time.Since(c.told) < 50*time.Millisecond {
		return
	}
	c.told = time.Now()
	c.options.Progress(phase, c.from+c.share*fraction)
}

// use makes p, on its session, the network that runs: number i of n.
func (c *call) use(p *part, session *engine.Session, i, n int) {
	c.part, c.session, c.device, c.precision = p, session, session.Device, session.Precision
	c.allowed, c.threads = session.Threads, session.Threads
	if len(session.Inputs) > 1 {
		c.threads = max(1, c.threads-1) // one waits for the device meanwhile
	}
	c.from, c.share, c.done = float64(i)/float64(n), 1/float64(n), 0
}

// Networks and Run make the call the sliding window's network, with its clock.
func (c *call) Networks() int { return c.session.Networks() }

// Run runs a fold on a slot of the session's buffers.
func (c *call) Run(ctx context.Context, network, slot int) error {
	if len(c.session.Inputs) > 1 { // beside the other phases, whose time goes on
		start := time.Now()
		defer func() { c.seconds[phaseNetwork] += time.Since(start).Seconds() }()
		return c.session.Run(ctx, network, slot)
	}
	c.phase(phaseNetwork)
	defer c.phase(phaseExport)
	return c.session.Run(ctx, network, slot)
}

// tile is told of every finished tile.
func (c *call) tile(done, all int) error {
	if c.done = done; done == all {
		c.tiles += all
	}
	from, to := reached[phaseNetwork], reached[phaseWrite]
	c.tell(phaseNames[phaseNetwork], from+(to-from)*float64(done)/float64(all))
	return c.cancelled()
}

func (c *call) cancelled() error {
	if c.ctx.Err() != nil {
		return cancelled(c.ctx)
	}
	return nil
}

func cancelled(ctx context.Context) error {
	return fault.New(fault.Cancelled, "cancelled: %w", context.Cause(ctx))
}

// stats closes the clock and returns the account.
func (c *call) stats() Stats {
	now := time.Now()
	if c.current >= 0 {
		c.seconds[c.current] += now.Sub(c.last).Seconds()
	}
	c.current = -1
	return Stats{
		Seconds: Seconds{
			Open: c.model.seconds, Read: c.seconds[phaseRead], Preprocess: c.seconds[phasePreprocess], Network: c.seconds[phaseNetwork],
			Export: c.seconds[phaseExport], Write: c.seconds[phaseWrite], Total: now.Sub(c.start).Seconds(),
		},
		Tiles: c.tiles, Skipped: c.skipped, PeakMemory: peakMemory(), Device: c.device, Precision: c.precision, Threads: c.allowed,
		Mode: c.model.Mode(), Body: c.body, Notes: c.notes, Organs: c.organs,
	}
}

// peakMemory returns the peak resident size of the process in bytes. Linux's VmHWM
// is this program's own; ru_maxrss, used elsewhere, can be inherited there from the
// program before exec.
func peakMemory() int64 {
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		if _, rest, ok := bytes.Cut(status, []byte("VmHWM:")); ok {
			if fields := bytes.Fields(rest); len(fields) > 0 {
				if kb, err := strconv.ParseInt(string(fields[0]), 10, 64); err == nil {
					return kb << 10
				}
			}
		}
	}
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return int64(usage.Maxrss) // bytes on macOS
}
