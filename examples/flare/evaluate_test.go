package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEvaluate scores phantoms against each other.
func TestEvaluate(t *testing.T) {
	dir := filepath.Dir(phantoms(t, "2"))
	labels, out := filepath.Join(dir, "labelsTr"), t.TempDir()
	first, second := filepath.Join(labels, "phantom_0000.nii.gz"), filepath.Join(labels, "phantom_0001.nii.gz")
	result := filepath.Join(out, "scores.json")
	stdout, _ := flare(t, 0, "evaluate", "--flare22", labels, labels, "--json", result, "--csv", filepath.Join(out, "scores.csv"), "--report", filepath.Join(out, "report.html"))
	if !strings.Contains(stdout, "1 (liver)") || !strings.Contains(stdout, "mean      2") {
		t.Errorf("the table is %q", stdout)
	}
	var report struct {
		Rules string
		DSC   float64
		Cases []struct {
			Name   string
			Labels []struct{ DSC, NSD float64 }
		}
	}
	read(t, result, &report)
	if report.Rules != "flare22" || report.DSC != 1 || len(report.Cases) != 2 || len(report.Cases[0].Labels) != 13 || report.Cases[1].Name != "phantom_0001" {
		t.Errorf("scores: %+v", report)
	}
	if page := text(t, out, "report.html"); !strings.Contains(page, "<svg") || strings.Count(text(t, out, "scores.csv"), "\n") != 1+2*13 {
		t.Error("the page or the CSV is not whole")
	}

	// Names of labels by dataset.json; phantoms of different size are refused, unless resampling is asked for.
	stdout, _ = flare(t, 0, "evaluate", "--labels", filepath.Join(dir, "dataset.json"), "--tolerance", "3", first, first)
	if !strings.Contains(stdout, "13 (left kidney)") {
		t.Errorf("the table is %q", stdout)
	}
	_, stderr := flare(t, 2, "evaluate", first, second)
	if !strings.Contains(stderr, "the volumes differ in") {
		t.Errorf("standard error is %q", stderr)
	}
	flare(t, 0, "evaluate", "--resample", first, second)
	flare(t, 2, "evaluate", "--flare21", "--flare22", first, first)
	flare(t, 2, "evaluate", first, first, "--json", first)
	both := filepath.Join(out, "both.txt")
	if _, stderr := flare(t, 2, "evaluate", first, first, "--json", both, "--csv", filepath.Join(out, ".", "both.txt")); !strings.Contains(stderr, "would be overwritten by the output") {
		t.Errorf("standard error is %q", stderr)
	}
	if got := names(t, out); slices.Contains(got, "both.txt") {
		t.Errorf("written: %v", got)
	}
	flare(t, 2, "evaluate", first, first, "--labels", filepath.Join(dir, "dataset.json"), "--report", filepath.Join(dir, "dataset.json"))
	flare(t, 4, "evaluate", first, filepath.Join(dir, "none.nii"))
}

// TestEfficiency measures flare itself; standard output and exit code stay the command's.
func TestEfficiency(t *testing.T) {
	result := filepath.Join(t.TempDir(), "measured.json")
	stdout, stderr := flare(t, 0, "efficiency", "--json", result, "--", "echo", "x", "--json")
	if stdout != "x --json\n" || !strings.Contains(stderr, "wall time") {
		t.Errorf("output %q, standard error %q", stdout, stderr)
	}
	var measured map[string]any
	read(t, result, &measured)
	if measured["max_ram_mb"].(float64) <= 0 || measured["seconds"].(float64) <= 0 {
		t.Errorf("measured %v", measured)
	}
	flare(t, 1, "efficiency", "false")
	flare(t, 4, "efficiency", "no-such-command")
}
