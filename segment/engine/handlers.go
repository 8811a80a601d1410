package engine

/*
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>

// NSIG is one more than the highest signal; asking for those that are the C library's
// own fails and leaves them out.
struct handlers {
	int known[NSIG];
	struct sigaction action[NSIG];
};

static struct handlers *handlers_save(void) {
	struct handlers *h = calloc(1, sizeof *h);
	for (int s = 1; h && s < NSIG; s++) h->known[s] = sigaction(s, NULL, &h->action[s]) == 0;
	return h;
}

// Puts back the handlers that differ and returns how many did.
static int handlers_restore(struct handlers *h) {
	int changed = 0;
	for (int s = 1; h && s < NSIG; s++) {
		struct sigaction now;
		memset(&now, 0, sizeof now);
		if (!h->known[s] || sigaction(s, NULL, &now) != 0) continue;
		if (now.sa_handler == h->action[s].sa_handler && now.sa_flags == h->action[s].sa_flags) continue;
		changed += sigaction(s, &h->action[s], NULL) == 0;
	}
	free(h);
	return changed;
}
*/
import "C"

// keepingHandlers runs f and puts back the signal handlers that it changed, in number
// changed. Drivers of graphics cards install handlers of their own when they start,
// without regard for those of Go or of the host: a Go signal handler that has lost its
// own stack ends the process. A handler that the host installs meanwhile is lost, too,
// so only calls that may start a driver go through here.
func keepingHandlers(f func()) (changed int) {
	saved := C.handlers_save()
	defer func() { changed = int(C.handlers_restore(saved)) }()
	f()
	return
}

// guarded runs f, which may start or end a device's driver or plugin, and leaves the
// process's signals as they were.
func guarded(device string, f func()) {
	keepingAltstack(func() {
		if onGPU(device) {
			keepingHandlers(f)
		} else {
			f()
		}
	})
}
