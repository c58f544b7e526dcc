package cipher

import (
	stdcipher "crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"sync"
)

// Counter is the key stream of a block cipher of 16 bytes in counter mode:
// blocks of 12 bytes that stay and a counter of 32 bits, big endian, as RFC 3686
// and RFC 4309 have it. The standard library's modes allocate for every
// message; this does not. It may be used by several goroutines at once.
type Counter struct {
	block  stdcipher.Block
	states sync.Pool // of *keystream
}

// keystream is a run of key stream and the counter blocks that it is made from.
type keystream [8 * 16]byte

// NewCounter makes the key stream of a cipher with blocks of 16 bytes.
func NewCounter(b stdcipher.Block) *Counter {
	return &Counter{block: b, states: sync.Pool{New: func() any { return new(keystream) }}}
}

// XOR adds the key stream from counter n on to buf, which has any length.
func (c *Counter) XOR(prefix [12]byte, n uint32, buf []byte) {
	s := c.states.Get().(*keystream)
	for len(buf) > 0 {
		run := min(len(buf), len(s))
		for at := 0; at < run; at += 16 {
			b := s[at : at+16]
			copy(b, prefix[:])
			binary.BigEndian.PutUint32(b[12:], n)
			c.block.Encrypt(b, b)
			n++
		}
		subtle.XORBytes(buf, buf[:run], s[:run])
		buf = buf[run:]
	}
	clear(s[:])
	c.states.Put(s)
}
