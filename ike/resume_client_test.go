package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

// lifeTicket is TICKET_LT_OPAQUE.
func lifeTicket(seconds uint32, ticket string) *message.Notify {
	return &message.Notify{Kind: message.NotifyTicketLTOpaque, Data: append(u32(seconds), ticket...)}
}

// clientOf is an endpoint that is up with the puppet, which answers its wish for a
// ticket.
func clientOf(t *testing.T, answer ...message.Payload) (*rig, *puppet) {
	t.Helper()
	r := newRig(t, initiates, resumes)
	p := newPuppet(r, 1)
	p.acceptInit()
	h, ps := p.asked(message.ExchangeIKEAuth)
	says(t, ps, "IDi N(INITIAL_CONTACT) AUTH SA TSi TSr N(TICKET_REQUEST)")
	p.answer(h, p.authPayloads(append(p.childAnswer(), answer...)...)...)
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	r.take()
	return r, p
}

// dies leaves the endpoint without an answer until it gives its IKE SA up, and
// then until it tries again.
func (p *puppet) dies() {
	p.t.Helper()
	r := p.r
	for range 400 {
		r.take()
		r.pass(time.Second)
		if r.established() == 0 {
			r.take()
			r.pass(1300 * time.Millisecond)
			return
		}
	}
	p.t.Fatal("the endpoint does not notice")
}

// presented is the IKE_SESSION_RESUME request that the endpoint sends; it stays.
func (p *puppet) presented(ticket string) {
	p.t.Helper()
	p.r.sends = p.r.sends[:min(1, len(p.r.sends))] // the others repeat it
	s := p.r.one()
	h, ps := p.open(s.Data)
	if h.Exchange != message.ExchangeSessionResume || h.Response() || h.SPIr != 0 || h.ID != 0 || h.SPIi == p.spii {
		p.t.Fatalf("the endpoint sends %v, SPIs %x %x", h.Exchange, h.SPIi, h.SPIr)
	}
	if n := findNotify(ps, message.NotifyTicketOpaque); n == nil || string(n.Data) != ticket {
		p.t.Fatalf("the ticket is not presented: %s", describe(ps))
	}
	p.got, p.initiator, p.spii, p.ni = s.Data, false, h.SPIi, bytes.Clone(findPayload[*message.Nonce](ps).Data)
	p.addr = puppetAddr
}

func (p *puppet) replyResume(spir uint64, ps ...message.Payload) {
	m := message.Message{Header: message.Header{SPIi: p.spii, SPIr: spir, Version: 0x20,
		Exchange: message.ExchangeSessionResume, Flags: message.FlagResponse}, Payloads: ps}
	p.sent = m.Append(nil)
	p.r.datagram(p.addr, p.sent)
}

// acceptResume takes a presented ticket: <-- Nr, and the endpoint goes on with IKE_AUTH.
func (p *puppet) acceptResume() (message.Header, []message.Payload) {
	p.t.Helper()
	p.spir, p.nr = p.spir+1, bytes.Repeat([]byte{8}, 32)
	source := natHash(p.spii, p.spir, p.addr)
	p.derive(mac(p.d, []byte("Resumption"), p.ni, p.nr))
	p.replyResume(p.spir, &message.Nonce{Data: p.nr},
		&message.Notify{Kind: message.NotifyNATDetectionSourceIP, Data: source},
		&message.Notify{Kind: message.NotifyNATDetectionDestinationIP, Data: natHash(p.spii, p.spir, p.r.local)})
	p.addr = netip.AddrPortFrom(puppetAddr.Addr(), 4500)
	return p.asked(message.ExchangeIKEAuth)
}

