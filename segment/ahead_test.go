package segment

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
)

// The first file of a model may be read while it opens: the labels are the same, whatever
// is called for in the end.
func TestReadAhead(t *testing.T) {
	dir := t.TempDir()
	ctx, before := context.Background(), cmem.Live()
	write := func(name string, z int) string {
		path := filepath.Join(dir, name)
		require.NoError(t, imageio.Write(ctx, path, noiseImage(t, geometry(20, 18, z), 1)))
		return path
	}
	first, second := write("first.nii.gz", 9), write("second.nii.gz", 11)
	live := cmem.Live()
	run := func(m *Model, in string) []byte {
		out := filepath.Join(dir, "out.nii")
		_, err := m.SegmentFile(ctx, in, out, Options{})
		require.NoError(t, err)
		data, err := os.ReadFile(out)
		require.NoError(t, err)
		return data
	}
	plain := open(t, tiny, OpenOptions{})
	wantFirst, wantSecond := run(plain, first), run(plain, second)
	plain.Close()
	assert.NotEqual(t, len(wantFirst), len(wantSecond))

	m := open(t, tiny, OpenOptions{ReadAhead: first})
	require.NoError(t, m.ahead.read())
	image := m.ahead.image
	assert.NotNil(t, image)
	assert.Equal(t, wantFirst, run(m, first))
	assert.Nil(t, m.ahead.image, "the call took it")
	assert.Equal(t, wantFirst, run(m, first), "and the next one reads")
	m.Close()

	m = open(t, tiny, OpenOptions{ReadAhead: first})
	assert.Equal(t, wantSecond, run(m, second), "another file")
	m.Close()

	m = open(t, tiny, OpenOptions{ReadAhead: first})
	require.NoError(t, m.ahead.read())
	data, err := os.ReadFile(second)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(first, data, 0o600)) // behind its back
	assert.True(t, bytes.Equal(wantSecond, run(m, first)), "a file that changed is read again")
	m.Close()

	// Never called for, missing, broken: opening does not care.
	require.NoError(t, os.WriteFile(first, []byte("no image"), 0o600))
	for _, path := range []string{second, first, filepath.Join(dir, "missing.nii"), dir, ""} {
		m := open(t, tiny, OpenOptions{ReadAhead: path})
		if path != second && path != "" {
			_, err := m.SegmentFile(ctx, path, filepath.Join(dir, "out.nii"), Options{})
			assert.ErrorContains(t, err, path)
		}
		m.Close()
	}
	_, err = Open(ctx, filepath.Join(dir, "nothing.onnx"), OpenOptions{ReadAhead: second})
	assert.Error(t, err)
	_, err = Open(ctx, tiny, OpenOptions{ReadAhead: second, Device: "cuda", Runtime: os.Getenv("FLARE_ONNXRUNTIME")})
	assert.Error(t, err)
	assert.Equal(t, live, cmem.Live())
	assert.LessOrEqual(t, before, live)
}
