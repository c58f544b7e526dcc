package aead

import (
	stdcipher "crypto/cipher"
	"errors"
	"fmt"
	"sync"

	"culvert/crypto/suite"
)

// IVLen is the length of the IV that goes with each packet, of every AEAD in IPsec.
const IVLen = 8

// ErrICV says that a packet was not sealed under this key, or was changed.
var ErrICV = errors.New("the ICV does not match")

// maker is what an algorithm's file provides.
type maker func(key []byte, e *suite.Encr) (stdcipher.AEAD, error)

// makers has one row for each AEAD among the rows of suite.Encrs, by IANA
// transform ID. Those that only authenticate are GMAC's.
var makers = map[uint16]maker{
	14: newCCM,
	15: newCCM,
	16: newCCM,
	18: newGCM8,
	19: gcm,
	20: gcm,
	28: chacha20Poly1305,
}

// AEAD seals and opens under one key. Its methods may be called by several
// goroutines at once and do not allocate in steady state.
type AEAD struct {
	aead    stdcipher.AEAD
	saltLen int
	salt    [4]byte
}

// Nonce is memory where salt and IV meet, for one call at a time: what is given
// to the standard library's interface escapes, so it cannot be on the stack.
type Nonce [4 + IVLen]byte

var nonces = sync.Pool{New: func() any { return new(Nonce) }}

// New makes an AEAD of a row of suite.Encrs. material is the key followed by
// the salt, e.MaterialLen() bytes; it is copied, and stays the caller's to wipe.
func New(e *suite.Encr, material []byte) (*AEAD, error) {
	f, ok := makers[e.ID]
	if !ok {
		return nil, fmt.Errorf("encryption algorithm %s (%d) is not an AEAD of this build; propose another", e.Name, e.ID)
	}
	if len(material) != e.MaterialLen() {
		return nil, fmt.Errorf("encryption algorithm %s needs %d bytes of key and salt, not %d", e.Name, e.MaterialLen(), len(material))
	}
	a := &AEAD{saltLen: e.SaltLen}
	if e.IVLen != IVLen || e.SaltLen > len(a.salt) {
		return nil, fmt.Errorf("encryption algorithm %s: no AEAD here has a salt of %d and an IV of %d bytes", e.Name, e.SaltLen, e.IVLen)
	}
	copy(a.salt[:], material[e.KeyLen:])
	var err error
	if a.aead, err = f(material[:e.KeyLen], e); err != nil {
		return nil, fmt.Errorf("encryption algorithm %s: %w", e.Name, err)
	}
	return a, nil
}

// Overhead is the length of the ICV in bytes.
func (a *AEAD) Overhead() int { return a.aead.Overhead() }

// Seal encrypts buf in place and returns it with the ICV appended. It stays in
// place, and does not allocate, if buf has capacity for Overhead more bytes.
// An iv must never come twice under one key. aad has any length, must not
// overlap with the result, and is only read.
func (a *AEAD) Seal(iv [IVLen]byte, buf, aad []byte) []byte {
	n := nonces.Get().(*Nonce)
	out := a.SealIn(n, iv, buf, aad)
	nonces.Put(n)
	return out
}

// SealIn is Seal for those who have memory for the nonce, which must not overlap
// with anything else. What it holds afterwards is not defined.
func (a *AEAD) SealIn(n *Nonce, iv [IVLen]byte, buf, aad []byte) []byte {
	return a.aead.Seal(buf[:0], a.fill(n, iv), buf, aad)
}

// Open verifies and decrypts buf, which is ciphertext and ICV, in place and
// returns the plaintext. The ICV is compared in constant time before the
// plaintext is given out. The only error is ErrICV; what buf holds after it is
// not defined.
func (a *AEAD) Open(iv [IVLen]byte, buf, aad []byte) ([]byte, error) {
	n := nonces.Get().(*Nonce)
	out, err := a.OpenIn(n, iv, buf, aad)
	nonces.Put(n)
	return out, err
}

// OpenIn is Open for those who have memory for the nonce: see SealIn.
func (a *AEAD) OpenIn(n *Nonce, iv [IVLen]byte, buf, aad []byte) ([]byte, error) {
	out, err := a.aead.Open(buf[:0], a.fill(n, iv), buf, aad)
	if err != nil {
		return nil, ErrICV
	}
	return out, nil
}

func (a *AEAD) fill(n *Nonce, iv [IVLen]byte) []byte {
	*(*[4]byte)(n[:]) = a.salt
	*(*[IVLen]byte)(n[a.saltLen:]) = iv
	return n[:a.saltLen+IVLen]
}
