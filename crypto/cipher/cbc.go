package cipher

import (
	stdcipher "crypto/cipher"
	"fmt"
	"sync"

	"culvert/crypto/suite"
)

// CBC is a block cipher in cipher block chaining mode (RFC 2451, RFC 3602).
type CBC struct {
	encrypters, decrypters *sync.Pool // of *chain
}

// chain is one goroutine's. To ask a pool's value for a type of its own is cheaper
// than for an interface.
type chain struct{ rewindable }

// rewindable is the method by which the standard library's CBC modes start
// anew without being allocated again; crypto/tls uses it as well.
type rewindable interface {
	stdcipher.BlockMode
	SetIV(iv []byte)
}

// NewCBC is New for the rows whose mode is CBC.
func NewCBC(e *suite.Encr, key []byte) (*CBC, error) {
	f, ok := cbc[e.ID]
	if !ok {
		return nil, fmt.Errorf("encryption algorithm %s (%d) is not a block cipher in CBC mode of this build; propose another", e.Name, e.ID)
	}
	if err := check(e, key); err != nil {
		return nil, err
	}
	b, err := f(key)
	if err != nil {
		return nil, fmt.Errorf("encryption algorithm %s: %w", e.Name, err)
	}
	zero := make([]byte, b.BlockSize())
	return &CBC{
		encrypters: &sync.Pool{New: func() any { return &chain{stdcipher.NewCBCEncrypter(b, zero).(rewindable)} }},
		decrypters: &sync.Pool{New: func() any { return &chain{stdcipher.NewCBCDecrypter(b, zero).(rewindable)} }},
	}, nil
}

// Encrypt encrypts whole blocks in place.
func (c *CBC) Encrypt(iv, buf []byte) { run(c.encrypters, iv, buf) }

// Decrypt decrypts whole blocks in place.
func (c *CBC) Decrypt(iv, buf []byte) { run(c.decrypters, iv, buf) }

func run(pool *sync.Pool, iv, buf []byte) {
	m := pool.Get().(*chain)
	m.SetIV(iv)
	m.CryptBlocks(buf, buf)
	pool.Put(m)
}