// The client's part: ticket, death of the peer, Ni N(TICKET_OPAQUE) --> <-- Nr,
// IDi IDr AUTH … N(TICKET_REQUEST) --> <-- IDr AUTH … N(TICKET_LT_OPAQUE), and again.
func TestClientResumes(t *testing.T) {
	r, p := clientOf(t, lifeTicket(86400, "ticket 0"))
	for round := range 3 {
		p.dies()
		p.presented(fmt.Sprint("ticket ", round))
		h, ps := p.acceptResume()
		says(t, ps, "IDi IDr N(INITIAL_CONTACT) AUTH SA TSi TSr N(TICKET_REQUEST)")
		p.proves(ps)
		p.answer(h, p.resumedPayloads(append(p.childAnswer(), lifeTicket(86400, fmt.Sprint("ticket ", round+1)))...)...)
		h, _ = p.asked(message.ExchangeInformational)
		p.answer(h)
		r.take()
		if sas := r.e.SAs(); len(sas) != 1 || !sas[0].Resumed || sas[0].State != "established" {
			t.Fatalf("%+v; %s", sas, r.reasons())
		}
	}
	if n := r.count(core.EvIKEUp); n != 4 || r.count(core.EvInitFailed)+r.count(core.EvAuthFailed) > 0 {
		t.Errorf("up %d times; %s", n, r.reasons())
	}
}

// What makes a client begin with IKE_SA_INIT and not with the ticket.
func TestClientDoesNotResume(t *testing.T) {
	tests := []struct {
		name   string
		answer []message.Payload
		then   func(r *rig, p *puppet)
	}{
		{"there was no ticket", nil, func(_ *rig, p *puppet) { p.dies() }},
		{"TICKET_NACK", []message.Payload{note(message.NotifyTicketNack)}, func(_ *rig, p *puppet) { p.dies() }},
		{"a ticket of no bytes", []message.Payload{lifeTicket(86400, "")}, func(_ *rig, p *puppet) { p.dies() }},
		{"a ticket of no time", []message.Payload{lifeTicket(0, "ticket")}, func(_ *rig, p *puppet) { p.dies() }},
		{"too short", []message.Payload{&message.Notify{Kind: message.NotifyTicketLTOpaque, Data: []byte{1, 2, 3}}}, func(_ *rig, p *puppet) { p.dies() }},
		{"too long", []message.Payload{lifeTicket(86400, string(make([]byte, 5000)))}, func(_ *rig, p *puppet) { p.dies() }},
		{"it expired", []message.Payload{lifeTicket(60, "ticket")}, func(_ *rig, p *puppet) { p.dies() }},
		{"the peer deleted the IKE SA", []message.Payload{lifeTicket(86400, "ticket")}, func(r *rig, p *puppet) {
			says(p.t, p.request0(message.ExchangeInformational, deleteIKE()), "")
			r.take()
			r.pass(1300 * time.Millisecond)
		}},
		{"we deleted the IKE SA", []message.Payload{lifeTicket(86400, "ticket")}, func(r *rig, p *puppet) {
			r.in(core.Command{Do: core.KillAll})
			h, _ := p.asked(message.ExchangeInformational)
			p.answer(h)
			r.pass(1300 * time.Millisecond)
		}},
		{"the peer's configuration is another", []message.Payload{lifeTicket(86400, "ticket")}, func(r *rig, p *puppet) {
			r.in(another(resumes, func(c *core.Config) { c.Peers[0].Profile.DPD = time.Hour }))
			h, _ := p.asked(message.ExchangeInformational)
			p.answer(h)
			r.pass(1300 * time.Millisecond)
		}},
		{"the profile has no resumption any more", []message.Payload{lifeTicket(86400, "ticket")}, func(r *rig, p *puppet) {
			for r.established() > 0 {
				r.pass(time.Second)
			}
			r.in(another())
			r.take()
			r.pass(1300 * time.Millisecond)
		}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			r, p := clientOf(t, c.answer...)
			c.then(r, p)
			if len(r.sends) == 0 {
				t.Fatalf("nothing is sent; %s", r.reasons())
			}
			r.sends = r.sends[len(r.sends)-1:]
			p.addr = puppetAddr
			p.called()
			if len(r.e.sessions) != 0 {
				t.Error("a session is kept")
			}
		})
	}
}

