package engine

/*
#define _GNU_SOURCE
#include <dlfcn.h>

static const char *flare_own_file(void) {
	Dl_info info;
	return dladdr((void *)flare_own_file, &info) ? info.dli_fname : 0;
}
#cgo LDFLAGS: -ldl
*/
import "C"

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// RuntimeVariable is the one environment variable that the library reads: the
// path of the ONNX Runtime library, or of the folder that holds it.
const RuntimeVariable = "FLARE_ONNXRUNTIME"

// Find returns the path of the ONNX Runtime library. option, when not empty, is
// the caller's word and the only place looked at; otherwise the folders beside
// this library (or program) come first, then $FLARE_ONNXRUNTIME. The error, of
// kind Runtime, lists every place looked.
func Find(option string) (string, error) {
	var places []string
	if option != "" {
		places = []string{option}
	} else {
		places = beside(self)
		if v := os.Getenv(RuntimeVariable); v != "" {
			places = append(places, v)
		}
	}
	for _, place := range places {
		if file := libraryIn(place); file != "" {
			return file, nil
		}
	}
	hint := "; set " + RuntimeVariable + " or the runtime option to the library or its folder"
	if option != "" {
		hint = " (given as the runtime option)"
	}
	return "", fault.New(fault.Runtime, "ONNX Runtime (%s) not found; looked in:\n  %s\n%s",
		pattern(), strings.Join(places, "\n  "), strings.TrimPrefix(hint, "; "))
}

// self is the file that holds this code: libflare, or a Go program that imports the
// library. The loader's name for it may be relative to the folder in which the
// process stood when it was loaded, so it is made absolute at once.
var self = ownFile()

func ownFile() string {
	if name := C.GoString(C.flare_own_file()); strings.Contains(name, "/") {
		if abs, err := filepath.Abs(name); err == nil {
			return abs
		}
	}
	exe, _ := os.Executable()
	return exe
}

// beside lists the folders that belong to a library or program: build/lib and
// build/bin, a Python wheel, an installed prefix. A symbolic link counts as where
// it is and as where it leads.
func beside(file string) []string {
	var places []string
	add := func(dir string) {
		for _, p := range []string{"flare-runtime-cuda", "flare-runtime", ".", "../lib/flare-runtime-cuda", "../lib/flare-runtime", "../lib"} {
			if p = filepath.Join(dir, p); !slices.Contains(places, p) {
				places = append(places, p)
			}
		}
	}
	add(filepath.Dir(file))
	if real, err := filepath.EvalSymlinks(file); err == nil {
		add(filepath.Dir(real))
	}
	return places
}

func pattern() string {
	if runtime.GOOS == "darwin" {
		return "libonnxruntime*.dylib"
	}
	return "libonnxruntime.so*"
}

// libraryIn returns the ONNX Runtime library at place, a file or a folder, or "".
func libraryIn(place string) string {
	info, err := os.Stat(place)
	if err != nil {
		return ""
	}
	if !info.IsDir() {
		return place
	}
	found, _ := filepath.Glob(filepath.Join(place, pattern()))
	if len(found) == 0 {
		return ""
	}
	return slices.Max(found) // the fullest version number
}
