package engine

import (
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/onnx/onnxtest"
)

func shape(s []int) []int64 {
	out := make([]int64, len(s))
	for i, n := range s {
		out[i] = int64(n)
	}
	return out
}

func network(t *testing.T, c onnxtest.Case) Network {
	t.Helper()
	data, err := onnxtest.Build(c.Folder)
	require.NoError(t, err)
	return Network{ONNX: data, Input: onnx.InputName, InputShape: shape(c.Input.Shape), Output: onnx.OutputName, OutputShape: shape(c.Output.Shape)}
}

// golden returns a golden network by name.
func golden(t *testing.T, name string) onnxtest.Case {
	t.Helper()
	cases, err := onnxtest.Cases("../onnx/testdata")
	require.NoError(t, err)
	for _, c := range cases {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no golden network is called %s", name)
	return onnxtest.Case{}
}

// run opens networks, runs the first on input and returns its output and the session's
// description.
func run(t *testing.T, o Options, input []float32, networks ...Network) ([]float32, Session) {
	t.Helper()
	o.Runtime = testenv.Runtime(t)
	s, err := Open(networks, o)
	require.NoError(t, err)
	defer s.Close()
	copy(s.Inputs[0], input)
	require.NoError(t, s.Run(context.Background(), 0, 0))
	if s.HalfOutputs != nil {
		return values(s.HalfOutputs[0]), Session{Device: s.Device, Precision: s.Precision, Threads: s.Threads, Notes: s.Notes}
	}
	return slices.Clone(s.Outputs[0]), Session{Device: s.Device, Precision: s.Precision, Threads: s.Threads, Notes: s.Notes}
}

// largestError returns the largest difference as part of the largest value.
func largestError(got, want []float32) float64 {
	worst, largest := 0.0, 0.0
	for i, w := range want {
		worst = max(worst, math.Abs(float64(w-got[i])))
		largest = max(largest, math.Abs(float64(w)))
	}
	return worst / largest
}

// Every golden network computes on both CPU devices what PyTorch computes in
// float64, to float32 rounding.
func TestGoldenNetworks(t *testing.T) {
	cases, err := onnxtest.Cases("../onnx/testdata")
	require.NoError(t, err)
	for _, device := range []string{OpenVINO, ORT} {
		for _, c := range cases {
			s, err := Open([]Network{network(t, c)}, Options{Device: device, Threads: 2, Runtime: testenv.Runtime(t)})
			require.NoError(t, err, c.Name)
			assert.Equal(t, device, s.Device)
			assert.Equal(t, 1, s.Networks())
			assert.Equal(t, "fp32", s.Precision)
			for range 2 {
				copy(s.Inputs[0], c.Input.Data)
				require.NoError(t, s.Run(context.Background(), 0, 0))
				assert.Less(t, largestError(s.Outputs[0], c.Output.Data), 1e-5, "%s on %s", c.Name, device)
			}
			s.Close()
			s.Close()
		}
	}
	assert.Zero(t, cmem.Live())
}

func TestCancelledRunLeavesTheSessionUsable(t *testing.T) {
	cases, err := onnxtest.Cases("../onnx/testdata")
	require.NoError(t, err)
	for _, device := range []string{OpenVINO, ORT} {
		s, err := Open([]Network{network(t, cases[0])}, Options{Device: device, Threads: 1, Runtime: testenv.Runtime(t)})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for range 20 {
			assert.Equal(t, fault.Cancelled, fault.KindOf(s.Run(ctx, 0, 0)))
		}
		assert.NoError(t, s.Run(context.Background(), 0, 0))
		s.Close()
	}
}

func TestOpenRefuses(t *testing.T) {
	cases, err := onnxtest.Cases("../onnx/testdata")
	require.NoError(t, err)
	n := network(t, cases[0])
	runtime := testenv.Runtime(t)

	_, err = Open([]Network{n}, Options{Device: "tpu", Threads: 1, Runtime: runtime})
	assert.Equal(t, fault.Argument, fault.KindOf(err))
	assert.ErrorContains(t, err, `"tpu" is not one of auto, cpu, openvino, ort, cuda, openvino:GPU`)

	broken := n
	broken.ONNX = []byte("no model")
	_, err = Open([]Network{broken}, Options{Device: Auto, Threads: 1, Runtime: runtime})
	assert.Equal(t, fault.Model, fault.KindOf(err))
	assert.ErrorContains(t, err, "openvino")
	assert.ErrorContains(t, err, "ort")

	_, err = Open([]Network{n}, Options{Threads: -1, Runtime: runtime})
	assert.Equal(t, fault.Argument, fault.KindOf(err))
	assert.ErrorContains(t, err, "-1 threads; expected 0 (one per core) or more")
	assert.Zero(t, cmem.Live())
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(RuntimeVariable, filepath.Join(dir, "elsewhere"))
	_, err := Find("")
	assert.Equal(t, fault.Runtime, fault.KindOf(err))
	for _, place := range append(beside(self), filepath.Join(dir, "elsewhere")) {
		assert.ErrorContains(t, err, place, "every place looked is listed")
	}
	_, err = Find(dir)
	assert.ErrorContains(t, err, dir)
	assert.NotContains(t, err.Error(), "elsewhere", "an option is the only place looked at")

	put := func(name string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte("not a library"), 0o600))
		return path
	}
	file := put("elsewhere/libonnxruntime.so.1.24.1")
	put("elsewhere/libonnxruntime.so.1")
	found, err := Find("")
	require.NoError(t, err)
	assert.Equal(t, file, found, "the fullest name in the folder that the variable names")

	// Beside a library: in flare-runtime-cuda and flare-runtime, then in its folder, then
	// across to ../lib.
	lib := put("prefix/lib/libflare.so.1")
	places := beside(lib)
	assert.Equal(t, filepath.Join(dir, "prefix/lib/flare-runtime-cuda"), places[0])
	assert.Equal(t, filepath.Join(dir, "prefix/lib/flare-runtime"), places[1])
	assert.Equal(t, filepath.Join(dir, "prefix/lib"), places[2])
	link := filepath.Join(dir, "link.so")
	require.NoError(t, os.Symlink(lib, link))
	assert.Contains(t, beside(link), filepath.Join(dir, "prefix/lib/flare-runtime"), "a link counts as where it leads")
}

// A process loads one runtime for good, so this needs a process of its own.
func TestLoadRefusesWhatIsNoLibrary(t *testing.T) {
	if file := os.Getenv("FLARE_TEST_NO_LIBRARY"); file != "" {
		_, err := Load(file)
		assert.Equal(t, fault.Runtime, fault.KindOf(err))
		assert.ErrorContains(t, err, file)
		_, err = Load(testenv.Runtime(t))
		assert.NoError(t, err, "and the right one can still be loaded")
		return
	}
	file := filepath.Join(t.TempDir(), "libonnxruntime.so.1.24.1")
	require.NoError(t, os.WriteFile(file, []byte("not a library"), 0o600))
	child := exec.Command(os.Args[0], "-test.run=^TestLoadRefusesWhatIsNoLibrary$")
	child.Env = append(os.Environ(), "FLARE_TEST_NO_LIBRARY="+file)
	out, err := child.CombinedOutput()
	assert.NoError(t, err, string(out))
}

func TestAnotherRuntimeIsRefused(t *testing.T) {
	_, err := Load(testenv.Runtime(t))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "libonnxruntime.so.1.0.0"), nil, 0o600))
	_, err = Load(dir)
	assert.Equal(t, fault.Runtime, fault.KindOf(err))
	assert.ErrorContains(t, err, "this process already uses")
}
