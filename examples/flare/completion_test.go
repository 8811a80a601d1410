package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// grammar is the program's, as run reads it.
func grammar(t *testing.T) *kong.Node {
	t.Helper()
	parser, err := kong.New(&commands{}, kong.Name("flare"), kong.Vars{"version": ""})
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model.Node
}

func TestManual(t *testing.T) {
	page, _ := flare(t, 0, "manual", "2026-01-31")
	for _, command := range grammar(t).Leaves(true) {
		_, section, found := strings.Cut(page, "\n.SS flare "+roff(command.Name)+" ")
		if !found {
			t.Fatalf("the page lacks flare %s", command.Name)
		}
		section, _, _ = strings.Cut(section, "\n.SS ")
		for _, flag := range command.Flags {
			if !strings.Contains(section, roff("--"+flag.Name)) {
				t.Errorf("flare %s: the page lacks --%s", command.Name, flag.Name)
			}
		}
	}
	if strings.Contains(page, "completion") { // hidden
		t.Error("the page tells of hidden commands")
	}
	if lint, err := exec.LookPath("mandoc"); err == nil {
		file := filepath.Join(t.TempDir(), "flare.1")
		if err := os.WriteFile(file, []byte(page), 0o666); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(lint, "-Tlint", "-Wwarning", file).CombinedOutput(); err != nil {
			t.Errorf("mandoc: %v\n%s", err, out)
		}
	}
}

// What bash offers for the last word of a line.
func TestBashCompletion(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	script, _ := flare(t, 0, "completion", "bash")
	for _, c := range []struct {
		line      []string
		want, not string
	}{
		{[]string{"flare", "se"}, "segment", "train"},
		{[]string{"flare", ""}, "efficiency", "completion"},
		{[]string{"flare", "--ve"}, "--version", "segment"},
		{[]string{"flare", "segment", "--mod"}, "--model", "--device"},
		{[]string{"flare", "train", "--"}, "--fold", "--roi"},
		{[]string{"flare", "-v", "segment", "-d", "open"}, "openvino", "cuda"},
		{[]string{"flare", "segment", "--device", "=", "cu"}, "cuda", "openvino"},
		{[]string{"flare", "segment", "ct"}, "", "segment"}, // a file
	} {
		in := script + "\nCOMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)); _flare; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
		out, err := exec.Command(bash, append([]string{"-c", in, "bash"}, c.line...)...).Output()
		if err != nil {
			t.Fatalf("%q: %v", c.line, err)
		}
		got := strings.Split(strings.TrimSpace(string(out)), "\n")
		if !slices.Contains(got, c.want) || slices.Contains(got, c.not) {
			t.Errorf("%q: %q, want %q and not %q", c.line, got, c.want, c.not)
		}
	}
}

// Every shell accepts its script; fish and zsh also where they are installed.
func TestCompletionSyntax(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, _ := flare(t, 0, "completion", shell)
		for _, want := range []string{"pseudo-label", "max-memory"} {
			if !strings.Contains(script, want) {
				t.Errorf("%s: the script lacks %s", shell, want)
			}
		}
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("%s is not installed", shell)
			continue
		}
		file := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(file, []byte(script), 0o666); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(shell, "-n", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
	flare(t, 2, "completion", "tcsh")
}
