package v2

import (
	"encoding/binary"
	"errors"

	"culvert/crypto/aead"
	"culvert/crypto/cipher"
	"culvert/crypto/integ"
	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// The Encrypted payload (RFC 7296 §3.14, RFC 5282 §3):
//
//	header | SK generic header | IV | encrypted (payloads | padding | pad length) | ICV
//
// The ICV covers everything before it. With an AEAD, what stands before the IV
// is the associated data.

// skGeneric is the header of the SK payload, skfGeneric of the SKF payload.
const (
	skGeneric  = 4
	skfGeneric = 8
)

var errICV = dropped{"the ICV is wrong"}

// sealer encrypts and decrypts the messages of an IKE SA.
type sealer struct {
	idle
	base      *ikesa.SA
	keys      keys
	fragments bool   // messages may be cut into fragments
	sealed    uint64 // messages sealed under our key: the IVs of an AEAD
}

func (p *sealer) end() { p.keys.wipe() }

// directions: what we seal with and what the peer seals with.
func (p *sealer) sealKeys() (e, a secret.Bytes) {
	if p.base.Initiator {
		return p.keys.ei, p.keys.ai
	}
	return p.keys.er, p.keys.ar
}

func (p *sealer) openKeys() (e, a secret.Bytes) {
	if p.base.Initiator {
		return p.keys.er, p.keys.ar
	}
	return p.keys.ei, p.keys.ai
}

// seal makes an encrypted message. The IV of a CBC cipher is random; that of an
// AEAD is a counter of all messages we sealed under the key.
func (p *sealer) seal(h message.Header, ps []message.Payload) ([]byte, error) {
	first, plain := message.AppendPayloads(nil, ps)
	h.Next = message.TypeSK
	return p.sealBody(h, []byte{byte(first), 0, 0, 0}, plain)
}

// sealFragment makes the message of one fragment (RFC 7383 §2.5).
func (p *sealer) sealFragment(h message.Header, first message.PayloadType, number, total uint16, plain []byte) ([]byte, error) {
	h.Next = message.TypeSKF
	return p.sealBody(h, []byte{byte(first), 0, 0, 0, byte(number >> 8), byte(number), byte(total >> 8), byte(total)}, plain)
}

// icvLen is how long the ICV is; blockLen what the ciphertext is whole blocks of.
func (p *sealer) icvLen() int {
	if p.base.Suite.Integ != nil {
		return p.base.Suite.Integ.ICVLen
	}
	return p.base.Suite.Encr.ICVLen
}

func (p *sealer) blockLen() int {
	if p.base.Suite.Encr.AEAD() {
		return 1 // IKE needs no alignment, other than ESP (RFC 5282 §3)
	}
	return p.base.Suite.Encr.Block
}

// sealedLen is the length of a message whose payload header is generic bytes
// long, around plain bytes.
func (p *sealer) sealedLen(generic, plain int) int {
	block := p.blockLen()
	return message.HeaderLen + generic + p.base.Suite.Encr.IVLen + (plain/block+1)*block + p.icvLen()
}

// room is how many plain bytes fit into an encrypted body.
func (p *sealer) room(body int) int {
	block := p.blockLen()
	return (body-p.base.Suite.Encr.IVLen-p.icvLen())/block*block - 1
}

// sealBody makes a message of a header, the header of the encrypted payload,
// whose length it fills in, and what is to be encrypted, which it overwrites.
func (p *sealer) sealBody(h message.Header, generic, plain []byte) ([]byte, error) {
	enc := p.base.Suite.Encr
	ekey, akey := p.sealKeys()
	block := p.blockLen()
	pad := (block - (len(plain)+1)%block) % block
	plain = append(plain, make([]byte, pad)...)
	plain = append(plain, byte(pad))
	body := len(generic) + enc.IVLen + len(plain) + p.icvLen()
	if body > 1<<16-1 {
		return nil, errors.New("the message is too long for one SK payload")
	}
	binary.BigEndian.PutUint16(generic[2:], uint16(body))
	h.Length = uint32(message.HeaderLen + body)
	out := h.Append(make([]byte, 0, h.Length))
	out = append(out, generic...)
	if enc.AEAD() {
		c, err := aead.New(enc, ekey)
		if err != nil {
			return nil, err
		}
		p.sealed++
		var iv [aead.IVLen]byte
		binary.BigEndian.PutUint64(iv[:], p.sealed)
		return append(append(out, iv[:]...), c.Seal(iv, plain, out)...), nil
	}
	c, err := cipher.New(enc, ekey)
	if err != nil {
		return nil, err
	}
	mac, err := integ.New(p.base.Suite.Integ, akey)
	if err != nil {
		return nil, err
	}
	iv := p.base.Env.Private(enc.IVLen)
	c.Encrypt(iv, plain)
	out = append(append(out, iv...), plain...)
	return mac.Sum(out, out, nil), nil
}

// decrypt verifies and decrypts a message or a fragment and parses what is
// inside once it is whole. err: the message is not the peer's or was changed, and
// is to be dropped. syntax: it is the peer's and cannot be read. raw is
// overwritten.
func (sa *SA) decrypt(raw []byte, m *message.Message, in core.Datagram) (inner []message.Payload, whole bool, syntax, err error) {
	if err := message.CheckOuter(m.Header, m.Payloads); err != nil {
		return nil, false, nil, err
	}
	sk := find[*message.Encrypted](m.Payloads)
	if sk == nil {
		return sa.fragment(raw, m, find[*message.EncryptedFragment](m.Payloads), in)
	}
	plain, syntax, err := sa.sealer.unseal(raw, len(raw)-len(sk.Body)) // the SK payload is the last
	if err != nil || syntax != nil {
		return nil, true, syntax, err
	}
	opened(sa, m.Header, sk.First, plain)
	sa.read = len(raw)
	inner, syntax = sa.sealer.parseInner(sk.First, plain)
	return inner, true, syntax, nil
}

func (p *sealer) parseInner(first message.PayloadType, plain []byte) (inner []message.Payload, syntax error) {
	if w := p.base.Env.Witness; w != nil {
		first, plain = w.Read(first, plain)
	}
	inner, syntax = message.ParsePayloads(first, plain)
	if inner == nil {
		inner = []message.Payload{}
	}
	return inner, syntax
}

// unseal verifies a message whose encrypted body begins at start and decrypts
// it in place; the padding is off. Errors are as of decrypt.
func (p *sealer) unseal(raw []byte, start int) (plain []byte, syntax, err error) {
	plain, syntax, err = p.open(raw, start)
	if p.base.Env.Witness == nil {
		return plain, syntax, err
	}
	seen := core.OpenedWell
	switch {
	case err != nil:
		seen = core.OpenedNothing
	case syntax != nil:
		seen = core.OpenedBroken
	}
	holds, n := p.base.Env.Witness.Opened(seen, len(plain))
	switch {
	case holds == seen && n == len(plain):
		return plain, syntax, err
	case holds == core.OpenedNothing:
		return nil, nil, errICV
	case holds == core.OpenedBroken:
		return nil, dropped{"the SK payload is broken"}, nil
	}
	return make([]byte, n), nil, nil
}

func (p *sealer) open(raw []byte, start int) (plain []byte, syntax, err error) {
	enc := p.base.Suite.Encr
	ekey, akey := p.openKeys()
	icv := p.icvLen()
	if len(raw)-start < enc.IVLen+1+icv {
		return nil, nil, dropped{"the SK payload is too short"}
	}
	if enc.AEAD() {
		c, err := aead.New(enc, ekey)
		if err != nil {
			return nil, nil, err
		}
		iv := [aead.IVLen]byte(raw[start:])
		if plain, err = c.Open(iv, raw[start+enc.IVLen:], raw[:start]); err != nil {
			return nil, nil, errICV
		}
	} else {
		mac, err := integ.New(p.base.Suite.Integ, akey)
		if err != nil {
			return nil, nil, err
		}
		end := len(raw) - icv
		if !mac.Verify(raw[end:], raw[:end], nil) {
			return nil, nil, errICV
		}
		plain = raw[start+enc.IVLen : end]
		if len(plain) == 0 || len(plain)%enc.Block != 0 {
			return nil, dropped{"the ciphertext is not whole blocks"}, nil
		}
		c, err := cipher.New(enc, ekey)
		if err != nil {
			return nil, nil, err
		}
		c.Decrypt(raw[start:start+enc.IVLen], plain)
	}
	if len(plain) == 0 {
		return nil, dropped{"the SK payload is empty"}, nil
	}
	pad := int(plain[len(plain)-1]) + 1
	if pad > len(plain) {
		return nil, dropped{"the padding is longer than the SK payload"}, nil
	}
	return plain[:len(plain)-pad], nil, nil
}
