package imageio

/*
#cgo CFLAGS: -O3 -std=gnu11
#include "inflate.h"
*/
import "C"

import (
	"errors"
	"hash/crc32"
	"io"
	"unsafe"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// maxInflation bounds how many bytes deflate makes of one: 1032 (zlib's
// documentation), and a little for the headers.
const maxInflation = 1040

// Sizes of the buffers: small enough for the second-level cache, which the bytes pass
// through, and large enough that calls and system calls do not count.
const (
	packedBytes   = 1 << 18
	inflatedBytes = 1 << 18
	ahead         = 3 // blocks: one being filled, one being used, one between them
)

var (
	errHeader   = errors.New("gzip: invalid header")
	errChecksum = errors.New("gzip: invalid checksum")
	errDeflate  = errors.New("deflate: invalid code, length or distance")
)

// gunzip reads gzip members (RFC 1952) one after the other and ends where no further
// member begins: like gzip(1) it ignores garbage after the last one, which padding to a
// block size leaves. Every member's checksum and length are verified when its end is
// reached.
//
// It inflates ahead on a goroutine of its own while the blocks before are converted and
// copied to memory that is touched for the first time: a CT of 88 MB is there after 0.13 s,
// on one thread after 0.165.
type gunzip struct {
	file io.Reader
	ends bool // the file has no more bytes

	in       []byte // C memory; in[at:got] is to be used
	at, got  int
	buffers  []byte       // C memory: the blocks
	inflater []C.inflater // C memory
	inflated int          // bytes to a block

	last   []byte // the block inflated last, up to its end
	member bool   // one is being read
	crc    uint32 // of the member so far
	size   uint32 // its bytes so far, modulo 2^32

	empty chan []byte   // blocks to fill: the history, inflatedBytes, and the margin
	full  chan []byte   // blocks that are filled, with the history before their bytes
	quit  chan struct{} // closed: nothing more is wanted
	wait  func() error  // for the goroutine; the error that ended it
	block []byte        // being handed out
	from  int           // the first of its bytes not handed out
}

// newGunzip begins a gzip file. The caller calls free.
func newGunzip(r io.Reader) (*gunzip, error) { return newGunzipOf(r, packedBytes, inflatedBytes) }

// newGunzipOf chooses the sizes of the buffers: packed must hold the longest field of a
// gzip header and INFLATE_AHEAD.
func newGunzipOf(r io.Reader, packed, inflated int) (g *gunzip, err error) {
	g = &gunzip{file: r, inflated: inflated, empty: make(chan []byte, ahead), full: make(chan []byte, ahead), quit: make(chan struct{})}
	size := C.INFLATE_HISTORY + inflated + C.INFLATE_MARGIN
	if g.in, err = cmem.Alloc[byte](packed); err == nil {
		if g.buffers, err = cmem.Alloc[byte](ahead * size); err == nil {
			g.inflater, err = cmem.Alloc[C.inflater](1)
		}
	}
	if err == nil {
		err = g.begin()
	}
	if err != nil {
		g.free()
		return nil, err
	}
	for i := range ahead {
		g.empty <- g.buffers[i*size : (i+1)*size : (i+1)*size]
	}
	g.wait = parallel.Go(g.run)
	return g, nil
}

// free ends the goroutine and gives the buffers back.
func (g *gunzip) free() {
	close(g.quit)
	if g.wait != nil {
		g.wait()
	}
	cmem.Free(g.in)
	cmem.Free(g.buffers)
	cmem.Free(g.inflater)
}

// Read gives the inflated bytes; io.EOF after the last member.
func (g *gunzip) Read(p []byte) (int, error) {
	for g.from == len(g.block) {
		if g.block != nil {
			g.empty <- g.block[:cap(g.block)]
		}
		var more bool
		if g.block, more = <-g.full; !more {
			g.from = 0
			return 0, g.wait()
		}
		g.from = C.INFLATE_HISTORY
	}
	n := copy(p, g.block[g.from:])
	g.from += n
	return n, nil
}

// run fills blocks until the file ends, with io.EOF, or something is wrong with it.
func (g *gunzip) run() error {
	defer close(g.full)
	for {
		for g.member {
			var block []byte
			select {
			case block = <-g.empty:
			case <-g.quit:
				return nil
			}
			var err error
			g.last, err = g.inflate(block)
			g.full <- g.last // there is room for all blocks
			if err == nil && !g.member {
				err = g.end()
			}
			if err != nil {
				return err
			}
		}
		if more, err := g.want(2); err != nil {
			return err
		} else if !more || g.in[g.at] != 0x1f || g.in[g.at+1] != 0x8b {
			return io.EOF
		}
		if err := g.begin(); err != nil {
			return err
		}
	}
}

// inflate fills a block; behind its history, the last bytes before, which matches may
// reach, as far as the member has them. It returns the block up to its end, also with an
// error.
func (g *gunzip) inflate(block []byte) ([]byte, error) {
	s := &g.inflater[0]
	address := func(base []byte, i int) *C.uint8_t {
		return (*C.uint8_t)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(base)), i))
	}
	offset := func(base []byte, p *C.uint8_t) int {
		return int(uintptr(unsafe.Pointer(p)) - uintptr(unsafe.Pointer(unsafe.SliceData(base))))
	}
	kept := 0
	if g.last != nil {
		kept = min(len(g.last)-offset(g.last, s.history), C.INFLATE_HISTORY)
		copy(block[C.INFLATE_HISTORY-kept:], g.last[len(g.last)-kept:])
	}
	s.history = address(block, C.INFLATE_HISTORY-kept)
	s.out, s.out_end = address(block, C.INFLATE_HISTORY), address(block, C.INFLATE_HISTORY+g.inflated)
	var err error
	for again := true; again; {
		s.in, s.in_end = address(g.in, g.at), address(g.in, g.got)
		var whole C.int
		if g.ends {
			whole = 1
		}
		result := C.inflate_run(s, whole)
		g.at, again = offset(g.in, s.in), false
		switch result {
		case C.INFLATE_INPUT:
			err = g.fetch()
			again = err == nil
		case C.INFLATE_END:
			g.member = false
		case C.INFLATE_TRUNCATED:
			err = io.ErrUnexpectedEOF
		case C.INFLATE_DAMAGED:
			err = errDeflate
		}
	}
	block = block[:offset(block, s.out)]
	g.crc = crc32.Update(g.crc, crc32.IEEETable, block[C.INFLATE_HISTORY:])
	g.size += uint32(len(block) - C.INFLATE_HISTORY)
	return block, err
}

