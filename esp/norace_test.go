//go:build !race

package esp

const poolsLeak = false
