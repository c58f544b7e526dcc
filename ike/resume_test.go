package ike

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// The puppet resumes by the words of RFC 5723, with key derivation of its own, so
// that an endpoint that it understands does what the RFC says.

func resumes(c *core.Config) { c.Peers[0].Profile.Resumption = true }

// granted is the ticket that TICKET_LT_OPAQUE brings.
func granted(t testing.TB, ps []message.Payload) []byte {
	t.Helper()
	n := findNotify(ps, message.NotifyTicketLTOpaque)
	if n == nil || len(n.Data) < 5 {
		t.Fatalf("there is no ticket in %s", describe(ps))
	}
	return bytes.Clone(n.Data[4:])
}

// withTicket is a client that is up and has a ticket.
func withTicket(t testing.TB, change ...func(c *core.Config)) (r *rig, p *puppet, ticket []byte) {
	t.Helper()
	r = newRig(t, append([]func(c *core.Config){resumes}, change...)...)
	p = newPuppet(r, 1)
	p.init()
	ps := p.auth(p.authPayloads(append(p.childOffer(), note(message.NotifyTicketRequest))...)...)
	return r, p, granted(t, ps)
}

func ticketNotify(ticket []byte) *message.Notify {
	return &message.Notify{Kind: message.NotifyTicketOpaque, Data: ticket}
}

// again is the puppet anew, after it lost the IKE SA p.
func (p *puppet) again(seed byte) *puppet {
	q := newPuppet(p.r, seed)
	q.id, q.psk, q.d, q.spi = p.id, "nothing that counts", p.d, p.spi+0x100
	return q
}

// resumeRequest is the IKE_SESSION_RESUME request (RFC 5723 §4.3.1).
func (p *puppet) resumeRequest(ticket []byte) []byte {
	ps := append(append([]message.Payload{}, p.first...), &message.Nonce{Data: p.ni}, ticketNotify(ticket),
		&message.Notify{Kind: message.NotifyNATDetectionSourceIP, Data: natHash(p.spii, 0, p.addr)},
		&message.Notify{Kind: message.NotifyNATDetectionDestinationIP, Data: natHash(p.spii, 0, p.r.local)})
	m := message.Message{Header: p.header(message.ExchangeSessionResume, 0, false), Payloads: ps}
	p.sent = m.Append(nil)
	return p.sent
}

// resume presents a ticket and reads what comes; the old SK_d is p.d.
func (p *puppet) resume(ticket []byte) (message.Header, []message.Payload) {
	p.t.Helper()
	p.r.take()
	p.r.datagram(p.addr, p.resumeRequest(ticket))
	return p.resumeResponse(p.r.one().Data)
}

func (p *puppet) resumeResponse(raw []byte) (message.Header, []message.Payload) {
	p.t.Helper()
	h, ps := p.open(raw)
	if h.Exchange != message.ExchangeSessionResume || h.ID != 0 {
		p.t.Fatalf("answered with %v %d", h.Exchange, h.ID)
	}
	n := findPayload[*message.Nonce](ps)
	if n == nil {
		return h, ps
	}
	p.got, p.spir, p.nr, p.nextID = raw, h.SPIr, bytes.Clone(n.Data), 1
	// SKEYSEED = prf(SK_d_old, "Resumption" | Ni | Nr)   (RFC 5723 §5.1)
	p.derive(mac(p.d, []byte("Resumption"), p.ni, p.nr))
	p.addr = netip.AddrPortFrom(p.addr.Addr(), 4500)
	return h, ps
}

// oldProof is AUTH = prf(SK_px, <message octets>) (RFC 5723 §4.3.3).
func (p *puppet) oldProof(id *message.ID) *message.Auth {
	nonce := p.nr
	if !p.initiator {
		nonce = p.ni
	}
	skp := p.p[side01(p.initiator)]
	return &message.Auth{Method: 2, Data: mac(skp, p.sent, nonce, mac(skp, id.AppendBody(nil)))}
}

func (p *puppet) resumedPayloads(more ...message.Payload) []message.Payload {
	id := &message.ID{Initiator: p.initiator, IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}
	return append([]message.Payload{id, p.oldProof(id)}, more...)
}

