package engine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/onnx/onnxtest"
)

// entries returns the names in a cache.
func entries(t *testing.T, dir string) (names []string) {
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// With a cache every device gives what it gives without, the first time and later; one
// file of weights serves all.
func TestCache(t *testing.T) {
	c := golden(t, "residual3d")
	n := network(t, c)
	dir := filepath.Join(t.TempDir(), "made", "when needed")
	var file os.FileInfo
	for _, device := range []string{OpenVINO, ORT} {
		for _, fast := range []bool{false, true} {
			want, plain := run(t, Options{Device: device, Threads: 2, Fast: fast}, c.Input.Data, n)
			for range 2 {
				got, s := run(t, Options{Device: device, Threads: 2, Fast: fast, Cache: dir}, c.Input.Data, n)
				assert.Equal(t, want, got, device)
				assert.Equal(t, plain.Notes, s.Notes)
				names := entries(t, dir)
				require.Len(t, names, 1)
				info, err := os.Stat(filepath.Join(dir, names[0]))
				require.NoError(t, err)
				assert.True(t, file == nil || os.SameFile(file, info), "written once")
				file = info
			}
		}
	}
	// The same graph with other weights is another network.
	m, err := onnx.Parse(n.ONNX)
	require.NoError(t, err)
	for _, w := range m.Graph.Initializers {
		if len(w.Raw) >= leastWeight {
			w.Raw[1] ^= 1
			break
		}
	}
	want, _ := run(t, Options{Device: ORT}, c.Input.Data, n)
	got, _ := run(t, Options{Device: ORT, Cache: dir}, c.Input.Data, n)
	assert.Equal(t, want, got)
	assert.Len(t, entries(t, dir), 2)
}

// The weights of several folds, and a folder that is a link.
func TestCacheOfFolds(t *testing.T) {
	c := golden(t, "residual3d")
	n := network(t, c)
	other := n
	m, err := onnx.Parse(append([]byte{}, n.ONNX...))
	require.NoError(t, err)
	for _, w := range m.Graph.Initializers {
		for i := 3; i < len(w.Raw); i += 4 {
			w.Raw[i] ^= 0x80 // the sign
		}
	}
	other.ONNX, err = m.Marshal()
	require.NoError(t, err)
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(dir, link))
	s, err := Open([]Network{n, other}, Options{Device: OpenVINO, Cache: link, Runtime: testenv.Runtime(t)})
	require.NoError(t, err)
	defer s.Close()
	assert.Empty(t, s.Notes)
	assert.Len(t, entries(t, dir), 2)
	require.NoError(t, os.RemoveAll(dir), "an open network does not need its files")
	for i, fold := range []Network{n, other} {
		want, _ := run(t, Options{Device: OpenVINO}, c.Input.Data, fold)
		copy(s.Inputs[0], c.Input.Data)
		require.NoError(t, s.Run(t.Context(), i, 0))
		assert.Equal(t, want, s.Outputs[0], i)
	}
}

// Whatever happened to a file, what is computed is right, and the file is afterwards.
func TestCacheDamaged(t *testing.T) {
	c := golden(t, "residual3d")
	n := network(t, c)
	dir := t.TempDir()
	o := Options{Device: ORT, Threads: 1, Cache: dir}
	want, _ := run(t, o, c.Input.Data, n)
	file := filepath.Join(dir, entries(t, dir)[0])
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	flipped := func(at int) []byte {
		b := append([]byte{}, whole...)
		b[at] ^= 0x40
		return b
	}
	for i, content := range [][]byte{{}, []byte("garbage"), whole[:len(whole)/2], whole[:len(whole)-1], append(append([]byte{}, whole...), 0),
		flipped(0), flipped(len(whole) / 2), flipped(len(whole) - 1), make([]byte, len(whole))} {
		require.NoError(t, os.WriteFile(file, content, 0o600))
		got, s := run(t, o, c.Input.Data, n)
		assert.Equal(t, want, got, i)
		assert.Empty(t, s.Notes)
		now, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, whole, now, i)
	}

	// What stands in its place and cannot be written over costs a note.
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.MkdirAll(filepath.Join(file, "in the way"), 0o700))
	got, s := run(t, o, c.Input.Data, n)
	assert.Equal(t, want, got)
	require.Len(t, s.Notes, 1)
	assert.Contains(t, s.Notes[0], "the cache "+dir+" is not used")
	assert.Len(t, entries(t, dir), 1, "nothing temporary is left")

	// Leftovers of processes that ended go away, those of others stay.
	require.NoError(t, os.RemoveAll(file))
	for name, age := range map[string]time.Duration{"a.weights.tmp-1": 2 * staleAge, "b.weights.tmp-2": 0} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, whole, 0o600))
		require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
	}
	run(t, o, c.Input.Data, n)
	assert.Equal(t, []string{filepath.Base(file), "b.weights.tmp-2"}, sorted(entries(t, dir)))
}

func sorted(names []string) []string {
	if len(names) == 2 && strings.HasPrefix(names[0], "b.") {
		names[0], names[1] = names[1], names[0]
	}
	return names
}

// unusable opens a network with a folder that is no use, for a reason that is noted.
func unusable(t *testing.T, dir, reason string) {
	t.Helper()
	c := golden(t, "residual3d")
	n := network(t, c)
	want, _ := run(t, Options{Device: OpenVINO}, c.Input.Data, n)
	got, s := run(t, Options{Device: OpenVINO, Cache: dir}, c.Input.Data, n)
	assert.Equal(t, want, got)
	require.Len(t, s.Notes, 1)
	assert.Contains(t, s.Notes[0], "the cache "+dir+" is not used")
	assert.Contains(t, s.Notes[0], reason)
}

