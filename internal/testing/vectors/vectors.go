package vectors

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Hex is a byte string that a JSON file writes in hexadecimal.
type Hex []byte

// UnmarshalText reads hexadecimal of either case.
func (h *Hex) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

// Load reads a JSON file of the folder into v, and skips the test where the
// folder is absent.
func Load(t testing.TB, name string, v any) {
	t.Helper()
	if err := json.Unmarshal(Read(t, name), v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// Read is the content of a file of the folder; it skips the test where that is absent.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	return Shared(t, "vectors/"+name)
}

// Shared is the content of a file of ../shared, which has the test vectors and what
// the project agreed on, such as config.md; it skips the test where that folder is absent.
func Shared(t testing.TB, name string) []byte {
	t.Helper()
	folder := filepath.Join(root(t), "..", "shared")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("%s is compared only where the folder ../shared is beside the repository: %v", name, err)
	}
	b, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Glob names the files of the folder that fit a pattern, for Read; it skips the test
// where the folder is absent.
func Glob(t testing.TB, pattern string) (names []string) {
	t.Helper()
	folder := filepath.Join(root(t), "..", "shared", "vectors")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("no test vectors here: %v", err)
	}
	paths, err := filepath.Glob(filepath.Join(folder, filepath.FromSlash(pattern)))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		name, err := filepath.Rel(folder, p)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, filepath.ToSlash(name))
	}
	return names
}

// root is the folder with go.mod, at or above the package under test.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}
