package evaluate

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cube is a volume of 12 x 10 x 8 voxels of 2 x 2 x 2.5 mm (0.01 ml) with a box of a label.
func cube(label uint8, lo, hi [3]int) *volume.Volume {
	g := volume.Geometry{Size: [3]int{12, 10, 8}, Spacing: [3]float64{2, 2, 2.5}, Origin: [3]float64{-100, 50, 7}, Direction: volume.Identity}
	data := make([]byte, g.Voxels())
	for z := lo[2]; z < hi[2]; z++ {
		for y := lo[1]; y < hi[1]; y++ {
			for x := lo[0]; x < hi[0]; x++ {
				data[(z*10+y)*12+x] = label
			}
		}
	}
	v, err := volume.Wrap(g, 1, volume.Uint8, data)
	if err != nil {
		panic(err)
	}
	return v
}

func write(t *testing.T, v *volume.Volume, parts ...string) string {
	path := filepath.Join(parts...)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
	require.NoError(t, imageio.Write(context.Background(), path, v))
	return path
}

// TestByHand has a prediction that lacks the last of five layers of 4 x 4 voxels.
func TestByHand(t *testing.T) {
	reference, prediction := cube(1, [3]int{2, 2, 2}, [3]int{6, 6, 7}), cube(1, [3]int{2, 2, 2}, [3]int{6, 6, 6})
	r, err := Volumes(context.Background(), prediction, reference, Options{Tolerance: 2.4})
	require.NoError(t, err)
	require.Len(t, r.Cases, 1)
	require.Len(t, r.Cases[0].Scores, 1)
	s := r.Cases[0].Scores[0]
	assert.InDelta(t, 2*64/(64+80.0), float64(s.DSC), 1e-15)
	assert.InDelta(t, 16/80.0, float64(s.RAVD), 1e-15)
	assert.InDelta(t, 0.64, float64(s.Volume), 1e-12)
	assert.InDelta(t, 0.80, float64(s.Reference), 1e-12)
	assert.Equal(t, Number(2.5), s.HD)
	assert.Less(t, s.NSD, Number(1), "the layer is 2.5 mm thick")
	r, err = Volumes(context.Background(), prediction, reference, Options{Tolerance: 2.5})
	require.NoError(t, err)
	assert.Equal(t, Number(1), r.NSD)
	assert.Equal(t, r.DSC, r.Labels[0].DSC)
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	box := func(label uint8, x int) *volume.Volume { return cube(label, [3]int{x, 2, 2}, [3]int{x + 4, 7, 6}) }
	for name, x := range map[string]int{"a": 2, "b": 3, "c": 6} {
		write(t, box(1, 2), dir, "ref", name+".nii.gz")
		write(t, box(1, x), dir, "pred", name+".nii")
	}
	write(t, box(2, 2), dir, "ref", "d.nii.gz")
	write(t, box(1, 2), dir, "pred", "d.nii.gz")
	write(t, box(1, 2), dir, "pred", "extra.nii.gz")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pred", "dataset.json"), nil, 0o666))
	var told []int
	live := cmem.Live()
	r, err := Files(context.Background(), filepath.Join(dir, "pred"), filepath.Join(dir, "ref"),
		Options{Progress: func(done, cases int) { told = append(told, done, cases) }})
	require.NoError(t, err)
	assert.Equal(t, live, cmem.Live())
	assert.Equal(t, []int{0, 4, 1, 4, 2, 4, 3, 4, 4, 4}, told)
	require.Len(t, r.Cases, 4)
	dsc := []float64{1, 0.75, 0}
	for i, want := range dsc {
		assert.Equal(t, "abc"[i:i+1], r.Cases[i].Name)
		assert.InDelta(t, want, float64(r.Cases[i].DSC), 1e-15)
	}
	// Case d: label 1 in the prediction alone, 2 in the reference alone.
	require.Len(t, r.Cases[3].Scores, 2)
	assert.Equal(t, Number(0), r.Cases[3].DSC)
	assert.Equal(t, []string{"the reference lacks label 1: 80 voxels of the prediction", "the prediction lacks label 2: 80 voxels of the reference"}, r.Cases[3].Notes)
	require.Len(t, r.Labels, 2)
	assert.InDelta(t, 1.75/4, float64(r.Labels[0].DSC), 1e-15)
	assert.Equal(t, 4, r.Labels[0].Cases)
	assert.Equal(t, 1, r.Labels[1].Cases, "the other cases have no label 2")
	assert.InDelta(t, 1.75/8, float64(r.DSC), 1e-15)
	assert.Equal(t, []string{"1 predictions have no reference and were not scored: extra"}, r.Notes)

	var text bytes.Buffer
	require.NoError(t, r.Text(&text))
	assert.Contains(t, text.String(), "0.4375")
	assert.Contains(t, text.String(), "the prediction lacks label 2 (d)")
	rows, err := csv.NewReader(bytes.NewReader(r.CSV())).ReadAll()
	require.NoError(t, err)
	assert.Len(t, rows, 1+3+2)
	assert.Equal(t, []string{"b", "1", "", "0.75"}, rows[2][:4])
	var back struct {
		Cases []struct {
			Name   string
			Labels []map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(r.JSON(), &back))
	assert.Equal(t, 0.75, back.Cases[1].Labels[0]["dsc"])
	assert.Nil(t, back.Cases[3].Labels[0]["hd_mm"])
	for _, key := range []string{"dsc", "nsd", "assd_mm", "hd_mm", "hd95_mm", "ravd", "volume_ml"} {
		assert.Contains(t, back.Cases[0].Labels[0], key)
	}
	page, err := r.HTML(context.Background())
	require.NoError(t, err)
	assert.Equal(t, live, cmem.Live())
	assert.Equal(t, 4, strings.Count(string(page), "data:image/png;base64,"), "all that are not perfect: b, c, and both labels of d")
	assert.Equal(t, 3, strings.Count(string(page), "<svg"))
	assert.NotContains(t, string(page), "://", "nothing is fetched")
}

// TestCasesThatFail do not keep the others from being scored.
func TestCasesThatFail(t *testing.T) {
	dir := t.TempDir()
	good := cube(1, [3]int{2, 2, 2}, [3]int{6, 6, 6})
	moved := *good
	moved.Origin[0]++
	for _, name := range []string{"damaged", "fine", "missing", "moved", "nan", "spacing"} {
		write(t, good, dir, "ref", name+".nii")
		write(t, good, dir, "pred", name+".nii")
	}
	write(t, &moved, dir, "pred", "moved.nii")
	require.NoError(t, os.Remove(filepath.Join(dir, "pred", "missing.nii")))
	require.NoError(t, os.Truncate(filepath.Join(dir, "pred", "damaged.nii"), 700))
	floats, err := volume.New(good.Geometry, 1, volume.Float32)
	require.NoError(t, err)
	defer floats.Free()
	clear(floats.Data)
	volume.As[float32](floats)[5] = float32(math.NaN())
	write(t, floats, dir, "pred", "nan.nii")
	header, err := os.ReadFile(filepath.Join(dir, "pred", "spacing.nii"))
	require.NoError(t, err)
	binary.LittleEndian.PutUint32(header[80+4:], math.Float32bits(float32(math.NaN()))) // pixdim[2]
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pred", "spacing.nii"), header, 0o666))
	r, err := Files(context.Background(), filepath.Join(dir, "pred"), filepath.Join(dir, "ref"), Options{})
	assert.ErrorContains(t, err, "5 of 6 cases could not be scored, the first: ")
	assert.Equal(t, fault.Format, fault.KindOf(err))
	require.NotNil(t, r)
	require.Len(t, r.Cases, 1)
	assert.Equal(t, "fine", r.Cases[0].Name)
	assert.Len(t, r.Failed, 5)
	assert.Contains(t, r.Failed["missing"], "there is no prediction for it")
	assert.Contains(t, r.Failed["moved"], "differ in origin")
	assert.Contains(t, r.Failed["nan"], "1 voxels are NaN")
	assert.Contains(t, r.Failed["spacing"], "pixdim[2] (voxel size) is NaN")

	r, err = Files(context.Background(), filepath.Join(dir, "pred", "moved.nii"), filepath.Join(dir, "ref", "moved.nii"), Options{Resample: true})
	require.NoError(t, err)
	assert.Equal(t, Number(1), r.DSC, "half a voxel away")
}

func TestFilesRefuses(t *testing.T) {
	dir := t.TempDir()
	good := cube(1, [3]int{2, 2, 2}, [3]int{6, 6, 6})
	file := write(t, good, dir, "ref", "a.nii.gz")
	write(t, good, dir, "twice", "a.nii.gz")
	write(t, good, dir, "twice", "a.nii")
	write(t, good, dir, "other", "b.nii")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o777))
	refused := func(kind fault.Kind, want, p, r string, o Options) {
		t.Helper()
		report, err := Files(context.Background(), p, r, o)
		assert.Nil(t, report)
		assert.ErrorContains(t, err, want)
		assert.Equal(t, kind, fault.KindOf(err), "%v", err)
	}
	ref := filepath.Join(dir, "ref")
	refused(fault.NotFound, "no such file", filepath.Join(dir, "none"), ref, Options{})
	refused(fault.Argument, "two files or two folders", file, ref, Options{})
	refused(fault.NotFound, "holds no image file", ref, filepath.Join(dir, "empty"), Options{})
	refused(fault.NotFound, "no prediction for any of the 1 references", filepath.Join(dir, "other"), ref, Options{})
	refused(fault.Argument, "the same case, a", filepath.Join(dir, "twice"), ref, Options{})
	refused(fault.Argument, `rules "flare99" are not known`, file, file, Options{Rules: "flare99"})
	refused(fault.Argument, "of their own", file, file, Options{Rules: FLARE22, Tolerance: 2})
	refused(fault.Argument, "the tolerance is NaN", file, file, Options{Tolerance: math.NaN()})
	refused(fault.Argument, "label 0 cannot be scored", file, file, Options{Labels: []Label{{}}})
	refused(fault.Argument, "labels are given beside", file, file, Options{Labels: []Label{{Value: 1}}, LabelsFile: file})
	refused(fault.Argument, "of their own", file, file, Options{Rules: FLARE21, LabelsFile: file})
	refused(fault.NotFound, "none.json", file, file, Options{LabelsFile: filepath.Join(dir, "none.json")})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Files(ctx, ref, ref, Options{})
	assert.Equal(t, fault.Cancelled, fault.KindOf(err))
}

