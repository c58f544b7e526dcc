package aead

import (
	stdcipher "crypto/cipher"

	"golang.org/x/crypto/chacha20poly1305"

	"culvert/crypto/suite"
)

// chacha20Poly1305 is ENCR_CHACHA20_POLY1305 (RFC 7634).
func chacha20Poly1305(key []byte, _ *suite.Encr) (stdcipher.AEAD, error) {
	return chacha20poly1305.New(key)
}
