package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/libflare/libflare/segment"
)

// A folder of images has a report of each, named as its labels; one image has the file that is
// named, or its own in a folder. The statistics have the organs.
func TestSegmentReports(t *testing.T) {
	m, images := model(t), phantoms(t, "2")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	const part = "--box=30,30,50,60,60,60" // in the liver: two tiles of six
	flare(t, 0, "segment", "-m", m, images, at("labels"), part, "--report", at("reports"), "--stats", at("stats.json"))
	if got, want := names(t, at("reports")), []string{"phantom_0000.html", "phantom_0001.html"}; !slices.Equal(got, want) {
		t.Errorf("wrote %v, want %v", got, want)
	}
	var stats struct{ Cases map[string]segment.Stats }
	read(t, at("stats.json"), &stats)
	organs := stats.Cases["phantom_0001"].Organs
	if len(organs) != 13 || organs[0].Name != "liver" || organs[0].Volume < 10 || organs[0].Volume > 243 { // of the box's
		t.Errorf("organs are %+v", organs)
	}
	page, err := os.ReadFile(at("reports/phantom_0001.html"))
	if err != nil || !bytes.Contains(page, []byte("phantom_0001_0000.nii.gz")) {
		t.Errorf("%.100s, %v", page, err)
	}

	one := filepath.Join(images, "phantom_0000_0000.nii.gz")
	flare(t, 0, "segment", "-m", m, one, at("one.nii.gz"), part, "--report", at("reports"))
	flare(t, 0, "segment", "-m", m, one, at("one.nii.gz"), part, "--report", at("one.html"))
	for _, name := range []string{"reports/phantom_0000.html", "one.html"} {
		if _, err := os.Stat(at(name)); err != nil {
			t.Error(err)
		}
	}
	for _, wrong := range [][]string{{at("one.txt")}, {at("no/one.html")}} {
		code := map[bool]int{true: 2, false: 4}[filepath.Ext(wrong[0]) == ".txt"]
		flare(t, code, append([]string{"segment", "-m", m, one, at("two.nii.gz"), "--report"}, wrong...)...)
	}
	if _, err := os.Stat(at("two.nii.gz")); err == nil {
		t.Error("labels were written although the report could not be")
	}
}
