package segment

import (
	"fmt"
	"sync/atomic"
)

// Levels of log lines.
const (
	LogError   = 1
	LogWarning = 2
	LogInfo    = 3
	LogDebug   = 4
)

var logger atomic.Pointer[func(level int, message string)]

// SetLog sends the library's log lines to fn, for the whole process; nil, the state
// at the start, drops them. fn may be called from any goroutine.
func SetLog(fn func(level int, message string)) {
	if fn == nil {
		logger.Store(nil)
		return
	}
	logger.Store(&fn)
}

func logf(level int, format string, args ...any) {
	if fn := logger.Load(); fn != nil {
		(*fn)(level, fmt.Sprintf(format, args...))
	}
}
