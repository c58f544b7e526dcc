package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var requirement = regexp.MustCompile(`(?m)^\s*(?:require )?([^\s/]+\.[^\s/]+/\S+) (v\S+)`)

// TestEveryDependencyIsExplained: a module that our code imports has a row in
// docs/dependencies.md, at the version of go.mod, and the table has no others.
func TestEveryDependencyIsExplained(t *testing.T) {
	versions := map[string]string{}
	for _, m := range requirement.FindAllStringSubmatch(read(t, "go.mod"), -1) {
		versions[m[1]] = m[2]
	}
	if len(versions) < 5 {
		t.Fatalf("go.mod was not understood: %v", versions)
	}
	explained := map[string]string{}
	for line := range strings.Lines(read(t, "docs", "dependencies.md")) {
		if cells := strings.Split(line, "|"); len(cells) == 6 && strings.Contains(cells[1], ".") {
			explained[strings.TrimSpace(cells[1])] = strings.TrimSpace(cells[2])
		}
	}
	used := map[string]bool{}
	for path, file := range imports(t) {
		module := moduleOf(path, versions)
		if module == "" {
			t.Errorf("%s imports %s, which no module of go.mod has: go get it", file, path)
			continue
		}
		used[module] = true
		if version, ok := explained[module]; !ok {
			t.Errorf("%s imports %s: docs/dependencies.md has no row for it", file, module)
		} else if version != versions[module] {
			t.Errorf("docs/dependencies.md has %s %s, go.mod has %s", module, version, versions[module])
		}
	}
	for module := range explained {
		if !used[module] {
			t.Errorf("docs/dependencies.md explains %s, which nothing imports", module)
		}
	}
}

// imports are the packages outside the standard library and this module, each
// with one file that imports it.
func imports(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	dir := root(t)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") {
				found[name], _ = filepath.Rel(dir, path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// moduleOf is the module that has the package: the longest that is its beginning.
func moduleOf(pkg string, versions map[string]string) (module string) {
	for m := range versions {
		if (pkg == m || strings.HasPrefix(pkg, m+"/")) && len(m) > len(module) {
			module = m
		}
	}
	return module
}
