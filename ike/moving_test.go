package ike

import (
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// CHILD SAs on their way from one IKE SA to the next. Both ends rekey the IKE SA,
// but a's request is late: b, whose rekey is through, goes on with the new IKE SA,
// while for a the collision is not settled yet. What b does there says that it is.
var moving = []struct {
	name, script, want string
	downs              [2]int // of CHILD SAs, as a and b report them
}{
	{"child deleted on the new IKE SA", `
		a rekeys ike
		b rekeys ike
		b? SA Nonce KE
		a! SA Nonce KE
		b deletes child
		b? D
		a! D
		a? SA Nonce KE
		b! N(TEMPORARY_FAILURE)
		b? D(IKE)
		a! `, "childless", [2]int{1, 1}},
	{"child rekeyed on the new IKE SA", `
		a rekeys ike
		b rekeys ike
		b? SA Nonce KE
		a! SA Nonce KE
		b rekeys child
		b? N(REKEY_SA) SA Nonce TSi TSr
		a! SA Nonce TSi TSr
		b? D
		a! D
		a? SA Nonce KE
		b! N(TEMPORARY_FAILURE)
		b? D(IKE)
		a! `, "up", [2]int{}},
	{"new IKE SA rekeyed", `
		a rekeys ike
		b rekeys ike
		b? SA Nonce KE
		a! SA Nonce KE
		b rekeys ike
		b? SA Nonce KE
		a! SA Nonce KE
		b? D(IKE)
		a! 
		b? D(IKE)
		a! `, "up", [2]int{}},
	// a, too, is told to rekey: only once it knows which IKE SA stays.
	{"new IKE SA rekeyed by who does not know yet", `
		a rekeys ike
		b rekeys ike
		b? SA Nonce KE
		a! SA Nonce KE
		~a? SA Nonce KE
		a rekeys ike
		b? D(IKE)
		a! 
		wait 5s
		a? SA Nonce KE
		b! SA Nonce KE
		a? D(IKE)
		b! `, "up", [2]int{}},
	// b had answered a's request too, and b's rekey won: its answer comes last.
	{"child deleted on the new IKE SA, the answer to the other rekey comes late", `
		a rekeys ike
		b rekeys ike
		a? SA Nonce KE
		b? SA Nonce KE
		L! SA Nonce KE
		W deletes child
		W? D
		L! D
		W! SA Nonce KE
		W? D(IKE)
		L! 
		L? D(IKE)
		W! `, "childless", [2]int{1, 1}},
}

func TestMovingToTheNewIKESA(t *testing.T) {
	for _, m := range moving {
		t.Run(m.name, func(t *testing.T) {
			for seed := range uint64(4) {
				c := newCourier(t, 300+seed)
				c.play(m.script)
				c.is(m.want)
				for i, s := range []*side{c.a, c.b} {
					if n := s.count(core.EvChildDown); n != m.downs[i] {
						t.Errorf("%s: %d times down, not %d:%s", s.name, n, m.downs[i], c.story())
					}
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// The endpoint rekeys, the peer rekeys and goes on with its new IKE SA; the answer
// to the endpoint's rekey is still to come.
func TestPeerUsesItsSuccessorFirst(t *testing.T) {
	for name, late := range map[string]func(p *puppet, h message.Header, asked []message.Payload){
		"refused": func(p *puppet, h message.Header, _ []message.Payload) {
			p.answer(h, note(message.NotifyTemporaryFailure))
		},
		"answered": func(p *puppet, h message.Header, asked []message.Payload) {
			p.answer(h, p.ikeRekey(0xcccc, 0)...)
			mine := p.rekeyed(false, 0xcccc, 0, asked)
			h, ps := mine.asked(message.ExchangeInformational) // the endpoint takes its own back
			says(p.t, ps, "Delete")
			mine.answer(h)
		},
		"never": func(*puppet, message.Header, []message.Payload) {},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := settled(t)
			r.in(core.Command{Do: core.RekeyIKE})
			h, asked := p.asked(message.ExchangeCreateChildSA)
			in := p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 255)...)
			says(t, in, "SA Nonce KE")
			q := p.rekeyed(true, 0xaaaa, 255, in)
			says(t, q.request(message.ExchangeInformational, deleteESP(q.spi)), "Delete")
			if len(r.children) != 0 || r.count(core.EvChildDown) != 1 {
				t.Errorf("%d CHILD SAs; %s", len(r.children), r.reasons())
			}
			late(p, h, asked)
			says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
			says(t, q.request(message.ExchangeCreateChildSA, append(q.childOffer(), nonce(4))...), "SA Nonce TSi TSr")
			r.pass(time.Second)
			if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 || r.count(core.EvIKERekeyed) != 1 {
				t.Errorf("left: %v, %d CHILD SAs; %s", r.e.SAs(), len(r.children), r.reasons())
			}
		})
	}
}

// The peer takes its successor back, as who lost the collision does: that says
// nothing about who has the CHILD SA.
func TestPeerTakesItsSuccessorBack(t *testing.T) {
	r, p := settled(t)
	r.in(core.Command{Do: core.RekeyIKE})
	h, asked := p.asked(message.ExchangeCreateChildSA)
	in := p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 0)...)
	theirs := p.rekeyed(true, 0xaaaa, 0, in)
	says(t, theirs.request(message.ExchangeInformational, deleteIKE()), "")
	p.answer(h, p.ikeRekey(0xcccc, 255)...)
	mine := p.rekeyed(false, 0xcccc, 255, asked)
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h)
	says(t, mine.request(message.ExchangeInformational, deleteESP(p.spi)), "Delete")
	if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 0 {
		t.Errorf("left: %v, %d CHILD SAs", r.e.SAs(), len(r.children))
	}
}

// A Delete for a CHILD SA that has moved on comes late, on the IKE SA that it was
// in when the peer sent it (RFC 7296 §2.25.2: it is answered as usual).
func TestDeleteAfterTheMove(t *testing.T) {
	r, p := settled(t)
	r.in(core.Command{Do: core.RekeyIKE})
	h, asked := p.asked(message.ExchangeCreateChildSA)
	p.answer(h, p.ikeRekey(0xcccc, 6)...)
	q := p.rekeyed(false, 0xcccc, 6, asked)
	says(t, p.request(message.ExchangeInformational, deleteESP(p.spi)), "Delete")
	if len(r.children) != 0 || r.count(core.EvChildDown) != 1 {
		t.Errorf("%d CHILD SAs; %s", len(r.children), r.reasons())
	}
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	says(t, q.request(message.ExchangeInformational), "")
	if r.established() != 1 || len(r.e.SAs()) != 1 {
		t.Errorf("left: %v", r.e.SAs())
	}
}

// The peer has another address (RFC 4555) and says so on its new IKE SA: the CHILD
// SA, which is still with the old one here, goes along.
func TestMoveToAnotherAddressBeforeTheMove(t *testing.T) {
	r, p := mobilePuppet(t)
	p.request(message.ExchangeInformational) // the endpoint knows now that we have it
	r.in(core.Command{Do: core.RekeyIKE})
	p.asked(message.ExchangeCreateChildSA)
	q := p.rekeyed(true, 0xaaaa, 255, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 255)...))
	q.addr = netip.MustParseAddrPort("198.51.100.7:4500")
	says(t, q.update(), "N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP)")
	h, ps := q.asked(message.ExchangeInformational)
	says(t, ps, "N(COOKIE2) N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP)")
	q.answer(h, ps...)
	if to := r.goesTo(); len(to) != 1 || to[0] != q.addr {
		t.Errorf("ESP goes to %v", to)
	}
}
