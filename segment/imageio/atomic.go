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

// AddText is Add for content that lies in memory, in one part or several.
func (b *Batch) AddText(path string, parts ...[]byte) error {
	return b.Add(path, func(w io.Writer) error {
		for _, part := range parts {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
}

// Commit gives the files their names. If that fails for one of them, what was in the place
// of those before it is there again.
func (b *Batch) Commit() error {
	old := make([]string, len(b.files)) // what was there, under another name; "": nothing
	for i, p := range b.files {
		var err error
		if i < len(b.files)-1 { // nothing comes after the last
			old[i], err = keep(p.target)
		}
		if err == nil {
			err = os.Rename(p.temporary, p.target)
		}
		if err == nil {
			continue
		}
		err = writing(p.path, err)
		for j := i; j >= 0; j-- {
			if failed := putBack(old[j], b.files[j].target, j < i); failed != nil {
				err = fault.New(fault.KindOf(err), "%w; what was in %s is now %s (%v)", err, b.files[j].target, old[j], reason(failed))
			}
		}
		return err
	}
	for _, o := range old {
		if o != "" {
			os.Remove(o)
		}
	}
	b.files = nil
	return nil
}

// link is os.Link, which file systems such as FAT lack; tests replace it.
var link = os.Link

// keep gives the file at path, if there is one, another name in its folder, so that it
// outlives what takes its place; where links are possible the old name stays until then.
func keep(path string) (name string, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() { // a folder is not replaced
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name = temporary(path)
	if link(path, name) != nil {
		if err := os.Rename(path, name); err != nil {
			return "", err
		}
	}
	return name, nil
}

// putBack undoes keep; replaced says that a new file took the old one's place.
func putBack(name, path string, replaced bool) error {
	if name == "" {
		if replaced {
			os.Remove(path)
		}
		return nil
	}
	if err := os.Rename(name, path); err != nil {
		return err
	}
	os.Remove(name) // of two names of one file, rename leaves both
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
	for try := 0; ; try++ {
		f, err := os.OpenFile(temporary(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err == nil || try == 9 || !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// temporary returns a name in path's folder that no file has.
func temporary(path string) string {
	folder, _ := filepath.Split(path)
	return folder + fmt.Sprintf(".flare-%016x.tmp", rand.Uint64())
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