// A folder that cannot be one.
func TestCacheIsNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	unusable(t, file, "not a directory")
	unusable(t, filepath.Join(file, "below"), "not a directory")
}

// Processes and goroutines that open one network with one empty cache at once.
func TestCacheShared(t *testing.T) {
	c := golden(t, "residual3d")
	if dir := os.Getenv("FLARE_TEST_CACHE"); dir != "" {
		var all sync.WaitGroup
		for _, device := range []string{OpenVINO, ORT} {
			all.Add(1)
			go func() {
				defer all.Done()
				for range 3 {
					s, err := Open([]Network{network(t, c)}, Options{Device: device, Threads: 1, Cache: dir, Runtime: testenv.Runtime(t)})
					if !assert.NoError(t, err) {
						return
					}
					assert.Empty(t, s.Notes)
					copy(s.Inputs[0], c.Input.Data)
					assert.NoError(t, s.Run(t.Context(), 0, 0))
					assert.Less(t, largestError(s.Outputs[0], c.Output.Data), 1e-5)
					s.Close()
				}
			}()
		}
		all.Wait()
		return
	}
	testenv.Runtime(t)
	dir := t.TempDir()
	var children []*exec.Cmd
	var texts []*strings.Builder
	for range 4 {
		child := exec.Command(os.Args[0], "-test.run=^TestCacheShared$")
		child.Env = append(os.Environ(), "FLARE_TEST_CACHE="+dir)
		text := &strings.Builder{}
		child.Stdout, child.Stderr = text, text
		require.NoError(t, child.Start())
		children, texts = append(children, child), append(texts, text)
	}
	for i, child := range children {
		assert.NoError(t, child.Wait(), texts[i].String())
	}
	assert.Len(t, entries(t, dir), 1)
}

// kernels keeps what run leaves, and lends it again only if it is whole.
func TestKernels(t *testing.T) {
	c, err := openCache(t.TempDir())
	require.NoError(t, err)
	runs := 0
	// compile is OpenVINO: it reads what is there, and writes it where it is not.
	compile := func(want string) {
		t.Helper()
		note, err := c.kernels("key", func(dir string) error {
			runs++
			blob := filepath.Join(dir, "1.blob")
			have, err := os.ReadFile(blob)
			if want == "" {
				assert.True(t, os.IsNotExist(err), "nothing is lent")
			} else {
				assert.Equal(t, want, string(have))
				return nil
			}
			return os.WriteFile(blob, []byte("compiled "+fmt.Sprint(runs)), 0o400)
		})
		assert.NoError(t, err)
		assert.Empty(t, note)
		assert.Equal(t, []string{"key.kernels"}, entries(t, c.dir))
	}
	compile("")
	compile("compiled 1")
	compile("compiled 1")
	entry := filepath.Join(c.dir, "key.kernels")
	for name, damage := range map[string]func() error{
		"cut":        func() error { return os.Truncate(filepath.Join(entry, "1.blob"), 3) },
		"empty":      func() error { return os.Truncate(filepath.Join(entry, "1.blob"), 0) },
		"another":    func() error { return writeOver(filepath.Join(entry, "1.blob"), "compiled x") },
		"gone":       func() error { return os.Remove(filepath.Join(entry, "1.blob")) },
		"unsealed":   func() error { return os.Remove(filepath.Join(entry, sealName)) },
		"seal":       func() error { return writeOver(filepath.Join(entry, sealName), "garbage") },
		"more":       func() error { return os.WriteFile(filepath.Join(entry, "2.blob"), nil, 0o600) },
		"a folder":   func() error { return os.Mkdir(filepath.Join(entry, "3.blob"), 0o700) },
		"not one":    func() error { return os.Symlink("nowhere", filepath.Join(entry, "4.blob")) },
		"everything": func() error { return os.RemoveAll(entry) },
		"a file":     func() error { os.RemoveAll(entry); return os.WriteFile(entry, []byte("garbage"), 0o600) },
	} {
		require.NoError(t, damage(), name)
		compile("")
		compile("compiled " + fmt.Sprint(runs))
	}

	// What OpenVINO replaces, as it does with what it cannot read, replaces the entry.
	_, err = c.kernels("key", func(dir string) error {
		blob := filepath.Join(dir, "1.blob")
		os.Remove(blob)
		return os.WriteFile(blob, []byte("newer"), 0o400)
	})
	require.NoError(t, err)
	compile("newer")

	_, err = c.kernels("key", func(string) error { return fmt.Errorf("no device") })
	assert.ErrorContains(t, err, "no device")
	compile("newer")
	assert.NotEqual(t, kernelKey("a", OpenVINOGPU, true), kernelKey("a", OpenVINOGPU, false))
}

func writeOver(path, text string) error {
	os.Remove(path)
	return os.WriteFile(path, []byte(text), 0o600)
}

// TestKeys: a model's name depends on its graph and on every weight.
func TestKeys(t *testing.T) {
	cases, err := onnxtest.Cases("../onnx/testdata")
	require.NoError(t, err)
	seen := map[string]string{}
	for _, c := range cases {
		m, err := onnx.Parse(network(t, c).ONNX)
		require.NoError(t, err)
		for _, change := range []func(){
			func() {},
			func() { m.Graph.Initializers[0].Raw[0] ^= 1 },
			func() { m.Graph.Nodes[len(m.Graph.Nodes)-1].Name += "x" },
			func() { m.Graph.Initializers[len(m.Graph.Initializers)-1].Raw[2] ^= 4 },
		} {
			change()
			key, err := keyOf(m)
			require.NoError(t, err)
			again, err := keyOf(m)
			require.NoError(t, err)
			assert.Equal(t, key, again)
			assert.Empty(t, seen[key])
			seen[key] = c.Name
		}
	}
	assert.Equal(t, 4*len(cases), len(seen))
}
