// Package dh is Diffie-Hellman as IKE does it: the groups of suite.Groups,
// private values made from random bytes that are handed in, public values in
// the form of the KE payload (RFC 7296 §3.4), and a peer's value checked before
// it is used (RFC 6989).
//
// Nothing here draws randomness: the same bytes give the same private value.
package dh
