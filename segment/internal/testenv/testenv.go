// Package testenv finds what tests need from outside the repository: the shared
// data and ONNX Runtime. Without it a test is skipped with a message that says what
// is missing; where FLARE_REQUIRE_DATA is 1, as in CI, it fails.
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Root returns the repository's folder: the one with go.mod above the test.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

// Data returns the path of a file or folder of the shared data, in $FLARE_DATA or
// beside the repository in ../shared/data.
func Data(t testing.TB, parts ...string) string {
	t.Helper()
	folder := os.Getenv("FLARE_DATA")
	if folder == "" {
		folder = filepath.Join(filepath.Dir(Root(t)), "shared", "data")
	}
	name := filepath.Join(parts...)
	path := filepath.Join(folder, name)
	Need(t, path, name+" of the shared data, in $FLARE_DATA or ../shared/data")
	return path
}

// Runtime returns the folder of ONNX Runtime: $FLARE_ONNXRUNTIME, or what build.sh
// fetched.
func Runtime(t testing.TB) string {
	t.Helper()
	folder := os.Getenv("FLARE_ONNXRUNTIME")
	if folder == "" {
		folder = filepath.Join(Root(t), "build", "lib", "flare-runtime")
	}
	Need(t, folder, "ONNX Runtime, in $FLARE_ONNXRUNTIME or, after ./build.sh, in build/lib/flare-runtime")
	return folder
}

// Need skips the test, or fails it where data are required, unless path exists.
func Need(t testing.TB, path, what string) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	}
	lacks(t, what)
}

// lacks skips the test, or fails it where data are required.
func lacks(t testing.TB, what string) {
	t.Helper()
	message := "this test needs " + what
	if os.Getenv("FLARE_REQUIRE_DATA") == "1" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// Program returns the first of some programs that is installed. Without one the test is skipped,
// or fails where data are required; what names the programs and how to get them.
func Program(t testing.TB, what string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	lacks(t, what)
	return ""
}
