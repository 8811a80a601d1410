package imageio

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Writable reports, before hours of work, why a file at path could not be written: nil if
// it probably can. Errors are those of Batch.Add.
func Writable(path string) error {
	target, _, err := resolve(path)
	if err != nil {
		return err
	}
	f, err := createBeside(target)
	if err != nil {
		return writing(path, err)
	}
	f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return writing(path, err)
	}
	if data := voxelFile(path, true); data != "" {
		return own(path, data)
	}
	return nil
}

// Same reports whether two paths name one file, through whatever links; also of files
// that are not there yet.
func Same(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX == nil && errY == nil {
		return os.SameFile(x, y)
	}
	if !errors.Is(errX, fs.ErrNotExist) || !errors.Is(errY, fs.ErrNotExist) {
		return false
	}
	a, errX = follow(a)
	b, errY = follow(b)
	folderA, nameA := filepath.Split(a)
	folderB, nameB := filepath.Split(b)
	if errX != nil || errY != nil || nameA != nameB {
		return false
	}
	x, errX = os.Stat(folderA + ".")
	y, errY = os.Stat(folderB + ".")
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// resolve returns the file that writing to path changes, and its permissions if it
// exists, 0 otherwise.
func resolve(path string) (target string, mode fs.FileMode, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", 0, writing(path, err)
	case info.IsDir():
		return "", 0, fault.New(fault.IO, "writing %s: is a folder", path)
	case !info.Mode().IsRegular():
		return "", 0, fault.New(fault.IO, "writing %s: is not a regular file (%s)", path, info.Mode().Type())
	case info.Mode()&0o222 == 0: // which would not stop root
		return "", 0, fault.New(fault.IO, "writing %s: the file is read-only (%s)", path, info.Mode())
	default:
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return "", 0, writing(path, err)
		}
		f.Close()
		mode = info.Mode().Perm()
	}
	if target, err = follow(path); err != nil {
		return "", 0, writing(path, err)
	}
	return target, mode, nil
}

// follow returns what the symbolic link at path names in the end, be it there or not;
// path itself where there is none. Names are joined as they stand: after a link, ".." is
// not where it seems to be.
func follow(path string) (string, error) {
	for range 40 { // as Linux
		link, err := os.Readlink(path)
		if err != nil {
			return path, nil
		}
		if !filepath.IsAbs(link) {
			folder, _ := filepath.Split(path)
			link = folder + link
		}
		path = link
	}
	return "", errors.New("too many symbolic links")
}

// Within reports whether the file at path, which exists, lies in a folder or in one of
// its folders, links followed.
func Within(path, folder string) bool {
	top, err := os.Stat(folder)
	if err != nil {
		return false
	}
	if path, err = filepath.EvalSymlinks(path); err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return false
	}
	for up := filepath.Dir(path); up != path; path, up = up, filepath.Dir(up) {
		if info, err := os.Stat(up); err == nil && os.SameFile(info, top) {
			return true
		}
	}
	return false
}