// proves checks the endpoint's proof.
func (p *puppet) proves(ps []message.Payload) {
	p.t.Helper()
	id, a := findPayload[*message.ID](ps), findPayload[*message.Auth](ps)
	if id == nil || a == nil {
		p.t.Fatalf("no proof in %s", describe(ps))
	}
	nonce, skp := p.ni, p.p[side01(!p.initiator)]
	if !p.initiator {
		nonce = p.nr
	}
	if want := mac(skp, p.got, nonce, mac(skp, id.AppendBody(nil))); a.Method != 2 || !bytes.Equal(a.Data, want) {
		p.t.Error("the endpoint's AUTH is not that of RFC 5723")
	}
}

const opened = "Nonce N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP) N(CHILDLESS_IKEV2_SUPPORTED)"

// A client that lost its IKE SA:
//
//	Ni N(TICKET_OPAQUE) -->  <-- Nr    IDi AUTH SA TSi TSr N(TICKET_REQUEST) -->  <-- IDr AUTH SA TSi TSr N(TICKET_LT_OPAQUE)
//
// The old IKE SA is gone without a Delete, and the new ticket resumes again.
func TestGatewayResumes(t *testing.T) {
	r, p, ticket := withTicket(t)
	for round := range 3 {
		q := p.again(byte(10 + round))
		h, ps := q.resume(ticket)
		says(t, ps, opened)
		if h.SPIr == 0 || h.SPIi != q.spii || r.established() != 1 {
			t.Fatalf("SPIs %x %x, %d IKE SAs", h.SPIi, h.SPIr, r.established())
		}
		r.datagram(puppetAddr, q.sent) // repeated: the same bytes
		if !bytes.Equal(r.one().Data, q.got) {
			t.Error("a repeated request has another answer")
		}
		in := q.auth(q.resumedPayloads(append(q.childOffer(), note(message.NotifyTicketRequest))...)...)
		says(t, in, "IDr AUTH SA TSi TSr N(TICKET_LT_OPAQUE)")
		q.proves(in)
		if sas := r.e.SAs(); len(sas) != 1 || !sas[0].Resumed || sas[0].SPIi != q.spii || sas[0].RemoteID != q.id {
			t.Fatalf("%+v", sas)
		}
		r.silent("a resumption")
		k := prfPlus(q.d, 40, q.ni, q.nr)
		left := 0
		for _, child := range r.children {
			if child.retired { // of the old IKE SA, for what is under way
				continue
			}
			left++
			if !child.In.EncKey.Equal(k[:20]) || !child.Out.EncKey.Equal(k[20:]) || child.Out.SPI != q.spi {
				t.Error("the CHILD SA is not of the new keys")
			}
		}
		if left != 1 {
			t.Errorf("%d CHILD SAs", left)
		}
		if e := r.event(core.EvIKEUp); !strings.Contains(e.Reason, "resumed") {
			t.Errorf("the event says %q", e.Reason)
		}
		// Used once, it counts no more, and costs nothing.
		_, ps = p.again(byte(20 + round)).resume(ticket)
		says(t, ps, "N(TICKET_NACK)")
		if len(r.e.SAs()) != 1 {
			t.Errorf("%d IKE SAs", len(r.e.SAs()))
		}
		p, ticket = q, granted(t, in)
	}
	says(t, p.request(message.ExchangeInformational), "")
}

// Without a wish for a ticket none is given, and a profile without resumption
// gives none.
func TestNoTicket(t *testing.T) {
	says(t, newPuppet(newRig(t, resumes), 1).connect(), "IDr AUTH SA TSi TSr")
	p := newPuppet(newRig(t), 1)
	p.init()
	says(t, p.auth(p.authPayloads(append(p.childOffer(), note(message.NotifyTicketRequest))...)...), "IDr AUTH SA TSi TSr")
	says(t, p.request(message.ExchangeInformational, note(message.NotifyTicketRequest)), "")
	// A ticket of nobody's is refused as every other.
	_, ps := p.again(2).resume(bytes.Repeat([]byte{1}, 100))
	says(t, ps, "N(TICKET_NACK)")
}

