// Package cipher runs the encryption algorithms that only encrypt; those that
// also protect integrity are in crypto/aead.
package cipher
