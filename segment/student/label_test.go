package student

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/volume"
)

var plainDataset = fmt.Sprintf(toyDataset, 0)

// Datasets whose networks go other ways from logits to labels.
const (
	regionDataset = `{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2], "file_ending": ".nii.gz"}`
	manyDataset   = `{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8, "i": 9}, "file_ending": ".nii.gz"}`
)

func labelOptions(t testing.TB, teacher []string, images string) LabelOptions {
	return LabelOptions{Teacher: teacher, Images: images, Out: filepath.Join(t.TempDir(), "out"),
		Open: segment.OpenOptions{Device: "ort", Threads: 2, Runtime: testenv.Runtime(t)}}
}

// TestLabelScores compares labels and scores with what each fold alone gives, on an image
// whose grid is the network's: for labels, regions, and more classes than features, where
// the last layers are applied in the end.
func TestLabelScores(t *testing.T) {
	images := filepath.Join(toyFolder(t, 0, 2), "imagesTr")
	for _, c := range []struct {
		dataset  string
		features []int
		values   int
	}{{plainDataset, []int{4, 8}, 2}, {regionDataset, []int{4, 8}, 2}, {manyDataset, []int{3, 5}, 9}} {
		var teacher []string
		for seed := range uint64(3) {
			teacher = append(teacher, randomBundle(t, c.dataset, c.features, seed))
		}
		live := cmem.Live()
		o := labelOptions(t, teacher, images)
		o.IgnoreBelow, o.SoftBelow, o.Weights = 0.9, 0.6, true
		got, err := Label(t.Context(), o)
		require.NoError(t, err)
		require.NoError(t, got.Err())
		require.Len(t, got.Scores, 2)
		assert.Equal(t, live, cmem.Live())
		for _, s := range got.Scores {
			all := ownLabels(t, filepath.Join(o.Out, joinedFile), s.Images[0].Path)
			var own [][]uint8
			for _, model := range teacher {
				own = append(own, ownLabels(t, model, s.Images[0].Path))
			}
			require.Len(t, s.Labels, c.values)
			sum, n := 0.0, 0
			for i, l := range s.Labels {
				want, voxels := 0.0, 0
				for _, one := range own {
					d, v := overlap(one, all, uint8(l.Value))
					want, voxels = want+d/3, v
				}
				assert.Equal(t, i+1, l.Value)
				assert.Equal(t, voxels, l.Voxels)
				if l.Agreement == nil {
					assert.Zero(t, voxels)
					continue
				}
				assert.InDelta(t, want, *l.Agreement, 1e-12, "label %d", l.Value)
				sum, n = sum+*l.Agreement, n+1
			}
			require.NotNil(t, s.Agreement)
			assert.InDelta(t, sum/float64(n), *s.Agreement, 1e-12)
			ignored, weights := 0, read(t, filepath.Join(o.Out, "weights", s.Case+".nii.gz"))
			for i, v := range read(t, filepath.Join(o.Out, s.Case+".nii.gz")) {
				want := all[i]
				if own[0][i] != want || own[1][i] != want || own[2][i] != want {
					want = uint8(c.values + 1)
					ignored++
				}
				require.Equal(t, want, v, "voxel %d", i)
				agree := 0
				for _, one := range own {
					if one[i] == all[i] {
						agree++
					}
				}
				require.Equal(t, []uint8{0, 85, 170, 255}[agree], weights[i], "voxel %d", i)
			}
			assert.Equal(t, ignored, s.Ignored)
			assert.Positive(t, ignored)
			checkSoft(t, filepath.Join(o.Out, joinedFile), s, filepath.Join(o.Out, s.Case+".npz"), c.dataset == regionDataset)
		}
	}
}

// ownLabels segments with one model, mirrored.
func ownLabels(t testing.TB, model, image string) []uint8 {
	t.Helper()
	m, err := segment.Open(t.Context(), model, segment.OpenOptions{Device: "ort", Runtime: testenv.Runtime(t)})
	require.NoError(t, err)
	defer m.Close()
	out := filepath.Join(t.TempDir(), "x.nii.gz")
	_, err = m.SegmentFile(t.Context(), image, out, segment.Options{Mirror: true})
	require.NoError(t, err)
	return read(t, out)
}