// What does not count is answered with TICKET_NACK; nothing is kept, the IKE SA
// that is there stays, and the client comes in by a whole handshake.
func TestTicketNack(t *testing.T) {
	reload := func(change func(c *core.Config)) func(r *rig, p *puppet, ticket []byte) []byte {
		return func(r *rig, _ *puppet, ticket []byte) []byte {
			cfg, _ := pairConfigs()
			cfg.Peers[0].Passive = true
			resumes(cfg)
			change(cfg)
			r.in(core.Reconfigure{Config: cfg})
			return ticket
		}
	}
	tests := []struct {
		name   string
		before func(r *rig, p *puppet, ticket []byte) []byte
		reason string
	}{
		{"none", func(*rig, *puppet, []byte) []byte { return nil }, "none of this gateway's"},
		{"forged", func(_ *rig, _ *puppet, k []byte) []byte { k[len(k)/2] ^= 1; return k }, "forged"},
		{"of another gateway", func(_ *rig, _ *puppet, k []byte) []byte { k[3] ^= 1; return k }, "no key for it"},
		{"cut", func(_ *rig, _ *puppet, k []byte) []byte { return k[:len(k)-1] }, "forged"},
		{"expired", func(r *rig, _ *puppet, k []byte) []byte { r.pass(24 * time.Hour); return k }, "expired"},
		{"the client deleted its IKE SA", func(_ *rig, p *puppet, k []byte) []byte {
			says(p.t, p.request(message.ExchangeInformational, deleteIKE()), "")
			return k
		}, "was deleted"},
		{"we deleted the IKE SA", func(r *rig, p *puppet, k []byte) []byte {
			r.in(core.Command{Do: core.KillAll})
			h, _ := p.asked(message.ExchangeInformational)
			p.answer(h)
			return k
		}, "was deleted"},
		{"the secret is another", reload(func(c *core.Config) { c.Peers[0].Identities[0].Secret = secret.Bytes("another") }), "deleted"},
		{"the identity is gone", reload(func(c *core.Config) {
			c.Peers[0].Identities = []*core.Identity{{Auth: core.AuthPSK, RemoteID: fqdn("else.example"), Secret: secret.Bytes("x")}}
		}), "deleted"},
		{"the cipher is not allowed any more", reload(func(c *core.Config) {
			c.Peers[0].Profile.Encrs = []*suite.Encr{suite.EncrByIKEName("aes-256")}
		}), "deleted"},
		{"the profile has no resumption any more", reload(func(c *core.Config) { c.Peers[0].Profile.Resumption = false }), "no resumption"},
		{"another peer at the address", reload(func(c *core.Config) { c.Peers[0].Name = "c" }), "deleted"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			r, p, ticket := withTicket(t)
			was := len(r.e.SAs())
			ticket = c.before(r, p, ticket)
			r.pass(2 * time.Minute)
			r.take()
			q := p.again(9)
			h, ps := q.resume(ticket)
			says(t, ps, "N(TICKET_NACK)")
			if h.SPIr != 0 || len(r.e.SAs()) > was || len(r.e.strangers.half) > 0 {
				t.Errorf("SPIr %x, %d IKE SAs, %d half-open", h.SPIr, len(r.e.SAs()), len(r.e.strangers.half))
			}
			e := r.event(core.EvNotify)
			if !strings.Contains(e.Reason, c.reason) || e.Exchange != "IKE_SESSION_RESUME" || e.Peer == "" {
				t.Errorf("the event says %q of %q, not %q", e.Reason, e.Peer, c.reason)
			}
			r.silent("a refusal")
			if c.name == "forged" {
				q.psk = p.psk
				says(t, q.connect(), "IDr AUTH SA TSi TSr")
			}
		})
	}
}

