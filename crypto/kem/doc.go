// Package kem is key encapsulation as IKE does it (RFC 9370): ML-KEM of FIPS
// 203, with private keys made from a seed that is handed in. Encapsulation draws
// its own randomness.
package kem
