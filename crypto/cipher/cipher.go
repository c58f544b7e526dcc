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
// mode, by transform ID.
var cbc = map[uint16]block{
	2:    desBlock,
	3:    tripleDESBlock,
	7:    blowfishBlock,
	12:   aesBlock,
	23:   camelliaBlock,
	1027: twofishBlock,
}

// others has one row for each of the remaining rows that are no AEAD. material
// is the key followed by the salt.
var others = map[uint16]func(e *suite.Encr, material []byte) (Mode, error){
	11: newNull,
	13: newCTR,
}

// New makes the mode of a row of suite.Encrs that is no AEAD. material is the
// key followed by the salt, e.MaterialLen() bytes; it is copied, and stays the
// caller's to wipe. The expanded key cannot be overwritten: it goes when the
// Mode is dropped.
func New(e *suite.Encr, material []byte) (Mode, error) {
	if f, ok := others[e.ID]; ok {
		if err := check(e, material); err != nil {
			return nil, err
		}
		return f(e, material)
	}
	c, err := NewCBC(e, material)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func check(e *suite.Encr, material []byte) error {
	if len(material) != e.MaterialLen() {
		return fmt.Errorf("encryption algorithm %s needs a key of %d bytes, not %d", e.Name, e.MaterialLen(), len(material))
	}
	return nil
}
