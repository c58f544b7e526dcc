package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: testsum GO-TEST-ARGUMENT... (for example ./...)")
		os.Exit(2)
	}
	ok, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(args []string) (ok bool, err error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	r := newReport(os.Stdout, os.Getuid() == 0)
	if err := r.read(events); err != nil {
		_, _ = io.Copy(io.Discard, events) // let go test end
		_ = cmd.Wait()
		return false, err
	}
	testErr := cmd.Wait()
	cured := r.secondTries(func(events func(io.Reader) error, pkg, test string) error { return again(args, pkg, test, events) })
	ok = r.finish()
	// go test can fail before any package is known: a bad pattern, no go.mod.
	return ok && (testErr == nil || cured), nil
}

// again runs one test with the flags of the first run. It does not write what the
// whole run writes (CULVERT_INTEROP_DOC).
func again(args []string, pkg, test string, events func(io.Reader) error) error {
	list := []string{"test", "-json"}
	for _, a := range args {
		if !strings.HasPrefix(a, "./") && !strings.HasPrefix(a, "culvert") {
			list = append(list, a)
		}
	}
	cmd := exec.Command("go", append(list, "-run", exactly(test), pkg)...)
	cmd.Stderr = os.Stderr
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CULVERT_INTEROP_DOC=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = events(out)
	_ = cmd.Wait() // what failed is in the events
	return err
}

// exactly is the pattern that selects one test or subtest.
func exactly(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}