// overlap returns the Dice of a label and its voxels in b.
func overlap(a, b []uint8, label uint8) (dice float64, voxels int) {
	both, sum := 0, 0
	for i := range a {
		if a[i] == label {
			sum++
		}
		if b[i] == label {
			sum++
			voxels++
			if a[i] == label {
				both++
			}
		}
	}
	if sum == 0 {
		return 1, 0
	}
	return 2 * float64(both) / float64(sum), voxels
}

// checkSoft compares a case's .npz with the probabilities of the whole image.
func checkSoft(t testing.TB, teacher string, s Scores, path string, regions bool) {
	t.Helper()
	m, err := segment.Open(t.Context(), teacher, segment.OpenOptions{Device: "ort", Runtime: testenv.Runtime(t)})
	require.NoError(t, err)
	defer m.Close()
	image, err := imageio.Read(t.Context(), s.Images[0].Path)
	require.NoError(t, err)
	defer image.Free()
	heads, n := m.Describe().Heads, image.Voxels()
	p := make([]float32, heads*n)
	labels, err := volume.New(image.Geometry, 1, volume.Uint8)
	require.NoError(t, err)
	defer labels.Free()
	_, err = m.Segment(t.Context(), image.Volume, labels, segment.Options{Mirror: true, Probabilities: p})
	require.NoError(t, err)
	var want []float32 // voxels
	for i := range n {
		sure := regions
		for head := range heads {
			v := p[head*n+i]
			if regions {
				sure = sure && max(v, 1-v) >= 0.6
			} else {
				sure = sure || v >= 0.6
			}
		}
		if !sure {
			want = append(want, float32(i))
		}
	}
	arrays := unzip(t, path)
	assert.Equal(t, []float32{20, 14, 18}, arrays["shape"])
	require.Equal(t, want, arrays["voxels"])
	assert.NotEmpty(t, want)
	for head := range heads {
		for k, i := range want {
			require.InDelta(t, 255*p[head*n+int(i)], arrays["probabilities"][head*len(want)+k], 0.501)
		}
	}
}

func unzip(t testing.TB, path string) map[string][]float32 {
	t.Helper()
	z, err := zip.OpenReader(path)
	require.NoError(t, err)
	defer z.Close()
	out := map[string][]float32{}
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), f.Name)
		require.NoError(t, os.WriteFile(file, data, 0o666))
		values, _, err := npy.Read(file)
		require.NoError(t, err)
		out[f.Name[:len(f.Name)-len(".npy")]] = values
	}
	return out
}

// files returns the content of a folder's files; of scores without their time.
func files(t testing.TB, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		if filepath.Ext(path) == ".json" {
			s, err := readScores(path)
			require.NoError(t, err)
			s.Seconds = 0
			out[e.Name()] = string(marshal(s))
			continue
		}
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		out[e.Name()] = string(data)
	}
	return out
}

