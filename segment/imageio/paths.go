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
	var s FileSet
	s.Add(a)
	return s.Find(b) != ""
}

// FileSet is a set of files, by whatever names and links; also of such that are not there
// yet. The zero value is empty.
type FileSet []place

// place is what tells a file from others: the file itself, or where it will be.
type place struct {
	path string      // by which it was added
	info os.FileInfo // of the file, or of the folder that it will be in
	name string      // in that folder; "" for a file that is there
}

// Add adds files. Those of which nothing can be said, as their folder is not there, are left out.
func (s *FileSet) Add(paths ...string) {
	for _, path := range paths {
		if p, ok := placeOf(path); ok {
			*s = append(*s, p)
		}
	}
}

// Find returns the path by which the file at path was added; "" if it was not.
func (s FileSet) Find(path string) string {
	p, ok := placeOf(path)
	if !ok {
		return ""
	}
	for _, q := range s {
		if p.name == q.name && os.SameFile(p.info, q.info) {
			return q.path
		}
	}
	return ""
}

func placeOf(path string) (place, bool) {
	info, err := os.Stat(path)
	if err == nil {
		return place{path, info, ""}, true
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return place{}, false
	}
	target, err := follow(path)
	if err != nil {
		return place{}, false
	}
	folder, name := filepath.Split(target)
	info, err = os.Stat(folder + ".")
	return place{path, info, name}, err == nil && name != ""
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
