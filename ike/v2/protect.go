package v2

import (
	"encoding/binary"

	"culvert/crypto/aead"
	"culvert/crypto/cipher"
	"culvert/crypto/integ"
	"culvert/crypto/secret"
	"culvert/ike/message"
)

// The Encrypted payload (RFC 7296 §3.14, RFC 5282 §3):
//
//	header | SK generic header | IV | encrypted (payloads | padding | pad length) | ICV
//
// The ICV covers everything before it. With an AEAD, what stands before the IV
// is the associated data.

// skGeneric is the generic header of the SK payload.
const skGeneric = 4

// directions: what we seal with and what the peer seals with.
func (sa *SA) sealKeys() (e, a secret.Bytes) {
	if sa.initiator {
		return sa.keys.ei, sa.keys.ai
	}
	return sa.keys.er, sa.keys.ar
}

func (sa *SA) openKeys() (e, a secret.Bytes) {
	if sa.initiator {
		return sa.keys.er, sa.keys.ar
	}
	return sa.keys.ei, sa.keys.ai
}

// seal makes an encrypted message. The IV of a CBC cipher is random; that of an
// AEAD is a counter of all messages we sealed under the key.
func (sa *SA) seal(h message.Header, ps []message.Payload) ([]byte, error) {
	enc := sa.suite.Encr
	ekey, akey := sa.sealKeys()
	first, plain := message.AppendPayloads(nil, ps)
	block := enc.Block
	if enc.AEAD() {
		block = 1 // IKE needs no alignment, other than ESP (RFC 5282 §3)
	}
	pad := (block - (len(plain)+1)%block) % block
	plain = append(plain, make([]byte, pad)...)
	plain = append(plain, byte(pad))
	icv := enc.ICVLen
	if sa.suite.Integ != nil {
		icv = sa.suite.Integ.ICVLen
	}
	body := enc.IVLen + len(plain) + icv

	h.Next = message.TypeSK
	h.Length = uint32(message.HeaderLen + skGeneric + body)
	out := h.Append(make([]byte, 0, h.Length))
	out = append(out, byte(first), 0)
	out = binary.BigEndian.AppendUint16(out, uint16(skGeneric+body))
	if enc.AEAD() {
		c, err := aead.New(enc, ekey)
		if err != nil {
			return nil, err
		}
		sa.sealed++
		var iv [aead.IVLen]byte
		binary.BigEndian.PutUint64(iv[:], sa.sealed)
		return append(append(out, iv[:]...), c.Seal(iv, plain, out)...), nil
	}
	c, err := cipher.New(enc, ekey)
	if err != nil {
		return nil, err
	}
	mac, err := integ.New(sa.suite.Integ, akey)
	if err != nil {
		return nil, err
	}
	iv := sa.env.Random(enc.IVLen)
	c.Encrypt(iv, plain)
	out = append(append(out, iv...), plain...)
	return mac.Sum(out, out, nil), nil
}

// open verifies and decrypts a message and parses what is inside. err: the
// message is not the peer's or was changed, and is to be dropped. syntax: it is
// the peer's and cannot be read. raw is overwritten.
func (sa *SA) open(raw []byte, m *message.Message) (inner []message.Payload, syntax, err error) {
	if err := message.CheckOuter(m.Header, m.Payloads); err != nil {
		return nil, nil, err
	}
	sk := find[*message.Encrypted](m.Payloads)
	if sk == nil {
		return nil, nil, dropped{"a fragment, and fragmentation was not agreed"}
	}
	enc := sa.suite.Encr
	ekey, akey := sa.openKeys()
	start := len(raw) - len(sk.Body) // the SK payload is the last
	icv := enc.ICVLen
	if sa.suite.Integ != nil {
		icv = sa.suite.Integ.ICVLen
	}
	if len(sk.Body) < enc.IVLen+1+icv {
		return nil, nil, dropped{"the SK payload is too short"}
	}
	var plain []byte
	if enc.AEAD() {
		c, err := aead.New(enc, ekey)
		if err != nil {
			return nil, nil, err
		}
		iv := [aead.IVLen]byte(raw[start:])
		if plain, err = c.Open(iv, raw[start+enc.IVLen:], raw[:start]); err != nil {
			return nil, nil, dropped{"the ICV is wrong"}
		}
	} else {
		mac, err := integ.New(sa.suite.Integ, akey)
		if err != nil {
			return nil, nil, err
		}
		end := len(raw) - icv
		if !mac.Verify(raw[end:], raw[:end], nil) {
			return nil, nil, dropped{"the ICV is wrong"}
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
	inner, syntax = message.ParsePayloads(sk.First, plain[:len(plain)-pad])
	if inner == nil {
		inner = []message.Payload{}
	}
	return inner, syntax, nil
}
