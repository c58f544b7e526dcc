package cipher

import (
	stdcipher "crypto/cipher"

	//lint:ignore SA1019 peers that have nothing else are why it is here
	"golang.org/x/crypto/twofish"
)

// twofishBlock is Twofish.
func twofishBlock(key []byte) (stdcipher.Block, error) { return twofish.NewCipher(key) }
