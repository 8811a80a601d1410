package evaluate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// Interval is the pause between two samples of the machine, as the FLARE challenges have it.
const Interval = 100 * time.Millisecond

// gpuFree is the GPU memory in MB that FLARE22 does not count.
const gpuFree = 2048

// Efficiency is what a command took of the whole machine, by the rules of the FLARE challenges: a sample
// every 0.1 s and the time that taking it needs, sums times 0.1. Everything that ran beside it counts too.
// MB are 2^20 bytes. GPU numbers are null without nvidia-smi.
type Efficiency struct {
	Seconds    float64 `json:"seconds"`                // from the start of the command to its end
	CPUSeconds float64 `json:"cpu_seconds"`            // of the command and the processes it waited for
	PeakRSS    int64   `json:"peak_memory_bytes"`      // of the command's largest process
	MaxCPU     Number  `json:"max_cpu_percent"`        // 100 - the idle part
	AUCCPU     Number  `json:"auc_cpu_percent_s"`      //
	MaxRAM     Number  `json:"max_ram_mb"`             // used, buffers and caches not counted
	AUCRAM     Number  `json:"auc_ram_mb_s"`           //
	MaxGPU     Number  `json:"max_gpu_mb"`             // FLARE23 and later: the largest value
	MaxGPU22   Number  `json:"max_gpu_mb_flare22"`     // FLARE22: the largest in more than 2 % of the samples, null if none is
	AUCGPU     Number  `json:"auc_gpu_mb_s"`           //
	AUCGPU22   Number  `json:"auc_gpu_mb_s_over_2048"` // FLARE22's ranking: what is above 2048 MB
	Samples    Samples `json:"samples"`
}

// Samples are the measurements themselves.
type Samples struct {
	CPU []float64 `json:"cpu_percent"`
	RAM []float64 `json:"ram_mb"`
	GPU []float64 `json:"gpu_mb"` // total less free memory of the whole device
}

// Measure runs a command, which has this process's standard input, output and error, and samples the
// machine meanwhile; gpu is the index of the GPU to watch. tick, unless nil, is called on the caller's
// goroutine with every sample. A command that fails gives an error of kind Internal with what was measured;
// one that cannot be started NotFound or IO. Cancelling ctx interrupts it. Linux only: Unsupported elsewhere.
func Measure(ctx context.Context, gpu int, command []string, tick func()) (*Efficiency, error) {
	if gpu < 0 {
		return nil, fault.New(fault.Argument, "the GPU's index is %d, must be 0 or more", gpu)
	}
	if len(command) == 0 {
		return nil, fault.New(fault.Argument, "there is no command to measure")
	}
	m := machine{root: "/proc"}
	if _, err := m.sampleCPU(); err != nil { // what later samples are compared with
		return nil, fault.New(fault.Unsupported, "this system's load cannot be measured: %w", err)
	}
	stop := m.watchGPU(gpu)
	defer stop()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	over := make(chan struct{})
	begin := time.Now()
	if err := c.Start(); err != nil {
		if ctx.Err() != nil {
			return nil, fault.New(fault.Cancelled, "cancelled: %w", context.Cause(ctx))
		}
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return nil, fault.New(fault.NotFound, "%s: no such command", command[0])
		}
		return nil, fault.New(fault.IO, "%w", err)
	}
	var s Samples
	var seconds float64
	wait := parallel.Go(func() error {
		defer close(over)
		err := c.Wait()
		seconds = time.Since(begin).Seconds()
		return err
	})
	unseen := m.sample(&s, over, tick)
	err := wait()
	if unseen != nil {
		return nil, unseen
	}
	e := s.efficiency()
	e.Seconds, e.CPUSeconds = seconds, (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
	e.PeakRSS = peakRSS(c.ProcessState)
	switch {
	case ctx.Err() != nil:
		return e, fault.New(fault.Cancelled, "cancelled: %w", context.Cause(ctx))
	case err != nil:
		return e, fault.New(fault.Internal, "%s: %w", command[0], err)
	}
	return e, nil
}

// efficiency sums samples up as the challenges' scripts do.
func (s *Samples) efficiency() *Efficiency {
	e := &Efficiency{Samples: *s, MaxGPU22: undefined, AUCGPU22: undefined}
	e.MaxCPU, e.AUCCPU = maxAndArea(s.CPU)
	e.MaxRAM, e.AUCRAM = maxAndArea(s.RAM)
	e.MaxGPU, e.AUCGPU = maxAndArea(s.GPU)
	if len(s.GPU) == 0 {
		return e
	}
	count := map[float64]int{}
	e.AUCGPU22 = 0
	for _, mb := range s.GPU {
		count[mb]++
		e.AUCGPU22 += Number(max(0, mb-gpuFree) * Interval.Seconds())
	}
	for mb, n := range count {
		if float64(n) > 0.02*float64(len(s.GPU)) && !(Number(mb) <= e.MaxGPU22) {
			e.MaxGPU22 = Number(mb)
		}
	}
	return e
}

