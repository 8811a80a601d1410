package evaluate

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEfficiencyByTheChallengesRules has 100 samples: a spike in two of them is not in more
// than 2 %, so FLARE22 does not see it.
func TestEfficiencyByTheChallengesRules(t *testing.T) {
	var s Samples
	for i := range 100 {
		gpu := 1000.0
		switch {
		case i < 2:
			gpu = 9000
		case i < 5:
			gpu = 3048
		}
		s.GPU, s.CPU, s.RAM = append(s.GPU, gpu), append(s.CPU, float64(i)), append(s.RAM, 500)
	}
	e := s.efficiency()
	assert.Equal(t, Number(9000), e.MaxGPU)
	assert.Equal(t, Number(3048), e.MaxGPU22)
	assert.InDelta(t, 0.1*(2*9000+3*3048+95*1000), float64(e.AUCGPU), 1e-6)
	assert.InDelta(t, 0.1*(2*(9000-2048)+3*1000), float64(e.AUCGPU22), 1e-6)
	assert.Equal(t, Number(99), e.MaxCPU)
	assert.InDelta(t, 495, float64(e.AUCCPU), 1e-6)
	assert.Equal(t, Number(500), e.MaxRAM)
	assert.InDelta(t, 5000, float64(e.AUCRAM), 1e-6)
	assert.False(t, (&Samples{}).efficiency().MaxGPU.defined())
	assert.False(t, (&Samples{GPU: []float64{1}}).efficiency().MaxCPU.defined())
}

// TestSamplesOfAMachine reads files as the kernel writes them.
func TestSamplesOfAMachine(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o666))
	}
	m := machine{root: root}
	put("stat", "cpu  1000 5 500 8000 77 0 0 0 0 0\ncpu0 1 1 1 1\n")
	_, err := m.sampleCPU()
	require.NoError(t, err)
	// 0.3 s user, 0.1 s system, 0.5 s idle, 0.1 s added: idle is half.
	put("stat", "cpu  1030 9 510 8050 99 0 0 0 0 0\n")
	cpu, err := m.sampleCPU()
	require.NoError(t, err)
	assert.InDelta(t, 50, cpu, 1e-9)
	put("stat", "intr 5\n")
	_, err = m.sampleCPU()
	assert.Equal(t, fault.Format, fault.KindOf(err))

	put("meminfo", "MemTotal:       1000000 kB\nMemFree:         200000 kB\nMemAvailable:    1 kB\nBuffers:          10000 kB\nCached:           80000 kB\nSReclaimable:      5000 kB\n")
	ram, err := m.sampleRAM()
	require.NoError(t, err)
	assert.InDelta(t, 705000.0/1024, ram, 1e-9)
	put("meminfo", "MemTotal: 1000 kB\nMemFree: 200 kB\nCached: 900 kB\n")
	ram, err = m.sampleRAM()
	require.NoError(t, err)
	assert.InDelta(t, 800.0/1024, ram, 1e-9)
}

// TestMeasure runs commands beside an nvidia-smi that tells of 16384 MB, 4000 of them free.
func TestMeasure(t *testing.T) {
	if runtime.GOOS != "linux" {
		_, err := Measure(context.Background(), 0, []string{"true"}, nil)
		assert.Equal(t, fault.Unsupported, fault.KindOf(err))
		t.Skip("Linux only")
	}
	tools := t.TempDir()
	script := "#!/bin/sh\ncase \"$*\" in *'-i 3'*) while :; do echo '16384, 4000'; sleep 0.05; done;; esac\n"
	require.NoError(t, os.WriteFile(filepath.Join(tools, "nvidia-smi"), []byte(script), 0o777))
	t.Setenv("PATH", tools+":"+os.Getenv("PATH"))
	ticks := 0
	e, err := Measure(context.Background(), 3, []string{"sleep", "0.35"}, func() { ticks++ })
	require.NoError(t, err)
	assert.GreaterOrEqual(t, e.Seconds, 0.35)
	assert.NotEmpty(t, e.Samples.RAM)
	assert.Len(t, e.Samples.RAM, ticks)
	assert.Equal(t, len(e.Samples.RAM), len(e.Samples.CPU))
	assert.Equal(t, Number(12384), e.MaxGPU)
	assert.Greater(t, e.MaxRAM, Number(0))
	assert.Greater(t, e.PeakRSS, int64(0))

	e, err = Measure(context.Background(), 0, []string{"sh", "-c", "exit 3"}, nil)
	assert.ErrorContains(t, err, "exit status 3")
	assert.NotNil(t, e)
	assert.False(t, e.MaxGPU.defined(), "the machine has no GPU 0")
	_, err = Measure(context.Background(), 0, []string{"no-such-command"}, nil)
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	_, err = Measure(context.Background(), 0, nil, nil)
	assert.Equal(t, fault.Argument, fault.KindOf(err))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Measure(ctx, 0, []string{"sleep", "60"}, nil)
	assert.Equal(t, fault.Cancelled, fault.KindOf(err))
}
