package cipher

import (
	stdcipher "crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"sync"
)

// Counter is the key stream of a block cipher of 16 bytes in counter mode:
// blocks of 12 bytes that stay and a counter of 32 bits, big endian, as RFC 3686
// and RFC 4309 have it. It may be used by several goroutines at once and does
// not allocate in steady state.
//
// From counter 2 on this is what GCM encrypts with (SP 800-38D §7.1), and the
// standard library's GCM takes several blocks at a time without allocating;
// its counter mode allocates for every message. GCM's tag is thrown away.
type Counter struct {
	block  stdcipher.Block
	gcm    stdcipher.AEAD
	states sync.Pool // of *keystream
}

// keystream is one goroutine's memory; what the interfaces are given escapes.
type keystream struct {
	block [16]byte
	nonce [12]byte
	out   []byte
}

// NewCounter makes the key stream of a cipher. The only error is that its blocks
// do not have 16 bytes.
func NewCounter(b stdcipher.Block) (*Counter, error) {
	gcm, err := stdcipher.NewGCM(b)
	if err != nil {
		return nil, err
	}
	return &Counter{block: b, gcm: gcm, states: sync.Pool{New: func() any { return new(keystream) }}}, nil
}

// XOR adds the key stream from counter n on, which is 0, 1 or 2, to buf, which
// has any length.
func (c *Counter) XOR(prefix [12]byte, n uint32, buf []byte) {
	if n > 2 {
		panic("cipher: a key stream begins at counter 0, 1 or 2")
	}
	s := c.states.Get().(*keystream)
	s.nonce = prefix
	for ; n < 2 && len(buf) > 0; n++ {
		copy(s.block[:], prefix[:])
		binary.BigEndian.PutUint32(s.block[12:], n)
		c.block.Encrypt(s.block[:], s.block[:])
		buf = buf[subtle.XORBytes(buf, buf, s.block[:]):]
	}
	if len(buf) > 0 {
		s.out = c.gcm.Seal(s.out[:0], s.nonce[:], buf, nil)
		copy(buf, s.out)
		clear(s.out)
	}
	clear(s.block[:])
	c.states.Put(s)
}
