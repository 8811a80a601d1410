package engine

/*
#include <signal.h>
*/
import "C"

import "runtime"

// keepingAltstack runs f and puts the calling thread's signal stack back as it was.
//
// OpenVINO's CPU plugin gives the thread that makes it a small signal stack of its
// own, and unmaps that memory when the plugin goes, whichever thread frees it. The
// first thread then points at nothing: the next signal that it takes on its signal
// stack, such as the Go scheduler's SIGURG or a handler of the host, ends the process
// (seen with OpenVINO 2025.4: SIGSEGV, si_code SI_KERNEL, some seconds after a
// session was closed). So every call that may make or free the plugin goes through
// here.
func keepingAltstack(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var saved C.stack_t
	if C.sigaltstack(nil, &saved) == 0 {
		defer C.sigaltstack(&saved, nil)
	}
	f()
}
