package ike

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/ike/v2"
)

// snapshot is what an endpoint knows, without the counters of messages.
func (r *rig) snapshot() string {
	s := fmt.Sprintf("%d half, %d finals, %d children", len(r.e.strangers.half), len(r.e.finals), len(r.children))
	for _, sa := range r.e.SAs() {
		sa.RxPackets, sa.RxBytes = 0, 0
		s += fmt.Sprintf("\n%+v", sa)
	}
	at, ok := r.e.Deadline()
	return s + fmt.Sprint("\n", at, ok)
}

// worthless hands in a message that must change nothing and be answered by
// nothing; it may be counted once.
func (r *rig) worthless(what string, p *puppet, b []byte) {
	r.t.Helper()
	before := r.snapshot()
	r.events = r.events[:0]
	r.datagram(p.addr, b)
	if n := r.count(core.EvBadMessage); n > 1 || n != len(r.events) {
		r.t.Fatalf("%s: %d bad messages counted, events %s", what, n, r.reasons())
	}
	for _, s := range r.take() {
		if h, _ := message.ParseHeader(s.Data); len(b) > 17 && b[17]>>4 > 2 && h.Exchange == message.ExchangeType(b[18]) {
			continue // INVALID_MAJOR_VERSION
		}
		if h, err := message.ParseHeader(b); err == nil && r.e.bySPI[r.e.versions.of(core.IKEv2).ours(r.e, h)] == nil && bytes.Equal(s.Data, v2.SayUnknownSA(h, b)) {
			continue // INVALID_IKE_SPI, as the changed SPIs are of no IKE SA
		}
		r.t.Fatalf("%s was answered", what)
	}
	if after := r.snapshot(); after != before {
		r.t.Fatalf("%s changed\n%s\nto\n%s", what, before, after)
	}
}

// protected are messages of a puppet with one of each shape, all of them for now.
func (p *puppet) protected() map[string][]byte {
	req := func(x message.ExchangeType, ps ...message.Payload) []byte {
		return p.seal(p.header(x, p.nextID, false), ps...)
	}
	return map[string][]byte{
		"CREATE_CHILD_SA": req(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(1))...),
		"rekey":           req(message.ExchangeCreateChildSA, p.theRekey(p.spi-1, 1)...),
		"rekey of IKE":    req(message.ExchangeCreateChildSA, p.ikeRekey(5, 5)...),
		"delete":          req(message.ExchangeInformational, deleteIKE()),
		"empty":           req(message.ExchangeInformational),
	}
}

// Any byte of a protected message that is changed, and any message that ends
// early, is worth nothing.
func TestDamage(t *testing.T) {
	r, p := settled(t)
	for name, raw := range p.protected() {
		damage(t, r, p, name, raw)
	}
	// IKE_AUTH for a half-open SA, which is accepted afterwards.
	r = newRig(t)
	p = newPuppet(r, 1)
	p.init()
	raw := p.seal(p.header(message.ExchangeIKEAuth, 1, false), p.authPayloads(p.childOffer()...)...)
	damage(t, r, p, "IKE_AUTH", raw)
	r.datagram(p.addr, raw)
	if r.established() != 1 {
		t.Error("IKE_AUTH was not accepted after all that")
	}
	// Its response, at an initiator.
	r = newRig(t, initiates)
	p = newPuppet(r, 1)
	p.acceptInit()
	h, _ := p.asked(message.ExchangeIKEAuth)
	raw = p.seal(p.header(h.Exchange, h.ID, true), p.authPayloads(p.childAnswer()...)...)
	damage(t, r, p, "the response of IKE_AUTH", raw)
	r.datagram(p.addr, raw)
	if r.established() != 1 {
		t.Error("the response of IKE_AUTH was not accepted after all that")
	}
}

func damage(t *testing.T, r *rig, p *puppet, name string, raw []byte) {
	t.Helper()
	for i := range raw {
		for _, x := range []byte{0x01, 0x80, 0xff} {
			b := bytes.Clone(raw)
			b[i] ^= x
			r.worthless(fmt.Sprintf("%s with byte %d changed by %02x", name, i, x), p, b)
		}
		cut := bytes.Clone(raw[:i])
		r.worthless(fmt.Sprintf("%s cut at %d", name, i), p, cut)
		if i >= message.HeaderLen {
			binary.BigEndian.PutUint32(cut[24:], uint32(i))
			r.worthless(fmt.Sprintf("%s cut at %d with the length put right", name, i), p, cut)
		}
	}
}

