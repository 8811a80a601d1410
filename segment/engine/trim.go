package engine

/*
#include <stdlib.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

static void trim(void) {
#if defined(__GLIBC__)
	malloc_trim(0);
#endif
}
*/
import "C"

// trim gives the C library's free memory back to the system. A session's weights and
// graphs are small blocks in the heap of the thread that made them, and glibc has a heap
// for each of many threads: without this, hosts that open models again and again keep
// one model's weights for each of Go's threads that has ever opened one.
func trim() { C.trim() }
