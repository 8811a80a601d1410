package student

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/nnunet"
)

// smallRun is a run of one round with a teacher that is there.
func smallRun(t testing.TB) Config {
	t.Helper()
	c := toyConfig(t)
	c.Teacher.Models = []string{randomBundle(t, plainDataset, []int{4, 8}, 1), randomBundle(t, plainDataset, []int{4, 8}, 2)}
	c.Rounds, c.Supervised = 1, nil
	return c
}

// elsewhere copies a folder as a download does, with other times of change, and removes it.
func elsewhere(t testing.TB, folder string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.CopyFS(to, os.DirFS(folder)))
	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, filepath.WalkDir(to, func(path string, _ os.DirEntry, err error) error {
		require.NoError(t, err)
		return os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour))
	}))
	return to
}

// TestRunMoved: data that lies elsewhere, with other times of change, is what it was: nothing is
// done again, and what is to be done finds it.
func TestRunMoved(t *testing.T) {
	c := smallRun(t)
	stagesDone(t, c)
	c.Labelled = elsewhere(t, c.Labelled)
	c.Unlabelled = elsewhere(t, c.Unlabelled)
	c.Test = &Test{Images: elsewhere(t, c.Test.Images), Labels: elsewhere(t, c.Test.Labels)}
	_, done := stagesDone(t, c)
	assert.Empty(t, done)
	d, err := nnunet.OpenRawDataset(filepath.Join(c.Run, "round_1", "dataset"))
	require.NoError(t, err)
	assert.Len(t, d.Cases, 10)

	// Another training reads the images; labels that are gone are made again, others kept.
	settings := *c.FineTuning
	settings.Seed = 5
	c.FineTuning = &settings
	_, done = stagesDone(t, c)
	assert.Equal(t, []string{"round_1_fine_tuning", "round_1_cache", "result", "compare_fine_tuned_round_1", "score_fine_tuned_round_1"}, done)
	labels := filepath.Join(c.Run, "round_1", "labels")
	other, err := os.Stat(filepath.Join(labels, "case_10.nii.gz"))
	require.NoError(t, err)
	want := read(t, filepath.Join(labels, "case_11.nii.gz"))
	require.NoError(t, os.Remove(filepath.Join(labels, "case_11.nii.gz")))
	_, done = stagesDone(t, c)
	assert.Equal(t, []string{"round_1_labels"}, done)
	assert.Equal(t, want, read(t, filepath.Join(labels, "case_11.nii.gz")))
	again, err := os.Stat(filepath.Join(labels, "case_10.nii.gz"))
	require.NoError(t, err)
	assert.Equal(t, other.ModTime(), again.ModTime())
	s, err := readScores(filepath.Join(labels, "case_10.json"))
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(c.Unlabelled, "case_10_0000.nii.gz"), s.Images[0].Path, "where it lies now")
	require.NoError(t, os.RemoveAll(labels))
	_, done = stagesDone(t, c)
	assert.Equal(t, []string{"round_1_labels"}, done)
	assert.Equal(t, want, read(t, filepath.Join(labels, "case_11.nii.gz")))

	// The bundle is that of a run that nothing happened to, and another image is another image.
	bundle := bundleOf(t, c)
	moved := c.Run
	c.Run = filepath.Join(t.TempDir(), "run")
	stagesDone(t, c)
	assert.Equal(t, bundle, bundleOf(t, c))
	c.Run = moved
	here, err := os.Getwd()
	require.NoError(t, err)
	for _, path := range []*string{&c.Run, &c.Labelled, &c.Unlabelled} { // relative paths are as good
		*path, err = filepath.Rel(here, *path)
		require.NoError(t, err)
	}
	_, done = stagesDone(t, c)
	assert.Empty(t, done)
	_, err = nnunet.OpenRawDataset(filepath.Join(c.Run, "round_1", "dataset"))
	require.NoError(t, err)
	image, _ := toyImage(t, 3)
	path := filepath.Join(c.Unlabelled, "case_12_0000.nii.gz")
	require.NoError(t, imageio.Write(t.Context(), path, image))
	_, done = stagesDone(t, c)
	assert.Contains(t, done, "round_1_labels")
	assert.Contains(t, done, "round_1_student")
}

// TestRunEndings: unlabelled images may have other file endings than the labelled ones, and
// those of several files; the student is the same.
func TestRunEndings(t *testing.T) {
	c := smallRun(t)
	c.FineTuning, c.Test = nil, nil
	c.PseudoLabels.Weights = true
	stagesDone(t, c)
	want := bundleOf(t, c)
	c.Unlabelled, c.Run = t.TempDir(), filepath.Join(t.TempDir(), "run")
	for i, ending := range []string{".nrrd", "_0000.mhd", ".mha", "_0000.NII"} {
		image, _ := toyImage(t, 10+i)
		require.NoError(t, imageio.Write(t.Context(), filepath.Join(c.Unlabelled, fmt.Sprintf("case_%d%s", 10+i, ending)), image))
	}
	stagesDone(t, c)
	assert.Equal(t, want, bundleOf(t, c))
	_, done := stagesDone(t, c)
	assert.Empty(t, done)
	d, err := nnunet.OpenRawDataset(filepath.Join(c.Run, "round_1", "dataset"))
	require.NoError(t, err)
	require.Len(t, d.Cases, 10)
	assert.Equal(t, filepath.Join(c.Unlabelled, "case_10.nrrd"), d.Cases[6].Images[0])
	assert.Equal(t, filepath.Join(c.Run, "round_1", "labels", "weights", "case_10.nrrd"), d.Cases[6].Weight)
}
