package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"html"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Browse opens a page from a file in a browser without a screen and without a network (what is
// not a file goes to a port where nobody listens), and returns the document as it is in the end
// and what was written to the console.
func Browse(t testing.TB, text string, flags ...string) (document string, console []string) {
	t.Helper()
	chromium := Program(t, "Chromium (Debian: apt install chromium)", "chromium", "chromium-browser", "google-chrome")
	file := filepath.Join(t.TempDir(), "ärzt lich <&> 报告.html")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	args := append([]string{"--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--user-data-dir=" + t.TempDir(),
		"--proxy-server=127.0.0.1:9", "--window-size=1000,800", "--virtual-time-budget=120000", "--enable-logging=stderr", "--dump-dom"}, flags...)
	c := exec.CommandContext(ctx, chromium, append(args, (&url.URL{Scheme: "file", Path: file}).String())...)
	var out, log bytes.Buffer
	c.Stdout, c.Stderr = &out, &log
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, log.String())
	}
	for _, line := range strings.Split(log.String(), "\n") {
		if strings.Contains(line, ":CONSOLE") {
			console = append(console, line)
		}
	}
	return out.String(), console
}

var probed = regexp.MustCompile(`<html[^>]*\bdata-probe="([^"]*)"`)

// Probed reads the JSON that a script of the test left in <html data-probe> of a document.
func Probed(t testing.TB, document string, found any) {
	t.Helper()
	match := probed.FindStringSubmatch(document)
	if match == nil {
		t.Fatalf("the document has no data-probe: %.500s", document)
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(match[1])), found); err != nil {
		t.Fatal(err)
	}
}
