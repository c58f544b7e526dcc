//go:build race

package datapath

// raceEnabled: sync.Pool drops what it is given at random then.
const raceEnabled = true
