package imageio

import (
	"bufio"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"github.com/libflare/libflare/segment/internal/parallel"
)

// maxInflation bounds how many bytes deflate makes of one: 1032 (zlib's
// documentation), and a little for the headers.
const maxInflation = 1040

// Blocks are inflated ahead: one is being filled, one being used, one lies between them.
const (
	inflatedBytes = 1 << 18 // of a block: small enough for the second-level cache
	ahead         = 3
)

// gunzip reads gzip members one after the other and ends where no further
// member begins: like gzip(1) it ignores garbage after the last one, which
// padding to a block size leaves. Every member's checksum is verified when its
// end is reached. It also reads a zlib stream, of which there is one.
//
// It inflates ahead on a goroutine of its own while the blocks before are converted and
// copied to memory that is touched for the first time.
type gunzip struct {
	format string // gzip or zlib
	in     *bufio.Reader
	z      io.Reader
	member *gzip.Reader // z, of gzip

	empty chan []byte   // blocks to fill
	full  chan []byte   // blocks that are filled
	quit  chan struct{} // closed: nothing more is wanted
	wait  func() error  // for the goroutine; the error that ended it
	block []byte        // being handed out
	from  int           // the first of its bytes not handed out
}

// newGunzip begins a gzip file. The caller calls free.
func newGunzip(r io.Reader) (*gunzip, error) {
	g := &gunzip{format: "gzip", in: bufio.NewReaderSize(r, 1<<20)}
	var err error
	if g.member, err = gzip.NewReader(g.in); err != nil {
		return nil, err
	}
	g.member.Multistream(false)
	g.z = g.member
	g.start()
	return g, nil
}

// newZlib begins a zlib stream. The caller calls free.
func newZlib(r io.Reader) (*gunzip, error) {
	g := &gunzip{format: "zlib", in: bufio.NewReaderSize(r, 1<<20)}
	var err error
	if g.z, err = zlib.NewReader(g.in); err != nil {
		return nil, err
	}
	g.start()
	return g, nil
}

// start makes the blocks and the goroutine.
func (g *gunzip) start() {
	g.empty, g.full, g.quit = make(chan []byte, ahead), make(chan []byte, ahead), make(chan struct{})
	for range ahead {
		g.empty <- make([]byte, inflatedBytes)
	}
	g.wait = parallel.Go(g.run)
}

// free ends the goroutine.
func (g *gunzip) free() {
	close(g.quit)
	_ = g.wait()
}

// Read gives the inflated bytes; io.EOF after the last member.
func (g *gunzip) Read(p []byte) (int, error) {
	for g.from == len(g.block) {
		if g.block != nil {
			g.empty <- g.block[:inflatedBytes]
		}
		var more bool
		if g.block, more = <-g.full; !more {
			g.from = 0
			return 0, g.wait()
		}
		g.from = 0
	}
	n := copy(p, g.block[g.from:])
	g.from += n
	return n, nil
}

// run fills blocks until the file ends, with io.EOF, or something is wrong with it.
func (g *gunzip) run() error {
	defer close(g.full)
	for {
		var block []byte
		select {
		case block = <-g.empty:
		case <-g.quit:
			return nil
		}
		n, err := io.ReadFull(g.z, block)
		g.full <- block[:n] // there is room for all blocks
		if err == nil {
			continue
		}
		if n < len(block) && err == io.ErrUnexpectedEOF { // ReadFull's, of a member's end, or the file's: ask
			_, err = g.z.Read(make([]byte, 1))
		}
		if err != io.EOF {
			return err
		}
		if next, _ := g.in.Peek(2); g.member == nil || len(next) < 2 || next[0] != 0x1f || next[1] != 0x8b {
			return io.EOF
		}
		if err := g.member.Reset(g.in); err != nil {
			return err
		}
		g.member.Multistream(false)
	}
}