// What a gateway can answer to a ticket but yes: the client makes a new IKE SA at
// once, and forgets the ticket.
func TestClientFallsBack(t *testing.T) {
	tests := map[string]func(r *rig, p *puppet){
		"TICKET_NACK":       func(_ *rig, p *puppet) { p.replyResume(0, note(message.NotifyTicketNack)) },
		"an error":          func(_ *rig, p *puppet) { p.replyResume(0, note(message.NotifyNoProposalChosen)) },
		"nothing of sense":  func(_ *rig, p *puppet) { p.replyResume(0, note(message.NotifyMOBIKESupported)) },
		"a cookie, then no": func(_ *rig, p *puppet) { p.cookieFirst(); p.replyResume(0, note(message.NotifyTicketNack)) },
		"cookies for ever": func(_ *rig, p *puppet) {
			for range 6 {
				p.cookieOnce()
			}
		},
		"no NAT detection":    func(_ *rig, p *puppet) { p.replyResume(5, nonce(1)) },
		"a cookie of nothing": func(_ *rig, p *puppet) { p.replyResume(0, note(message.NotifyCookie)) },
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			r, p := clientOf(t, lifeTicket(86400, "ticket"))
			p.dies()
			p.presented("ticket")
			old := p.spii
			answer(r, p)
			p.acceptInit()
			if p.spii == old {
				t.Error("the SPI is the same")
			}
			h, ps := p.asked(message.ExchangeIKEAuth)
			says(t, ps, "IDi N(INITIAL_CONTACT) AUTH SA TSi TSr N(TICKET_REQUEST)")
			p.answer(h, p.authPayloads(p.childAnswer()...)...)
			if sas := r.e.SAs(); len(sas) != 1 || sas[0].Resumed || len(r.e.sessions) != 0 {
				t.Errorf("%+v, %d sessions", sas, len(r.e.sessions))
			}
			if e := r.event(core.EvNotify); e.Exchange != "IKE_SESSION_RESUME" {
				t.Errorf("%+v", e)
			}
		})
	}
}

// cookieOnce asks for a cookie; cookieFirst checks that the request comes again
// with it, else unchanged.
func (p *puppet) cookieOnce() {
	p.r.take()
	p.replyResume(0, &message.Notify{Kind: message.NotifyCookie, Data: []byte("a cookie")})
}

func (p *puppet) cookieFirst() {
	p.t.Helper()
	first := p.got
	p.cookieOnce()
	s := p.r.one()
	_, a := p.open(first)
	_, b := p.open(s.Data)
	_, x := message.AppendPayloads(nil, a)
	_, y := message.AppendPayloads(nil, b[1:])
	if n, ok := b[0].(*message.Notify); !ok || n.Kind != message.NotifyCookie || !bytes.Equal(x, y) {
		p.t.Errorf("after the cookie the request is %s", describe(b))
	}
	p.got = s.Data
}

// A cookie, and then the ticket is taken.
func TestClientShowsCookie(t *testing.T) {
	r, p := clientOf(t, lifeTicket(86400, "ticket"))
	p.dies()
	p.presented("ticket")
	p.cookieFirst()
	h, ps := p.acceptResume()
	p.proves(ps)
	p.answer(h, p.resumedPayloads(p.childAnswer()...)...)
	if sas := r.e.SAs(); len(sas) != 1 || !sas[0].Resumed {
		t.Errorf("%+v", sas)
	}
}