// The same changes of the configuration, to a gateway that was restarted with the
// keys of its tickets: no deletion has voided them, what they say has to.
func TestTicketsAfterARestart(t *testing.T) {
	r, p, ticket := withTicket(t)
	var keys []core.TicketKey
	for _, o := range r.others {
		if k, ok := o.(core.KeepTicketKeys); ok {
			keys = k.Keys
		}
	}
	if len(keys) != 1 {
		t.Fatalf("%d keys were put out", len(keys))
	}
	tests := []struct {
		name   string
		change func(c *core.Config)
		reason string // empty: it counts
	}{
		{"as it was", func(*core.Config) {}, ""},
		{"secret", func(c *core.Config) { c.Peers[0].Identities[0].Secret = secret.Bytes("another") }, "is not what it was"},
		{"another identity before", func(c *core.Config) {
			c.Peers[0].Identities = append([]*core.Identity{{Auth: core.AuthPSK, RemoteID: fqdn("else.example"), Secret: secret.Bytes("x")}}, c.Peers[0].Identities...)
		}, ""},
		{"my-id", func(c *core.Config) { c.Peers[0].Identities[0].MyID = fqdn("new.example") }, "is not what it was"},
		{"cipher", func(c *core.Config) { c.Peers[0].Profile.Encrs = []*suite.Encr{suite.EncrByIKEName("aes-256")} }, "does not allow the algorithms"},
		{"group", func(c *core.Config) { c.Peers[0].Profile.Groups = []*suite.Group{suite.GroupByName("ecp256")} }, "does not allow the algorithms"},
		{"name of the peer", func(c *core.Config) { c.Peers[0].Name = "c" }, `peer "b"`},
		{"no resumption", func(c *core.Config) { c.Peers[0].Profile.Resumption = false }, "no resumption"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			again := newRig(t, resumes, c.change)
			again.in(core.TicketKeys{Keys: ticketKeys(keys)})
			q := p.again(3)
			q.r = again
			_, ps := q.resume(ticket)
			if c.reason == "" {
				says(t, ps, opened)
				in := q.auth(q.resumedPayloads(q.childOffer()...)...)
				says(t, in, "IDr AUTH SA TSi TSr")
				q.proves(in)
				return
			}
			says(t, ps, "N(TICKET_NACK)")
			if e := again.event(core.EvNotify); !strings.Contains(e.Reason, c.reason) {
				t.Errorf("the event says %q, not %q", e.Reason, c.reason)
			}
		})
	}
	q := p.again(4)
	q.r = newRig(t, resumes)
	_, ps := q.resume(ticket)
	says(t, ps, "N(TICKET_NACK)") // without the keys
}

// Who presents a ticket without its keys, or says that it is somebody else, is
// refused; the old IKE SA stays, and the ticket counts for whom it is for.
func TestStolenTicket(t *testing.T) {
	tests := []struct {
		name string
		say  func(q *puppet) []message.Payload
	}{
		{"without the keys", func(q *puppet) []message.Payload {
			ps := q.resumedPayloads(q.childOffer()...)
			findPayload[*message.Auth](ps).Data[0] ^= 1
			return ps
		}},
		{"with the pre-shared key", func(q *puppet) []message.Payload {
			q.psk = "thisisnotasecurepsk"
			return q.authPayloads(q.childOffer()...)
		}},
		{"without a proof", func(q *puppet) []message.Payload {
			return append(q.resumedPayloads()[:1], q.childOffer()...)
		}},
		{"another IDi", func(q *puppet) []message.Payload {
			q.id = fqdn("somebody.example")
			return q.resumedPayloads(q.childOffer()...)
		}},
		{"another IDr", func(q *puppet) []message.Payload {
			return append(q.resumedPayloads(q.childOffer()...), &message.ID{IDType: 2, Data: []byte("else.example")})
		}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			r, p, ticket := withTicket(t)
			q := p.again(5)
			_, ps := q.resume(ticket)
			says(t, ps, opened)
			says(t, q.auth(c.say(q)...), "N(AUTHENTICATION_FAILED)")
			if r.established() != 1 || len(r.e.SAs()) != 1 {
				t.Errorf("%v", r.e.SAs())
			}
			says(t, p.request(message.ExchangeInformational), "")
			q = p.again(6)
			q.resume(ticket)
			says(t, q.auth(q.resumedPayloads(q.childOffer()...)...), "IDr AUTH SA TSi TSr")
		})
	}
}

// A ticket presented twice before it is used: the first IKE_AUTH counts.
func TestTicketPresentedTwice(t *testing.T) {
	r, p, ticket := withTicket(t)
	q1, q2 := p.again(5), p.again(6)
	q1.resume(ticket)
	q2.resume(ticket)
	if r.established() != 1 || len(r.e.strangers.half) != 2 {
		t.Fatalf("%d half-open", len(r.e.strangers.half))
	}
	says(t, q2.auth(q2.resumedPayloads(q2.childOffer()...)...), "IDr AUTH SA TSi TSr")
	says(t, q1.auth(q1.resumedPayloads(q1.childOffer()...)...), "N(AUTHENTICATION_FAILED)")
	if r.established() != 1 || len(r.e.SAs()) != 1 {
		t.Errorf("%v", r.e.SAs())
	}
	says(t, q2.request(message.ExchangeInformational), "")
}

