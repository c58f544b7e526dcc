package cipher

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
)

// aesBlock is AES with 128, 192 or 256 bits (ENCR_AES_CBC, RFC 3602).
func aesBlock(key []byte) (stdcipher.Block, error) { return aes.NewCipher(key) }
