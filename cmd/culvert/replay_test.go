package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReplayOfNoRecording(t *testing.T) {
	quiet(t)
	dir := t.TempDir()
	if code, out, stderr := call("replay", dir); code != exitFailed || out != "" || !strings.Contains(stderr, "no recording") {
		t.Errorf("an empty folder: %d %q %q", code, out, stderr)
	}
	if err := os.WriteFile(filepath.Join(dir, "endpoint.recording"), []byte("something else that is long enough to be read as a header, but is none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := call("replay", dir); code != exitFailed || !strings.Contains(stderr, "not a recording") {
		t.Errorf("another file: %d %q", code, stderr)
	}
	if code, _, _ := call("replay"); code != exitUsage {
		t.Errorf("without a folder: %d", code)
	}
}
