package main

// #include "callback.h"
import "C"

import (
	"sync"
	"unsafe"

	"github.com/libflare/libflare/segment"
)

// logger is where log lines go. Its lock is held shared during a callback, so
// that none is running or will run any more when flare_set_log returns.
var logger struct {
	sync.RWMutex
	fn    C.flare_log_fn
	user  C.uintptr_t // a number, so that Go's collector leaves it alone
	level int
}

// setLog sends lines up to level to fn.
func setLog(fn C.flare_log_fn, user C.uintptr_t, level int) {
	logger.Lock()
	defer logger.Unlock()
	logger.fn, logger.user, logger.level = fn, user, level
	if fn == nil {
		segment.SetLog(nil)
	} else {
		segment.SetLog(logLine)
	}
}

// logLine hands one line to the host.
func logLine(level int, message string) {
	logger.RLock()
	defer logger.RUnlock()
	if logger.fn == nil || level > logger.level {
		return
	}
	if text := cText(message); text != nil {
		C.callLog(logger.fn, C.int32_t(level), text, logger.user)
		C.free(unsafe.Pointer(text))
	}
}
