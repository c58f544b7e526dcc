package aead

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
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
	bit    [2][32]block128 // what a bit of either length adds to the hash: see lengths
	memory sync.Pool       // of *[]byte
}

// block128 is an element of GF(2^128) as GCM writes it (SP 800-38D §6.3): the
// coefficient of x^0 is the highest bit of hi.
type block128 struct{ hi, lo uint64 }

func newGCM8(key []byte, e *suite.Encr) (stdcipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	a, err := stdcipher.NewGCM(b)
	if err != nil {
		return nil, err // never: the blocks of AES have 16 bytes
	}
	g := &gcm8{AEAD: a, size: e.ICVLen, memory: sync.Pool{New: func() any { return new([]byte) }}}
	var zero [16]byte
	b.Encrypt(zero[:], zero[:]) // the hash's key
	h := block128{binary.BigEndian.Uint64(zero[:]), binary.BigEndian.Uint64(zero[8:])}
	for i := range 128 { // x^i is bit 63-i%64 of a half, the highest being 63
		if at := 63 - i%64; at < 32 {
			g.bit[i/64][at] = h
		}
		h = h.timesX()
	}
	return g, nil
}

func (h block128) timesX() block128 {
	return block128{h.hi>>1 ^ (-(h.lo & 1))&(0xe1<<56), h.lo>>1 | h.hi<<63}
}

func (g *gcm8) Overhead() int { return g.size }

func (g *gcm8) Seal(dst, nonce, plaintext, aad []byte) []byte {
	m := g.memory.Get().(*[]byte)
	*m = g.AEAD.Seal((*m)[:0], nonce, plaintext, aad)
	dst = append(dst, (*m)[:len(plaintext)+g.size]...)
	g.memory.Put(m)
	return dst
}

// Open has the ICV made of the ciphertext as if all of it were associated data, which
// differs from the one that is due by what the lengths add. Then it decrypts by
// sealing, which in counter mode is the same.
func (g *gcm8) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	n := len(ciphertext) - g.size
	if n < 0 {
		return nil, ErrICV
	}
	m := g.memory.Get().(*[]byte)
	defer g.memory.Put(m)
	front := (len(aad) + 15) &^ 15
	*m = slices.Grow((*m)[:0], front+n+2*g.AEAD.Overhead())[:front+n]
	buf := *m
	copy(buf, aad)
	clear(buf[len(aad):front])
	copy(buf[front:], ciphertext)
	icv := g.AEAD.Seal(buf[front+n:front+n], nonce, nil, buf)
	differs := g.lengths(uint64(len(aad)^(front+n))*8, uint64(n)*8)
	binary.BigEndian.PutUint64(icv, binary.BigEndian.Uint64(icv)^differs.hi)
	if subtle.ConstantTimeCompare(icv[:g.size], ciphertext[n:]) != 1 {
		return nil, ErrICV
	}
	plain := g.AEAD.Seal(buf[front:front], nonce, buf[front:], nil)[:n]
	dst = append(dst, plain...)
	clear(plain)
	return dst, nil
}

// lengths is what the last block of what is hashed adds to the hash: the number of
// bits of associated data and of ciphertext, below 2^32. Adding is linear, so of two
// numbers their difference can be asked for.
func (g *gcm8) lengths(aad, text uint64) (sum block128) {
	for half, n := range [2]uint64{aad, text} {
		for ; n != 0; n &= n - 1 {
			s := &g.bit[half][bits.TrailingZeros64(n)]
			sum.hi, sum.lo = sum.hi^s.hi, sum.lo^s.lo
		}
	}
	return sum
}
