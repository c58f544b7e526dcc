package cipher

import (
	stdcipher "crypto/cipher"
	"crypto/des"
)

// tripleDESBlock is DES three times with three keys (ENCR_3DES, RFC 2451).
func tripleDESBlock(key []byte) (stdcipher.Block, error) { return des.NewTripleDESCipher(key) }
