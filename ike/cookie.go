package ike

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
)

// COOKIEs (RFC 7296 §2.6): under pressure an initiator has to show that it
// receives at the address it sends from before anything is kept about it.
//
//	cookie = generation (1) | HMAC-SHA256(secret, Ni | address | port | SPIi)[:31]

// cookieJar has the secret of this generation and that of the last, so that a
// cookie is good for one to two lifetimes.
type cookieJar struct {
	now, last  secret.Bytes
	generation byte
	until      time.Time
}

const cookieLife = 30 * time.Second

func (j *cookieJar) turn(env *core.Env) {
	if j.now != nil && env.Now().Before(j.until) {
		return
	}
	j.last.Wipe()
	j.last, j.now = j.now, env.Private(32)
	if j.last != nil && env.Now().Sub(j.until) > cookieLife {
		j.last.Wipe()
		j.last = nil
	}
	j.generation++
	j.until = env.Now().Add(cookieLife)
}

func cookie(key secret.Bytes, generation byte, nonce []byte, h message.Header, d core.Datagram) secret.Bytes {
	m := hmac.New(sha256.New, key)
	m.Write(nonce)
	b := d.Remote.Addr().Unmap().AsSlice()
	b = binary.BigEndian.AppendUint16(b, d.Remote.Port())
	m.Write(binary.BigEndian.AppendUint64(b, h.SPIi))
	return append(secret.Bytes{generation}, m.Sum(nil)[:31]...)
}

// cookieOK reports whether the request brings a valid cookie; if not, it is
// answered with one, and nothing is kept. skimmed is what message.Skim read of it.
func cookieOK(e *Endpoint, h message.Header, skimmed []message.Payload, d core.Datagram) bool {
	var nonce, got []byte
	for _, p := range skimmed {
		switch p := p.(type) {
		case *message.Nonce:
			nonce = p.Data
		case *message.Notify:
			if p.Kind == message.NotifyCookie {
				got = p.Data
			}
		}
	}
	if nonce == nil {
		e.bad(d, "an %v request without nonce", h.Exchange)
		return false
	}
	j := &e.cookies
	j.turn(e.env)
	if len(got) > 0 {
		key := j.now
		if got[0] != j.generation {
			key = j.last
		}
		if e.env.Proved(key != nil && cookie(key, got[0], nonce, h, d).Equal(got)) {
			return true
		}
	}
	answer := message.Message{
		Header:   message.Header{SPIi: h.SPIi, Version: 0x20, Exchange: h.Exchange, Flags: message.FlagResponse},
		Payloads: []message.Payload{&message.Notify{Kind: message.NotifyCookie, Data: cookie(j.now, j.generation, nonce, h, d)}},
	}
	e.env.Emit(core.Send{Local: d.Local, Remote: d.Remote, NATT: d.NATT, Data: answer.Append(nil)})
	return false
}
