package segment

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/phantom"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/volume"
)

// The least agreement with nnU-Net, in percent of the voxels that either calls
// foreground: with its accumulators in float32, and as shipped (float16).
const (
	likeFloat32 = 99.98
	likeShipped = 99.95
)

// organs is a dataset.json of the 13 FLARE organs.
const organs = `{"channel_names": {"0": "CT"}, "numTraining": 50, "file_ending": ".nii.gz", "labels": {"background": 0,
"liver": 1, "right kidney": 2, "spleen": 3, "pancreas": 4, "aorta": 5, "inferior vena cava": 6, "right adrenal gland": 7,
"left adrenal gland": 8, "gallbladder": 9, "esophagus": 10, "stomach": 11, "duodenum": 12, "left kidney": 13}}`

// flare13 converts the real 13-organ network and returns the bundle's path.
func flare13(t testing.TB) string {
	t.Helper()
	folder := testenv.Data(t, "model_flare13_onnx")
	dir := t.TempDir()
	dataset, bundle := filepath.Join(dir, "dataset.json"), filepath.Join(dir, "flare13.onnx")
	require.NoError(t, os.WriteFile(dataset, []byte(organs), 0o600))
	require.NoError(t, Convert(context.Background(), bundle, ConvertOptions{ONNX: filepath.Join(folder, "model.onnx"),
		Plans: filepath.Join(folder, "plans.json"), Dataset: dataset, Configuration: "3d_lowres", Orientation: "LPS"}))
	return bundle
}

