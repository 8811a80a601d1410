package fault

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestKindOf(t *testing.T) {
	assert.Zero(t, KindOf(nil))
	assert.Equal(t, Internal, KindOf(io.EOF))
	inner := New(Format, "file: %w", io.EOF)
	assert.Equal(t, Format, KindOf(inner))
	assert.ErrorIs(t, inner, io.EOF)
	assert.Equal(t, Format, KindOf(fmt.Errorf("outer: %w", inner)))
	outer := New(IO, "outer: %w", inner)
	assert.Equal(t, IO, KindOf(outer), "the outermost kind counts")
	assert.ErrorIs(t, outer, io.EOF)
	assert.EqualError(t, outer, "outer: file: EOF")
}

// The numbers are flare.h's statuses and the command line's exit codes: they never
// change.
func TestNumbersAreFixed(t *testing.T) {
	assert.Equal(t, []Kind{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		[]Kind{Internal, Argument, Handle, NotFound, IO, Format, Unsupported, Model, Memory, Device, Runtime, Cancelled, Panic, Forked, Version})
}
