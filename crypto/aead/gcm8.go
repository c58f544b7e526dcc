package aead

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/subtle"
	"slices"
	"sync"

	"culvert/crypto/suite"
)

// gcm8 is AES-GCM with an ICV of 8 bytes (ENCR_AES_GCM_8, RFC 4106), which the
// standard library does not offer: it makes 16 bytes, in memory of its own,
// and the first of them are the ICV.
type gcm8 struct {
	stdcipher.AEAD
	size   int
	memory sync.Pool // of *[]byte
}

func newGCM8(key []byte, e *suite.Encr) (stdcipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	g, err := stdcipher.NewGCM(b)
	if err != nil {
		return nil, err
	}
	return &gcm8{AEAD: g, size: e.ICVLen, memory: sync.Pool{New: func() any { return new([]byte) }}}, nil
}

func (g *gcm8) Overhead() int { return g.size }

func (g *gcm8) Seal(dst, nonce, plaintext, aad []byte) []byte {
	m := g.memory.Get().(*[]byte)
	*m = g.AEAD.Seal((*m)[:0], nonce, plaintext, aad)
	dst = append(dst, (*m)[:len(plaintext)+g.size]...)
	g.memory.Put(m)
	return dst
}

// Open decrypts by sealing, which in counter mode is the same, and seals the
// plaintext again for the ICV that it ought to have.
func (g *gcm8) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	n := len(ciphertext) - g.size
	if n < 0 {
		return nil, ErrICV
	}
	m := g.memory.Get().(*[]byte)
	defer g.memory.Put(m)
	whole := 2*n + 2*g.AEAD.Overhead()
	*m = slices.Grow((*m)[:0], whole)[:whole]
	plain := g.AEAD.Seal((*m)[:0:n+g.AEAD.Overhead()], nonce, ciphertext[:n], aad)[:n]
	again := g.AEAD.Seal((*m)[n+g.AEAD.Overhead():n+g.AEAD.Overhead()], nonce, plain, aad)
	genuine := subtle.ConstantTimeCompare(again[n:n+g.size], ciphertext[n:]) == 1
	if genuine {
		dst = append(dst, plain...)
	}
	clear(*m)
	if !genuine {
		return nil, ErrICV
	}
	return dst, nil
}
