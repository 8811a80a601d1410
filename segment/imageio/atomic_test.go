package imageio

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// entries returns the names in a folder.
func entries(t *testing.T, folder string) []string {
	list, err := os.ReadDir(folder)
	require.NoError(t, err)
	names := []string{}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteFileAtomic(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "a.txt")
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, s)
			assert.NotContains(t, entries(t, folder), "new.txt", "the name must not appear before the end")
			return err
		}
	}
	require.NoError(t, WriteFileAtomic(filepath.Join(folder, "new.txt"), text("x")))
	require.NoError(t, os.Remove(filepath.Join(folder, "new.txt")))
	require.NoError(t, WriteFileAtomic(path, text("first")))
	require.NoError(t, WriteFileAtomic(path, text("second")))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "second", string(got))

	// Whatever goes wrong, the old content stays and nothing else appears.
	full := func(w io.Writer) error {
		w.Write(make([]byte, 1<<20))
		return &os.PathError{Op: "write", Path: "temporary", Err: syscall.ENOSPC}
	}
	for _, c := range []struct {
		write func(io.Writer) error
		kind  fault.Kind
		part  string
	}{
		{full, fault.IO, "no space left on device"},
		{func(io.Writer) error { return errors.New("odd") }, fault.IO, "odd"},
		{func(io.Writer) error { return fault.New(fault.Cancelled, "stopped") }, fault.Cancelled, "stopped"},
	} {
		err := WriteFileAtomic(path, c.write)
		assert.Equal(t, c.kind, fault.KindOf(err))
		assert.ErrorContains(t, err, path)
		assert.ErrorContains(t, err, c.part)
	}
	assert.Panics(t, func() { WriteFileAtomic(path, func(io.Writer) error { panic("defect") }) })
	got, _ = os.ReadFile(path)
	assert.Equal(t, "second", string(got))
	assert.Equal(t, []string{"a.txt"}, entries(t, folder))

	err = WriteFileAtomic(filepath.Join(folder, "absent", "a.txt"), text("x"))
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	assert.ErrorContains(t, err, "does not exist")
	require.NoError(t, os.Mkdir(filepath.Join(folder, "taken"), 0o700))
	err = WriteFileAtomic(filepath.Join(folder, "taken"), text("x"))
	assert.Equal(t, fault.IO, fault.KindOf(err))
	assert.Equal(t, []string{"a.txt", "taken"}, entries(t, folder))
}

func small(t *testing.T, size [3]int) *volume.Volume {
	v, err := volume.New(volume.Geometry{Size: size, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}, 1, volume.Uint8)
	require.NoError(t, err)
	t.Cleanup(v.Free)
	x := uint32(1)
	for i := range v.Data {
		x = x*1664525 + 1013904223 // noise, which does not compress
		v.Data[i] = byte(x >> 24)
	}
	return v
}

func TestUnwritableFolder(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write anywhere")
	}
	folder := t.TempDir()
	require.NoError(t, os.Chmod(folder, 0o500))
	err := Write(filepath.Join(folder, "a.nii"), small(t, [3]int{2, 2, 2}))
	assert.Equal(t, fault.IO, fault.KindOf(err))
	assert.ErrorContains(t, err, "permission denied")
	assert.Empty(t, entries(t, folder))
}

// TestFullDisk writes 1 MB to a file system of 64 kB.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs the right to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(folder, 0) })
	for _, name := range []string{"a.nii", "a.nii.gz"} {
		err := Write(filepath.Join(folder, name), small(t, [3]int{100, 100, 100}))
		assert.Equal(t, fault.IO, fault.KindOf(err))
		assert.ErrorContains(t, err, "no space left on device")
		assert.ErrorContains(t, err, name)
		assert.Empty(t, entries(t, folder))
	}
}
