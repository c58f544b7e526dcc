package control

import (
	"path/filepath"
	"strings"
	"testing"
)

func endpointIn(t *testing.T, dir string) string {
	t.Helper()
	return `\\.\pipe\culvert-test-` + strings.ReplaceAll(filepath.Base(filepath.Dir(dir))+t.Name(), "/", "-")
}

func TestLivePipeIsNotTaken(t *testing.T) {
	path := start(t, sample())
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another culvert answers there") {
		t.Fatalf("second Listen: %v", err)
	}
}
