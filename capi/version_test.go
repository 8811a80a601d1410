package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment"
)

// flare_version is C, because it must work before and without Go; so the number
// stands twice.
func TestVersionInCEqualsGo(t *testing.T) {
	c, err := os.ReadFile("shim.h")
	require.NoError(t, err)
	require.Contains(t, string(c), "#define LIBRARY_VERSION \""+segment.Version+"\"")
}
