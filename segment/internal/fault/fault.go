// Package fault gives every error of the library a kind: the number that a C
// caller gets as status and that the command line gives as exit code.
package fault

import (
	"errors"
	"fmt"
	"io/fs"
)

// Kind says what sort of failure an error is. Its numbers are part of the
// library's interface: flare_status is the negative of a Kind, the command
// line's exit code is the Kind. Numbers are never reused.
type Kind int

// The kinds of failure.
const (
	Internal    Kind = 1  // a defect in the library, or a failure with no kind
	Argument    Kind = 2  // a value given by the caller is wrong
	Handle      Kind = 3  // a handle is stale, zero or foreign
	NotFound    Kind = 4  // a file or folder does not exist
	IO          Kind = 5  // reading or writing failed
	Format      Kind = 6  // a file's content is malformed
	Unsupported Kind = 7  // a file is well-formed but asks for what the library lacks
	Model       Kind = 8  // the parts of a model, or a model and an image, contradict each other
	Memory      Kind = 9  // an allocation failed or was refused
	Device      Kind = 10 // the device asked for does not exist or failed
	Runtime     Kind = 11 // ONNX Runtime is missing, too old, or failed
	Cancelled   Kind = 12 // the call was cancelled
	Panic       Kind = 13 // a defect was caught at the C edge
	Forked      Kind = 14 // the call came in a fork()ed child
	Version     Kind = 15 // the caller was compiled for a newer library
)

// Error is an error with a kind.
type Error struct {
	Kind Kind
	err  error
}

// Error returns the message.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns the errors wrapped with %w.
func (e *Error) Unwrap() error { return errors.Unwrap(e.err) }

// New returns an error of kind k; format and args are as for fmt.Errorf.
func New(k Kind, format string, args ...any) error {
	return &Error{k, fmt.Errorf(format, args...)}
}

// KindOf returns the kind of err: that of the outermost Error in its chain,
// Internal if there is none, 0 for nil.
func KindOf(err error) Kind {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// File gives the failure of package os to open, read or make the file at path its kind,
// NotFound or IO, and its text, which names the path once.
func File(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err // which does not repeat the path
	}
	if errors.Is(err, fs.ErrNotExist) {
		return New(NotFound, "%s: no such file", path)
	}
	return New(IO, "%s: %w", path, err)
}
