package main

import (
	"io"
	"strings"
	"testing"
)

func summary(t *testing.T, root bool, events string) (text string, ok bool) {
	t.Helper()
	var b strings.Builder
	r := newReport(&b, root)
	if err := r.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	ok = r.finish()
	return b.String(), ok
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name, events, last string
		root, ok           bool
		has                string
	}{
		{"leaves are counted", `
{"Action":"pass","Package":"p","Test":"TestA/x/1"}
{"Action":"pass","Package":"p","Test":"TestA/x"}
{"Action":"pass","Package":"p","Test":"TestA/y"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`, "3 passed, 0 failed, 0 skipped", false, true, "ok    p"},
		{"a failed subtest counts once and is printed", `
{"Action":"output","Package":"p","Test":"TestA/x","Output":"wanted 4\n"}
{"Action":"fail","Package":"p","Test":"TestA/x"}
{"Action":"pass","Package":"p","Test":"TestA/y"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`, "1 passed, 1 failed, 0 skipped", false, false, "wanted 4"},
		{"a test that fails beside its subtests counts", `
{"Action":"pass","Package":"p","Test":"TestA/x"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`, "1 passed, 1 failed, 0 skipped", false, false, "FAIL  p"},
		{"a package that does not compile counts", `
{"ImportPath":"p [p.test]","Action":"build-output","Output":"x.go:1: no\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"output","Package":"p","Output":"FAIL p [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`, "0 passed, 1 failed, 0 skipped", false, false, "x.go:1: no"},
		{"a test that was running at a panic failed", `
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: x\n"}
{"Action":"fail","Package":"p"}`, "0 passed, 1 failed, 0 skipped", false, false, "panic: x"},
		{"a package that never ended failed", `
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN\n"}`, "0 passed, 1 failed, 0 skipped", false, false, "FAIL  p"},
		{"a skip says why", `
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a.go:1: needs luck\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`, "0 passed, 0 failed, 1 skipped", true, true, "skipped: p TestA: a.go:1: needs luck"},
		{"root may not skip interoperability", `
{"Action":"skip","Package":"culvert/internal/testing/lab/interop","Test":"TestA"}
{"Action":"pass","Package":"culvert/internal/testing/lab/interop"}`, "0 passed, 0 failed, 1 skipped", true, false, "counts as a failure"},
		{"others may", `
{"Action":"skip","Package":"culvert/internal/testing/lab","Test":"TestA"}
{"Action":"pass","Package":"culvert/internal/testing/lab"}`, "0 passed, 0 failed, 1 skipped", false, true, ""},
		{"a package without tests", `
{"Action":"skip","Package":"p"}`, "0 passed, 0 failed, 0 skipped", true, true, "no test files"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, ok := summary(t, c.root, c.events)
			if lastLine(text) != c.last || ok != c.ok || !strings.Contains(text, c.has) {
				t.Errorf("ok %t, text:\n%s", ok, text)
			}
		})
	}
}

const oneFailed = `{"Action":"output","Package":"culvert/internal/testing/lab/interop","Test":"TestInterop/a.b","Output":"    --- FAIL: TestInterop/a.b (1.00s)\n"}
{"Action":"output","Package":"culvert/internal/testing/lab/interop","Test":"TestInterop/a.b","Output":"        run_test.go:1: no tunnel\n"}
{"Action":"fail","Package":"culvert/internal/testing/lab/interop","Test":"TestInterop/a.b"}
{"Action":"output","Package":"culvert/internal/testing/lab/interop","Test":"TestInterop","Output":"--- FAIL: TestInterop (1.00s)\n"}
{"Action":"fail","Package":"culvert/internal/testing/lab/interop","Test":"TestInterop"}
{"Action":"output","Package":"culvert/internal/testing/lab/interop","Output":"FAIL\n"}
{"Action":"output","Package":"culvert/internal/testing/lab/interop","Output":"FAIL\tculvert/internal/testing/lab/interop\t1.0s\n"}
{"Action":"fail","Package":"culvert/internal/testing/lab/interop"}`

// A few failures of moody packages get a second try, and the report says so.
func TestSecondTries(t *testing.T) {
	passes := `{"Action":"pass","Package":"p","Test":"TestX"}
{"Action":"pass","Package":"p"}`
	fails := `{"Action":"fail","Package":"p","Test":"TestX"}
{"Action":"fail","Package":"p"}`
	for _, c := range []struct {
		name, first, second string
		ran                 int
		cured               bool
		last                string
	}{
		{"passes", oneFailed, passes, 1, true, "1 passed, 0 failed, 0 skipped"},
		{"fails again", oneFailed, fails, 1, false, "0 passed, 1 failed, 0 skipped"},
		{"runs nothing", oneFailed, `{"Action":"pass","Package":"p"}`, 1, false, "0 passed, 1 failed, 0 skipped"},
		{"of another package", strings.ReplaceAll(oneFailed, "internal/testing/lab/interop", "sad"), passes, 0, false, "0 passed, 1 failed, 0 skipped"},
		{"of the lab itself", strings.ReplaceAll(oneFailed, "lab/interop", "lab"), passes, 0, false, "0 passed, 1 failed, 0 skipped"},
		{"not compiled", `{"Action":"fail","Package":"culvert/tun"}`, passes, 0, false, "0 passed, 1 failed, 0 skipped"},
		{"nothing failed", passes, fails, 0, false, "1 passed, 0 failed, 0 skipped"},
		{"too many", strings.Repeat(strings.ReplaceAll(oneFailed, "a.b", "x")+"\n", 7), passes, 0, false, "0 passed, 7 failed, 0 skipped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			r := newReport(&b, true)
			if err := r.read(strings.NewReader(c.first)); err != nil {
				t.Fatal(err)
			}
			ran := 0
			cured := r.secondTries(func(events func(io.Reader) error, pkg, test string) error {
				ran++
				if pkg != "culvert/internal/testing/lab/interop" || test != "TestInterop/a.b" {
					t.Errorf("a second try of %s %s", pkg, test)
				}
				return events(strings.NewReader(c.second))
			})
			r.finish()
			if text := b.String(); ran != c.ran || cured != c.cured || lastLine(text) != c.last || cured != strings.Contains(text, "passed at the second try: culvert/internal/testing/lab/interop TestInterop/a.b") {
				t.Errorf("%d second tries, cured %t:\n%s", ran, cured, text)
			}
			// Who looks for the word finds what has failed for good, and nothing else.
			well := strings.HasSuffix(c.last, " 0 failed, 0 skipped")
			if text := b.String(); strings.Contains(text, "FAIL") == well {
				t.Errorf("all is well: %t, and it says:\n%s", well, text)
			}
			if text := b.String(); strings.Contains(c.first, "no tunnel") && !strings.Contains(text, "no tunnel") {
				t.Errorf("the first failure is not shown:\n%s", text)
			}
		})
	}
}

func TestExactly(t *testing.T) {
	if got := exactly("TestInterop/aes-128.gcm"); got != `^TestInterop$/^aes-128\.gcm$` {
		t.Error(got)
	}
}
