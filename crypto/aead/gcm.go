package aead

import (
	"crypto/aes"
	stdcipher "crypto/cipher"

	"culvert/crypto/suite"
)

// gcm is AES-GCM with an ICV of 16 or 12 bytes (ENCR_AES_GCM_16 and _12, RFC 4106).
func gcm(key []byte, e *suite.Encr) (stdcipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return stdcipher.NewGCMWithTagSize(b, e.ICVLen)
}
