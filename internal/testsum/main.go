// Command testsum runs `go test -json` with the given arguments and reports what
// a person wants to know: a line per package as it ends, everything that a failed
// test printed, why tests were skipped, and a last line
//
//	N passed, N failed, N skipped
//
// that counts the tests without subtests and the leaves of those with. It ends
// with status 1 when a test failed, and when an interoperability test was skipped
// although root ran it: as root nothing it needs may be missing.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
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
	ok = r.finish()
	// go test can fail before any package is known: a bad pattern, no go.mod.
	return ok && testErr == nil, nil
}
