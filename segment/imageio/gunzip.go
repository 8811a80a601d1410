package imageio

import (
	"bufio"
	"io"

	"github.com/klauspost/compress/gzip"
)

// maxInflation bounds how many bytes deflate makes of one: 1032 (zlib's
// documentation), and a little for the headers.
const maxInflation = 1040

// gunzip reads gzip members one after the other and ends where no further
// member begins: like gzip(1) it ignores garbage after the last one, which
// padding to a block size leaves. Every member's checksum is verified when its
// end is reached.
type gunzip struct {
	in *bufio.Reader
	z  *gzip.Reader
}

func newGunzip(r io.Reader) (*gunzip, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &gunzip{in, z}, nil
}

// Read gives the inflated bytes; io.EOF after the last member.
func (g *gunzip) Read(p []byte) (int, error) {
	for {
		n, err := g.z.Read(p)
		if err != io.EOF {
			return n, err
		}
		if n > 0 { // the member ends with these bytes; the next call looks further
			return n, nil
		}
		if next, _ := g.in.Peek(2); len(next) < 2 || next[0] != 0x1f || next[1] != 0x8b {
			return 0, io.EOF
		}
		if err := g.z.Reset(g.in); err != nil {
			return 0, err
		}
		g.z.Multistream(false)
	}
}