// A gateway that says nothing to a ticket is asked with IKE_SA_INIT after a quarter
// of a minute. If it says nothing to that either, the network may be down: the
// ticket is presented again.
func TestNobodyAnswersATicket(t *testing.T) {
	r, p := clientOf(t, lifeTicket(86400, "ticket"))
	p.dies()
	p.presented("ticket")
	r.pass(15 * time.Second)
	r.take()
	r.pass(2 * time.Second)
	r.sends = r.sends[:1]
	p.called()
	for len(r.sends) == 0 || mustHeader(t, r.sends[0].Data).Exchange != message.ExchangeSessionResume {
		r.take()
		r.pass(time.Second)
	}
	p.presented("ticket")
	h, ps := p.acceptResume()
	p.proves(ps)
	p.answer(h, p.resumedPayloads(p.childAnswer()...)...)
	if sas := r.e.SAs(); len(sas) != 1 || !sas[0].Resumed || len(r.e.sessions) != 0 {
		t.Errorf("%+v, %d sessions", sas, len(r.e.sessions))
	}
}

func mustHeader(t *testing.T, b []byte) message.Header {
	t.Helper()
	h, err := message.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A gateway that takes the ticket and cannot prove that it has the keys, or is
// somebody else, is refused; what follows is a whole handshake.
func TestFalseGateway(t *testing.T) {
	for name, say := range map[string]func(p *puppet) []message.Payload{
		"a wrong proof": func(p *puppet) []message.Payload {
			ps := p.resumedPayloads(p.childAnswer()...)
			findPayload[*message.Auth](ps).Data[3] ^= 1
			return ps
		},
		"the pre-shared key": func(p *puppet) []message.Payload { return p.authPayloads(p.childAnswer()...) },
		"no proof":           func(p *puppet) []message.Payload { return append(p.resumedPayloads()[:1], p.childAnswer()...) },
		"another ID": func(p *puppet) []message.Payload {
			p.id = fqdn("else.example")
			return p.resumedPayloads(p.childAnswer()...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := clientOf(t, lifeTicket(86400, "ticket"))
			p.dies()
			p.presented("ticket")
			h, _ := p.acceptResume()
			p.answer(h, say(p)...)
			if r.established() != 0 || r.count(core.EvAuthFailed) != 1 {
				t.Fatalf("%v; %s", r.e.SAs(), r.reasons())
			}
			_, ps := p.asked(message.ExchangeInformational)
			says(t, ps, "N(AUTHENTICATION_FAILED) Delete")
			r.take()
			r.pass(3 * time.Second)
			r.sends = r.sends[:1]
			p.addr = puppetAddr
			p.called()
		})
	}
}

// TICKET_ACK: the client asks again; it also asks before a ticket expires, and for
// one of the successor at a rekey; and it takes one that comes unasked.
func TestClientAsksAgain(t *testing.T) {
	r, p := clientOf(t, note(message.NotifyTicketAck))
	r.pass(31 * time.Second)
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "N(TICKET_REQUEST)")
	p.answer(h, lifeTicket(60, "first"))
	r.pass(55 * time.Second)
	h, ps = p.asked(message.ExchangeInformational)
	says(t, ps, "N(TICKET_REQUEST)")
	p.answer(h, lifeTicket(86400, "second"))
	says(t, p.request0(message.ExchangeInformational, lifeTicket(86400, "third")), "")
	p.dies()
	p.presented("third")
}

func TestClientAsksAfterRekey(t *testing.T) {
	r, p := clientOf(t, lifeTicket(86400, "ticket"))
	r.in(core.Command{Do: core.RekeyIKE})
	h, ps := p.asked(message.ExchangeCreateChildSA)
	ni := bytes.Clone(findPayload[*message.Nonce](ps).Data)
	var drop []byte
	p.agree(ps, &drop)
	var spii uint64
	for _, b := range findPayload[*message.SA](ps).Proposals[0].SPI {
		spii = spii<<8 | uint64(b)
	}
	nr := nonce(0x44)
	p.answer(h, saOf(withSPI(ikeProposal, u64(0x99))), nr, &message.KE{Group: 31, Data: p.priv.PublicKey().Bytes()})
	n := p.successor(false, spii, 0x99, ni, nr.Data)
	h, ps = n.asked(message.ExchangeInformational)
	says(t, ps, "N(TICKET_REQUEST)")
	n.answer(h, lifeTicket(86400, "its own"))
	h, _ = p.asked(message.ExchangeInformational) // Delete of the old one
	p.answer(h)
	n.dies()
	n.presented("its own")
	_, ps = n.acceptResume()
	n.proves(ps)
}

