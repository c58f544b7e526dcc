//go:build unix

package fileowner

import (
	"os"
	"path/filepath"
	"testing"
)

// A file belongs to who made it; of one that is not there nothing is known.
func TestOwnerOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if uid, ok := of(path); ok || uid != 0 {
		t.Errorf("what is not there belongs to %d, %v", uid, ok)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if uid, ok := of(path); !ok || uid != os.Getuid() {
		t.Errorf("it belongs to %d, %v, want %d", uid, ok, os.Getuid())
	}
	if os.Getuid() != 0 {
		return // only root gives files away
	}
	if err := os.Chown(path, 1234, -1); err != nil {
		t.Fatal(err)
	}
	if uid, ok := of(path); !ok || uid != 1234 {
		t.Errorf("it belongs to %d, %v, want 1234", uid, ok)
	}
	if got := Warnings([]string{path}, 990); len(got) != 1 || got[0].File != path {
		t.Errorf("%v", got)
	}
}
