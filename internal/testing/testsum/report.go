package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is a line of `go test -json` (see `go doc test2json`).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

// test is a test, a subtest, or (with an empty name) the package itself.
type test struct {
	outcome string // "pass", "fail", "skip"; empty while it runs
	parent  bool   // it has subtests
	badKids bool   // a subtest failed, so its own failure says nothing new
	output  strings.Builder
}

// report digests the events.
type report struct {
	out      io.Writer
	root     bool
	last     bool // what fails here gets no other try
	packages map[string]map[string]*test
	build    map[string]*strings.Builder // compiler output by import path

	passed, failed, skipped int
	skips                   []string  // "package Test: reason"
	missing                 bool      // root skipped an interoperability test
	failures                []failure // what failed and was not cured
}

type failure struct{ pkg, test string }

func newReport(out io.Writer, root bool) *report {
	return &report{out: out, root: root, packages: map[string]map[string]*test{}, build: map[string]*strings.Builder{}}
}

// read takes all events; lines that are no JSON are passed on as they are.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				r.take(e)
			} else {
				_, _ = r.out.Write(line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) take(e event) {
	switch e.Action {
	case "build-output":
		if r.build[e.ImportPath] == nil {
			r.build[e.ImportPath] = &strings.Builder{}
		}
		r.build[e.ImportPath].WriteString(e.Output)
	case "build-fail":
		if b := r.build[e.ImportPath]; b != nil {
			fmt.Fprintf(r.out, "%s", b)
		}
	case "output":
		r.test(e.Package, e.Test).output.WriteString(e.Output)
	case "pass", "fail", "skip":
		r.test(e.Package, e.Test).outcome = e.Action
		if e.Test == "" {
			r.endPackage(e)
		}
	}
}

func (r *report) test(pkg, name string) *test {
	tests := r.packages[pkg]
	if tests == nil {
		tests = map[string]*test{}
		r.packages[pkg] = tests
	}
	if tests[name] == nil {
		tests[name] = &test{}
	}
	return tests[name]
}

// endPackage counts the package's tests, prints what failed, and forgets it.
func (r *report) endPackage(e event) {
	tests := r.packages[e.Package]
	delete(r.packages, e.Package)
	for name, t := range tests {
		if t.outcome == "" && name != "" {
			t.outcome = "fail" // it ran when the package died (panic, time limit)
		}
		for dir := parent(name); dir != ""; dir = parent(dir) {
			if p := tests[dir]; p != nil {
				p.parent = true
				p.badKids = p.badKids || t.outcome == "fail"
			}
		}
	}
	names := make([]string, 0, len(tests))
	for name := range tests {
		if name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	before := r.failed
	for _, name := range names {
		r.count(e.Package, name, tests[name])
	}
	itself := e.Action == "fail" && r.failed == before
	if itself {
		r.failed++ // the package itself: it did not compile, or its TestMain failed
		fmt.Fprintf(r.out, "--- FAIL: package %s\n%s", e.Package, tests[""].output.String())
	} else if e.Action == "fail" {
		r.show(e.Package, tests[""]) // a panic's trace stands here
	}
	switch {
	case e.Action == "skip":
		fmt.Fprintf(r.out, "-     %s (no test files)\n", e.Package)
	case e.Action == "fail" && r.open(e.Package) && !itself:
		fmt.Fprintf(r.out, "again %s (%.1fs): what failed stands above, and may get a second try\n", e.Package, e.Elapsed)
	case e.Action == "fail":
		fmt.Fprintf(r.out, "FAIL  %s (%.1fs)\n", e.Package, e.Elapsed)
	default:
		fmt.Fprintf(r.out, "ok    %s (%.1fs)\n", e.Package, e.Elapsed)
	}
}

func (r *report) count(pkg, name string, t *test) {
	switch {
	case t.outcome == "fail" && t.badKids:
		// Counted by the subtests; what it printed itself is still worth reading.
		r.show(pkg, t)
	case t.outcome == "fail":
		r.failed++
		r.failures = append(r.failures, failure{pkg, name})
		r.show(pkg, t)
	case t.parent:
	case t.outcome == "skip":
		r.skipped++
		r.skips = append(r.skips, fmt.Sprintf("%s %s: %s", pkg, name, reason(t.output.String())))
		r.missing = r.missing || r.root && strings.Contains(pkg+"/", "/internal/testing/lab/")
	default:
		r.passed++
	}
}

// moody are the packages whose tests meet other people's daemons. What is ours and
// the kernel's alone has no moods: a packet that gets past the guard once in a while is a fault.
var moody = []string{"/internal/testing/lab/interop"}

// open says whether it is open what becomes of the package's failures.
func (r *report) open(pkg string) bool {
	return !r.last && slices.ContainsFunc(moody, func(m string) bool { return strings.HasSuffix(pkg, m) })
}

// show prints what a failed test printed. "FAIL" is the word for what has failed for
// good: while a second try may follow there are others for it.
func (r *report) show(pkg string, t *test) {
	for line := range strings.Lines(t.output.String()) {
		if r.open(pkg) {
			if strings.HasPrefix(line, "FAIL") {
				continue // go test's word about all of the package
			}
			line = strings.Replace(line, "--- FAIL: ", "--- failed at the first try: ", 1)
		}
		_, _ = io.WriteString(r.out, line)
	}
}

// maxSecondTries: more failures than that are no mood.
const maxSecondTries = 6

// secondTries runs what failed again, if it is little and of moody packages, and
// reports whether nothing that failed is left.
func (r *report) secondTries(run func(events func(io.Reader) error, pkg, test string) error) bool {
	if r.failed == 0 || r.failed != len(r.failures) || r.failed > maxSecondTries || len(r.packages) > 0 {
		return false
	}
	if slices.ContainsFunc(r.failures, func(f failure) bool { return !r.open(f.pkg) }) {
		return false
	}
	r.failures = slices.DeleteFunc(r.failures, func(f failure) bool {
		second := newReport(r.out, r.root)
		second.last = true
		if err := run(second.read, f.pkg, f.test); err != nil || second.failed > 0 || second.passed == 0 {
			fmt.Fprintf(r.out, "failed at the second try too: %s %s\n", f.pkg, f.test)
			return false
		}
		fmt.Fprintf(r.out, "passed at the second try: %s %s (its first failure stands above)\n", f.pkg, f.test)
		r.failed, r.passed = r.failed-1, r.passed+1
		return true
	})
	return r.failed == 0
}

// parent is the test that a subtest belongs to; empty for a test.
func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i > 0 {
		return name[:i]
	}
	return ""
}

// reason is what a skipped test said, without the frame that go test puts around it.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}

// finish prints the summary and says whether all is well.
func (r *report) finish() bool {
	for pkg := range r.packages {
		r.failed++
		fmt.Fprintf(r.out, "FAIL  %s (go test ended before it did)\n", pkg)
	}
	for _, f := range r.failures {
		if r.open(f.pkg) {
			fmt.Fprintf(r.out, "--- FAIL: %s %s\n", f.pkg, f.test)
		}
	}
	for _, s := range r.skips {
		fmt.Fprintf(r.out, "skipped: %s\n", s)
	}
	if r.missing {
		fmt.Fprintln(r.out, "root skipped interoperability tests: that counts as a failure")
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r.failed == 0 && !r.missing
}