// --- our own pair ---

func bothResume(a, b *core.Config) { resumes(a); resumes(b) }

// outage cuts the network until a gives its IKE SA up.
func (p *pair) outage() {
	p.t.Helper()
	n := p.a.count(core.EvPeerDead)
	was := p.drop
	p.drop = func(*side, message.Header) bool { return true }
	p.until(10*time.Minute, "a notices", func() bool { return p.a.count(core.EvPeerDead) > n })
	p.drop = was
}

func (p *pair) resumedNow() bool {
	for _, s := range []*side{p.a, p.b} {
		for _, sa := range s.e.SAs() {
			if sa.State == "established" && !sa.Resumed {
				return false
			}
		}
	}
	return p.bothUp() && p.a.established() == 1 && p.b.established() == 1
}

// resumedLife is up, lost, resumed, rekeyed, lost, resumed.
func resumedLife(p *pair, mishap func()) {
	p.t.Helper()
	p.up()
	p.until(time.Minute, "up", p.bothUp)
	p.run(time.Second)
	p.outage()
	if mishap != nil {
		mishap()
	}
	p.until(3*time.Minute, "up again", func() bool { return p.a.established() == 1 && p.b.established() == 1 && p.bothUp() })
	p.run(10 * time.Second)
	for range 3 {
		p.a.esp()
		p.b.esp()
		p.run(time.Second)
	}
	for _, s := range []*side{p.a, p.b} {
		if len(s.lost) > 0 || s.established() != 1 || len(s.children) != 1 {
			p.t.Errorf("%s: lost %v, %v, %d CHILD SAs", s.name, s.lost, s.e.SAs(), len(s.children))
		}
	}
}

func TestResumption(t *testing.T) {
	p := newPair(t, 3, goodLink, passive, bothResume)
	p.log = testing.Verbose()
	resumedLife(p, nil)
	if !p.resumedNow() {
		t.Fatalf("not resumed: %v", p.a.e.SAs())
	}
	inits := func() (n int) {
		for _, h := range p.a.sent {
			if h.Exchange == message.ExchangeIKESAInit {
				n++
			}
		}
		return n
	}
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.run(10 * time.Second)
	p.outage()
	p.until(time.Minute, "resumed again", p.resumedNow)
	if inits() != 1 {
		t.Errorf("%d IKE_SA_INIT", inits())
	}
	p.b.in(core.Command{Do: core.KillAll})
	p.until(time.Minute, "made anew", func() bool { return p.bothUp() && !p.a.e.SAs()[0].Resumed })
}

// A ticket is for the gateway that gave it: where the peer's name has another
// address by now, somebody else may be there.
func TestTicketIsForItsGateway(t *testing.T) {
	for at, want := range map[string]message.ExchangeType{"192.0.2.2": message.ExchangeSessionResume, "203.0.113.2": message.ExchangeIKESAInit} {
		t.Run(at, func(t *testing.T) {
			p := newPair(t, 42, goodLink, passive, bothResume, func(a, _ *core.Config) {
				a.Peers[0].Address, a.Peers[0].DNSName = netip.Prefix{}, "b.example"
			})
			p.log = testing.Verbose()
			address := netip.MustParseAddr("192.0.2.2")
			p.a.system = func(a core.Ask) (core.Answer, bool) {
				if _, ok := a.Work.(core.Resolve); !ok {
					return core.Answer{}, false
				}
				return core.Answer{ID: a.ID, Data: address.AsSlice()}, true
			}
			p.up()
			p.until(time.Minute, "up", p.bothUp)
			p.run(time.Second)
			p.outage()
			address = netip.MustParseAddr(at)
			p.byIP[address] = p.b
			before := len(p.a.sent)
			p.until(3*time.Minute, "a begins", func() bool { return len(p.a.sent) > before })
			if got := p.a.sent[before].Exchange; got != want {
				t.Errorf("it begins with %v, not %v", got, want)
			}
		})
	}
}

