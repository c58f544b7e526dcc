package cipher

import (
	stdcipher "crypto/cipher"

	//lint:ignore SA1019 peers that have nothing else are why it is here
	"golang.org/x/crypto/blowfish"
)

// blowfishBlock is Blowfish (ENCR_BLOWFISH, RFC 2451).
func blowfishBlock(key []byte) (stdcipher.Block, error) { return blowfish.NewCipher(key) }
