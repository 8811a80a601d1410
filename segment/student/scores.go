package student

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/jsontext"
	"github.com/libflare/libflare/segment/volume"
)

const scoresFormat = 1

// Scores is CASE.json: how far a case's pseudo-labels can be trusted.
type Scores struct {
	Format  int           `json:"format"`
	Case    string        `json:"case"`
	Options ScoresOptions `json:"options"`
	Images  []ImageFile   `json:"images"`

	Labels     []LabelScores `json:"labels"`
	Foreground int           `json:"foreground_voxels"`
	Ignored    int           `json:"ignored_voxels"`  // that got the ignore label
	Agreement  *float64      `json:"fold_agreement"`  // mean over the labels that are there; null with one fold
	Previous   *float64      `json:"round_agreement"` // likewise; null without a previous round
	Seconds    float64       `json:"seconds"`
}

// ScoresOptions is what decides, with the image, how a case is labelled.
type ScoresOptions struct {
	Teacher     string  `json:"teacher_sha256"`
	Folds       string  `json:"folds,omitempty"`
	Mirror      bool    `json:"mirror"`
	Fast        bool    `json:"fast"`
	IgnoreBelow float64 `json:"ignore_below"`
	SoftBelow   float64 `json:"soft_below"`
	Weights     bool    `json:"weights,omitempty"`
	Previous    string  `json:"previous_sha256,omitempty"` // of the previous round's labels
}

// LabelScores is one label of a case.
type LabelScores struct {
	Name      string   `json:"name"`
	Value     int      `json:"value"`
	Voxels    int      `json:"voxels"`          // before uncertain ones are ignored
	Agreement *float64 `json:"fold_agreement"`  // mean Dice between a fold's labels and those of all, on the network's grid; null where none finds it
	Previous  *float64 `json:"round_agreement"` // Dice between the labels and the previous round's; null where neither has it
}

