package imageio

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/libflare/libflare/segment/internal/fault"
)

// trailing bounds the bytes after the voxels that are inflated to reach the
// checksum of packed ones.
const trailing = 1 << 26

// source is an opened file, inflated if need be. Once ctx is done, reading from it fails.
type source struct {
	ctx   context.Context
	path  string
	file  *os.File
	z     *gunzip // of packed bytes
	size  int64   // of the file
	most  int64   // the bytes it can hold, inflated
	place int64   // bytes read so far

	notFinite int // voxels that were NaN or infinite
}

// open opens a file whose ending says whether it is gzipped.
func open(ctx context.Context, path string, gz bool) (*source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.IO, "%s: %w", path, reason(err))
	}
	s := &source{ctx: ctx, path: path, file: f}
	if err := s.start(gz); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close closes the file and frees the buffers.
func (s *source) close() {
	s.file.Close()
	if s.z != nil {
		s.z.free()
	}
}

// openAt opens length bytes of a file from byte from on, or where length is 0 all to its end;
// packed is "gzip", "zlib" (or gzip, as MetaIO reads it) or "". Places are of the file, or of
// what the packed bytes inflate to.
func openAt(ctx context.Context, path string, from, length int64, packed string) (*source, error) {
	if err := regular(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.IO, "%s: %w", path, reason(err))
	}
	s := &source{ctx: ctx, path: path, file: f}
	if err := s.startAt(from, length, packed); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// startAt checks that there are these bytes and begins to unpack them.
func (s *source) startAt(from, length int64, packed string) error {
	info, err := s.file.Stat()
	if err != nil {
		return fault.New(fault.IO, "%s: %w", s.path, reason(err))
	}
	s.size = info.Size()
	if from > s.size || length > s.size-from {
		return fault.New(fault.Format, "%s: the header announces voxels from byte %d to %d, the file has %d bytes: truncated or damaged",
			s.path, from, from+max(length, 1), s.size)
	}
	if length == 0 {
		length = s.size - from
	}
	if packed == "" {
		s.most = from + length
		return s.skip(from)
	}
	var magic [2]byte
	n, err := s.file.ReadAt(magic[:min(length, 2)], from)
	if err != nil && err != io.EOF {
		return fault.New(fault.IO, "%s: %w", s.path, reason(err))
	}
	isGzip := magic == [2]byte{0x1f, 0x8b}
	if packed == "gzip" && !isGzip {
		return fault.New(fault.Format, "%s: no gzip stream at byte %d: starts with % x, expected 1f 8b", s.path, from, magic[:n])
	}
	begin := newZlib
	if isGzip {
		begin = newGunzip
	}
	if s.z, err = begin(io.NewSectionReader(s.file, from, length)); err != nil {
		s.z = nil
		return s.fail(err, "the header of the packed voxels")
	}
	s.most = min(length, 1<<50) * maxInflation
	return nil
}

// holds refuses a file that is too short for the voxels that a header announces from byte
// at on.
func (s *source) holds(size [3]int, channels int, t voxelType, at int64) error {
	voxels := int64(size[0]) * int64(size[1]) * int64(size[2]) * int64(channels) // at most 2^40
	bytes := voxels * int64(t.size)
	if bytes <= s.most-at { // at may be as large as 2^62
		return nil
	}
	what := "truncated or damaged"
	if s.z != nil {
		what = "which cannot inflate to that: truncated or damaged"
	}
	return fault.New(fault.Format, "%s: the header announces %d x %d x %d x %d voxels of %s (%d bytes) from byte %d on, the file has %d bytes: %s",
		s.path, size[0], size[1], size[2], channels, t.name, bytes, at, s.size, what)
}

// Read reads the file's bytes, inflated, a block of packed bytes at most.
func (s *source) Read(p []byte) (int, error) {
	if err := stopped(s.ctx); err != nil {
		return 0, err
	}
	if s.z != nil {
		return s.z.Read(p)
	}
	return s.file.Read(p)
}

// start checks that the content is what the ending says.
func (s *source) start(gz bool) error {
	info, err := s.file.Stat()
	if err != nil {
		return fault.New(fault.IO, "%s: %w", s.path, reason(err))
	}
	s.size = info.Size()
	s.most = s.size
	if s.size == 0 {
		return fault.New(fault.Format, "%s: the file is empty (0 bytes)", s.path)
	}
	var magic [2]byte
	n, err := s.file.ReadAt(magic[:], 0)
	if err != nil && err != io.EOF {
		return fault.New(fault.IO, "%s: %w", s.path, reason(err))
	}
	isGzip := magic == [2]byte{0x1f, 0x8b}
	if !gz {
		if isGzip {
			return fault.New(fault.Format, "%s: the content is gzip (starts with 1f 8b), the name must end in .nii.gz", s.path)
		}
		return nil
	}
	if !isGzip {
		return fault.New(fault.Format, "%s: not a gzip file: starts with % x, expected 1f 8b", s.path, magic[:n])
	}
	if s.z, err = newGunzip(s.file); err != nil {
		return s.fail(err, "the gzip header")
	}
	if s.most > 1<<50 {
		s.most = 1 << 50
	}
	s.most *= maxInflation
	return nil
}

// fill reads all of p; what names it in errors.
func (s *source) fill(p []byte, what string) error {
	n, err := io.ReadFull(s, p)
	s.place += int64(n)
	if err != nil {
		return s.fail(err, what)
	}
	return nil
}

// skip moves on to byte place of the (inflated) file.
func (s *source) skip(place int64) error {
	if s.z == nil {
		s.place = place
		if _, err := s.file.Seek(place, io.SeekStart); err != nil {
			return s.fail(err, "what lies before the voxels")
		}
		return nil
	}
	n, err := io.CopyN(io.Discard, s, place-s.place)
	s.place += n
	if err != nil {
		return s.fail(err, "what lies before the voxels")
	}
	return nil
}

// finish checks what follows the voxels: the checksum of packed ones stands
// there. More bytes than the header announces are allowed.
func (s *source) finish() error {
	if s.z == nil {
		return nil
	}
	if _, err := io.CopyN(io.Discard, s, trailing); err != nil && err != io.EOF {
		return s.fail(err, "the end of the "+s.z.format+" stream")
	}
	return nil
}

// fail explains an error met while reading what.
func (s *source) fail(err error, what string) error {
	var system *os.PathError
	var known *fault.Error
	switch {
	case errors.As(err, &known): // out of memory, cancelled
		return fault.New(known.Kind, "%s: %w", s.path, err)
	case errors.As(err, &system):
		return fault.New(fault.IO, "%s: reading %s: %w", s.path, what, system.Err)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Format, "%s: truncated: the data ends after %d bytes, within %s", s.path, s.place, what)
	}
	return fault.New(fault.Format, "%s: damaged after %d bytes, within %s: %w", s.path, s.place, what, err)
}
