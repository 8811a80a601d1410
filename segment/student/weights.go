package student

import (
	"context"
	"path/filepath"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
)

// compare fills in the Dice between the labels and those of the previous round, if there are
// such, and the weights, unless they are nil, from both and from how many folds agree.
func (l *Labeller) compare(ctx context.Context, s *Scores, labels *volume.Volume, ignore int, weights *volume.Volume, agreeing []uint8) error {
	voters := len(l.opened.Describe().Folds)
	same := func(int) bool { return false }
	if s.Options.Previous != "" {
		file, err := labelsOf(l.Previous, s.Case)
		if err != nil {
			return err
		}
		previous, err := imageio.Read(ctx, file)
		if err != nil {
			return err
		}
		defer previous.Free()
		now, then, err := s.compare(labels, previous.Volume, ignore)
		if err != nil {
			return fault.New(fault.KindOf(err), "%s: %w", file, err)
		}
		voters++
		same = func(i int) bool { return now(i) == then(i) }
	}
	if weights == nil {
		return nil
	}
	for i, n := range agreeing {
		votes := int(n)
		if same(i) {
			votes++
		}
		weights.Data[i] = uint8((255*votes + voters/2) / voters)
	}
	return nil
}

// weightsOf is the file of a case's weights beside that of its labels.
func (l *Labeller) weightsOf(labels string) string {
	return filepath.Join(l.Out, weightsFolder, filepath.Base(labels))
}
