// Package filelock keeps two processes out of one folder.
package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Lock takes the file at path, made where it does not exist, for this process; closing it
// gives it back, and so does the end of the process, however it ends. busy is what to
// tell the user if another one has it. Errors are of kind IO.
func Lock(path, busy string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fault.New(fault.IO, "%w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.New(fault.IO, "%s: %s", path, busy)
		}
		return nil, fault.New(fault.IO, "%s: locking it: %w", path, err)
	}
	return f, nil
}
