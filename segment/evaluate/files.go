package evaluate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/parallel"
)

// pair is the files of one case; Prediction is "" where there is none.
type pair struct{ name, prediction, reference string }

// Files scores a file against another, or every file of a folder of references against the
// file of the same name in a folder of predictions (CASE.nii and CASE.nii.gz are the same).
//
// A case that cannot be scored, because its prediction is missing or on another grid, or a file
// is damaged, does not keep the others from being scored: it stands in the report's Failed, and
// the first such failure is returned as the error, with the report. Other errors come without a
// report: a path that does not exist, a folder without images, wrong options, cancellation.
func Files(ctx context.Context, prediction, reference string, o Options) (*Report, error) {
	j, err := o.job()
	if err != nil {
		return nil, err
	}
	pairs, extra, err := pairUp(prediction, reference)
	if err != nil {
		return nil, err
	}
	read := slices.Clone(extra)
	for _, p := range pairs {
		read = append(read, p.reference, p.prediction)
	}
	if err := o.spare(read); err != nil {
		return nil, err
	}
	cases := []Case{}
	failed := map[string]string{}
	var first error
	for i, p := range pairs {
		if o.Progress != nil {
			o.Progress(i, len(pairs))
		}
		c, err := j.scoreFiles(ctx, p)
		if ctx.Err() != nil {
			return nil, fault.New(fault.Cancelled, "cancelled: %w", context.Cause(ctx))
		}
		if err == nil {
			cases = append(cases, *c)
			continue
		}
		failed[p.name] = err.Error()
		if first == nil {
			first = err
		}
	}
	if o.Progress != nil {
		o.Progress(len(pairs), len(pairs))
	}
	r := j.report(cases)
	r.Failed = failed
	if len(extra) > 0 {
		for i, file := range extra {
			extra[i] = caseName(file)
		}
		r.Notes = append(r.Notes, fmt.Sprintf("%d predictions have no reference and were not scored: %s", len(extra), some(extra)))
	}
	switch {
	case first == nil:
		return r, nil
	case len(pairs) == 1:
		return r, first
	}
	return r, fault.New(fault.KindOf(first), "%d of %d cases could not be scored, the first: %w", len(failed), len(pairs), first)
}

// scoreFiles reads the files of a case, both at a time, and scores them.
func (j *job) scoreFiles(ctx context.Context, p pair) (*Case, error) {
	if p.prediction == "" {
		return nil, fault.New(fault.NotFound, "%s: there is no prediction for it", p.reference)
	}
	var files [2]*imageio.Image
	defer func() {
		for _, f := range files {
			if f != nil {
				f.Free()
			}
		}
	}()
	err := parallel.For(2, j.Threads, func(_, i int) (err error) {
		files[i], err = readLabels(ctx, [2]string{p.prediction, p.reference}[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	c, err := j.score(ctx, p.prediction, files[0].Volume, p.reference, files[1].Volume)
	if err != nil {
		return nil, err
	}
	c.Name, c.Prediction, c.Reference = p.name, p.prediction, p.reference
	return c, nil
}

// readLabels reads a label map, which the caller frees.
func readLabels(ctx context.Context, path string) (*imageio.Image, error) {
	im, err := imageio.Read(ctx, path)
	if err == nil && im.NotFinite > 0 {
		im.Free()
		return nil, fault.New(fault.Argument, "%s: %d voxels are NaN or infinite, which is no label", path, im.NotFinite)
	}
	return im, err
}

// pairUp finds the cases, in the order of their names, and the files of predictions that have no reference.
func pairUp(prediction, reference string) (pairs []pair, extra []string, err error) {
	p, err := folderOf(prediction)
	if err != nil {
		return nil, nil, err
	}
	r, err := folderOf(reference)
	switch {
	case err != nil:
		return nil, nil, err
	case (p == nil) != (r == nil):
		return nil, nil, fault.New(fault.Argument, "%s and %s: expected two files or two folders", prediction, reference)
	case p == nil:
		return []pair{{caseName(reference), prediction, reference}}, nil, nil
	}
	for name, file := range r {
		pairs = append(pairs, pair{name, p[name], file})
		delete(p, name)
	}
	if len(pairs) == 0 {
		return nil, nil, fault.New(fault.NotFound, "%s holds no image file (%s)", reference, strings.Join(imageio.Endings, ", "))
	}
	for _, file := range p {
		extra = append(extra, file)
	}
	slices.Sort(extra)
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	if len(extra) == len(p) && !slices.ContainsFunc(pairs, func(p pair) bool { return p.prediction != "" }) {
		return nil, nil, fault.New(fault.NotFound, "%s holds no prediction for any of the %d references in %s, the first of which is %s",
			prediction, len(pairs), reference, filepath.Base(pairs[0].reference))
	}
	return pairs, extra, nil
}

// folderOf returns the image files of a folder by the names of their cases; nil if path is a file.
func folderOf(path string) (map[string]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	if !info.IsDir() {
		return nil, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || imageio.Ending(e.Name()) == "" {
			continue
		}
		name, file := caseName(e.Name()), filepath.Join(path, e.Name())
		if other, twice := files[name]; twice {
			return nil, fault.New(fault.Argument, "%s and %s are the same case, %s", other, file, name)
		}
		files[name] = file
	}
	return files, nil
}

// caseName is a file's name without its ending.
func caseName(path string) string {
	name := filepath.Base(path)
	return name[:len(name)-len(imageio.Ending(name))]
}

// some joins a few of many names.
func some(names []string) string {
	if len(names) > maxNotes {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNotes], ", "), len(names)-maxNotes)
	}
	return strings.Join(names, ", ")
}
