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

// WriteFileAtomic writes a file through write so that path either holds all of
// it or is left as it was: the bytes go to a temporary file in the same folder,
// which takes path's name once it is complete and closed, and is removed on any
// failure (full disk, an error or panic of write). Writes are buffered. A
// symbolic link at path is replaced, not followed.
//
// Errors name path; their kind is NotFound if the folder is missing, that of
// write's error if it has one, else IO.
func WriteFileAtomic(path string, write func(io.Writer) error) (err error) {
	fail := func(err error) error {
		var known *fault.Error
		switch {
		case errors.As(err, &known):
			return fault.New(known.Kind, "writing %s: %w", path, err)
		case errors.Is(err, fs.ErrNotExist):
			return fault.New(fault.NotFound, "writing %s: the folder %s does not exist", path, filepath.Dir(path))
		}
		return fault.New(fault.IO, "writing %s: %w", path, reason(err))
	}
	f, err := createBeside(path)
	if err != nil {
		return fail(err)
	}
	done := false
	defer func() {
		if !done { // also when write panics
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<18)
	if err := write(w); err != nil {
		return fail(err)
	}
	if err := w.Flush(); err != nil {
		return fail(err)
	}
	if err := f.Close(); err != nil { // network file systems report a full disk here
		return fail(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fail(err)
	}
	done = true
	return nil
}

// createBeside creates a new file in path's folder with the permissions of an
// ordinary new file (os.CreateTemp would make it readable to the owner only).
func createBeside(path string) (*os.File, error) {
	for try := 0; ; try++ {
		name := filepath.Join(filepath.Dir(path), fmt.Sprintf(".flare-%016x.tmp", rand.Uint64()))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err == nil || try == 9 || !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}
