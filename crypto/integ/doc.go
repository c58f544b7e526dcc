// Package integ runs the truncated message authentication codes that ESP, AH
// and IKE put at the end of what they protect.
package integ
