package train

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/libflare/libflare/segment/internal/fault"
)

// lock keeps a run's folder for this process; close the file to give it back. The system
// gives it back when the process ends, however it ends. Error: IO (another process has
// it).
func lock(folder string) (*os.File, error) {
	path := filepath.Join(folder, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, openError(path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.New(fault.IO, "%s: another process trains here: wait for it, or choose another folder", folder)
		}
		return nil, openError(path, err)
	}
	return f, nil
}
