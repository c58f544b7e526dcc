package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/ike"
	"culvert/ike/core"
	"culvert/internal/operate/record"
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

// With --redact a recording plays, and --config says where another configuration
// goes another way.
func TestReplayWithConfig(t *testing.T) {
	quiet(t)
	dir := filepath.Join(t.TempDir(), "rec")
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	e := ike.New([32]byte{1})
	r, err := record.New(e, record.Options{Dir: dir, Redact: true, Start: start, Build: "test"})
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, siteTOML)
	_, _, from, err := config.LoadSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	r.From(from, [2]uint16{500, 4500}, false)
	r.Handle(start, core.Reconfigure{Config: &core.Config{}}) // what is compiled of it comes from the replay
	for _, ok := r.Poll(); ok; _, ok = r.Poll() {
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if code, out, stderr := call("replay", "--config", path, dir); code != exitFailed || !strings.Contains(out, "different: input 1 (Reconfigure, 1 files)") {
		t.Errorf("%d %q %q", code, out, stderr)
	}
	if code, _, stderr := call("replay", "--config", write(t, "[[peer]]\nname = 5\n"), dir); code != exitFailed || !strings.Contains(stderr, ":2: peer.name") {
		t.Errorf("%d %q", code, stderr)
	}
}
