//go:build !race

package integ

const poolsLeak = false