// TestLabelResume: a call that is cancelled again and again leaves the files of one that is
// not, and so do shards together; what is finished is not done twice, and is done again when
// teacher, image or options change.
func TestLabelResume(t *testing.T) {
	teacher := []string{randomBundle(t, plainDataset, []int{4, 8}, 1), randomBundle(t, plainDataset, []int{4, 8}, 2)}
	images := filepath.Join(toyFolder(t, 0, 5), "imagesTr")
	whole := labelOptions(t, teacher, images)
	all, err := Label(t.Context(), whole)
	require.NoError(t, err)
	require.Len(t, all.Scores, 5)
	want := files(t, whole.Out)
	assert.Len(t, want, 11) // labels and scores of five cases, and the teacher

	parts := labelOptions(t, teacher, images)
	stops, fresh := 0, 0
	for {
		ctx, stop := context.WithCancel(t.Context())
		told := 0
		parts.Progress = func(LabelProgress) {
			if told++; told == 2 && stops < 4 { // in the second case at the latest
				stop()
			}
		}
		parts.Case = func(_ string, r CaseResult) {
			if !r.Kept {
				fresh++
				if stops < 4 {
					stop()
				}
			}
		}
		_, err := Label(ctx, parts)
		stop()
		if err == nil {
			break
		}
		require.Equal(t, fault.Cancelled, fault.KindOf(err), "%v", err)
		stops++
	}
	assert.Positive(t, stops)
	assert.Equal(t, 5, fresh, "no case twice")
	assert.Equal(t, want, files(t, parts.Out))

	shards := labelOptions(t, teacher, images)
	shards.Shards = 3
	n := 0
	for shards.Shard = 1; shards.Shard <= 3; shards.Shard++ {
		l, err := Label(t.Context(), shards)
		require.NoError(t, err)
		n += len(l.Scores)
	}
	assert.Equal(t, 5, n)
	assert.Equal(t, want, files(t, shards.Out))

	// What changed, and nothing else, is done again.
	count := func(o LabelOptions) (done int) {
		o.Case = func(_ string, r CaseResult) {
			if !r.Kept {
				done++
			}
		}
		_, err := Label(t.Context(), o)
		require.NoError(t, err)
		return done
	}
	whole.Progress, whole.Case = nil, nil
	assert.Zero(t, count(whole))
	image, _ := toyImage(t, 7)
	require.NoError(t, imageio.Write(t.Context(), filepath.Join(images, "case_03_0000.nii.gz"), image))
	assert.Equal(t, 1, count(whole), "another image")
	require.NoError(t, os.Remove(filepath.Join(whole.Out, "case_01.nii.gz")))
	assert.Equal(t, 1, count(whole), "labels that are gone")
	whole.NoMirror = true
	assert.Equal(t, 5, count(whole), "other options")
	whole.Teacher = teacher[:1]
	assert.Equal(t, 5, count(whole), "another teacher")
}

// TestLabelRounds compares with an earlier round: with itself, and with labels of which some
// are ignored.
func TestLabelRounds(t *testing.T) {
	teacher := []string{randomBundle(t, plainDataset, []int{4, 8}, 1)}
	images := filepath.Join(toyFolder(t, 0, 2), "imagesTr")
	first := labelOptions(t, teacher, images)
	l, err := Label(t.Context(), first)
	require.NoError(t, err)
	assert.Nil(t, l.Scores[0].Agreement, "one fold")
	assert.Nil(t, l.Scores[0].Previous)
	second := labelOptions(t, teacher, images)
	second.Previous = first.Out
	l, err = Label(t.Context(), second)
	require.NoError(t, err)
	require.NotNil(t, l.Scores[0].Previous)
	assert.Equal(t, 1.0, *l.Scores[0].Previous)

	other := labelOptions(t, []string{randomBundle(t, plainDataset, []int{4, 8}, 2)}, images)
	other.Previous, other.Weights = first.Out, true
	path := filepath.Join(first.Out, "case_00.nii.gz")
	v, err := imageio.Read(t.Context(), path)
	require.NoError(t, err)
	defer v.Free()
	for i := range v.Data[:2000] {
		v.Data[i] = 3
	}
	require.NoError(t, imageio.Write(t.Context(), path, v.Volume))
	l, err = Label(t.Context(), other)
	require.NoError(t, err)
	now := read(t, filepath.Join(other.Out, "case_00.nii.gz"))
	for i, w := range read(t, filepath.Join(other.Out, "weights", "case_00.nii.gz")) { // the fold's vote, and the earlier round's
		if want := map[bool]uint8{true: 255, false: 128}[now[i] == v.Data[i]]; w != want {
			t.Fatalf("voxel %d weighs %d, expected %d", i, w, want)
		}
	}
	require.NoError(t, os.Remove(filepath.Join(other.Out, "weights", "case_01.nii.gz")))
	again := 0
	other.Case = func(_ string, r CaseResult) {
		if !r.Kept {
			again++
		}
	}
	_, err = Label(t.Context(), other)
	require.NoError(t, err)
	assert.Equal(t, 1, again, "weights that are gone")
	for _, s := range l.Scores[0].Labels {
		want, _ := overlap(now[2000:], v.Data[2000:], uint8(s.Value))
		require.NotNil(t, s.Previous)
		assert.InDelta(t, want, *s.Previous, 1e-12)
		assert.Less(t, want, 0.9)
	}
}

