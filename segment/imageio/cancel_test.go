package imageio

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// countdown is a context that is done once it was asked n times.
type countdown struct {
	context.Context
	left atomic.Int64
}

func (c *countdown) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

func (c *countdown) asked(n int64) int64 { return n - c.left.Load() }

// Reading and writing look at their context at least once in 256 kB, and stop there with
// nothing left behind, wherever that is.
func TestCancel(t *testing.T) {
	g := volume.Geometry{Size: [3]int{128, 128, 64}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	for _, dtype := range []volume.DType{volume.Uint8, volume.Int32} {
		v, err := volume.New(g, 1, dtype)
		require.NoError(t, err)
		for i := range v.Data {
			v.Data[i] = byte(i * i >> 7)
		}
		for _, ending := range []string{".nii", ".nii.gz", ".seg.nrrd", ".nhdr", ".mha", ".mhd"} {
			folder := t.TempDir()
			path := filepath.Join(folder, "a_0000"+ending)
			require.NoError(t, Write(t.Context(), path, v))
			im, err := Read(t.Context(), path)
			require.NoError(t, err)
			work := map[string]func(ctx context.Context) error{
				"read": func(ctx context.Context) error {
					im, err := ReadCase(ctx, path, 1)
					if err == nil {
						im.Free()
					}
					return err
				},
				"write": func(ctx context.Context) error { return Write(ctx, filepath.Join(folder, "b"+ending), v) },
			}
			if dtype == volume.Uint8 {
				work["labels"] = func(ctx context.Context) error { return im.WriteLabels(ctx, filepath.Join(folder, "b"+ending), v) }
			}
			before, files := cmem.Live(), entries(t, folder)
			for name, do := range work {
				const many = 1 << 40
				ctx := &countdown{Context: t.Context()}
				ctx.left.Store(many)
				require.NoError(t, do(ctx))
				asked := ctx.asked(many)
				assert.GreaterOrEqual(t, asked, int64(len(v.Data)/(1<<18)), "%s%s", name, ending)
				if name != "read" {
					files = append(files, "b"+ending, "b.raw", "b.zraw", "b.raw.gz")
				}
				for n := range asked {
					ctx.left.Store(n)
					err := do(ctx)
					require.Equal(t, fault.Cancelled, fault.KindOf(err), "%s%s: %v", name, ending, err)
					require.Equal(t, before, cmem.Live())
					require.Subset(t, files, entries(t, folder))
				}
			}
			im.Free()
		}
		v.Free()
	}
	assert.Zero(t, cmem.Live())
}
