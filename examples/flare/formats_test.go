package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/libflare/libflare/segment/imageio"
)

// rewrite writes an image in another format.
func rewrite(t *testing.T, from, to string) {
	t.Helper()
	im, err := imageio.Read(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Free()
	if err := imageio.Write(t.Context(), to, im.Volume); err != nil {
		t.Fatal(err)
	}
}

// A folder with one image in several formats gives the same labels in each image's format,
// and evaluate compares them.
func TestSegmentFormats(t *testing.T) {
	m, images, out := model(t), t.TempDir(), filepath.Join(t.TempDir(), "labels")
	image := filepath.Join(phantoms(t, "1"), "phantom_0000_0000.nii.gz")
	for _, name := range []string{"a_0000.nii.gz", "b_0000.nrrd", "c.mhd", "d.mha"} {
		rewrite(t, image, filepath.Join(images, name))
	}
	flare(t, 0, "segment", "-m", m, images, out)
	if got, want := names(t, out), []string{"a.nii.gz", "b.nrrd", "c.mhd", "c.zraw", "d.mha"}; !slices.Equal(got, want) {
		t.Errorf("wrote %v, want %v", got, want)
	}
	first, err := imageio.Read(t.Context(), filepath.Join(out, "a.nii.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Free()
	for _, name := range []string{"b.nrrd", "c.mhd", "d.mha"} {
		im, err := imageio.Read(t.Context(), filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Data, im.Data) {
			t.Errorf("%s has other labels than a.nii.gz", name)
		}
		im.Free()
	}
	if stdout, _ := flare(t, 0, "evaluate", filepath.Join(out, "b.nrrd"), filepath.Join(out, "a.nii.gz")); !strings.Contains(stdout, "1.0") {
		t.Errorf("evaluate: %s", stdout)
	}
}

// A raw dataset in another format has the fingerprint of the same one in NIfTI.
func TestPlanFormats(t *testing.T) {
	raw := rawDataset(t, 1, [3]int{20, 21, 22})
	want := t.TempDir()
	flare(t, 0, "plan", raw, "-o", want)
	for _, ending := range []string{".nrrd", ".mha"} {
		folder, got := filepath.Join(t.TempDir(), "Dataset001_Small"), t.TempDir()
		for _, sub := range []string{"imagesTr", "labelsTr"} {
			if err := os.MkdirAll(filepath.Join(folder, sub), 0o777); err != nil {
				t.Fatal(err)
			}
			for _, name := range names(t, filepath.Join(raw, sub)) {
				rewrite(t, filepath.Join(raw, sub, name), filepath.Join(folder, sub, strings.TrimSuffix(name, ".nii.gz")+ending))
			}
		}
		file(t, filepath.Join(folder, "dataset.json"), []byte(strings.ReplaceAll(text(t, raw, "dataset.json"), ".nii.gz", ending)))
		flare(t, 0, "plan", folder, "-o", got)
		if a, b := text(t, want, "dataset_fingerprint.json"), text(t, got, "dataset_fingerprint.json"); a != b {
			t.Errorf("%s: the fingerprint is %s, want %s", ending, b, a)
		}
	}
}
