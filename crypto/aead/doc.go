// Package aead runs the algorithms that encrypt and protect integrity at once,
// as ESP (RFC 4106, RFC 4309, RFC 7634) and IKE (RFC 5282) use them: the nonce
// of a packet is the salt from the keying material followed by the 8-byte IV
// from the packet. GMAC, which encrypts nothing (RFC 4543), has a type of its own.
package aead
