package student

import (
	"context"
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
)

// Labeller is what Label works with, for programs that choose the cases and their order: a
// teacher that is opened once, with the first case that is not finished. Calls on it must not
// run side by side.
type Labeller struct {
	LabelOptions
	Cases []string // names of those of the shard

	images        map[string]string // of each case; the first, where several channels have one each
	model, digest string            // the teacher's bundle, and its SHA-256
	opened        *segment.Model    // nil until a case needs it
	done          int
}

// OpenLabeller checks the options, lists the cases and joins the teacher's folds in Out, which
// is made if need be. Errors: as Label's.
func OpenLabeller(ctx context.Context, o LabelOptions) (*Labeller, error) {
	l := &Labeller{LabelOptions: o, images: map[string]string{}}
	cases, err := o.check()
	if err != nil {
		return nil, err
	}
	for _, path := range cases {
		name := imageio.CaseName(path)
		l.Cases, l.images[name] = append(l.Cases, name), path
	}
	folder := o.Out
	if o.Weights {
		folder = filepath.Join(folder, weightsFolder)
	}
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, fault.File(folder, err)
	}
	l.model = o.Teacher[0]
	if info, err := os.Stat(l.model); len(o.Teacher) > 1 || err == nil && info.IsDir() {
		l.model = filepath.Join(o.Out, joinedFile)
		if err := segment.JoinFolds(ctx, l.model, o.Teacher); err != nil {
			return nil, err
		}
	}
	if l.digest, err = fileDigest(l.model); err != nil {
		return nil, err
	}
	return l, nil
}

// Close closes the teacher.
func (l *Labeller) Close() {
	if l.opened != nil {
		l.opened.Close()
		l.opened = nil
	}
}
