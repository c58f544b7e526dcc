// Package sweep runs a test once for each of many seeds: a few in `go test`, as
// many as the environment says in `make storm`.
package sweep