// TestOutputsSpareFiles: no output may be a file that is read, or another output, by whatever name.
func TestOutputsSpareFiles(t *testing.T) {
	dir := t.TempDir()
	good := cube(1, [3]int{2, 2, 2}, [3]int{6, 6, 6})
	ref := write(t, good, dir, "ref", "a.nii.gz")
	pred := write(t, good, dir, "pred", "a.nii.gz")
	extra := write(t, good, dir, "pred", "extra.nii.gz")
	labels, fresh, link := filepath.Join(dir, "dataset.json"), filepath.Join(dir, "fresh"), filepath.Join(dir, "link")
	require.NoError(t, os.WriteFile(labels, []byte(`{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}`), 0o666))
	require.NoError(t, os.Symlink("fresh", link))
	other := filepath.Join(dir, "other")
	for _, c := range []struct {
		outputs []string
		lost    string
	}{{[]string{ref}, ref}, {[]string{other, pred}, pred}, {[]string{extra}, extra}, {[]string{labels}, labels}, {[]string{fresh, other, filepath.Join(dir, "ref", "..", "fresh")}, fresh},
		{[]string{fresh, link}, fresh}} {
		o := Options{LabelsFile: labels, Outputs: c.outputs}
		_, err := Files(t.Context(), filepath.Dir(pred), filepath.Dir(ref), o)
		assert.Equal(t, fault.Argument, fault.KindOf(err), "%v: %v", c.outputs, err)
		assert.ErrorContains(t, err, c.lost+" would be overwritten by the output "+c.outputs[len(c.outputs)-1])
	}
	for _, outputs := range [][]string{{labels}, {fresh, link}} {
		_, err := Volumes(t.Context(), good, good, Options{LabelsFile: labels, Outputs: outputs})
		assert.Equal(t, fault.Argument, fault.KindOf(err), "%v: %v", outputs, err)
	}
	r, err := Files(t.Context(), filepath.Dir(pred), filepath.Dir(ref), Options{LabelsFile: labels, Outputs: []string{fresh, other}})
	require.NoError(t, err)
	assert.Equal(t, "liver", r.Labels[0].Name)
	assert.Contains(t, r.Notes[0], "scored: extra")
}

