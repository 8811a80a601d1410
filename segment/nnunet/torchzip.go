package nnunet

import (
	"archive/zip"
	"bytes"
	"io"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// torchZip is the container that torch.save writes since PyTorch 1.6: a zip
// archive whose entries NAME/data.pkl (a pickle of everything but numbers) and
// NAME/data/KEY (the bytes of one storage each) are stored without compression
// (caffe2/serialize/inline_container.cc).
type torchZip struct {
	r      io.ReaderAt
	size   int64
	path   string
	pickle []byte
	data   map[string]*zip.File // by storage key
}

const (
	// A checkpoint of a thousand epochs has about half a megabyte.
	maxPickle  = 16 << 20
	maxEntries = 1 << 16
)

// openTorchZip reads the directory and the pickle of the file of size bytes in
// r; no storage is read.
func openTorchZip(r io.ReaderAt, size int64, path string) (*torchZip, error) {
	var head [4]byte
	n, err := r.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return nil, fault.New(fault.IO, "%s: %w", path, err)
	}
	switch {
	case n == 0:
		return nil, fault.New(fault.Format, "%s: the file is empty, expected a PyTorch checkpoint", path)
	case head[0] == 0x80:
		return nil, fault.New(fault.Unsupported, "%s: written in PyTorch's old format (before 1.6); load it in Python with torch.load and save it again with torch.save", path)
	case string(head[:2]) != "PK":
		return nil, fault.New(fault.Format, "%s: not a PyTorch checkpoint: it begins with %q, expected a zip archive (\"PK\")", path, head[:n])
	}
	zr, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fault.New(fault.Format, "%s: not a readable zip archive, probably truncated: %v", path, err)
	}
	if len(zr.File) > maxEntries {
		return nil, fault.New(fault.Format, "%s: %d zip entries, expected %d at most", path, len(zr.File), maxEntries)
	}
	z := &torchZip{r: r, size: size, path: path, data: map[string]*zip.File{}}
	var pkl *zip.File
	for _, f := range zr.File {
		if strings.HasSuffix(f.Name, "/data.pkl") && strings.Count(f.Name, "/") == 1 {
			pkl = f
			break
		}
	}
	if pkl == nil {
		return nil, fault.New(fault.Format, "%s: a zip archive without NAME/data.pkl is not a PyTorch checkpoint", path)
	}
	prefix := strings.TrimSuffix(pkl.Name, "data.pkl")
	for _, f := range zr.File {
		switch name := strings.TrimPrefix(f.Name, prefix); {
		case name == "constants.pkl":
			return nil, fault.New(fault.Unsupported, "%s: a TorchScript module; expected a checkpoint of nnU-Net", path)
		case name == "byteorder":
			order, err := z.read(f, 16)
			if err != nil {
				return nil, err
			}
			if s := string(bytes.TrimSpace(order)); s != "little" {
				return nil, fault.New(fault.Unsupported, "%s: byteorder is %.16q, only little is supported", path, s)
			}
		case strings.HasPrefix(name, "data/"):
			z.data[name[len("data/"):]] = f
		}
	}
	z.pickle, err = z.read(pkl, maxPickle)
	return z, err
}

// section returns where an entry's bytes lie in the file. A compressed entry
// is refused: PyTorch never writes one, and it could unpack to any size.
func (z *torchZip) section(f *zip.File) (offset, size int64, err error) {
	if f.Method != zip.Store || f.CompressedSize64 != f.UncompressedSize64 {
		return 0, 0, fault.New(fault.Format, "%s: entry %.80q is compressed, which PyTorch never writes", z.path, f.Name)
	}
	offset, err = f.DataOffset()
	if err != nil {
		return 0, 0, fault.New(fault.Format, "%s: entry %.80q: %v", z.path, f.Name, err)
	}
	if f.UncompressedSize64 > uint64(z.size) || offset > z.size-int64(f.UncompressedSize64) {
		return 0, 0, fault.New(fault.Format, "%s: entry %.80q of %d bytes reaches beyond the file's %d bytes", z.path, f.Name, f.UncompressedSize64, z.size)
	}
	return offset, int64(f.UncompressedSize64), nil
}

// read returns an entry of at most limit bytes.
func (z *torchZip) read(f *zip.File, limit int64) ([]byte, error) {
	offset, size, err := z.section(f)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fault.New(fault.Format, "%s: entry %.80q has %d bytes, expected %d at most", z.path, f.Name, size, limit)
	}
	b := make([]byte, size)
	return b, z.readAt(b, offset)
}

// readAt fills b from the file's byte offset on.
func (z *torchZip) readAt(b []byte, offset int64) error {
	if n, err := z.r.ReadAt(b, offset); n < len(b) {
		return fault.New(fault.IO, "%s: reading %d bytes at %d: %w", z.path, len(b), offset, err)
	}
	return nil
}
