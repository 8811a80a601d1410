package imageio

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
)

// FuzzRead feeds Read damaged NIfTI files, plain and gzipped. Whatever the bytes, it
// must return a usable image or an error with a kind, and keep no memory. Run it
// with -fuzzminimizetime 10x: by default Go spends a minute on shrinking an input.
func FuzzRead(f *testing.F) {
	seeds, err := filepath.Glob(filepath.Join("testdata", "*.nii*"))
	if err != nil || len(seeds) == 0 {
		f.Fatal("no seeds in testdata")
	}
	for _, path := range seeds {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content, Ending(path) == ".nii.gz")
	}
	f.Add(gzipped(encode(plain(), binary.BigEndian, voxels)), true)
	f.Fuzz(func(t *testing.T, content []byte, gz bool) {
		name := "a.nii"
		if gz {
			name = "a.nii.gz"
		}
		fuzzed(t, put(t, name, content))
	})
}

// FuzzText feeds Read damaged files of the formats with a header of text. Detached voxels
// lie in the file v.raw.
func FuzzText(f *testing.F) {
	for _, g := range goldens(f, "formats.json") {
		content := g.Files[g.File]
		for name := range g.Files {
			content = bytes.ReplaceAll(content, []byte(name), []byte("v.raw"))
		}
		f.Add(content, g.Files["v.raw"], strings.Contains(g.File, ".m"))
	}
	f.Fuzz(func(t *testing.T, content, beside []byte, meta bool) {
		name := "a.nrrd"
		if meta {
			name = "a.mhd"
		}
		path := put(t, name, content)
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), "v.raw"), beside, 0o600); err != nil {
			t.Fatal(err)
		}
		fuzzed(t, path)
	})
}

// fuzzed reads a file that may hold anything.
func fuzzed(t *testing.T, path string) {
	before := cmem.Live()
	im, err := Read(t.Context(), path)
	if err != nil {
		if k := fault.KindOf(err); k == fault.Internal || k == fault.Argument {
			t.Fatalf("kind %d: %v", k, err)
		}
	} else {
		if err := im.Validate(); err != nil {
			t.Fatal(err)
		}
		if im.Channels*im.Voxels()*im.DType.Size() != len(im.Data) {
			t.Fatalf("%d channels of %v voxels in %d bytes", im.Channels, im.Size, len(im.Data))
		}
		im.Free()
	}
	if live := cmem.Live(); live != before {
		t.Fatalf("%d bytes leaked", live-before)
	}
}
