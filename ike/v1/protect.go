package v1

import (
	"culvert/crypto/cipher"
	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
)

// Encrypted messages (RFC 2409 Appendix B): all behind the header is in CBC mode, with zeros up to a whole
// block. There is no ICV: what a message says counts only once a hash in it is right.

// header is that of a message of ours.
func (sa *SA) header(exchange message.ExchangeType, id uint32) message.Header {
	return message.Header{SPIi: sa.base.SPIi, SPIr: sa.base.SPIr, Version: isakmp.Version, Exchange: exchange, ID: id}
}

// clear is a message in clear.
func (sa *SA) clear(exchange message.ExchangeType, id uint32, ps []isakmp.Payload) []byte {
	h := sa.header(exchange, id)
	sa.base.Env.Traced(true, h, ps)
	return isakmp.Append(nil, h, ps)
}

// seal is an encrypted message; iv goes on to its last block.
func (sa *SA) seal(exchange message.ExchangeType, id uint32, iv *[]byte, ps []isakmp.Payload) []byte {
	h := sa.header(exchange, id)
	sa.base.Env.Traced(true, h, ps)
	e := sa.base.Suite.Encr
	first, plain := isakmp.AppendPayloads(nil, ps)
	plain = append(plain, make([]byte, (e.Block-len(plain)%e.Block)%e.Block)...)
	c, err := cipher.New(e, sa.keys.enc)
	if err != nil {
		panic(err) // the key was made for the cipher
	}
	c.Encrypt(*iv, plain)
	*iv = lastBlock(e, plain)
	return isakmp.AppendSealed(nil, h, first, plain)
}

// sealHashed is seal with a HASH payload in front, which hash computes over the others.
func (sa *SA) sealHashed(exchange message.ExchangeType, id uint32, iv *[]byte, hash func(rest []byte) secret.Bytes, ps ...isakmp.Payload) []byte {
	_, rest := isakmp.AppendPayloads(nil, ps)
	defer clear(rest) // there may be a password in it
	return sa.seal(exchange, id, iv, append([]isakmp.Payload{&isakmp.Hash{Data: hash(rest)}}, ps...))
}

// open decrypts a message under a key and IV and reads it; next is the IV of the message after it. The
// error says that it cannot be read: it is of somebody else, or was made with another key.
func (sa *SA) open(m *isakmp.Message, key secret.Bytes, iv []byte) (c *isakmp.Chain, next []byte, err error) {
	e := sa.base.Suite.Encr
	if len(m.Sealed) == 0 || len(m.Sealed)%e.Block != 0 {
		return nil, nil, dropped{"the ciphertext is not whole blocks"}
	}
	mode, err := cipher.New(e, key)
	if err != nil {
		return nil, nil, err
	}
	next = lastBlock(e, m.Sealed)
	plain := clone(m.Sealed)
	mode.Decrypt(iv, plain)
	defer func() { clear(plain) }() // the same
	c, err = isakmp.ParsePayloads(m.Next, plain)
	if w := sa.base.Env.Witness; w != nil {
		seen := core.OpenedWell
		if err != nil {
			seen = core.OpenedBroken
		}
		holds, n := w.Opened(seen, len(plain))
		if holds != core.OpenedWell {
			return nil, nil, errGarbled
		}
		if seen != holds {
			plain = make([]byte, n)
		}
		first, b := w.Read(m.Next, plain)
		c, err = isakmp.ParsePayloads(first, b)
	}
	if err != nil {
		return nil, nil, errGarbled
	}
	return c, next, nil
}

var errGarbled = dropped{"it cannot be decrypted with the keys of this SA"}

// hashed checks that a message of phase 2 begins with a HASH payload that is right; hash computes it over what follows.
func (sa *SA) hashed(c *isakmp.Chain, hash func(rest []byte) secret.Bytes) error {
	var got []byte
	if len(c.Payloads) > 0 {
		if h, ok := c.Payloads[0].(*isakmp.Hash); ok {
			got = h.Data
		}
	}
	if got == nil {
		return dropped{"it does not begin with a HASH payload"}
	}
	if !sa.base.Env.Proved(hash(c.After(0)).Equal(got)) {
		return dropped{"its HASH is wrong"}
	}
	return nil
}
