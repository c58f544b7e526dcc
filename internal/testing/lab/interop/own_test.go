package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module is where our tests are from here.
const module = "../../../.."

// runOwn runs the tests of features that no peer at hand speaks.
func runOwn() []Own {
	list := own()
	for i, f := range list {
		list[i].Outcome = Passed
		for _, test := range f.Tests {
			folder, name, _ := strings.Cut(test, ".")
			c := exec.Command("go", "test", "-count=1", "-run", "^"+name+"$", "./"+folder)
			c.Dir = module
			if out, err := c.CombinedOutput(); err != nil || strings.Contains(string(out), "no tests to run") {
				os.Stderr.Write(out) //nolint:errcheck // nobody else would be told
				list[i].Outcome = Failed
			}
		}
	}
	return list
}

// The tests that stand for a peer are there.
func TestOwnAreThere(t *testing.T) {
	for _, f := range own() {
		for _, test := range f.Tests {
			folder, name, ok := strings.Cut(test, ".")
			files, err := filepath.Glob(filepath.Join(module, filepath.FromSlash(folder), "*_test.go"))
			if err != nil || !ok {
				t.Fatal(test, err)
			}
			found := false
			for _, file := range files {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				found = found || strings.Contains(string(b), "\nfunc "+name+"(")
			}
			if !found {
				t.Errorf("%s: there is no test %s", f.Feature, test)
			}
		}
	}
}

func TestOwnTable(t *testing.T) {
	got := OwnTable([]Own{{"a", []string{"ike.TestA", "ike.TestB"}, Passed}, {"b", []string{"ike.TestC"}, Failed}})
	_, rows, _ := strings.Cut(got, "|---|---|---|\n")
	if want := "| a | `ike.TestA`, `ike.TestB` | no independent peer; passed |\n| b | `ike.TestC` | no independent peer; failed |\n"; rows != want {
		t.Errorf("got:\n%s\nwant:\n%s", rows, want)
	}
}