func TestVolumesRefuses(t *testing.T) {
	good := cube(1, [3]int{2, 2, 2}, [3]int{6, 6, 6})
	refused := func(want string, p, r *volume.Volume) {
		t.Helper()
		_, err := Volumes(context.Background(), p, r, Options{})
		assert.ErrorContains(t, err, want)
		assert.Equal(t, fault.Argument, fault.KindOf(err))
	}
	bad := *good
	bad.Spacing[1] = math.NaN()
	refused("the reference: spacing along y is NaN", good, &bad)
	refused("the prediction: spacing along y is NaN", &bad, good)
	bad = *good
	bad.Spacing[1] = 3
	refused("differ in spacing", &bad, good)
	for d, data := range map[volume.DType][]byte{
		volume.Int16: cmem.Bytes([]int16{0, -1}), volume.Int32: cmem.Bytes([]int32{0, 70000}), volume.Float32: cmem.Bytes([]float32{0, 1.5}),
		volume.Float64: cmem.Bytes([]float64{0, math.Inf(1)}),
	} {
		v, err := volume.Wrap(volume.Geometry{Size: [3]int{2, 1, 1}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}, 1, d, data)
		require.NoError(t, err)
		refused("voxel (1, 0, 0)", v, v)
	}
}

// TestOtherTypes scores the same labels in every type of voxel, also above 255.
func TestOtherTypes(t *testing.T) {
	for _, label := range []float64{7, 300} {
		var want *Report
		for _, d := range []volume.DType{volume.Uint8, volume.Uint16, volume.Int16, volume.Int32, volume.Float32, volume.Float64} {
			if label > 255 && d == volume.Uint8 {
				continue
			}
			maps := [2]*volume.Volume{}
			for i := range maps {
				v, err := volume.New(cube(0, [3]int{}, [3]int{}).Geometry, 1, d)
				require.NoError(t, err)
				defer v.Free()
				clear(v.Data)
				for k := 100; k < 400-20*i; k++ {
					switch d {
					case volume.Uint8:
						v.Data[k] = uint8(label)
					case volume.Uint16:
						volume.As[uint16](v)[k] = uint16(label)
					case volume.Int16:
						volume.As[int16](v)[k] = int16(label)
					case volume.Int32:
						volume.As[int32](v)[k] = int32(label)
					case volume.Float32:
						volume.As[float32](v)[k] = float32(label)
					case volume.Float64:
						volume.As[float64](v)[k] = label
					}
				}
				maps[i] = v
			}
			r, err := Volumes(context.Background(), maps[0], maps[1], Options{})
			require.NoError(t, err)
			assert.InDelta(t, 2*280/(300+280.0), float64(r.DSC), 1e-15)
			if want == nil {
				want = r
			}
			assert.Equal(t, want.JSON(), r.JSON(), "%s", d)
		}
	}
}

