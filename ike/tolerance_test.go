package ike

import (
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// A gateway sends a Nonce in its IKE_AUTH response, and Openswan makes messages longer.
func TestPayloadsNobodyExpects(t *testing.T) {
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	_, ps := p.called()
	// HDR(A,0) N(INVALID_KE_PAYLOAD) and two bytes -->
	refusal := message.Message{Header: message.Header{SPIi: p.spii, Version: 0x20, Exchange: message.ExchangeIKESAInit, Flags: message.FlagResponse},
		Payloads: []message.Payload{&message.Notify{Kind: message.NotifyCookie, Data: []byte("cookie")}}}
	raw := append(refusal.Append(nil), 0, 0)
	raw[27] = byte(len(raw))
	r.datagram(p.addr, raw)
	p.acceptInit()
	h, in := p.asked(message.ExchangeIKEAuth)
	p.note(in)
	// IDr AUTH SA TSi TSr Nonce KE -->
	p.answer(h, p.authPayloads(append(p.childAnswer(), nonce(7), p.ke())...)...)
	if r.established() != 1 || len(r.children) != 1 {
		t.Fatalf("%d IKE SAs; %s (%s)", r.established(), r.reasons(), describe(ps))
	}
	if e := r.event(core.EvBadMessage); e.Reason != "passed over [Nonce KE] in the peer's message, which this exchange does not have; 2 such payloads so far" {
		t.Errorf("it says %q", e.Reason)
	}
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h, nonce(7))
	r.pass(time.Second)
	// INFORMATIONAL with an ID -->  <-- empty
	p.nextID = 0
	says(t, p.request(message.ExchangeInformational, &message.ID{Initiator: true, IDType: 1, Data: []byte{1, 2, 3, 4}}), "")
	if r.established() != 1 || r.count(core.EvBadMessage) != 3 {
		t.Errorf("%d IKE SAs; %s", r.established(), r.reasons())
	}
}

// OpenIKED's "from dynamic" asks for the address 0.0.0.0, and gets the one that it is given.
func TestDynamicSelector(t *testing.T) {
	r := newRig(t, givesLeases)
	p := newPuppet(r, 1)
	p.init()
	in := p.authLeased("192.168.77.9", p.authPayloads(append([]message.Payload{asksAddress()}, p.offer(ts(true, "0.0.0.0/32"), wholeSpace(false))...)...)...)
	says(t, in, "IDr AUTH CP SA TSi TSr")
	if got := r.pairs(); len(got) != 1 || got[0] != "10.1.0.0/16 => 192.168.77.9/32" {
		t.Errorf("%q; %s", got, r.reasons())
	}
}

// It says 0.0.0.0 again when either end rekeys the CHILD SA.
func TestDynamicSelectorAfterRekeys(t *testing.T) {
	r := newRig(t, givesLeases)
	p := newPuppet(r, 1)
	p.init()
	p.note(p.authLeased("192.168.77.9", p.authPayloads(append([]message.Payload{asksAddress()}, p.offer(ts(true, "0.0.0.0/32"), wholeSpace(false))...)...)...))
	p.request(message.ExchangeInformational) // it is known now that the peer has it
	r.take()
	r.in(core.Expire{Child: 1})
	h, in := p.asked(message.ExchangeCreateChildSA)
	p.note(in)
	// <-- HDR SK{N(REKEY_SA) SA Nonce TSi TSr}; HDR SK{SA Nonce TSi TSr(0.0.0.0)} -->
	p.spi++
	p.answer(h, saOf(withSPI(espProposal, u32(p.spi))), nonce(2), ts(true, "10.1.0.0/16"), ts(false, "0.0.0.0/32"))
	if n := r.count(core.EvChildRekeyed); n != 1 {
		t.Fatalf("%d CHILD SAs were rekeyed by us: %s", n, r.reasons())
	}
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	// HDR SK{N(REKEY_SA) SA Nonce TSi(0.0.0.0) TSr} -->
	old := p.spi
	in = p.request(message.ExchangeCreateChildSA, append([]message.Payload{rekeySA(old), nonce(3)}, p.offer(ts(true, "0.0.0.0/32"), wholeSpace(false))...)...)
	says(t, in, "SA Nonce TSi TSr")
	for _, pair := range r.pairs() {
		if pair != "10.1.0.0/16 => 192.168.77.9/32" {
			t.Errorf("a CHILD SA is for %s", pair)
		}
	}
}

// INVALID_SYNTAX in a response says that the peer has ended the IKE SA (RFC 7296 §2.21.3).
func TestInvalidSyntaxEndsTheIKESA(t *testing.T) {
	for _, kind := range []message.ExchangeType{message.ExchangeCreateChildSA, message.ExchangeInformational} {
		r, p := settled(t)
		if kind == message.ExchangeCreateChildSA {
			r.in(core.Expire{Child: 1})
		} else {
			r.pass(3 * time.Minute) // dpd-interval
			r.sends = r.sends[:1]
		}
		h, _ := p.asked(kind)
		p.answer(h, note(message.NotifyInvalidSyntax))
		if len(r.e.SAs()) != 0 || len(r.children) != 0 {
			t.Errorf("%v: %v; %s", kind, r.e.SAs(), r.reasons())
		}
	}
}
