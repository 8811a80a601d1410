package main

import (
	"fmt"
	"os"
	"sync"

	"github.com/schollz/progressbar/v3"
)

// display shows on standard error how the work gets on: a bar on a terminal, a
// line for each phase elsewhere.
type display struct {
	mu       sync.Mutex // log lines come from any thread
	terminal bool
	bar      *progressbar.ProgressBar
	name     string // the case that runs
	phase    string
}

func newDisplay() *display {
	info, err := os.Stderr.Stat()
	return &display{terminal: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

// line prints a message above the bar.
func (d *display) line(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil {
		d.bar.Clear()
	}
	fmt.Fprintf(os.Stderr, "flare: "+format+"\n", args...)
}

// begin starts the bar of a case.
func (d *display) begin(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.name, d.phase = name, ""
	if d.terminal {
		d.bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(os.Stderr),
			progressbar.OptionSetDescription(name), progressbar.OptionSetWidth(30),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false))
	}
}

// progress is segment.Options.Progress.
func (d *display) progress(phase string, fraction float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := phase != d.phase
	d.phase = phase
	switch {
	case d.bar != nil:
		if changed {
			d.bar.Describe(d.name + ": " + phase)
		}
		d.bar.Set(int(fraction * 1000))
	case changed && !d.terminal:
		fmt.Fprintf(os.Stderr, "flare: %s: %s\n", d.name, phase)
	}
}

// end takes the bar away.
func (d *display) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil {
		d.bar.Clear()
		d.bar = nil
	}
}