// TestOnGrid brings a flipped and transposed map back to the reference's grid.
func TestOnGrid(t *testing.T) {
	reference := cube(3, [3]int{1, 2, 3}, [3]int{5, 4, 8})
	// Axes in the order z, x, y; x backwards.
	g := volume.Geometry{Size: [3]int{8, 12, 10}, Spacing: [3]float64{2.5, 2, 2}, Direction: [9]float64{0, -1, 0, 0, 0, 1, 1, 0, 0}}
	g.Origin = [3]float64{reference.Origin[0] + 11*2, reference.Origin[1], reference.Origin[2]}
	data := make([]byte, g.Voxels())
	for z := range 8 {
		for y := range 10 {
			for x := range 12 {
				data[(y*12+11-x)*8+z] = reference.Data[(z*10+y)*12+x]
			}
		}
	}
	turned, err := volume.Wrap(g, 1, volume.Uint8, data)
	require.NoError(t, err)
	back, err := onGrid(turned, &reference.Geometry, 2)
	require.NoError(t, err)
	defer back.Free()
	assert.Equal(t, reference.Data, back.Data)

	wide := reference.Geometry
	wide.Origin[0] -= 2 * wide.Spacing[0]
	far, err := onGrid(turned, &wide, 1)
	require.NoError(t, err)
	defer far.Free()
	assert.Equal(t, byte(0), far.Data[(4*10+3)*12+2], "outside is 0")
	assert.Equal(t, byte(3), far.Data[(4*10+3)*12+3])
}

