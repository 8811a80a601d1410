// Package cmem holds big buffers outside the Go heap, so that volumes, logits
// and weights neither wake the garbage collector nor double its heap goal, and
// so that C code may keep their addresses.
package cmem

/*
#include <stdlib.h>
#include <sys/mman.h>

// Buffers from so many bytes on are mapped, page by page, and go back to the system when they
// are freed. The C library would keep what is freed below 32 MB, in a heap for each of many
// threads: of strips that follow each other, one after the other would stay.
enum { mapped = 1 << 20 };

static void *cmem_alloc(size_t n) {
	void *p = NULL;
	if (n < mapped)
		return posix_memalign(&p, 64, n) == 0 ? p : NULL;
	p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
	madvise(p, n, MADV_HUGEPAGE); // a fault every 2 MB instead of every 4 KB, where the system allows
#endif
	return p;
}

static void cmem_free(void *p, size_t n) {
	if (n < mapped)
		free(p);
	else
		munmap(p, n);
}
*/
import "C"

import (
	"sync/atomic"
	"unsafe"

	"github.com/libflare/libflare/segment/internal/fault"
)

var live, countdown atomic.Int64

// large is from how many bytes on an allocation asks the system first whether it can be
// met: systems that overcommit promise any size, and end the process when it is used.
const large = 32 << 20

// FailAfter makes the n-th allocation from now on (1: the next), and no other, fail: so
// tests see what becomes of every one. 0 takes that back. It returns how many allocations
// were still to come before the one that an earlier call named.
func FailAfter(n int) (left int) { return int(max(0, countdown.Swap(int64(n)))) }

// Live returns the bytes allocated and not yet freed; tests check it for leaks.
func Live() int64 { return live.Load() }

// Alloc returns n elements of C memory, 64-byte aligned, content undefined.
// Failure is an error of kind Memory that names the size. n may be 0.
func Alloc[T any](n int) ([]T, error) {
	var zero T
	size := int(unsafe.Sizeof(zero))
	if n < 0 || n > (1<<56)/size {
		return nil, fault.New(fault.Memory, "refused to allocate %d elements of %d bytes", n, size)
	}
	if n == 0 {
		return nil, nil
	}
	if n*size >= large {
		if free, ok := Available(); ok && int64(n*size) > free {
			return nil, fault.New(fault.Memory, "out of memory: %d bytes asked for, %d available", n*size, free)
		}
	}
	var p unsafe.Pointer
	if countdown.Load() <= 0 || countdown.Add(-1) != 0 {
		p = C.cmem_alloc(C.size_t(n * size))
	}
	if p == nil {
		return nil, fault.New(fault.Memory, "out of memory: %d bytes asked for", n*size)
	}
	live.Add(int64(n * size))
	return unsafe.Slice((*T)(p), n), nil
}

// AllocZero is Alloc with the memory set to zero: written, even where the system gives pages
// of zeros, for pages that are read first cost a second fault when they are written.
func AllocZero[T any](n int) ([]T, error) {
	s, err := Alloc[T](n)
	clear(s)
	return s, err
}

// Free gives back memory from Alloc. s must be the slice that Alloc returned
// (same start and length); nil is allowed.
func Free[T any](s []T) {
	if len(s) == 0 {
		return
	}
	size := len(s) * int(unsafe.Sizeof(s[0]))
	live.Add(-int64(size))
	C.cmem_free(unsafe.Pointer(&s[0]), C.size_t(size))
}

// Cast views bytes as elements of type T; a tail shorter than one T is dropped.
func Cast[T any](b []byte) []T {
	var zero T
	n := len(b) / int(unsafe.Sizeof(zero))
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n)
}

// Bytes views elements as bytes.
func Bytes[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}
