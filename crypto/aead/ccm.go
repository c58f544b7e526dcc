package aead

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"sync"

	"culvert/crypto/cipher"
	"culvert/crypto/suite"
)

// ccm is AES-CCM with a nonce of 11 bytes and ICVs of 8, 12 or 16 (RFC 4309,
// RFC 3610): a CBC-MAC over associated data and plaintext, and counter mode,
// whose first key stream block hides the MAC.
type ccm struct {
	key   *cipher.Counter
	macs  sync.Pool // of *cbcMAC
	icv   int
	flags byte // of the MAC's first block
}

// ccmNonce is the length of the nonce: a length field of 4 bytes is what is
// left of a block.
const ccmNonce = 11

func newCCM(key []byte, e *suite.Encr) (stdcipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	counter, err := cipher.NewCounter(b)
	if err != nil {
		return nil, err // never: the blocks of AES have 16 bytes
	}
	return &ccm{
		key:   counter,
		macs:  sync.Pool{New: func() any { return newCBCMAC(b) }},
		icv:   e.ICVLen,
		flags: byte((e.ICVLen-2)/2<<3 | (15 - ccmNonce - 1)),
	}, nil
}

func (c *ccm) NonceSize() int { return ccmNonce }
func (c *ccm) Overhead() int  { return c.icv }

func (c *ccm) Seal(dst, nonce, plaintext, aad []byte) []byte {
	icv := c.sum(nonce, plaintext, aad)
	at := len(dst)
	dst = append(dst, plaintext...)
	c.key.XOR(counterPrefix(nonce), 1, dst[at:])
	return append(dst, icv[:c.icv]...)
}

func (c *ccm) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	n := len(ciphertext) - c.icv
	if n < 0 {
		return nil, ErrICV
	}
	at := len(dst)
	dst = append(dst, ciphertext[:n]...)
	c.key.XOR(counterPrefix(nonce), 1, dst[at:])
	icv := c.sum(nonce, dst[at:], aad)
	if subtle.ConstantTimeCompare(icv[:c.icv], ciphertext[n:]) != 1 {
		clear(dst[at:])
		return nil, ErrICV
	}
	return dst, nil
}

// counterPrefix is a counter block without its counter (RFC 3610 §2.3).
func counterPrefix(nonce []byte) (p [12]byte) {
	p[0] = 15 - ccmNonce - 1
	copy(p[1:], nonce)
	return p
}

// sum is the ICV, untruncated (RFC 3610 §2.2).
func (c *ccm) sum(nonce, plaintext, aad []byte) [16]byte {
	m := c.macs.Get().(*cbcMAC)
	m.start()
	first := &m.pending
	first[0] = c.flags
	copy(first[1:], nonce)
	binary.BigEndian.PutUint32(first[12:], uint32(len(plaintext)))
	if len(aad) > 0 {
		first[0] |= 1 << 6
	}
	m.chain(first[:])
	if len(aad) > 0 {
		m.writeLength(len(aad))
		m.write(aad)
		m.pad()
	}
	m.write(plaintext)
	m.pad()
	c.key.XOR(counterPrefix(nonce), 0, m.last[:])
	icv := m.last
	c.macs.Put(m)
	return icv
}

// cbcMAC is one goroutine's CBC-MAC: CBC with an IV of zeros whose last block
// is the result.
type cbcMAC struct {
	mode    rewindable
	last    [16]byte
	pending [16]byte // n bytes of a block that is not full yet
	n       int
	scratch [512]byte
}

// rewindable is the method by which the standard library's CBC modes start
// anew without being allocated again; crypto/tls uses it as well.
type rewindable interface {
	stdcipher.BlockMode
	SetIV(iv []byte)
}

func newCBCMAC(b stdcipher.Block) *cbcMAC {
	return &cbcMAC{mode: stdcipher.NewCBCEncrypter(b, make([]byte, 16)).(rewindable)}
}

// start begins anew. No bytes are pending: pad has ended what was before.
func (m *cbcMAC) start() {
	m.last = [16]byte{}
	m.mode.SetIV(m.last[:])
}

// writeLength is the length of the associated data (RFC 3610 §2.2).
func (m *cbcMAC) writeLength(n int) {
	if n < 0xff00 {
		binary.BigEndian.PutUint16(m.pending[:], uint16(n))
		m.n = 2
		return
	}
	binary.BigEndian.PutUint16(m.pending[:], 0xfffe)
	binary.BigEndian.PutUint32(m.pending[2:], uint32(n))
	m.n = 6
}

func (m *cbcMAC) write(p []byte) {
	if m.n != 0 { // the length of associated data is in front
		k := copy(m.pending[m.n:], p)
		m.n += k
		p = p[k:]
		if m.n < 16 {
			return
		}
		m.chain(m.pending[:])
	}
	whole := len(p) - len(p)%16
	m.chain(p[:whole])
	m.n = copy(m.pending[:], p[whole:])
}

// pad ends a part with zeros.
func (m *cbcMAC) pad() {
	if m.n > 0 {
		clear(m.pending[m.n:])
		m.chain(m.pending[:])
		m.n = 0
	}
}

// chain takes whole blocks.
func (m *cbcMAC) chain(p []byte) {
	for len(p) > 0 {
		k := min(len(p), len(m.scratch))
		m.mode.CryptBlocks(m.scratch[:k], p[:k])
		copy(m.last[:], m.scratch[k-16:k])
		p = p[k:]
	}
}