// TestOutOfMemory lets every allocation fail once: an error, and nothing leaks.
func TestOutOfMemory(t *testing.T) {
	reference := cube(1, [3]int{1, 2, 3}, [3]int{5, 4, 8})
	wide, err := volume.New(reference.Geometry, 1, volume.Float32)
	require.NoError(t, err)
	defer wide.Free()
	clear(wide.Data)
	wide.Origin[2]++
	live := cmem.Live()
	defer cmem.FailAfter(0)
	for n := 1; ; n++ {
		cmem.FailAfter(n)
		_, err := Volumes(context.Background(), wide, reference, Options{Resample: true})
		assert.Equal(t, live, cmem.Live())
		if cmem.FailAfter(0) > 0 {
			require.NoError(t, err)
			assert.Equal(t, 3, n, "the map on the reference's grid, and its labels")
			return
		}
		assert.Equal(t, fault.Memory, fault.KindOf(err))
	}
}

// TestFLARE23Means has the rounded means of rounded scores, with the lesion apart.
func TestFLARE23Means(t *testing.T) {
	j, err := Options{Rules: FLARE23}.job()
	require.NoError(t, err)
	var cases []Case
	for i := range 3 {
		c := Case{}
		for _, l := range organs {
			c.Scores = append(c.Scores, Score{Label: l.Value, DSC: round4(Number(float64(l.Value*i) / 41)), NSD: 1})
		}
		cases = append(cases, c)
	}
	r := j.report(cases)
	sum := 0.0
	for i := range 13 {
		v := float64(i + 1)
		organ := math.RoundToEven((math.RoundToEven(v/41*1e4)/1e4+math.RoundToEven(2*v/41*1e4)/1e4)/3*1e4) / 1e4
		assert.Equal(t, Number(organ), r.Labels[i].DSC)
		sum += organ
	}
	assert.Equal(t, round4(Number(sum/13)), r.DSC)
	assert.Equal(t, "14 (lesion)", r.apart())
}

func TestReadLabels(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dataset.json")
	text := `{"channel_names": {"0": "CT"}, "labels": {"background": 0, "aorta": 2, "liver": 1}, "file_ending": ".nii.gz", "numTraining": 1}`
	require.NoError(t, os.WriteFile(file, []byte(text), 0o666))
	labels, err := ReadLabels(file)
	require.NoError(t, err)
	assert.Equal(t, []Label{{Value: 2, Name: "aorta"}, {Value: 1, Name: "liver"}}, labels)
	r, err := Volumes(context.Background(), cube(2, [3]int{}, [3]int{3, 3, 3}), cube(2, [3]int{}, [3]int{3, 3, 3}), Options{Labels: labels})
	require.NoError(t, err)
	assert.Equal(t, "aorta", r.Cases[0].Scores[0].Name)
	assert.Equal(t, Number(1), r.Cases[0].Scores[0].DSC)
	assert.False(t, r.Cases[0].Scores[1].DSC.defined(), "no liver anywhere")
	assert.Equal(t, DefaultTolerance, r.Labels[0].Tolerance)

	text = strings.Replace(text, `"aorta": 2`, `"aorta": 2, "ignore": 3`, 1)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o666))
	_, err = ReadLabels(file)
	assert.Equal(t, fault.Unsupported, fault.KindOf(err))
}