// Random bytes, bare and behind a header that fits the SA.
func TestNoise(t *testing.T) {
	r, p := settled(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 5000 {
		b := make([]byte, rng.IntN(300))
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		if len(b) >= message.HeaderLen && i%2 == 0 {
			h := p.header(message.ExchangeType(34+rng.IntN(5)), rng.Uint32()%4, rng.IntN(2) == 0)
			h.Next, h.Length = message.PayloadType(rng.Uint32()), uint32(len(b))
			copy(b, h.Append(nil))
		}
		if len(b) > 17 {
			b[17] = 0x20
		}
		r.worthless(fmt.Sprintf("noise %d", i), p, b)
	}
}

// Authentic messages out of place: other message IDs, responses that nobody
// asked for, another direction, other SPIs; and answers without protection.
func TestOutOfPlace(t *testing.T) {
	r, p := settled(t)
	ps := append(p.childOffer(), nonce(1))
	h := p.header(message.ExchangeCreateChildSA, p.nextID, false)
	for _, id := range []uint32{0, p.nextID - 2, p.nextID + 1, p.nextID + 2, 1 << 31, 1<<32 - 1} {
		h := h
		h.ID = id
		r.worthless(fmt.Sprintf("a request with ID %d where %d is due", id, p.nextID), p, p.seal(h, ps...))
	}
	for id := range uint32(4) {
		for _, x := range []message.ExchangeType{message.ExchangeIKEAuth, message.ExchangeCreateChildSA, message.ExchangeInformational, message.ExchangeIntermediate} {
			h := p.header(x, id, true)
			r.worthless("a response that nobody asked for", p, p.seal(h, ps...))
		}
	}
	wrong := h
	wrong.Flags ^= message.FlagInitiator
	r.worthless("the initiator flag", p, p.seal(wrong, ps...))
	wrong = h
	wrong.SPIi++
	r.worthless("the initiator's SPI", p, p.seal(wrong, ps...))
	wrong = h
	wrong.SPIr++
	r.worthless("the responder's SPI", p, p.seal(wrong, ps...))
	// In clear, as a peer answers that knows nothing of the SA (RFC 7296 §1.5, §2.21.4).
	for _, k := range []message.NotifyType{message.NotifyInvalidIKESPI, message.NotifyInvalidSyntax, message.NotifyInvalidMajorVersion, message.NotifyAuthenticationFailed} {
		for _, response := range []bool{false, true} {
			for id := range p.nextID + 1 {
				m := message.Message{Header: p.header(message.ExchangeInformational, id, response), Payloads: []message.Payload{note(k)}}
				r.worthless(k.String()+" in clear", p, m.Append(nil))
				m.Payloads = []message.Payload{deleteIKE()}
				r.worthless("a Delete in clear", p, m.Append(nil))
			}
		}
	}
	// While a request of ours is under way, only its response counts.
	r.in(core.Command{Do: core.RekeyChildren})
	asked, _ := p.asked(message.ExchangeCreateChildSA)
	r.worthless("a response to another request", p, p.seal(p.header(message.ExchangeCreateChildSA, asked.ID+1, true), note(message.NotifyTemporaryFailure)))
	r.worthless("a response of another exchange", p, p.seal(p.header(message.ExchangeInformational, asked.ID, true)))
	m := message.Message{Header: p.header(message.ExchangeCreateChildSA, asked.ID, true), Payloads: []message.Payload{note(message.NotifyInvalidSyntax)}}
	r.worthless("an error in clear", p, m.Append(nil))
	p.answer(asked, append(p.childAnswer(), nonce(9))...)
	p.asked(message.ExchangeInformational)
}

// Payloads that are not known: passed over, or refused if critical (RFC 7296 §2.5),
// inside SK; before it there are none. The SA lives on.
func TestUnknownPayloads(t *testing.T) {
	for _, critical := range []bool{false, true} {
		for _, outside := range []bool{false, true} {
			r, p := settled(t)
			u := &message.Unknown{T: 123, Critical: critical, Body: []byte("?")}
			h := p.header(message.ExchangeInformational, p.nextID, false)
			var raw []byte
			if outside {
				r.worthless("a payload before SK", p, p.sealRaw(h, []message.Payload{u}, message.NoNext, nil))
				raw = p.seal(h)
			} else {
				raw = p.seal(h, u)
			}
			p.nextID++
			r.datagram(p.addr, raw)
			in := p.response(message.ExchangeInformational, h.ID)
			if !critical || outside {
				says(t, in, "")
				continue
			}
			says(t, in, "N(UNSUPPORTED_CRITICAL_PAYLOAD)")
			if n := in[0].(*message.Notify); !bytes.Equal(n.Data, []byte{123}) {
				t.Errorf("it names %d", n.Data)
			}
			says(t, p.request(message.ExchangeInformational), "")
			if r.established() != 1 {
				t.Error("the SA is gone")
			}
		}
	}
	// In IKE_AUTH nothing comes of the SA.
	r := newRig(t)
	p := newPuppet(r, 1)
	p.init()
	says(t, p.auth(p.authPayloads(&message.Unknown{T: 123, Critical: true})...), "N(UNSUPPORTED_CRITICAL_PAYLOAD)")
	if !r.e.Idle() {
		t.Errorf("left: %v", r.e.SAs())
	}
}

// Authentic and malformed: INVALID_SYNTAX, and the SA ends (RFC 7296 §2.21.3);
// an exchange that is not possible now: INVALID_SYNTAX, and it lives.
func TestMalformedInside(t *testing.T) {
	for name, c := range map[string]struct {
		x     message.ExchangeType
		first message.PayloadType
		plain []byte
		lives bool
	}{
		"a payload that does not end":      {message.ExchangeInformational, message.TypeDelete, []byte{0, 0, 0, 200, 1}, false},
		"a Delete that cannot be read":     {message.ExchangeInformational, message.TypeDelete, []byte{0, 0, 0, 8, 3, 4, 0, 9}, false},
		"an SK payload inside":             {message.ExchangeInformational, message.TypeSK, []byte{0, 0, 0, 4}, false},
		"CREATE_CHILD_SA without anything": {message.ExchangeCreateChildSA, message.NoNext, nil, false},
		"IKE_AUTH once more":               {message.ExchangeIKEAuth, message.NoNext, nil, true},
		"IKE_INTERMEDIATE":                 {message.ExchangeIntermediate, message.NoNext, nil, true},
		"an exchange that does not exist":  {99, message.NoNext, nil, true},
		"one that is malformed, too":       {240, message.TypeDelete, []byte{0, 0, 0, 200, 1}, true},
	} {
		r, p := settled(t)
		raw := p.sealRaw(p.header(c.x, p.nextID, false), nil, c.first, c.plain)
		r.datagram(p.addr, raw)
		s := r.one()
		h, in := p.open(s.Data)
		says(t, in, "N(INVALID_SYNTAX)")
		if h.Exchange != c.x || r.e.Idle() == c.lives {
			t.Errorf("%s: answered as %v, idle %v", name, h.Exchange, r.e.Idle())
		}
		r.datagram(p.addr, raw)
		if !bytes.Equal(r.one().Data, s.Data) {
			t.Errorf("%s, repeated: other bytes", name)
		}
	}
}

// A request that overtakes the response to IKE_AUTH waits for it.
func TestOvertaking(t *testing.T) {
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	p.acceptInit()
	h, _ := p.asked(message.ExchangeIKEAuth)
	early := p.seal(p.header(message.ExchangeInformational, 0, false))
	r.worthless("a request before the response to IKE_AUTH", p, early)
	p.answer(h, p.authPayloads(p.childAnswer()...)...)
	p.asked(message.ExchangeInformational)
	r.datagram(p.addr, early)
	says(t, p.response(message.ExchangeInformational, 0), "")
}

// Before there are keys nothing protected is for the SA.
func TestNoKeysYet(t *testing.T) {
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	p.called()
	p.derive([]byte("not yet"))
	for _, spir := range []uint64{0, 1} {
		p.spir = spir
		for _, response := range []bool{false, true} {
			r.worthless("a message before the keys", p, p.seal(p.header(message.ExchangeIKEAuth, 0, response), deleteIKE()))
		}
	}
}