// open opens a model with the runtime that tests use.
func open(t testing.TB, path string, o OpenOptions) *Model {
	t.Helper()
	if o.Runtime == "" {
		o.Runtime = testenv.Runtime(t)
	}
	m, err := Open(context.Background(), path, o)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

// patient returns the CT of a synthetic patient, of phantom.Small or Clinical size.
func patient(t testing.TB, size phantom.Size) *volume.Volume {
	t.Helper()
	image, labels, err := phantom.Generate(phantom.Sample(5, 0, size))
	require.NoError(t, err)
	labels.Free()
	t.Cleanup(image.Free)
	return image
}

// openSlots opens a model of one network with so many slots, whatever there would be for
// the device and the number of threads.
func openSlots(t testing.TB, path string, o OpenOptions, slots int) *Model {
	t.Helper()
	m := open(t, path, o)
	_, n, err := load(path, m.parts[0].options)
	require.NoError(t, err)
	defer n.free()
	session, err := engine.Open(n.list, engine.Options{Device: o.Device, Threads: o.Threads, Runtime: m.parts[0].options.Runtime,
		Fast: o.fast(), Slots: slots})
	require.NoError(t, err)
	require.Len(t, session.Inputs, slots)
	m.session.Close()
	m.session = session
	return m
}

func readLabels(t testing.TB, path string) *imageio.Image {
	t.Helper()
	im, err := imageio.Read(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(im.Free)
	require.Equal(t, volume.Uint8, im.DType, path)
	return im
}

// agreement returns the percentage of equal labels among the voxels that either map
// calls foreground, and how many those are.
func agreement(t testing.TB, a, b []byte) (percent float64, foreground int) {
	t.Helper()
	require.Equal(t, len(a), len(b))
	equal := 0
	for i := range a {
		if a[i] != 0 || b[i] != 0 {
			foreground++
			if a[i] == b[i] {
				equal++
			}
		}
	}
	return 100 * float64(equal) / float64(max(foreground, 1)), foreground
}

// like checks a label file against nnU-Net's two.
func like(t *testing.T, got, float32File, shippedFile string, foreground int) {
	t.Helper()
	mine := readLabels(t, got)
	for _, g := range []struct {
		file  string
		least float64
	}{{float32File, likeFloat32}, {shippedFile, likeShipped}} {
		golden := readLabels(t, g.file)
		assert.Equal(t, golden.Size, mine.Size)
		for i := range 3 {
			assert.InDelta(t, golden.Spacing[i], mine.Spacing[i], 1e-6)
			assert.InDelta(t, golden.Origin[i], mine.Origin[i], 1e-3)
		}
		percent, n := agreement(t, mine.Data, golden.Data)
		t.Logf("%s: %.4f %% of %d foreground voxels", filepath.Base(g.file), percent, n)
		assert.GreaterOrEqual(t, percent, g.least, g.file)
		assert.Greater(t, n, foreground, "the golden is not empty")
	}
}

// The 13-organ network on the two CTs: nnU-Net took 56 s for the large one.
func TestOrgansAgreeWithNNUNet(t *testing.T) {
	m := open(t, flare13(t), OpenOptions{Threads: 2})
	for _, c := range []struct {
		name       string
		foreground int
	}{{"example_ct_lps", 70_000}, {"ct_512x512x168", 2_500_000}} {
		golden := func(s string) string { return testenv.Data(t, "nnunet_golden", c.name+s) }
		out := filepath.Join(t.TempDir(), "labels.nii.gz")
		stats, err := m.SegmentFile(context.Background(), golden(".nii.gz"), out, Options{})
		require.NoError(t, err)
		text, _ := json.Marshal(stats)
		t.Logf("%s: %s", c.name, text)
		assert.Equal(t, 12, stats.Tiles)
		like(t, out, golden("_nnunet_fp32.nii.gz"), golden("_nnunet_shipped.nii.gz"), c.foreground)
	}
}

// The same CT stored in RAS order, as the scanner's archive has it, gives the same
// labels at the same places in space: the bundle's orientation undoes the storage.
func TestOrientationIsUndone(t *testing.T) {
	m := open(t, flare13(t), OpenOptions{})
	out := filepath.Join(t.TempDir(), "labels.nii.gz")
	_, err := m.SegmentFile(context.Background(), testenv.Data(t, "ct_totalsegmentator", "example_ct.nii.gz"), out, Options{})
	require.NoError(t, err)
	ras := readLabels(t, out)
	require.Equal(t, "RAS", ras.Orientation())
	lps := readLabels(t, testenv.Data(t, "nnunet_golden", "example_ct_lps_nnunet_fp32.nii.gz"))
	view, _, err := ras.Reorient("LPS")
	require.NoError(t, err)
	turned := make([]byte, 0, len(ras.Data))
	for i := range view.Shape[0] {
		for j := range view.Shape[1] {
			for k := range view.Shape[2] {
				turned = append(turned, ras.Data[view.Offset+i*view.Stride[0]+j*view.Stride[1]+k*view.Stride[2]])
			}
		}
	}
	percent, _ := agreement(t, turned, lps.Data)
	assert.GreaterOrEqual(t, percent, likeFloat32)
}

// A folder trained by nnU-Net, a real .pth: eight cases, with and without mirroring,
// from the folder and from its bundle.
func TestHippocampusAgreesWithNNUNet(t *testing.T) {
	folder := testenv.Data(t, "nnunet_golden", "hippocampus")
	bundle := filepath.Join(t.TempDir(), "hippocampus.onnx")
	require.NoError(t, Convert(context.Background(), bundle, ConvertOptions{Folder: filepath.Join(folder, "model")}))
	for _, source := range []string{filepath.Join(folder, "model"), bundle} {
		m := open(t, source, OpenOptions{})
		d := m.Describe()
		assert.Equal(t, []int{0, 1, 2}, d.MirrorAxes)
		assert.EqualValues(t, 1402003, d.Parameters, "as PyTorch counts them")
		for _, mirror := range []bool{false, true} {
			kind := map[bool]string{false: "plain", true: "mirror"}[mirror]
			cases, err := filepath.Glob(filepath.Join(folder, "labels_"+kind+"_fp32", "*.nii.gz"))
			require.NoError(t, err)
			require.Len(t, cases, 8)
			var mine, float32s, shipped []byte
			for _, c := range cases {
				name := filepath.Base(c)
				out := filepath.Join(t.TempDir(), name)
				_, err := m.SegmentFile(context.Background(), testenv.Data(t, "msd_task04_hippocampus", "imagesTr", name), out, Options{Mirror: mirror})
				require.NoError(t, err)
				mine = append(mine, readLabels(t, out).Data...)
				float32s = append(float32s, readLabels(t, c).Data...)
				shipped = append(shipped, readLabels(t, filepath.Join(folder, "labels_"+kind+"_shipped", name)).Data...)
			}
			// All cases together: one voxel of one small case is 0.025 % of it.
			percent, n := agreement(t, mine, float32s)
			t.Logf("%s, %s: %.4f %% of %d", filepath.Base(source), kind, percent, n)
			assert.Greater(t, n, 20_000)
			assert.GreaterOrEqual(t, percent, likeFloat32)
			percent, _ = agreement(t, mine, shipped)
			assert.GreaterOrEqual(t, percent, likeShipped)
		}
	}
}

// nnU-Net's intermediate arrays of one case: the preprocessed image, and the logits
// through their softmax.
func TestIntermediatesAgreeWithNNUNet(t *testing.T) {
	image, err := imageio.Read(t.Context(), testenv.Data(t, "msd_task04_hippocampus", "imagesTr", "hippocampus_024.nii.gz"))
	require.NoError(t, err)
	defer image.Free()
	want, shape, err := npy.Read(testenv.Data(t, "nnunet_golden", "hippocampus", "hippocampus_024_preprocessed.npy"))
	require.NoError(t, err)
	m := open(t, testenv.Data(t, "nnunet_golden", "hippocampus", "model"), OpenOptions{})
	grid, err := preprocess.Open(image.Volume, nil, m.parts[0].preprocess, 2)
	require.NoError(t, err)
	defer grid.Close()
	require.Equal(t, shape[1:], grid.Shape[:])
	require.NoError(t, grid.Begin(t.Context(), 0, shape[2]))
	data, plane := make([]float32, len(want)), shape[2]*shape[3]
	require.NoError(t, grid.Next(t.Context(), shape[1], func(_, z int) []float32 { return data[z*plane : (z+1)*plane] }))
	for i := range want {
		require.InDelta(t, want[i], data[i], 1e-4)
	}

	logits, shape, err := npy.Read(testenv.Data(t, "nnunet_golden", "hippocampus", "hippocampus_024_logits.npy"))
	require.NoError(t, err)
	require.True(t, grid.Shape == grid.View.Shape, "this case is not resampled")
	labels, err := volume.New(image.Geometry, 1, volume.Uint8)
	require.NoError(t, err)
	defer labels.Free()
	voxels := image.Voxels()
	probabilities := make([]float32, m.heads()*voxels)
	_, err = m.Segment(context.Background(), image.Volume, labels, Options{Probabilities: probabilities})
	require.NoError(t, err)
	require.Equal(t, shape[1]*shape[2]*shape[3], voxels)
	worst := 0.0
	for i := range voxels {
		sum := 0.0
		for c := range m.heads() {
			sum += math.Exp(float64(logits[c*voxels+i]))
		}
		for c := range m.heads() {
			worst = max(worst, math.Abs(math.Exp(float64(logits[c*voxels+i]))/sum-float64(probabilities[c*voxels+i])))
		}
	}
	assert.Less(t, worst, 1e-3)
	t.Logf("largest difference of a probability: %.2g", worst)
}

func TestMain(m *testing.M) {
	code := m.Run()
	if live := cmem.Live(); code == 0 && live != 0 {
		os.Stderr.WriteString("tests left C memory allocated\n")
		code = 1
	}
	os.Exit(code)
}
