//go:build !race

package ah

const poolsLeak = false
