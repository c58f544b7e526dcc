// Package beside is a yardstick for benchmarks: what is measured and what it is
// measured by, in turns, so that both meet the same machine.
package beside
