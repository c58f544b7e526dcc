package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestFigures(t *testing.T) {
	root := t.TempDir()
	for name, code := range map[string]string{
		"a/a.go": `package a
import "culvert/b"
type Big struct { b.Base; x, y int }
func (Big) one() int { return 1 }
func (*Big) two() (n int) { if n == 0 { return 1 }; return 2 }
// Mobike is only a comment here.
func redirectNow() {}`,
		"b/b.go":      "package b\ntype Base struct{}\nfunc (Base) three() {}\nconst s = \"mobike\"",
		"b/b_test.go": "package b\nfunc (Base) four() {}",
		"internal/testing/x/x.go": `package x
import "culvert/a"
var _ a.Big`,
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(code), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	if got := largest(files, 1); len(got) != 1 || got[0] != (size{"a.Big", 3, 3}) {
		t.Errorf("the largest type is %v", got)
	}
	if n := touched(files, features[1].word); n != 1 {
		t.Errorf("%d files with MOBIKE", n)
	}
	if n := touched(files, features[2].word); n != 1 {
		t.Errorf("%d files with redirects", n)
	}
	if got := arrows(files); len(got) != 1 || packages(files) != 2 {
		t.Errorf("arrows %v between %d packages", got, packages(files))
	}
	if found, n := returns(files, regexp.MustCompile(`^a\.Big\.`)); found != 2 || n != 3 {
		t.Errorf("%d returns in %d functions", n, found)
	}
}
