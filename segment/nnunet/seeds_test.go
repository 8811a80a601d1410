package nnunet

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// matrixSeeds gives a fuzz test every file of one name in the model matrix: one
// folder per combination of what nnU-Net can write.
func matrixSeeds(f *testing.F, name string, add func(b []byte)) {
	f.Helper()
	count := 0
	require.NoError(f, filepath.WalkDir("../matrix/testdata/models", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != name {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) > 64<<10 { // larger seeds only slow the mutations down
			return err
		}
		add(b)
		count++
		return nil
	}))
	require.Greater(f, count, 20, name)
}
