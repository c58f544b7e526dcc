package esp

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"errors"
	"fmt"

	"culvert/crypto/aead"
	"culvert/crypto/cipher"
	"culvert/crypto/integ"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

// Params are the algorithms and keys of one direction of an SA.
type Params struct {
	SPI      uint32
	Encr     *suite.Encr
	EncKey   secret.Bytes // Encr.MaterialLen() bytes: key, then salt; none for null
	Integ    *suite.Integ // nil if and only if Encr is an AEAD
	IntegKey secret.Bytes // Integ.KeyLen bytes
	ESN      bool         // extended sequence numbers (RFC 4303 §2.2.1)
	IVKey    [16]byte     // random; keys the generator of unpredictable IVs of a sealing SA
	// IVStart is added to the sequence number where that is the IV. Keys that are
	// made anew with each SA start at 0; with a key that people give, which may have
	// been in use before, a random start keeps counters from coming twice.
	IVStart uint64
}

// Transform seals or opens the packets of one direction of an SA. Its methods
// may be called by several goroutines at once, on different packets, and do
// not allocate in steady state.
//
// The methods are the shape that sad knows a transform by; AH has the same.
type Transform struct {
	spi   uint32
	esn   bool
	ivLen int
	align int // what is encrypted is a multiple of this, a power of two
	icv   int
	first uint64 // added to the sequence number where that is the IV
	slow  bool   // see Slow

	aead *aead.AEAD // or:
	gmac *aead.GMAC // or:
	mode cipher.Mode
	mac  *integ.MAC
	iv   stdcipher.Block // nil if the IV is the sequence number
}

// New makes a Transform. Keys are copied and stay the caller's to wipe. An error
// says which parameter does not fit its algorithm.
func New(p Params) (*Transform, error) {
	if p.Encr == nil {
		return nil, errors.New("esp: no encryption algorithm; negotiate one")
	}
	t := &Transform{spi: p.SPI, esn: p.ESN, ivLen: p.Encr.IVLen, align: max(p.Encr.Block, 4), first: p.IVStart}
	if t.align&(t.align-1) != 0 {
		return nil, fmt.Errorf("esp: %s has blocks of %d bytes, which is not a power of two", p.Encr.Name, t.align)
	}
	if p.Encr.AuthOnly {
		return t.withGMAC(p)
	}
	if p.Encr.AEAD() {
		return t.withAEAD(p)
	}
	return t.withMAC(p)
}

func (t *Transform) withAEAD(p Params) (*Transform, error) {
	if p.Integ != nil {
		return nil, fmt.Errorf("esp: %s protects integrity itself; leave out %s", p.Encr.Name, p.Integ.Name)
	}
	var err error
	if t.aead, err = aead.New(p.Encr, p.EncKey); err != nil {
		return nil, fmt.Errorf("esp: %w", err)
	}
	t.icv, t.slow = t.aead.Overhead(), slow(p.Encr)
	return t, nil
}

func (t *Transform) withGMAC(p Params) (*Transform, error) {
	if p.Integ != nil {
		return nil, fmt.Errorf("esp: %s protects integrity itself; leave out %s", p.Encr.Name, p.Integ.Name)
	}
	var err error
	if t.gmac, err = aead.NewGMAC(p.Encr, p.EncKey); err != nil {
		return nil, fmt.Errorf("esp: %w", err)
	}
	t.icv, t.slow = aead.GMACLen, slow(p.Encr)
	return t, nil
}

func (t *Transform) withMAC(p Params) (*Transform, error) {
	if p.Integ == nil {
		return nil, fmt.Errorf("esp: %s does not protect integrity; add an integrity algorithm", p.Encr.Name)
	}
	var err error
	if t.mode, err = cipher.New(p.Encr, p.EncKey); err != nil {
		return nil, fmt.Errorf("esp: %w", err)
	}
	if t.mac, err = integ.New(p.Integ, p.IntegKey); err != nil {
		return nil, fmt.Errorf("esp: %w", err)
	}
	t.icv, t.slow = t.mac.Len(), true
	if p.Encr.RandomIV {
		if t.iv, err = aes.NewCipher(p.IVKey[:]); err != nil {
			return nil, fmt.Errorf("esp: %w", err)
		}
	}
	return t, nil
}

// Wipe drops the keys. The standard library gives no way to overwrite expanded
// keys; what this does is that nothing refers to them any longer, even if the
// SA is still listed. Nobody may be in Seal or Open, nor call them later.
func (t *Transform) Wipe() {
	t.aead, t.gmac, t.mode, t.mac, t.iv = nil, nil, nil, nil, nil
}

// Front is how many bytes Seal writes in front of the payload: header and IV.
func (t *Transform) Front() int { return HeaderLen + t.ivLen }

// Back is how many bytes Seal may at most write behind the payload: padding,
// trailer and ICV, and with an AEAD behind these the nonce, which is not of the packet.
func (t *Transform) Back() int {
	back := t.align - 1 + trailerLen + t.icv
	if t.aead != nil || t.gmac != nil {
		back += len(aead.Nonce{})
	}
	return back
}

// Overhead is by how much a payload of n bytes grows.
func (t *Transform) Overhead(n int) int {
	return t.Front() + t.padding(n) + trailerLen + t.icv
}

// MaxPayload is the longest payload whose packet has at most size bytes; -1 if
// there is none.
func (t *Transform) MaxPayload(size int) int {
	room := size - t.Front() - t.icv
	if room < t.align {
		return -1
	}
	return room - room%t.align - trailerLen
}

// trailerLen is the length of pad length and next header.
const trailerLen = 2

// padding is the least number of padding bytes that makes a payload of n bytes
// end, with its trailer, on a block of the cipher and on 4 bytes (RFC 4303 §2.4).
func (t *Transform) padding(n int) int {
	return -(n + trailerLen) & (t.align - 1)
}

// Near reads the memory that a packet needs, as far as it can be reached without
// doing anything, so that it is in the CPU's caches. What it returns means nothing.
func (t *Transform) Near() int {
	n := t.ivLen + int(t.first)
	if t.aead != nil {
		n += t.aead.Overhead()
	}
	return n
}
