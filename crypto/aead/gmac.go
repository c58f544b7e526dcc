package aead

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"fmt"
	"sync"

	"culvert/crypto/suite"
)

// GMAC protects integrity alone (ENCR_NULL_AUTH_AES_GMAC, RFC 4543): GCM with
// nothing to encrypt. Everything that it protects is its data, the IV included,
// so it is used as a MAC whose every sum takes an IV. Its methods may be called by
// several goroutines at once and do not allocate in steady state.
type GMAC struct {
	gcm  stdcipher.AEAD
	salt [4]byte
}

// sum is one goroutine's computation: what the standard library's interface is
// given escapes, so it cannot be on the stack.
type sum struct {
	nonce Nonce
	icv   [GMACLen]byte
}

// GMACLen is the length of the ICV of GMAC.
const GMACLen = 16

var sums = sync.Pool{New: func() any { return new(sum) }}

// NewGMAC makes a GMAC of a row of suite.Encrs that is AuthOnly. material is the
// key followed by the salt, e.MaterialLen() bytes; it is copied, and stays the
// caller's to wipe.
func NewGMAC(e *suite.Encr, material []byte) (*GMAC, error) {
	g := new(GMAC)
	if !e.AuthOnly || e.SaltLen != len(g.salt) || e.IVLen != IVLen || e.ICVLen != GMACLen {
		return nil, fmt.Errorf("encryption algorithm %s (%d) is not GMAC of this build; propose another", e.Name, e.ID)
	}
	if len(material) != e.MaterialLen() {
		return nil, fmt.Errorf("encryption algorithm %s needs %d bytes of key and salt, not %d", e.Name, e.MaterialLen(), len(material))
	}
	copy(g.salt[:], material[e.KeyLen:])
	b, err := aes.NewCipher(material[:e.KeyLen])
	if err == nil {
		g.gcm, err = stdcipher.NewGCM(b)
	}
	if err != nil {
		return nil, fmt.Errorf("encryption algorithm %s: %w", e.Name, err)
	}
	return g, nil
}

// Sum is the ICV of data, which has any length and is only read. An iv must
// never come twice under one key. Whoever verifies an ICV compares it in constant time.
func (g *GMAC) Sum(iv [IVLen]byte, data []byte) [GMACLen]byte {
	s := sums.Get().(*sum)
	g.SumIn(&s.nonce, iv, s.icv[:0], data)
	icv := s.icv
	sums.Put(s)
	return icv
}

// SumIn appends Sum to dst, for those who have memory for the nonce and for the ICV:
// neither must overlap with data. What the nonce holds afterwards is not defined.
func (g *GMAC) SumIn(n *Nonce, iv [IVLen]byte, dst, data []byte) []byte {
	*(*[4]byte)(n[:]) = g.salt
	*(*[IVLen]byte)(n[len(g.salt):]) = iv
	return g.gcm.Seal(dst, n[:], nil, data)
}