// TestLabelBadInput: cases that cannot be read are skipped and listed; a disk that is full
// ends the call and leaves nothing of the case.
func TestLabelBadInput(t *testing.T) {
	teacher := []string{randomBundle(t, plainDataset, []int{4, 8}, 1)}
	images := filepath.Join(toyFolder(t, 0, 4), "imagesTr")
	require.NoError(t, os.WriteFile(filepath.Join(images, "case_01_0000.nii.gz"), []byte("nonsense"), 0o666))
	spacingNaN(t, filepath.Join(images, "case_03_0000.nii.gz"))
	o := labelOptions(t, teacher, images)
	l, err := Label(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, l.Scores, 2)
	require.Len(t, l.Skipped, 2)
	assert.Equal(t, []string{"case_01", "case_03"}, []string{l.Skipped[0].Case, l.Skipped[1].Case})
	assert.Contains(t, l.Skipped[1].Reason, "pixdim[2] (voxel size) is NaN")
	err = l.Err()
	assert.Equal(t, fault.Format, fault.KindOf(err))
	assert.ErrorContains(t, err, "2 of 4 cases could not be read and were left out: case_01")
	assert.NoFileExists(t, filepath.Join(o.Out, "case_01.nii.gz"))

	for text, change := range map[string]func(*LabelOptions){
		"no teacher":                    func(o *LabelOptions) { o.Teacher = nil },
		"shard 3 of 2":                  func(o *LabelOptions) { o.Shard, o.Shards = 3, 2 },
		"is 1.5, expected 0 (none)":     func(o *LabelOptions) { o.IgnoreBelow = 1.5 },
		"labels would overwrite the im": func(o *LabelOptions) { o.Out = o.Images },
		"those of the previous round":   func(o *LabelOptions) { o.Previous = o.Out },
		"no such file":                  func(o *LabelOptions) { o.Images = filepath.Join(o.Images, "none") },
	} {
		bad := o
		change(&bad)
		_, err := Label(t.Context(), bad)
		assert.ErrorContains(t, err, text)
	}
}

// spacingNaN damages the header of a .nii.gz file.
func spacingNaN(t testing.TB, path string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	in, err := gzip.NewReader(f)
	require.NoError(t, err)
	data, err := io.ReadAll(in)
	require.NoError(t, err)
	binary.LittleEndian.PutUint32(data[80+4:], math.Float32bits(float32(math.NaN()))) // pixdim[2]
	var b bytes.Buffer
	out := gzip.NewWriter(&b)
	_, err = out.Write(data)
	require.NoError(t, err)
	require.NoError(t, out.Close())
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o666))
}

// A full disk leaves no half of a case's files.
func TestLabelOnAFullDisk(t *testing.T) {
	if !testenv.OwnProcess(t) {
		return
	}
	teacher := []string{randomBundle(t, plainDataset, []int{4, 8}, 1)}
	images := filepath.Join(toyFolder(t, 0, 2), "imagesTr")
	o := labelOptions(t, teacher, images)
	o.SoftBelow = 0.9
	var err error
	testenv.FullDisk(t, 2000, func() { _, err = Label(t.Context(), o) }) // labels fit, probabilities do not
	assert.Equal(t, fault.IO, fault.KindOf(err), "%v", err)
	entries, err := os.ReadDir(o.Out)
	require.NoError(t, err)
	assert.Empty(t, entries)
}