// ImageFile recognises a file: by its content, or, faster, by size and time of change.
type ImageFile struct {
	Path     string `json:"path"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // ns since 1970
	SHA256   string `json:"sha256"`
}

// fill takes what segmenting gave.
func (s *Scores) fill(d segment.Description, a *segment.Agreement, labels *volume.Volume) {
	counts := histogram(labels)
	dice := map[int]segment.LabelAgreement{}
	for _, l := range a.Labels {
		dice[l.Value] = l
	}
	s.Labels, s.Foreground = nil, 0
	for _, l := range d.Labels {
		if l.Value == 0 {
			continue
		}
		k := LabelScores{Name: l.Name, Value: l.Value, Voxels: counts[l.Value]}
		if found := dice[l.Value]; found.Any && len(d.Folds) > 1 {
			k.Agreement = &found.Dice
		}
		s.Labels = append(s.Labels, k)
	}
	for _, n := range counts[1:] {
		s.Foreground += n
	}
	s.Agreement = s.mean(func(l *LabelScores) *float64 { return l.Agreement })
}

// mean averages over the labels that have a value; nil where none has.
func (s *Scores) mean(of func(*LabelScores) *float64) *float64 {
	sum, n := 0.0, 0
	for i := range s.Labels {
		if v := of(&s.Labels[i]); v != nil {
			sum, n = sum+*v, n+1
		}
	}
	if n == 0 {
		return nil
	}
	sum /= float64(n)
	return &sum
}

// compare fills in the Dice with the labels of the previous round, over voxels that the
// latter does not ignore, and returns the voxels of both. Errors: those of evaluate.SameGrid and, of kind Format, values that
// are no labels.
func (s *Scores) compare(labels, previous *volume.Volume, ignore int) (now, then func(i int) int, err error) {
	if err := evaluate.SameGrid(&labels.Geometry, &previous.Geometry); err != nil {
		return nil, nil, err
	}
	if now, err = values(labels); err != nil {
		return nil, nil, err
	}
	if then, err = values(previous); err != nil {
		return nil, nil, err
	}
	n := ignore + 1
	own, other, both := make([]int, n), make([]int, n), make([]int, n)
	for i := range labels.Voxels() {
		a, b := now(i), then(i)
		if b < 0 || b >= n {
			return nil, nil, fault.New(fault.Format, "a voxel is %d, expected the labels 0 to %d", b, ignore)
		}
		if b == ignore {
			continue
		}
		own[a]++
		other[b]++
		if a == b {
			both[a]++
		}
	}
	for i := range s.Labels {
		l := &s.Labels[i]
		if sum := own[l.Value] + other[l.Value]; sum > 0 {
			dice := 2 * float64(both[l.Value]) / float64(sum)
			l.Previous = &dice
		}
	}
	s.Previous = s.mean(func(l *LabelScores) *float64 { return l.Previous })
	return now, then, nil
}

// values returns the voxels of a label map as numbers; -1 where one is no integer.
func values(v *volume.Volume) (func(i int) int, error) {
	switch v.DType {
	case volume.Uint8:
		return func(i int) int { return int(v.Data[i]) }, nil
	case volume.Uint16:
		s := volume.As[uint16](v)
		return func(i int) int { return int(s[i]) }, nil
	case volume.Int16:
		s := volume.As[int16](v)
		return func(i int) int { return int(s[i]) }, nil
	case volume.Int32:
		s := volume.As[int32](v)
		return func(i int) int { return int(s[i]) }, nil
	case volume.Float32:
		s := volume.As[float32](v)
		return func(i int) int { return whole(float64(s[i])) }, nil
	case volume.Float64:
		s := volume.As[float64](v)
		return func(i int) int { return whole(s[i]) }, nil
	}
	return nil, fault.New(fault.Format, "a label map has integer voxels, not %s", v.DType)
}

func whole(v float64) int {
	if i := int32(v); float64(i) == v {
		return int(i)
	}
	return -1
}

// histogram counts the voxels of each value of a label map of unsigned numbers.
func histogram(v *volume.Volume) []int {
	counts := make([]int, 1<<16)
	if v.DType == volume.Uint16 {
		for _, l := range volume.As[uint16](v) {
			counts[l]++
		}
	} else {
		for _, l := range v.Data {
			counts[l]++
		}
	}
	return counts
}

// finished returns the scores of a case that was labelled before in the same way; nil if it
// was not. want says what that is; its images' digests are filled in where their size and
// time of change do not tell that they are the same files.
func (l *Labeller) finished(want *Scores, labels string) (*Scores, error) {
	path := filepath.Join(l.Out, want.Case+".json")
	have, err := readScores(path)
	same := err == nil && have.Options == want.Options && len(have.Images) == len(want.Images)
	for i := range want.Images {
		w := &want.Images[i]
		if same && have.Images[i].Size == w.Size && have.Images[i].Modified == w.Modified && have.Images[i].Path == w.Path {
			w.SHA256 = have.Images[i].SHA256
			continue
		}
		if w.SHA256, err = fileDigest(w.Path); err != nil {
			return nil, err
		}
		same = same && have.Images[i].SHA256 == w.SHA256
	}
	if !same {
		return nil, nil
	}
	needed := []string{labels}
	if l.SoftBelow > 0 {
		needed = append(needed, filepath.Join(l.Out, want.Case+".npz"))
	}
	if l.Weights {
		needed = append(needed, l.weightsOf(labels))
	}
	for _, file := range needed {
		if info, err := os.Stat(file); err != nil || info.Size() == 0 {
			return nil, nil
		}
	}
	return have, nil
}

// readScores reads a CASE.json. Errors: NotFound, IO, Format.
func readScores(path string) (*Scores, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	s := &Scores{}
	if err := json.Unmarshal(text, s); err != nil || s.Format != scoresFormat {
		return nil, fault.New(fault.Format, "%s: not the scores of a case in format %d (%v)", path, scoresFormat, err)
	}
	return s, nil
}

// imageFiles describes the files of a case, without their digests.
func imageFiles(path string) (out []ImageFile, err error) {
	files, err := imageio.CaseFiles(path)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		absolute, err := filepath.Abs(file)
		if err != nil {
			return nil, fault.File(file, err)
		}
		info, err := os.Stat(absolute)
		if err != nil {
			return nil, fault.File(file, err)
		}
		out = append(out, ImageFile{Path: absolute, Size: info.Size(), Modified: info.ModTime().UnixNano()})
	}
	return out, nil
}

// fileDigest returns the SHA-256 of a file.
func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fault.File(path, err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return "", fault.New(fault.IO, "%s: %w", path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func marshal(v any) []byte { return jsontext.Indented(v, "  ") }
