package train

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/volume"
)

// hippocampus returns the Decathlon's dataset, whose files lack nnU-Net's channel numbers,
// with a dataset.json that lists them.
func hippocampus(t *testing.T) *nnunet.RawDataset {
	source := testenv.Data(t, "msd_task04_hippocampus")
	images, err := filepath.Glob(filepath.Join(source, "imagesTr", "*.nii.gz"))
	require.NoError(t, err)
	listed := map[string]any{}
	for _, image := range images {
		name := filepath.Base(image)
		listed[strings.TrimSuffix(name, ".nii.gz")] = map[string]any{"images": []string{image}, "label": filepath.Join(source, "labelsTr", name)}
	}
	text, err := json.Marshal(map[string]any{"channel_names": map[string]string{"0": "MRI"}, "dataset": listed, "file_ending": ".nii.gz",
		"labels": map[string]int{"background": 0, "anterior": 1, "posterior": 2}, "numTraining": len(images)})
	require.NoError(t, err)
	folder := filepath.Join(t.TempDir(), "Dataset004_Hippocampus")
	require.NoError(t, os.Mkdir(folder, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "dataset.json"), text, 0o666))
	raw, err := nnunet.OpenRawDataset(folder)
	require.NoError(t, err)
	return raw
}

// near compares the fingerprint with one of nnU-Net: shapes and spacings to the last digit,
// statistics to 1e-6 of them.
func near(t *testing.T, want, got *nnunet.Fingerprint) {
	assert.Equal(t, want.Shapes, got.Shapes)
	assert.Equal(t, want.Spacings, got.Spacings)
	assert.Equal(t, want.MedianRelativeSize, got.MedianRelativeSize)
	require.Len(t, got.Intensity, len(want.Intensity))
	for i, w := range want.Intensity {
		g := got.Intensity[i]
		have := []float64{g.Mean, g.Std, g.Min, g.Max, g.Median, g.Percentile005, g.Percentile995}
		for j, w := range []float64{w.Mean, w.Std, w.Min, w.Max, w.Median, w.Percentile005, w.Percentile995} {
			assert.InDelta(t, w, have[j], 1e-6*math.Abs(w), "channel %d, statistic %d", i, j)
		}
		t.Logf("channel %d: mean differs by %.1e of it, std by %.1e", i, math.Abs(g.Mean/w.Mean-1), math.Abs(g.Std/w.Std-1))
	}
}

// From the images to nnU-Net's own fingerprint and plans.
func TestHippocampus(t *testing.T) {
	raw := hippocampus(t)
	before := cmem.Live()
	last := 0
	f, notes, err := ExtractFingerprint(t.Context(), raw, FingerprintOptions{Threads: 2, Progress: func(done, cases int) {
		assert.Equal(t, last+1, done)
		assert.Equal(t, 195, cases)
		last = done
	}})
	require.NoError(t, err)
	assert.Empty(t, notes)
	assert.Equal(t, 195, last)
	assert.Equal(t, before, cmem.Live())
	folder := testenv.Data(t, "nnunet_golden", "hippocampus")
	want, err := nnunet.ReadFingerprint(filepath.Join(folder, "model", "dataset_fingerprint.json"))
	require.NoError(t, err)
	near(t, want, f)

	// Text of the same numbers is the same text, and plans of it are nnU-Net's.
	text, err := os.ReadFile(filepath.Join(folder, "model", "dataset_fingerprint.json"))
	require.NoError(t, err)
	assert.Equal(t, string(text), string(want.JSON()))
	plans, err := nnunet.Plan("ExperimentPlanner", f, raw.Dataset, raw.Name)
	require.NoError(t, err)
	golden, err := os.ReadFile(filepath.Join(folder, "nnUNetPlans_default.json"))
	require.NoError(t, err)
	assert.Equal(t, withoutIntensity(t, golden), withoutIntensity(t, plans.Raw))
}

// withoutIntensity drops the statistics, which are compared with the fingerprint.
func withoutIntensity(t *testing.T, plans []byte) (m map[string]any) {
	require.NoError(t, json.Unmarshal(plans, &m))
	require.Contains(t, m, "foreground_intensity_properties_per_channel")
	delete(m, "foreground_intensity_properties_per_channel")
	return m
}

// Small datasets with nnU-Net's fingerprints (make_fingerprint_goldens.py): channels of
// different types in zeros, a case without foreground, 2-D, one case that the reader turns,
// channels along a 4th axis, a single labelled voxel.
func TestSmallDatasets(t *testing.T) {
	folders, err := filepath.Glob("testdata/Dataset*")
	require.NoError(t, err)
	require.Len(t, folders, 4)
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			raw, err := nnunet.OpenRawDataset(folder)
			require.NoError(t, err)
			before := cmem.Live()
			f, notes, err := ExtractFingerprint(t.Context(), raw, FingerprintOptions{})
			require.NoError(t, err)
			assert.Equal(t, before, cmem.Live())
			want, err := nnunet.ReadFingerprint(filepath.Join(folder, "dataset_fingerprint.json"))
			require.NoError(t, err)
			near(t, want, f)
			if raw.Name == "Dataset001_Channels" {
				require.Len(t, notes, 1)
				assert.Contains(t, notes[0], "1 cases (case_1) have no foreground")
			} else {
				assert.Empty(t, notes)
			}
		})
	}
}

// What a reader that turns images can't put on one grid, and cancelling.
func TestFingerprintErrors(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "Dataset003_Turned")
	require.NoError(t, os.CopyFS(folder, os.DirFS("testdata/Dataset003_Turned")))
	raw, err := nnunet.OpenRawDataset(folder)
	require.NoError(t, err)
	image, err := imageio.Read(t.Context(), raw.Cases[0].Label)
	require.NoError(t, err)
	defer image.Free()
	image.Direction = volume.Identity
	require.NoError(t, imageio.Write(t.Context(), raw.Cases[0].Label, image.Volume))
	before := cmem.Live()
	_, _, err = ExtractFingerprint(t.Context(), raw, FingerprintOptions{})
	assert.Equal(t, fault.Model, fault.KindOf(err))
	assert.ErrorContains(t, err, "only.nii.gz: its voxels are in the order LPS, those of its image")
	assert.Equal(t, before, cmem.Live())

	// Elsewhere that is only worth a note.
	text, err := os.ReadFile(filepath.Join(folder, "dataset.json"))
	require.NoError(t, err)
	text = bytes.Replace(text, []byte("SimpleITKIOWithReorient"), []byte("SimpleITKIO"), 1)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "dataset.json"), text, 0o666))
	raw, err = nnunet.OpenRawDataset(folder)
	require.NoError(t, err)
	_, notes, err := ExtractFingerprint(t.Context(), raw, FingerprintOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{"1 cases (only) have labels whose origin or direction differs from their image's: see that they fit"}, notes)

	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, _, err = ExtractFingerprint(ctx, raw, FingerprintOptions{})
	assert.Equal(t, fault.Cancelled, fault.KindOf(err))

	// Every allocation may fail.
	for n := 1; ; n++ {
		cmem.FailAfter(n)
		_, _, err := ExtractFingerprint(t.Context(), raw, FingerprintOptions{Threads: 1})
		if cmem.FailAfter(0) > 0 {
			assert.NoError(t, err)
			assert.Greater(t, n, 5)
			break
		}
		assert.Equal(t, fault.Memory, fault.KindOf(err), "allocation %d: %v", n, err)
		require.Equal(t, before, cmem.Live(), "after allocation %d failed", n)
	}
}
