package cipher

import (
	stdcipher "crypto/cipher"
	"crypto/des"
)

// desBlock is DES (ENCR_DES, RFC 2405). The parity bits of the key are not
// looked at: the keying material is taken as it comes (RFC 7296 §2.13).
func desBlock(key []byte) (stdcipher.Block, error) { return des.NewCipher(key) }
