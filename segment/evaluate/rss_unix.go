//go:build unix

package evaluate

import (
	"os"
	"runtime"
	"syscall"
)

// peakRSS is the peak resident size in bytes of the largest of a process and those it waited for.
func peakRSS(p *os.ProcessState) int64 {
	usage, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return int64(usage.Maxrss)
	}
	return int64(usage.Maxrss) * 1024
}
