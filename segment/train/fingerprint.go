package train

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/kernel"
	"github.com/libflare/libflare/segment/internal/numpyrand"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/train/dataset"
)

// FingerprintOptions are those of ExtractFingerprint. The zero value is the default.
type FingerprintOptions struct {
	Threads  int                   // cases in memory at a time; 0: one per core
	Progress func(done, cases int) // nil, or told after each case, never by two goroutines at once
}

// ExtractFingerprint reads and checks all cases of a dataset and measures what planning
// needs, as nnU-Net's DatasetFingerprintExtractor with its seeds
// (nnunetv2/experiment_planning/dataset_fingerprint/fingerprint_extractor.py): with
// OpenRawDataset before and nnunet.Plan after, a folder of images becomes plans.
//
// notes are for the user: of cases without foreground, and of labels that lie elsewhere in
// space than their image. Errors are those of up to five cases in one message. Their
// kinds: those of imageio.Read, Format (voxels that are NaN or infinite, values that are
// no labels), Model (channels or grids that differ, no foreground in any case), Cancelled.
func ExtractFingerprint(ctx context.Context, raw *nnunet.RawDataset, o FingerprintOptions) (f *nnunet.Fingerprint, notes []string, err error) {
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	const samples = 1e8 // of the whole dataset
	var (
		n     = len(raw.Cases)
		cases = make([]measured, n)
		mu    sync.Mutex
		done  int
		bad   atomic.Bool // then the other cases are only checked
	)
	defer func() {
		for i := range cases {
			cases[i].free()
		}
	}()
	err = parallel.For(n, o.Threads, func(_, i int) error {
		c := &cases[i]
		c.err = c.measure(ctx, raw, raw.Cases[i], samples/n, &bad)
		switch fault.KindOf(c.err) {
		case 0:
		case fault.Format, fault.Model, fault.NotFound: // let the user know of others, too
			bad.Store(true)
		default:
			return c.err
		}
		mu.Lock()
		defer mu.Unlock()
		done++
		if o.Progress != nil {
			o.Progress(done, n)
		}
		return nil
	})
	if err == nil {
		err = joined(cases)
	}
	if err != nil {
		return nil, nil, err
	}
	f = &nnunet.Fingerprint{}
	var sizes []float64
	var empty, elsewhere []string
	for i, c := range cases {
		f.Spacings, f.Shapes = append(f.Spacings, c.spacing), append(f.Shapes, c.shape)
		sizes = append(sizes, c.size)
		if !c.foreground {
			empty = append(empty, raw.Cases[i].Name)
		}
		if !c.placed {
			elsewhere = append(elsewhere, raw.Cases[i].Name)
		}
	}
	f.MedianRelativeSize = nnunet.Median(sizes)
	for channel := range raw.Dataset.Channels {
		var all []distribution
		for _, c := range cases {
			if c.draws != nil {
				all = append(all, c.draws[channel])
			}
		}
		if all == nil {
			return nil, nil, fault.New(fault.Model, "%s: no case has a labelled voxel inside the image's nonzero part", raw.Folder)
		}
		f.Intensity = append(f.Intensity, statistics(all))
	}
	notes = note(notes, empty, "have no foreground: only right if such images are meant to teach what is not there")
	notes = note(notes, elsewhere, "have labels whose origin or direction differs from their image's: see that they fit")
	return f, notes, nil
}

// note adds a sentence on some cases.
func note(notes, cases []string, what string) []string {
	if len(cases) == 0 {
		return notes
	}
	names := strings.Join(cases[:min(3, len(cases))], ", ")
	if len(cases) > 3 {
		names += ", ..."
	}
	return append(notes, fmt.Sprintf("%d cases (%s) %s", len(cases), names, what))
}

// joined gives the errors of the first cases in one.
func joined(cases []measured) error {
	const most = 5
	var kind fault.Kind
	var lines []string
	n := 0
	for _, c := range cases {
		if c.err == nil {
			continue
		}
		if kind == 0 {
			kind = fault.KindOf(c.err)
		}
		if n++; n <= most {
			lines = append(lines, c.err.Error())
		}
	}
	if n == 0 {
		return nil
	}
	if n > most {
		lines = append(lines, fmt.Sprintf("and %d cases more", n-most))
	}
	return fault.New(kind, "%w", errors.New(strings.Join(lines, "; ")))
}

// measured is what the fingerprint takes from one case.
type measured struct {
	err                error
	shape              [3]int     // voxels after the crop
	spacing            [3]float64 // mm
	size               float64    // part of the voxels that the crop leaves
	foreground, placed bool
	draws              []distribution // of each channel; nil without foreground in the crop
}

func (m *measured) free() {
	for _, d := range m.draws {
		cmem.Free(d)
	}
}

// measure reads a case and, unless only is set, draws n voxels of its foreground.
func (m *measured) measure(ctx context.Context, raw *nnunet.RawDataset, c nnunet.RawCase, n int, only *atomic.Bool) error {
	l, err := dataset.OpenLabelled(ctx, raw.Dataset, c)
	if err != nil {
		return err
	}
	defer l.Free()
	if only.Load() {
		return nil
	}
	crop := preprocess.CropToNonzero(l.Image.Volume, l.View, 1)
	m.shape, m.spacing, m.foreground, m.placed = crop.Shape, l.Spacing, l.Foreground > 0, l.Placed
	m.size = float64(crop.Voxels()) / float64(l.View.Voxels())
	labels, voxels := make([]float32, crop.Shape[1]*crop.Shape[2]), make([]float32, crop.Shape[1]*crop.Shape[2])
	values, err := cmem.Alloc[float32](l.Foreground) // some of it may lie outside the crop
	if err != nil {
		return err
	}
	defer cmem.Free(values)
	random := numpyrand.New(1234)
	for channel := range l.Image.Channels {
		at := 0
		for z := range crop.Shape[0] {
			kernel.Load(labels, dataset.Plane(l.Label.Volume, 0, crop, z), kernel.Identity)
			if !slices.ContainsFunc(labels, func(v float32) bool { return v > 0 }) {
				continue
			}
			kernel.Load(voxels, dataset.Plane(l.Image.Volume, channel, crop, z), kernel.Identity)
			for i, v := range labels {
				if v > 0 {
					values[at] = voxels[i]
					at++
				}
			}
		}
		if at == 0 {
			return nil
		}
		d, err := draw(random, values[:at], n)
		if err != nil {
			return err
		}
		m.draws = append(m.draws, d)
	}
	return nil
}