// The client comes back as the gateway's keys are lost: TICKET_NACK, and a whole
// handshake at once.
func TestResumptionWithAForgetfulGateway(t *testing.T) {
	p := newPair(t, 4, goodLink, passive, bothResume)
	resumedLife(p, func() {
		p.b.keys = nil
		p.b.boot(99)
		p.b.in(core.Reconfigure{Config: p.b.cfg})
	})
	if p.resumedNow() || p.a.count(core.EvIKEUp) != 2 {
		t.Errorf("%v", p.a.e.SAs())
	}
}

// The client comes back to a gateway that was killed and has the keys of its tickets.
func TestResumptionAfterAKill(t *testing.T) {
	p := newPair(t, 6, goodLink, passive, bothResume)
	resumedLife(p, func() {
		p.b.boot(98)
		p.b.in(core.Reconfigure{Config: p.b.cfg})
	})
	if !p.resumedNow() {
		t.Errorf("%v", p.a.e.SAs())
	}
}

// Each message of a resumption is lost, doubled or late: both ends are up again
// with one IKE SA and one CHILD SA, whatever it took.
func TestResumptionMishaps(t *testing.T) {
	for name, do := range map[string]func(p *pair, deliver func()){
		"lost":      func(*pair, func()) {},
		"doubled":   func(_ *pair, deliver func()) { deliver(); deliver() },
		"late":      func(p *pair, deliver func()) { p.clock.After(700*time.Millisecond, deliver) },
		"very late": func(p *pair, deliver func()) { deliver(); p.clock.After(20*time.Second, deliver) },
	} {
		for i := range 8 {
			t.Run(fmt.Sprint(name, " ", i), func(t *testing.T) {
				p := newPair(t, 5, goodLink, passive, bothResume)
				resumedLife(p, func() {
					n := 0
					p.carry = func(deliver func()) {
						n++
						if n-1 == i {
							do(p, deliver)
							return
						}
						deliver()
					}
				})
				if !p.resumedNow() {
					t.Errorf("not resumed: %v", p.a.e.SAs())
				}
			})
		}
	}
}

// Storms: rekeys with tickets asked for in between, and outages on a network that
// loses, doubles and reorders.
func TestRekeysWithTicketsOnABadNetwork(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { storm(t, seed, bothResume) })
	}
}

func TestOutagesOnABadNetwork(t *testing.T) {
	resumptions := 0
	for seed := range uint64(20) {
		p := newPair(t, seed, simnet.Link{Loss: 0.1, Dup: 0.1, Reorder: 0.1, Delay: 30 * time.Millisecond, Jitter: 40 * time.Millisecond}, passive, bothResume, short)
		p.askDelay = 50 * time.Millisecond
		p.up()
		for range 6 {
			p.until(5*time.Minute, "up", p.bothUp)
			p.run(time.Duration(seed) * 20 * time.Second)
			p.outage()
			p.until(5*time.Minute, "up again", p.bothUp)
			p.run(30 * time.Second)
			p.a.lost, p.b.lost = nil, nil
			for range 20 {
				p.a.esp()
				p.b.esp()
				p.run(time.Second)
			}
			if n := len(p.a.lost) + len(p.b.lost); n > 0 {
				t.Errorf("seed %d: %d packets could not be opened: %v %v", seed, n, p.a.lost, p.b.lost)
			}
			if p.resumedNow() {
				resumptions++
			}
		}
	}
	t.Logf("%d of 120 outages ended in a resumption", resumptions)
	if resumptions < 100 {
		t.Errorf("only %d of 120 outages ended in a resumption", resumptions)
	}
}
