//go:build !race

package aead

const poolsLeak = false