func maxAndArea(values []float64) (most, area Number) {
	if len(values) == 0 {
		return undefined, undefined
	}
	for _, v := range values {
		most, area = max(most, Number(v)), area+Number(v*Interval.Seconds())
	}
	return most, area
}

// machine is where samples come from.
type machine struct {
	root               string // /proc
	user, system, idle float64
	gpu                atomic.Int64 // MB that were in use last, plus 1; 0: not known
}

// sample takes samples until over is closed, one at least.
func (m *machine) sample(s *Samples, over <-chan struct{}, tick func()) error {
	for {
		select {
		case <-over:
			if len(s.RAM) > 0 {
				return nil
			}
		case <-time.After(Interval):
		}
		cpu, err := m.sampleCPU()
		if err != nil {
			return err
		}
		ram, err := m.sampleRAM()
		if err != nil {
			return err
		}
		s.CPU, s.RAM = append(s.CPU, cpu), append(s.RAM, ram)
		if gpu := m.gpu.Load(); gpu > 0 {
			s.GPU = append(s.GPU, float64(gpu-1))
		}
		if tick != nil {
			tick()
		}
	}
}

// sampleCPU returns how busy all cores were since the last call, in percent. As in the challenges'
// script, 0.1 s are added to the time that passed, and time that is neither user, system nor idle (such as
// waiting for disks) does not count.
func (m *machine) sampleCPU() (float64, error) {
	text, err := os.ReadFile(m.root + "/stat")
	if err != nil {
		return 0, fault.File(m.root+"/stat", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 5 {
		return 0, fault.New(fault.Format, "%s/stat begins with %q, expected the ticks of all processors", m.root, line)
	}
	const ticks = 100 // a second, on every Linux that Go runs on
	var now [3]float64
	for i, field := range []string{fields[1], fields[3], fields[4]} { // user, system, idle
		if now[i], err = strconv.ParseFloat(field, 64); err != nil {
			return 0, fault.New(fault.Format, "%s/stat: %w", m.root, err)
		}
		now[i] /= ticks
	}
	user, system, idle := now[0]-m.user, now[1]-m.system, now[2]-m.idle
	m.user, m.system, m.idle = now[0], now[1], now[2]
	return 100 - 100*idle/(user+system+idle+0.1), nil
}

// sampleRAM returns the memory in use in MB: all that is neither free nor buffers or caches, as
// psutil 5.9 has it.
func (m *machine) sampleRAM() (float64, error) {
	text, err := os.ReadFile(m.root + "/meminfo")
	if err != nil {
		return 0, fault.File(m.root+"/meminfo", err)
	}
	kb := map[string]float64{}
	for _, line := range strings.Split(string(text), "\n") {
		if name, rest, ok := strings.Cut(line, ":"); ok {
			kb[name], _ = strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		}
	}
	used := kb["MemTotal"] - kb["MemFree"] - kb["Cached"] - kb["SReclaimable"] - kb["Buffers"]
	if used < 0 { // in containers that see numbers of two machines
		used = kb["MemTotal"] - kb["MemFree"]
	}
	return used / 1024, nil
}

// watchGPU keeps m.gpu up to date with one nvidia-smi, where there is one, until stop is called.
func (m *machine) watchGPU(gpu int) (stop func()) {
	c := exec.Command("nvidia-smi", "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits",
		"-i", strconv.Itoa(gpu), fmt.Sprintf("--loop-ms=%d", Interval.Milliseconds()))
	out, err := c.StdoutPipe()
	if err != nil || c.Start() != nil {
		return func() {}
	}
	lines := bufio.NewScanner(out)
	read := func() bool {
		var total, free int64
		if !lines.Scan() {
			return false
		}
		if n, _ := fmt.Sscanf(lines.Text(), "%d, %d", &total, &free); n == 2 {
			m.gpu.Store(total - free + 1)
		}
		return true
	}
	first := read() // so that the command starts when there is a number
	wait := parallel.Go(func() error {
		for first && read() {
		}
		_, err := io.Copy(io.Discard, out)
		return err
	})
	return func() {
		_ = c.Process.Kill()
		_ = wait() // it ends with the process
		_ = c.Wait()
	}
}

// Text writes what was measured, for a terminal.
func (e *Efficiency) Text(out io.Writer) error {
	_, err := fmt.Fprintf(out, "wall time %.2f s, CPU time %.2f s, largest process %.0f MB\n", e.Seconds, e.CPUSeconds, float64(e.PeakRSS)/(1<<20))
	for _, l := range []struct {
		what, unit string
		most, area Number
	}{{"CPU", "%", e.MaxCPU, e.AUCCPU}, {"RAM", "MB", e.MaxRAM, e.AUCRAM}, {"GPU memory", "MB", e.MaxGPU, e.AUCGPU}, {"GPU memory by FLARE22", "MB", e.MaxGPU22, e.AUCGPU22}} {
		if err == nil && l.area.defined() {
			_, err = fmt.Fprintf(out, "%-22s at most %8s %-2s, area under the curve %12s %s s\n", l.what, l.most.text(1), l.unit, l.area.text(0), l.unit)
		}
	}
	return err
}
