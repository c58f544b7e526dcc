package message

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

// vectors is the folder of shared test vectors; a test without them is skipped.
func vectors(t testing.TB, name string) string {
	t.Helper()
	dir, ok := findVectors(name)
	if !ok {
		t.Skipf("shared/vectors/%s is not there", name)
	}
	return dir
}

func findVectors(name string) (string, bool) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			v := filepath.Join(dir, "..", "shared", "vectors", filepath.FromSlash(name))
			_, err := os.Stat(v)
			return v, err == nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", false
}

// readAll is the contents of every file in a folder, in order of name.
func readAll(t testing.TB, dir string) [][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var digits []byte
	for i := range len(s) {
		if c := s[i]; c != ' ' && c != '\n' && c != '\t' {
			digits = append(digits, c)
		}
	}
	b, err := hex.DecodeString(string(digits))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
