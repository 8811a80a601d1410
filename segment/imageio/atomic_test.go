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

// Several files appear together or not at all.
func TestBatch(t *testing.T) {
	folder := t.TempDir()
	at := func(name string) string { return filepath.Join(folder, name) }
	text := func(w io.Writer) error {
		_, err := io.WriteString(w, "new")
		return err
	}
	var b Batch
	require.NoError(t, b.Add(at("a"), text))
	require.NoError(t, b.Add(at("b"), text))
	assert.NoFileExists(t, at("a"))
	assert.NoFileExists(t, at("b"))
	require.NoError(t, b.Commit())
	b.Discard()
	assert.Equal(t, []string{"a", "b"}, entries(t, folder))

	require.NoError(t, b.Add(at("c"), text))
	assert.Error(t, b.Add(at("d"), func(io.Writer) error { return errors.New("odd") }))
	b.Discard()
	assert.Equal(t, []string{"a", "b"}, entries(t, folder))

	// One that cannot get its name takes the others with it.
	require.NoError(t, b.Add(at("c"), text))
	require.NoError(t, b.Add(at("d"), text))
	require.NoError(t, b.Add(at("e"), text))
	require.NoError(t, os.Mkdir(at("d"), 0o700))
	assert.Equal(t, fault.IO, fault.KindOf(b.Commit()))
	b.Discard()
	assert.Equal(t, []string{"a", "b", "d"}, entries(t, folder))
}

// Where a batch fails, what its files were to replace is there as before; with and without
// hard links.
func TestBatchKeepsWhatWasThere(t *testing.T) {
	defer func() { link = os.Link }()
	for name, l := range map[string]func(string, string) error{
		"links":    os.Link,
		"no links": func(string, string) error { return &os.LinkError{Op: "link", Err: syscall.EPERM} },
	} {
		link = l
		folder := t.TempDir()
		at := func(name string) string { return filepath.Join(folder, name) }
		batch := func() (b Batch) {
			for _, name := range []string{"a", "b", "c"} {
				require.NoError(t, b.Add(at(name), func(w io.Writer) error {
					_, err := io.WriteString(w, "new")
					return err
				}))
			}
			return b
		}
		content := func() (all []string) {
			for _, name := range entries(t, folder) {
				text, err := os.ReadFile(at(name))
				if err != nil {
					text = []byte("-")
				}
				all = append(all, name+" "+string(text))
			}
			return all
		}
		require.NoError(t, os.WriteFile(at("a"), []byte("old"), 0o640))
		for _, bad := range []string{"a", "b", "c"} {
			b := batch()
			before, err := os.ReadFile(at(bad))
			os.Remove(at(bad))
			require.NoError(t, os.Mkdir(at(bad), 0o700))
			want := []string{"a old", bad + " -"}
			if bad == "a" {
				want = want[1:]
			}
			assert.Equal(t, fault.IO, fault.KindOf(b.Commit()), "%s: %s", name, bad)
			b.Discard()
			assert.Equal(t, want, content(), "%s: %s", name, bad)
			require.NoError(t, os.Remove(at(bad)))
			if err == nil {
				require.NoError(t, os.WriteFile(at(bad), before, 0o640))
			}
		}
		b := batch()
		require.NoError(t, b.Commit())
		b.Discard()
		assert.Equal(t, []string{"a new", "b new", "c new"}, content(), name)
		info, err := os.Stat(at("a"))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o640), info.Mode(), name)
	}
}