// Under pressure a ticket needs a cookie as IKE_SA_INIT does, and tickets make no
// more half-open IKE SAs than that.
func TestTicketUnderPressure(t *testing.T) {
	r, p, ticket := withTicket(t, func(c *core.Config) { c.CookieThreshold, c.MaxHalfOpen = 1, 8 })
	newPuppet(r, 30).init()
	q := p.again(5)
	h, ps := q.resume(ticket)
	says(t, ps, "N(COOKIE)")
	if h.SPIr != 0 || len(r.e.strangers.half) != 1 {
		t.Fatalf("%d half-open", len(r.e.strangers.half))
	}
	q.first = []message.Payload{ps[0]}
	q.addr = netip.MustParseAddrPort("192.0.2.2:501")
	_, ps = q.resume(ticket) // from elsewhere
	says(t, ps, "N(COOKIE)")
	q.first, q.addr = []message.Payload{ps[0]}, netip.MustParseAddrPort("192.0.2.2:501")
	r.datagram(q.addr, q.resumeRequest(bytes.Repeat([]byte{7}, 100))) // a valid cookie makes no ticket
	_, ps = q.open(r.one().Data)
	says(t, ps, "N(TICKET_NACK)")
	if len(r.e.strangers.half) != 1 {
		t.Errorf("%d half-open", len(r.e.strangers.half))
	}
}

// The ticket of an IKE SA can be asked for at any time, and that of its successor
// when it is rekeyed (RFC 5723 §4.1).
func TestTicketLater(t *testing.T) {
	r := newRig(t, resumes)
	p := newPuppet(r, 1)
	p.connect()
	in := p.request(message.ExchangeInformational, note(message.NotifyTicketRequest))
	says(t, in, "N(TICKET_LT_OPAQUE)")
	first := granted(t, in)

	ni := nonce(0x33)
	in = p.request(message.ExchangeCreateChildSA, saOf(withSPI(ikeProposal, u64(77))), ni, &message.KE{Group: 31, Data: p.priv.PublicKey().Bytes()}, note(message.NotifyTicketRequest))
	says(t, in, "SA Nonce KE N(TICKET_LT_OPAQUE)")
	var nr []byte
	p.agree(in, &nr)
	spir := findPayload[*message.SA](in).Proposals[0].SPI
	var s uint64
	for _, b := range spir {
		s = s<<8 | uint64(b)
	}
	n := p.successor(true, 77, s, ni.Data, nr)
	second := granted(t, in)
	says(t, p.request(message.ExchangeInformational, deleteIKE()), "")

	q := n.again(40)
	_, ps := q.resume(second)
	says(t, ps, opened)
	in = q.auth(q.resumedPayloads(q.childOffer()...)...)
	says(t, in, "IDr AUTH SA TSi TSr")
	q.proves(in)
	if sas := r.e.SAs(); len(sas) != 1 || !sas[0].Resumed {
		t.Errorf("%+v", sas)
	}
	_, ps = p.again(41).resume(first) // it was the same client's, and is as little as the one that it lost
	says(t, ps, opened)
}

// The time until a proof has to be made anew goes on across resumptions.
func TestResumptionProvesNothing(t *testing.T) {
	r, p, ticket := withTicket(t, func(c *core.Config) { c.Peers[0].Profile.Reauth = 10 * time.Hour; c.Peers[0].Profile.DPD = 0 })
	r.pass(6 * time.Hour)
	r.take()
	q := p.again(5)
	q.resume(ticket)
	in := q.auth(q.resumedPayloads(append(q.childOffer(), note(message.NotifyTicketRequest))...)...)
	says(t, in, "IDr AUTH SA TSi TSr N(AUTH_LIFETIME) N(TICKET_LT_OPAQUE)")
	if n := findNotify(in, message.NotifyAuthLifetime); !bytes.Equal(n.Data, u32(4*3600)) {
		t.Errorf("AUTH_LIFETIME is %x, not 4 hours", n.Data)
	}
	if n := findNotify(in, message.NotifyTicketLTOpaque); !bytes.Equal(n.Data[:4], u32(4*3600)) {
		t.Errorf("the ticket counts for %x, not 4 hours", n.Data[:4])
	}
	r.pass(4*time.Hour + 20*time.Second)
	_, ps := q.again(6).resume(granted(t, in))
	says(t, ps, "N(TICKET_NACK)")
	r.pass(2 * time.Minute)
	if r.established() != 0 {
		t.Error("the IKE SA outlived the proofs")
	}
}
