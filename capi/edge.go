package main

// #cgo CFLAGS: -I${SRCDIR}/../include
// #include "callback.h"
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/libflare/libflare/segment"
)

// poison holds the message of the first panic; from then on every call fails.
var poison atomic.Pointer[string]

// edge runs the body of an export. It returns the status of the body's error and
// puts its message into *text, memory of malloc that flare.c takes over. A panic
// in the body, or one that segment caught in a goroutine, poisons the library.
func edge(text **C.char, body func() error) (status C.flare_status) {
	defer func() {
		if v := recover(); v != nil {
			logLine(1, fmt.Sprintf("panic: %v\n%s", v, debug.Stack()))
			what, _, _ := strings.Cut(fmt.Sprint(v), "\n") // a stack may follow
			status = report(text, segment.Errorf(segment.ErrPanic,
				"a defect in libflare was caught, restart the process: %s (the log has the stack)", what))
		}
	}()
	if first := poison.Load(); first != nil {
		return report(text, segment.Errorf(segment.ErrPanic,
			"libflare is out of service since an earlier call: %s", *first))
	}
	return report(text, body())
}

// report turns an error into status and text.
func report(text **C.char, err error) C.flare_status {
	if err == nil {
		return C.FLARE_OK
	}
	kind := segment.KindOf(err)
	if kind == segment.ErrInternal && errors.Is(err, context.Canceled) {
		kind = segment.ErrCancelled
	}
	message := err.Error()
	if kind == segment.ErrPanic {
		poison.CompareAndSwap(nil, &message)
	}
	*text = cText(message)
	return -C.flare_status(kind)
}

// cText copies s to memory of malloc as UTF-8, nil if there is none left.
func cText(s string) *C.char {
	s = strings.ToValidUTF8(s, "\uFFFD") // file names on Linux may be any bytes
	p := C.tryMalloc(C.size_t(len(s) + 1))
	if p == nil {
		return nil
	}
	b := unsafe.Slice((*byte)(p), len(s)+1)
	copy(b, s)
	b[len(s)] = 0
	return (*C.char)(p)
}

// cJSON puts v as JSON into *out, which C owns then.
func cJSON(out **C.char, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return segment.Errorf(segment.ErrInternal, "writing JSON: %w", err)
	}
	if *out = cText(string(b)); *out == nil {
		return segment.Errorf(segment.ErrMemory, "no memory for %d bytes of JSON", len(b))
	}
	return nil
}
