// Package hardware tells which algorithms this machine's CPU has instructions
// for, and measures how fast the gateway's own transforms are on it.
package hardware
