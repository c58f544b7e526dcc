// Package benchmarks measures this gateway beside others, in one run, as a
// ratio: never as a timed test. README.md has the figures and the commands.
package benchmarks
