package student

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
)

// A run is a row of stages. The key of a stage is the digest of exactly what it depends on:
// its part of the config, and the keys, or the digests of the results, of the stages before
// it. stages/NAME.json tells the key and whether the stage is finished. A stage that is
// finished under its key is not done again; one that was begun under its key goes on; what is
// there under another key is removed first.

// stageState is stages/NAME.json.
type stageState struct {
	Stage    string          `json:"stage"`
	Key      string          `json:"key"`
	Finished bool            `json:"finished"`
	Seconds  float64         `json:"seconds"` // of the calls that worked on it, but those that were killed
	Ended    string          `json:"ended,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
}

// stage is one of a run.
type stage struct {
	name    string
	depends any      // what the key digests
	folder  string   // that the stage fills, of the run; removed where the key changed
	keep    bool     // what lies in the folder judges by itself what is still right
	outputs []string // files without which the stage is not finished
	result  any      // pointer to what do leaves for later runs, or nil

	whole func() bool // nil, or whether what the result tells of is still there: else do goes on
	do    func() error
}

// digest returns the SHA-256 of values' JSON.
func digest(values ...any) string {
	text, err := json.Marshal(values)
	if err != nil {
		panic(err) // plain structs of finite numbers
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// stage does a stage unless it is finished, and returns its key.
func (r *runner) stage(s stage) (key string, err error) {
	key = digest(s.name, s.depends)
	path := r.path("stages", s.name+".json")
	state := stageState{}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &state) // written whole; whatever else is there counts as none
	}
	if err != nil {
		state = stageState{}
	}
	if state.Key == key && state.Finished && r.there(s.outputs) {
		if s.result != nil {
			if err := json.Unmarshal(state.Result, s.result); err != nil {
				return "", fault.New(fault.Format, "%s: %v", path, err)
			}
		}
		if s.whole == nil || s.whole() {
			r.log("%s: finished before", s.name)
			return key, nil
		}
	}
	if state.Key != key && !s.keep && s.folder != "" {
		// First what says that it is something, then it.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fault.File(path, err)
		}
		if state.Key != "" {
			r.log("%s: what it depends on has changed: done anew", s.name)
		}
		if err := os.RemoveAll(r.path(s.folder)); err != nil {
			return "", fault.File(r.path(s.folder), err)
		}
	}
	if state.Key != key {
		state = stageState{Stage: s.name, Key: key}
	}
	state.Finished = false
	if err := r.write(path, marshal(state)); err != nil {
		return "", err
	}
	r.log("%s: begins", s.name)
	r.now = s.name
	start := time.Now()
	if err := s.do(); err != nil {
		if fault.KindOf(err) == fault.Cancelled { // its time counts
			state.Seconds += time.Since(start).Seconds()
			_ = r.write(path, marshal(state))
		}
		return "", fault.New(fault.KindOf(err), "%s: %w", s.name, err)
	}
	state.Finished, state.Seconds, state.Ended = true, state.Seconds+time.Since(start).Seconds(), time.Now().UTC().Format(time.RFC3339)
	if s.result != nil {
		state.Result, err = json.Marshal(s.result)
		if err != nil {
			return "", fault.New(fault.Internal, "%s: %w", s.name, err)
		}
	}
	r.log("%s: finished after %.1f s", s.name, state.Seconds)
	return key, r.write(path, marshal(state))
}

// there reports whether files of the run exist.
func (r *runner) there(files []string) bool {
	for _, file := range files {
		if _, err := os.Stat(r.path(file)); err != nil {
			return false
		}
	}
	return true
}

// path returns a path in the run's folder.
func (r *runner) path(parts ...string) string {
	return filepath.Join(append([]string{r.Run}, parts...)...)
}

// write writes a file, and its folder where it is missing.
func (r *runner) write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fault.File(path, err)
	}
	return imageio.WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}