// What lies in a file's place: links are followed, permissions kept, and what may not be
// written is not replaced.
func TestWriteWhereSomethingIs(t *testing.T) {
	folder := t.TempDir()
	at := func(name string) string { return filepath.Join(folder, name) }
	put := func(path, content string) error {
		return WriteFileAtomic(path, func(w io.Writer) error {
			_, err := io.WriteString(w, content)
			return err
		})
	}
	content := func(name string) string {
		b, err := os.ReadFile(at(name))
		require.NoError(t, err)
		return string(b)
	}
	require.NoError(t, os.Mkdir(at("far"), 0o700))
	require.NoError(t, put(at("far/file"), "old"))
	require.NoError(t, os.Chmod(at("far/file"), 0o640))
	require.NoError(t, os.Symlink("far", at("folder")))
	require.NoError(t, os.Symlink("folder/../far/file", at("link")))
	require.NoError(t, os.Symlink(at("link"), at("far/link2")))
	require.NoError(t, os.Symlink("folder/new", at("dangling")))
	for _, name := range []string{"link", "far/link2"} {
		require.NoError(t, put(at(name), name))
		assert.Equal(t, name, content("far/file"))
	}
	info, err := os.Lstat(at("far/file"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o640), info.Mode(), "the permissions stay")
	require.NoError(t, put(at("dangling"), "new"))
	assert.Equal(t, "new", content("far/new"))
	assert.Equal(t, []string{"dangling", "far", "folder", "link"}, entries(t, folder))
	assert.Equal(t, []string{"file", "link2", "new"}, entries(t, at("far")))
	for _, name := range []string{"link", "far/link2", "dangling"} {
		info, err := os.Lstat(at(name))
		require.NoError(t, err)
		assert.Equal(t, os.ModeSymlink, info.Mode().Type(), name)
	}

	assert.True(t, Same(at("link"), at("far/file")))
	assert.True(t, Same(at("absent"), at("folder/../absent")))
	assert.False(t, Same(at("absent"), at("far/absent")))
	assert.False(t, Same(at("no/a"), at("no/a")), "of a folder that is not there nothing can be said")
	assert.False(t, Same(at("link"), at("far/new")))
	require.NoError(t, os.Link(at("far/file"), at("hard")))
	assert.True(t, Same(at("hard"), at("link")))
	require.NoError(t, os.Symlink("far/later", at("early")))
	assert.True(t, Same(at("early"), at("folder/later")), "neither is there yet")
	assert.True(t, Within(at("link"), at("far")))
	assert.True(t, Within(at("far/file"), folder))
	assert.False(t, Within(at("hard"), at("far")))
	assert.False(t, Within(at("far/file"), at("absent")))

	require.NoError(t, os.Symlink("loop", at("loop")))
	require.NoError(t, os.Symlink("/dev/null", at("null")))
	require.NoError(t, put(at("protected"), "precious"))
	require.NoError(t, os.Chmod(at("protected"), 0o444))
	before := entries(t, folder)
	for name, part := range map[string]string{
		"loop": "too many levels", "null": "not a regular file", "far": "is a folder", "protected": "read-only (-r--r--r--)",
	} {
		for _, err := range []error{put(at(name), "x"), Writable(at(name))} {
			assert.Equal(t, fault.IO, fault.KindOf(err), name)
			assert.ErrorContains(t, err, part)
			assert.ErrorContains(t, err, at(name))
		}
	}
	assert.Equal(t, fault.NotFound, fault.KindOf(Writable(at("absent/a"))))
	assert.Equal(t, fault.IO, fault.KindOf(Writable(at("far/file/a"))))
	for _, name := range []string{"new", "link", "dangling"} {
		assert.NoError(t, Writable(at(name)))
	}
	assert.Equal(t, "precious", content("protected"))
	assert.Equal(t, before, entries(t, folder))
	assert.Equal(t, []string{"file", "link2", "new"}, entries(t, at("far")))
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
	err := Write(t.Context(), filepath.Join(folder, "a.nii"), small(t, [3]int{2, 2, 2}))
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
		err := Write(t.Context(), filepath.Join(folder, name), small(t, [3]int{100, 100, 100}))
		assert.Equal(t, fault.IO, fault.KindOf(err))
		assert.ErrorContains(t, err, "no space left on device")
		assert.ErrorContains(t, err, name)
		assert.Empty(t, entries(t, folder))
	}
}
