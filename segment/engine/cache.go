package engine

import (
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment/internal/fault"
)

// usableFolder makes a folder for compiled networks and tries to write there.
func usableFolder(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".try-*"); err == nil {
			f.Close()
			err = os.Remove(f.Name())
		}
	}
	if err != nil {
		return "", fault.New(fault.IO, "%w", err)
	}
	return dir, nil
}