// fetch reads more of the file behind what is left of it.
func (g *gunzip) fetch() error {
	g.got = copy(g.in, g.in[g.at:g.got])
	g.at = 0
	n, err := io.ReadFull(g.file, g.in[g.got:])
	g.got += n
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		g.ends, err = true, nil
	}
	return err
}

// want reports whether n more bytes of the file are there.
func (g *gunzip) want(n int) (bool, error) {
	if g.got-g.at < n && !g.ends {
		if err := g.fetch(); err != nil {
			return false, err
		}
	}
	return g.got-g.at >= n, nil
}

// next returns the next n bytes, at most a buffer full.
func (g *gunzip) next(n int) ([]byte, error) {
	enough, err := g.want(n)
	if err == nil && !enough {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	g.at += n
	return g.in[g.at-n : g.at], nil
}

// begin reads a member's header and makes the inflater ready.
func (g *gunzip) begin() error {
	const checksum, extra, name, comment = 2, 4, 8, 16 // flags
	h, err := g.next(10)
	if err != nil {
		return err
	}
	flags := h[3]
	if h[0] != 0x1f || h[1] != 0x8b || h[2] != 8 || flags&0xe0 != 0 { // 8: deflate; the last flags are reserved
		return errHeader
	}
	crc := crc32.ChecksumIEEE(h)
	field := func(n int) []byte {
		var b []byte
		if err == nil {
			if b, err = g.next(n); err == nil {
				crc = crc32.Update(crc, crc32.IEEETable, b)
			}
		}
		return b
	}
	if flags&extra != 0 {
		if b := field(2); err == nil {
			field(int(b[0]) | int(b[1])<<8)
		}
	}
	for _, text := range []byte{name, comment} {
		for flags&text != 0 && err == nil {
			if b := field(1); err == nil && b[0] == 0 {
				break
			}
		}
	}
	if flags&checksum != 0 && err == nil {
		want := uint16(crc)
		if b := field(2); err == nil && want != uint16(b[0])|uint16(b[1])<<8 {
			err = errHeader
		}
	}
	if err != nil {
		return err
	}
	g.inflater[0] = C.inflater{}
	g.last, g.member, g.crc, g.size = nil, true, 0, 0
	return nil
}

// end checks a member's trailer.
func (g *gunzip) end() error {
	b, err := g.next(8)
	if err != nil {
		return err
	}
	number := func(b []byte) uint32 {
		return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
	}
	if number(b) != g.crc || number(b[4:]) != g.size {
		return errChecksum
	}
	return nil
}
