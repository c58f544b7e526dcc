// Package cipher runs the encryption algorithms that only encrypt; those that
// also protect integrity are in crypto/aead.
package cipher

import (
	stdcipher "crypto/cipher"
	"fmt"

	"culvert/crypto/suite"
)

// Mode encrypts and decrypts under one key. Its methods may be called by several
// goroutines at once and do not allocate in steady state. iv has the row's
// IVLen bytes and buf is a multiple of the row's Block; both panic otherwise.
type Mode interface {
	// Encrypt encrypts buf in place. iv is only read.
	Encrypt(iv, buf []byte)
	// Decrypt decrypts buf in place. iv is only read. It cannot fail: whether
	// the bytes are genuine must be known before.
	Decrypt(iv, buf []byte)
}

// block is what the file of a block cipher provides.
type block func(key []byte) (stdcipher.Block, error)

// cbc has one row for each row of suite.Encrs that is a block cipher in CBC
// mode, by IANA transform ID.
var cbc = map[uint16]block{
	12: aesBlock,
}

// New makes the mode of a row of suite.Encrs that is no AEAD. The key must have
// e.KeyLen bytes; it is copied, and stays the caller's to wipe. The expanded
// key cannot be overwritten: it goes when the Mode is dropped.
func New(e *suite.Encr, key []byte) (Mode, error) {
	return NewCBC(e, key)
}

func check(e *suite.Encr, key []byte) error {
	if len(key) != e.KeyLen {
		return fmt.Errorf("encryption algorithm %s needs a key of %d bytes, not %d", e.Name, e.KeyLen, len(key))
	}
	return nil
}
