// Package outputs is for tests of the endpoint. It writes down, as one hash for each
// endpoint of each test, everything that the endpoint put out. Two runs of the same tests,
// one before and one after a change that only moves code, write the same file:
//
//	CULVERT_OUTPUTS=/tmp/before go test ./ike ./internal/gateway
//	CULVERT_OUTPUTS=/tmp/after  go test ./ike ./internal/gateway
//
// The variable names a folder, which gets a file for each test binary. Of an event only the
// kind counts, so that its words may change. Of everything else each value counts: the bytes
// of datagrams, keys, selectors, addresses. The names of types and fields do not.
package outputs
