//go:build unix

package testenv

import (
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// OwnProcess runs the test that calls it in another process, and reports whether this is that
// one; a test that uses FullDisk begins with it, for go test writes a log of its own beside the
// test's files, which a limit would break as well.
func OwnProcess(t *testing.T) bool {
	t.Helper()
	const name = "FLARE_TEST_OWN_PROCESS"
	if os.Getenv(name) != "" {
		return true
	}
	test := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	test.Env = append(os.Environ(), name+"=1")
	if out, err := test.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// FullDisk runs body while no file can grow beyond a size in bytes: as if the disk were full.
func FullDisk(t *testing.T, size uint64, body func()) {
	t.Helper()
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	body()
}
