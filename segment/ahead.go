package segment

import (
	"context"
	"os"
	"slices"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// ahead is an image file that is read while its model opens.
type ahead struct {
	path     string
	channels int
	before   []os.FileInfo // of the case's files when reading began
	cancel   context.CancelFunc
	read     func() error // waits for the reading; again and again
	image    *imageio.Image
}

// readAhead begins to read the case of a file; it returns nil for "" and for a file that
// is not there, which the call will find out.
func readAhead(path string, channels int) *ahead {
	before := filesOf(path)
	if before == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &ahead{path: path, channels: channels, before: before, cancel: cancel}
	a.read = parallel.Go(func() (err error) {
		a.image, err = imageio.ReadCase(ctx, path, channels)
		return err
	})
	return a
}

// filesOf describes the files of the case whose first is path; nil if one is not there.
func filesOf(path string) []os.FileInfo {
	files, err := imageio.CaseFiles(path)
	if path == "" || err != nil {
		return nil
	}
	var found []os.FileInfo
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return nil
		}
		found = append(found, info)
	}
	return found
}

// readCase is imageio.ReadCase, or what was read ahead if that is path's and its files are as
// they were. A cancelled ctx ends the reading. Whatever went wrong ahead is found out by
// reading again.
func (a *ahead) readCase(ctx context.Context, path string, channels int) (*imageio.Image, error) {
	if a != nil {
		defer a.drop()
		if path == a.path && channels == a.channels && slices.EqualFunc(filesOf(path), a.before, unchanged) {
			defer context.AfterFunc(ctx, a.cancel)()
			if a.read() == nil && a.image != nil {
				image := a.image
				a.image = nil
				return image, nil
			}
		}
	}
	return imageio.ReadCase(ctx, path, channels)
}

func unchanged(x, y os.FileInfo) bool {
	return os.SameFile(x, y) && x.Size() == y.Size() && x.ModTime().Equal(y.ModTime())
}

// drop ends the reading and frees what it gave.
func (a *ahead) drop() {
	if a == nil {
		return
	}
	a.cancel()
	_ = a.read()
	if a.image != nil {
		a.image.Free()
	}
	a.image = nil
}
