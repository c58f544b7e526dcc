// Command testsum runs `go test -json` with the given arguments and reports what
// a person wants to know: a line per package as it ends, everything that a failed
// test printed, why tests were skipped, and a last line
//
//	N passed, N failed, N skipped
//
// that counts the tests without subtests and the leaves of those with. It ends
// with status 1 when a test failed, and when an interoperability test was skipped
// although root ran it: as root nothing it needs may be missing.
//
// Tests with other people's daemons depend on a machine's mood. When a few of them
// fail, each is run a second time alone; what passes then is counted as passed and
// named in the report, with its first failure printed. "FAIL" stands only where
// something has failed for good.
package main
