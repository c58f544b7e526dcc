//go:build race

package integ

// Under the race detector a sync.Pool drops what it holds at random.
const poolsLeak = true
