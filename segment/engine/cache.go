package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/libflare/libflare/segment/onnx"
)

// The cache is a folder of the caller with two kinds of entries, which many processes
// may read and write at once.
//
// KEY.weights holds the weights of a network at aligned places. A runtime that gets a
// network as bytes copies its weights four times on the way to its kernels; this file it
// maps, which takes half of the time and leaves the copies out of memory. That is what
// opening a network on a CPU consists of: compiling itself takes milliseconds, and
// OpenVINO's own cache for CPUs keeps the same weights in a form that this runtime
// throws away again (it lacks the frontend that reads it).
//
// KEY.kernels, for Intel GPUs, is a folder with what OpenVINO has compiled; see
// kernels.go.
//
// Entries are written to a temporary name and renamed, and never changed afterwards. A
// file of weights is compared with the network at every opening, so that neither damage
// nor two networks with one key can do harm. Whatever fails in here costs time only.

// leastWeight is the size of weights in bytes from which on they lie in the cache:
// below, the runtime asks for them in the model.
const leastWeight = 4096

// staleAge is how old a temporary entry is whose writer has certainly ended.
const staleAge = 24 * time.Hour

// cache is a folder for prepared networks.
type cache struct{ dir string }

// openCache makes the folder where it does not exist.
func openCache(dir string) (*cache, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	// The runtime wants to find the weights inside of the folder's real path.
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, err
	}
	return &cache{dir}, nil
}

// detach returns the encoded model without its weights, which then lie in the cache's
// folder (the model itself where it has none of size), and the name of its entries.
func (c *cache) detach(model []byte) (graph []byte, key string, err error) {
	m, err := onnx.Parse(model)
	if err != nil {
		return nil, "", err
	}
	if key, err = keyOf(m); err != nil {
		return nil, "", err
	}
	m, weights, size := m.Detach(key+".weights", leastWeight)
	if len(weights) == 0 {
		return model, key, nil
	}
	file := filepath.Join(c.dir, key+".weights")
	if !holds(file, weights, size) {
		if err := c.write(file, weights); err != nil {
			return nil, "", err
		}
	}
	graph, err = m.Marshal()
	return graph, key, err
}

// keyOf names a model: by its graph and a check sum of each of its weights.
func keyOf(m *onnx.Model) (string, error) {
	graph, weights, _ := m.Detach("", leastWeight)
	data, err := graph.Marshal()
	if err != nil {
		return "", err
	}
	for _, w := range weights {
		data = fmt.Appendf(data, "%08x", crc32.Checksum(w.Raw, castagnoli))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // the one that processors compute

// holds reports whether a file holds the weights, every byte of them.
func holds(file string, weights []onnx.Detached, size int64) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() != size {
		return false
	}
	// Read, not mapped: a file that is cut meanwhile is an error then, not a signal.
	block := make([]byte, 1<<18)
	for _, w := range weights {
		for at := 0; at < len(w.Raw); at += len(block) {
			want := w.Raw[at:min(at+len(block), len(w.Raw))]
			got := block[:len(want)]
			if _, err := f.ReadAt(got, w.Offset+int64(at)); err != nil || !bytes.Equal(got, want) {
				return false
			}
		}
	}
	return true
}

// write makes a file of weights.
func (c *cache) write(file string, weights []onnx.Detached) error {
	c.sweep()
	f, err := os.CreateTemp(c.dir, filepath.Base(file)+".tmp-*")
	if err != nil {
		return err
	}
	for _, w := range weights {
		if err == nil {
			_, err = f.Seek(w.Offset, io.SeekStart)
		}
		if err == nil {
			_, err = f.Write(w.Raw)
		}
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// sweep removes what processes that ended in the middle have left.
func (c *cache) sweep() {
	left, _ := filepath.Glob(filepath.Join(c.dir, "*.tmp-*"))
	for _, path := range left {
		if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > staleAge {
			os.RemoveAll(path)
		}
	}
}
