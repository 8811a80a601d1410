package imageio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Batch is a set of files that appear together or not at all: each is written to a
// temporary file beside it, and Commit gives all of them their names. The zero value is
// ready for use. Discard must be called in the end.
//
// A symbolic link in a file's place stays, and the file that it names is written. A file
// that exists keeps its permissions; one that may not be written (read-only, or another
// user's), a folder and a device are refused rather than replaced.
type Batch struct{ files []pending }

// pending is a complete file without its name.
type pending struct{ path, target, temporary string }

// Add writes one more file through write. Writes are buffered.
//
// Errors name path; their kind is NotFound if the folder is missing, that of write's
// error if it has one, else IO.
func (b *Batch) Add(path string, write func(io.Writer) error) error {
	target, mode, err := resolve(path)
	if err != nil {
		return err
	}
	f, err := createBeside(target)
	if err != nil {
		return writing(path, err)
	}
	done := false
	defer func() {
		if !done { // also when write panics
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<18)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil && mode != 0 {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Close() // network file systems report a full disk here
	}
	if err != nil {
		return writing(path, err)
	}
	done = true
	b.files = append(b.files, pending{path, target, f.Name()})
	return nil
}

// Commit gives the files their names. If that fails for one of them, those before it are
// removed.
func (b *Batch) Commit() error {
	for i, p := range b.files {
		if err := os.Rename(p.temporary, p.target); err != nil {
			for _, before := range b.files[:i] {
				os.Remove(before.target)
			}
			return writing(p.path, err)
		}
	}
	b.files = nil
	return nil
}

// Discard removes the files that were not committed.
func (b *Batch) Discard() {
	for _, p := range b.files {
		os.Remove(p.temporary)
	}
	b.files = nil
}

// WriteFileAtomic writes a file through write so that path either holds all of it or is
// left as it was (full disk, an error or panic of write): a Batch of one.
func WriteFileAtomic(path string, write func(io.Writer) error) error {
	return one(func(b *Batch) error { return b.Add(path, write) })
}

// one commits the file that add adds.
func one(add func(*Batch) error) error {
	var b Batch
	defer b.Discard()
	if err := add(&b); err != nil {
		return err
	}
	return b.Commit()
}

// createBeside creates a new file in path's folder with the permissions of an
// ordinary new file (os.CreateTemp would make it readable to the owner only).
func createBeside(path string) (*os.File, error) {
	folder, _ := filepath.Split(path)
	for try := 0; ; try++ {
		name := folder + fmt.Sprintf(".flare-%016x.tmp", rand.Uint64())
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err == nil || try == 9 || !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// writing says that writing path failed.
func writing(path string, err error) error {
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return fault.New(known.Kind, "writing %s: %w", path, err)
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "writing %s: the folder %s does not exist", path, filepath.Dir(path))
	}
	return fault.New(fault.IO, "writing %s: %w", path, reason(err))
}
