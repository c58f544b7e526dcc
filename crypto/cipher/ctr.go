package cipher

import (
	"crypto/aes"

	"culvert/crypto/suite"
)

// ctr is AES in counter mode (ENCR_AES_CTR, RFC 3686). A counter block is the
// nonce from the keying material, the packet's IV and a counter from 1.
type ctr struct {
	counter *Counter
	nonce   [4]byte
}

func newCTR(e *suite.Encr, material []byte) (Mode, error) {
	b, err := aes.NewCipher(material[:e.KeyLen])
	if err != nil {
		return nil, err
	}
	counter, err := NewCounter(b)
	if err != nil {
		return nil, err // never: the blocks of AES have 16 bytes
	}
	return &ctr{counter, [4]byte(material[e.KeyLen:])}, nil
}

// Encrypt takes any number of bytes. An IV must never come twice under one key.
func (c *ctr) Encrypt(iv, buf []byte) {
	var prefix [12]byte
	copy(prefix[:], c.nonce[:])
	*(*[8]byte)(prefix[4:]) = [8]byte(iv)
	c.counter.XOR(prefix, 1, buf)
}

func (c *ctr) Decrypt(iv, buf []byte) { c.Encrypt(iv, buf) }
