package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const sampleDir = "internal/testing/mutate/testdata/sample"

func loadSample(t *testing.T) *pkg {
	t.Helper()
	root, _, err := module()
	if err != nil {
		t.Fatal(err)
	}
	list, err := load(root, []string{"./testdata/sample"})
	if err != nil || len(list) != 1 || list[0].dir != sampleDir {
		t.Fatalf("%v, %v", list, err)
	}
	return list[0]
}

// What is found in a file, and what its place becomes.
func TestFind(t *testing.T) {
	for _, c := range []struct {
		code string
		want []string // kind, change
	}{
		{"x = a < 4", []string{
			"statement x = a < 4 is left out -> if !ON { x = a < 4 }",
			"bound a < 4: < becomes <= -> (ON && (a <= 4) || !ON && (a < 4))",
			"bound a < 4: 4 becomes 4 + 1 -> (ON && (a < 4 + 1) || !ON && (a < 4))",
			"bound a < 4: 4 becomes 4 - 1 -> (ON && (a < 4 - 1) || !ON && (a < 4))"}},
		{"x := a == 0", []string{"bound a == 0: 0 becomes 0 + 1 -> (ON && (a == 0 + 1) || !ON && (a == 0))"}},
		{"if a || b { f() }", []string{
			"condition a || b is negated -> ON != (a || b)",
			"operand a || b: without a -> (ON && (b) || !ON && (a || b))",
			"operand a || b: without b -> (ON && (a) || !ON && (a || b))",
			"statement f() is left out -> if !ON { f() }"}},
		{"if err != nil { undo() }", []string{
			"condition err != nil is negated -> ON != (err != nil)",
			"rollback undo() is left out -> if !ON { undo() }"}},
		{"defer func() { last = now }()", []string{
			"rollback defer func() { last = now }() is left out -> if !ON { defer func() { last = now }() }",
			"rollback last = now is left out -> if !ON { last = now }"}},
		{"x := b[2:]", []string{"bound the index 2 becomes 2+1 -> 2 + ON"}},
		{"switch a { case 1: f(); g() }", []string{
			"case case 1 does nothing -> if !ON { f(); g() }",
			"statement f() is left out -> if !ON { f() }",
			"statement g() is left out -> if !ON { g() }"}},
		{"for range a { f() }", []string{
			"loop the loop ends after its first round -> { f() ; if ON { break }; ",
			"statement f() is left out -> if !ON { f() }"}},
		{"const c = 7", []string{
			"bound c = 7: 7 becomes 7 + 1 -> (7 + 1)",
			"bound c = 7: 7 becomes 7 - 1 -> (7 - 1)"}},
		{"var b [4]byte; g.log.Info(1); _ = a; panic(1)", nil},
		{"for { if a { continue }; return }", []string{
			"loop the loop ends after its first round -> { if a { continue }; return ; if ON { break }; ",
			"condition a is negated -> ON != (a)",
			"statement continue is left out -> if !ON { continue }",
			"statement return is left out -> if !ON { return }"}},
	} {
		path := filepath.Join(t.TempDir(), "x.go")
		if err := os.WriteFile(path, []byte("package x\nfunc _() {\n"+c.code+"\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		list, src, err := find(path, "x.go")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range list {
			if m.line != 3 || m.fn != [2]int{2, 4} {
				t.Errorf("%s: line %d in %d", c.code, m.line, m.fn)
			}
			got = append(got, fmt.Sprintf("%s %s -> %s", m.kind, m.what, m.text(func(from, to int) string { return string(src[from:to]) }, "ON")))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s\nwant\n%s", c.code, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// Mutants at one place and within each other are all in the text, and lines keep their numbers.
func TestRender(t *testing.T) {
	p := loadSample(t)
	for name, src := range p.src {
		list := slices.DeleteFunc(slices.Clone(p.all), func(m *mutant) bool { return m.alone })
		text := render(src, list)
		if a, b := bytes.Count(src, []byte("\n")), strings.Count(text, "\n"); a != b {
			t.Errorf("%s: %d lines, not %d", name, b, a)
		}
		for _, m := range list {
			if !strings.Contains(text, fmt.Sprintf("mutant(%d)", m.id)) {
				t.Errorf("%s: %s %s is not there", name, m.kind, m.what)
			}
		}
	}
}

// All that can be made of the sample: what its tests do not notice survives, a loop without end is found, what
// is in the list is not counted, and no file is touched.
func TestSample(t *testing.T) {
	p := loadSample(t)
	before, err := os.ReadDir("testdata/sample")
	if err != nil {
		t.Fatal(err)
	}
	equal := []equivalent{{sampleDir + "/sample.go", "for n < 3 {", "n < 3: < becomes <=", "a reason"}}
	r, err := p.try(options{n: 1000, seed: 1, parallel: 2, longest: 5 * time.Second}, equal)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if report(&out, []*result{r}) {
		t.Error("the report says that none survived")
	}
	for _, want := range []string{
		"loop: the loop ends after its first round\n\t- for _, n := range s.list {",
		"operand: a && b: without a (no test reaches it)",
		"operand: a && b: without b (no test reaches it)",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the report", want)
		}
	}
	found, survived, known := r.counts()
	if survived != 3 || known != 1 || found != len(r.outcomes)-4 || found < 12 {
		t.Errorf("%d found, %d survived, %d known:\n%s", found, survived, known, out.String())
	}
	// A second run by the report tries the survivors alone, and those of another sample not at all.
	path := filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := p.try(options{n: 1000, seed: 1, parallel: 2, longest: 5 * time.Second, again: path}, equal)
	if err != nil {
		t.Fatal(err)
	}
	if f, s, k := again.counts(); f != found || s != survived || k != known {
		t.Errorf("again %d found, %d survived, %d known", f, s, k)
	}
	if _, err := p.try(options{n: 5, seed: 1, again: path}, equal); err == nil || !strings.Contains(err.Error(), "is of another sample") {
		t.Errorf("another sample: %v", err)
	}
	// Without a test nothing is found.
	none, err := p.try(options{n: 5, seed: 1, longest: 5 * time.Second, run: "^none$"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f, s, _ := none.counts(); f != 0 || s != 5 {
		t.Errorf("no test finds %d, and %d survive", f, s)
	}
	if _, err := p.try(options{n: 5, seed: 1, run: "("}, nil); err == nil || !strings.Contains(err.Error(), "-run: ") {
		t.Errorf("no expression: %v", err)
	}
	if after, err := os.ReadDir("testdata/sample"); err != nil || len(after) != len(before) {
		t.Errorf("files before %v, after %v", before, after)
	}
}

// A seed draws the same sample each time, another seed another one.
func TestSampleIsDrawnFromTheSeed(t *testing.T) {
	p := loadSample(t)
	draw := func(seed uint64) (ids []int) {
		list, err := p.sample(options{n: 5, seed: seed}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			ids = append(ids, m.id)
		}
		return ids
	}
	a, b, c := draw(1), draw(1), draw(2)
	if len(a) != 5 || !slices.Equal(a, b) || slices.Equal(a, c) {
		t.Errorf("%v, %v, %v", a, b, c)
	}
}

func TestParseEquivalent(t *testing.T) {
	list, err := parseEquivalent("# a comment\n\nx.go\nif a {\na is negated\nwhy\n\n\ny.go\nb()\nb() is left out\n# within\nwhy not\n")
	want := []equivalent{{"x.go", "if a {", "a is negated", "why"}, {"y.go", "b()", "b() is left out", "why not"}}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("%v, %v", list, err)
	}
	for _, bad := range []string{"x.go\nif a {\na is negated\n", "1\n2\n3\n4\n5\n"} {
		if _, err := parseEquivalent(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Each line of equivalent.txt is about a place and a change that there are.
func TestEquivalentIsCurrent(t *testing.T) {
	root, equal, err := module()
	if err != nil {
		t.Fatal(err)
	}
	pkgs := map[string]*pkg{}
	for _, e := range equal {
		dir := filepath.ToSlash(filepath.Dir(e.file))
		if pkgs[dir] == nil {
			list, err := load(root, []string{"culvert/" + dir})
			if err != nil || len(list) != 1 {
				t.Fatalf("%s: %v", e.file, err)
			}
			pkgs[dir] = list[0]
		}
		if p := pkgs[dir]; !slices.ContainsFunc(p.all, func(m *mutant) bool { return reason([]equivalent{e}, p, m) != "" }) {
			t.Errorf("%s: there is no mutant of %q that is %q", e.file, e.line, e.what)
		}
	}
}
