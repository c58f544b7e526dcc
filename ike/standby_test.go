package ike

import (
	"bytes"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// A responder does not know whether its response arrived. Where the initiator says nothing more, traffic has it asked:
//
//	puppet                              endpoint
//	IKE_AUTH               ────────►    Install, standby
//	                       ◄────────    response
//	                                    Acquire: traffic, and nothing seals
//	                       ◄────────    INFORMATIONAL (empty)
//	response (empty)       ────────►    Activate
func TestTrafficWhileTheInitiatorIsSilent(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.connect()
	r.silent("no traffic")
	r.in(core.Acquire{Policy: 1})
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "")
	r.in(core.Acquire{Policy: 1}) // once is enough
	r.silent("the same traffic")
	if r.children[1].active {
		t.Error("it seals before the peer is known to have it")
	}
	p.answer(h)
	if !r.children[1].active {
		t.Error("the peer answered, and it does not seal")
	}
	r.in(core.Acquire{Policy: 1})
	r.silent("traffic outside the SA")
}

// The same for a CHILD SA that the peer makes later.
func TestTrafficWhileASecondChildStandsBy(t *testing.T) {
	r := newRig(t, twoPolicies)
	p := newPuppet(r, 1)
	p.connect()
	p.spi++
	p.request(message.ExchangeCreateChildSA, saOf(withSPI(espProposal, u32(p.spi))), nonce(3), ts(true, "10.3.0.0/16"), ts(false, "10.1.0.0/16"))
	if len(r.children) != 2 || r.children[2].active {
		t.Fatalf("%v", r.pairs())
	}
	p.sealsWhenAsked(2)
}

// sealsWhenAsked: traffic of a policy has us asked, and with our answer its CHILD SA seals.
func (p *puppet) sealsWhenAsked(policy core.PolicyRef) {
	p.t.Helper()
	p.r.in(core.Acquire{Policy: policy})
	h, _ := p.asked(message.ExchangeInformational)
	p.answer(h)
	if !p.r.children[core.ChildID(policy)].active {
		p.t.Error("the peer answered, and it does not seal")
	}
}

// A peer that repeats its request does not have the response, whatever it answers meanwhile: it gets the response
// again, and is asked again.
func TestTrafficWhileTheResponseIsLost(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.init()
	request := p.seal(p.header(message.ExchangeIKEAuth, 1, false), p.authPayloads(p.childOffer()...)...)
	p.nextID++
	r.datagram(p.addr, request)
	lost := r.one()
	r.in(core.Acquire{Policy: 1})
	h, _ := p.asked(message.ExchangeInformational)
	r.datagram(p.addr, request)
	if s := r.one(); !bytes.Equal(s.Data, lost.Data) {
		t.Error("the repeated request was answered otherwise")
	}
	p.answer(h) // sent before the response arrived, for all that we know
	if r.children[1].active {
		t.Error("it seals for a peer that may not have it")
	}
	p.sealsWhenAsked(1)
}

// Without traffic nobody is asked, and after a while without a repeated request the response has arrived.
func TestStandbyEndsByItself(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.connect()
	r.pass(4 * time.Second)
	if r.children[1].active {
		t.Error("it seals before the peer had time to repeat its request")
	}
	r.pass(2 * time.Second)
	if !r.children[1].active {
		t.Error("it does not seal")
	}
	r.silent("no traffic")
}

// A peer that was killed comes back with another IKE SA and says no INITIAL_CONTACT (OpenIKED), nor anything else. The old
// CHILD SA seals for nobody: the peer is asked by the new IKE SA, and with its answer the new CHILD SA seals.
func TestStandbyBesideALostIKESA(t *testing.T) {
	r := newRig(t)
	newPuppet(r, 1).connect()
	r.pass(6 * time.Second)
	q := newPuppet(r, 2)
	q.connect()
	if !r.children[1].active || r.children[2].active {
		t.Fatalf("%v", r.pairs())
	}
	r.pass(5100 * time.Millisecond)
	h, ps := q.asked(message.ExchangeInformational)
	says(t, ps, "")
	if r.children[2].active {
		t.Error("it seals before the peer is known to have it")
	}
	r.pass(300 * time.Millisecond)
	q.answer(h)
	if !r.children[2].active {
		t.Error("the peer answered, and it does not seal")
	}
	r.pass(10 * time.Second)
	r.silent("it seals")
}
