package ike

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// nothingLeft checks that an endpoint keeps nothing about its peers but what
// waits for its end: final responses.
func (r *rig) nothingLeft() {
	r.t.Helper()
	e := r.e
	if len(e.bySPI)+len(e.others.byPeer)+len(e.others.byID)+len(e.strangers.half)+len(e.children)+len(e.resolving) > 0 || len(r.children) > 0 {
		r.t.Errorf("left: %d SAs, %d peers, %d half-open, %d CHILD SAs, %d questions, %d in the data plane",
			len(e.bySPI), len(e.others.byPeer), len(e.strangers.half), len(e.children), len(e.resolving), len(r.children))
	}
	r.pass(finalLife + time.Second)
	if len(e.finals) > 0 {
		r.t.Errorf("%d final responses", len(e.finals))
	}
	if at, ok := e.Deadline(); ok {
		r.t.Errorf("a timer is left, due in %v", at.Sub(r.now))
	}
}

// The peer deletes: D(IKE) -->  <-- (nothing inside); and again, for the answer
// was lost: the same bytes.
func TestPeerDeletesIKE(t *testing.T) {
	r, p := settled(t)
	raw := p.seal(p.header(message.ExchangeInformational, p.nextID, false), deleteIKE())
	r.datagram(p.addr, raw)
	first := r.one()
	_, ps := p.open(first.Data)
	says(t, ps, "")
	if r.event(core.EvIKEDown).Reason != "the peer deleted it" || r.count(core.EvChildDown) != 1 {
		t.Error(r.reasons())
	}
	for range core.Tries {
		r.datagram(p.addr, raw)
		if again := r.one(); !bytes.Equal(again.Data, first.Data) || again.Remote != first.Remote {
			t.Error("other bytes, or to somewhere else")
		}
	}
	r.datagram(p.addr, raw)
	r.silent("a repetition too many")
	r.nothingLeft()
}

// Both delete at once.
func TestDeletesCross(t *testing.T) {
	r, p := settled(t)
	r.in(core.Command{Do: core.KillAll})
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
	p.answer(h)
	r.nothingLeft()
}

// The endpoint deletes and nobody answers: it ends all the same.
func TestDeleteUnanswered(t *testing.T) {
	r, _ := settled(t)
	r.in(core.Command{Do: core.KillAll})
	r.pass(71 * time.Second)
	if n := len(r.take()); n != core.Tries {
		t.Errorf("the Delete was sent %d times", n)
	}
	r.pass(time.Second)
	r.nothingLeft()
	if r.count(core.EvPeerDead) != 0 {
		t.Error("who was told to go is not dead")
	}
}

// Several CHILD SAs in one Delete, some of them twice, some not there, some of
// another protocol.
func TestDeleteMany(t *testing.T) {
	r, p := settled(t)
	a := p.spi
	p.request(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(1))...)
	b := p.spi
	p.request(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(2))...)
	in := p.request(message.ExchangeInformational,
		&message.Delete{Protocol: 2, SPIs: [][]byte{u32(p.spi)}}, deleteESP(a, a, 0xdead), deleteESP(b, a),
		&message.Delete{Protocol: 3, SPIs: [][]byte{{1, 2}}})
	d := findPayload[*message.Delete](in)
	if d == nil || len(d.SPIs) != 2 || len(in) != 1 {
		t.Fatalf("answered with %s %v", describe(in), d)
	}
	r.pass(10 * time.Second)
	if len(r.children) != 1 || r.kidIn(p.peerSPI) == nil {
		t.Errorf("%d CHILD SAs are left", len(r.children))
	}
}

// A silent peer is asked after the DPD interval, and lives.
func TestDPD(t *testing.T) {
	r, p := settled(t)
	r.pass(119 * time.Second)
	r.silent("a minute and a half")
	r.pass(2 * time.Second)
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "")
	p.answer(h)
	// Traffic says the same: nobody is asked.
	for range 10 {
		r.pass(time.Minute)
		r.in(core.Alive{Child: 1})
	}
	r.silent("ten minutes of traffic")
	r.pass(time.Minute)
	p.request(message.ExchangeInformational)
	r.pass(100 * time.Second)
	r.silent("a request of the peer a moment ago")
	// An old message that somebody recorded is no sign of life.
	old := p.seal(p.header(message.ExchangeInformational, p.nextID-1, false))
	older := p.seal(p.header(message.ExchangeInformational, p.nextID-2, false))
	r.datagram(p.addr, old)
	r.datagram(p.addr, older)
	r.take()
	r.pass(30 * time.Second)
	p.asked(message.ExchangeInformational)
	// No answer: dead, and since we wait for the peer nothing more happens.
	r.pass(80 * time.Second)
	if e := r.event(core.EvPeerDead); !strings.Contains(e.Reason, "check that UDP 500 and 4500 reach the peer") {
		t.Error(e.Reason)
	}
	r.take()
	r.nothingLeft()
	r.silent("the end")
}

// A dead peer that we may initiate to is called again, ever more slowly.
func TestDeadPeerIsCalledAgain(t *testing.T) {
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	p.accept()
	r.pass(2*time.Minute + 75*time.Second)
	r.event(core.EvPeerDead)
	calls := map[uint64]time.Duration{}
	start := r.now
	for range 20 * 60 {
		r.pass(time.Second)
		for _, s := range r.take() {
			if h, _ := message.ParseHeader(s.Data); h.Exchange == message.ExchangeIKESAInit && calls[h.SPIi] == 0 {
				calls[h.SPIi] = r.now.Sub(start)
			}
		}
	}
	if n := len(calls); n < 8 || n > 14 {
		t.Errorf("%d calls in 20 minutes", n)
	}
}

func TestCommands(t *testing.T) {
	t.Run("kill one", func(t *testing.T) {
		r, p := settled(t)
		r.in(core.Command{Do: core.KillSA, SA: 99})
		r.silent("another SA")
		r.in(core.Command{Do: core.KillSA, SA: r.e.SAs()[0].ID})
		h, ps := p.asked(message.ExchangeInformational)
		if d := findPayload[*message.Delete](ps); d == nil || d.Protocol != 1 {
			t.Fatalf("the endpoint says %s", describe(ps))
		}
		p.answer(h)
		r.nothingLeft()
	})
	t.Run("flush", func(t *testing.T) {
		r := newRig(t, initiates)
		p := newPuppet(r, 1)
		p.accept()
		r.in(core.Command{Do: core.FlushSAs})
		h, ps := p.asked(message.ExchangeInformational)
		says(t, ps, "Delete")
		p.answer(h, deleteESP(p.spi))
		if len(r.children) != 0 || r.established() != 1 {
			t.Errorf("%d CHILD SAs, %d IKE SAs", len(r.children), r.established())
		}
		r.pass(1300 * time.Millisecond) // and one comes up again
		_, ps = p.asked(message.ExchangeCreateChildSA)
		says(t, ps, "SA Nonce TSi TSr")
	})
	t.Run("rekey children", func(t *testing.T) {
		r, p := settled(t)
		r.in(core.Command{Do: core.RekeyChildren})
		_, ps := p.asked(message.ExchangeCreateChildSA)
		says(t, ps, "N(REKEY_SA) SA Nonce TSi TSr")
	})
	t.Run("shutdown", func(t *testing.T) {
		r := newRig(t, initiates)
		p := newPuppet(r, 1)
		p.accept()
		r.in(core.Command{Do: core.Shutdown})
		h, _ := p.asked(message.ExchangeInformational)
		p.answer(h)
		if !r.e.Idle() {
			t.Error("not idle")
		}
		r.in(core.Acquire{Policy: 1})
		q := newPuppet(r, 2)
		r.datagram(q.addr, q.initRequest())
		r.silent("whatever comes after the shutdown")
		r.nothingLeft()
	})
	t.Run("shutdown while connecting", func(t *testing.T) {
		r := newRig(t, initiates)
		r.take()
		r.in(core.Command{Do: core.Shutdown})
		r.nothingLeft()
		r.silent("the shutdown")
	})
}

// INITIAL_CONTACT goes with the first SA only, and what came before it ends
// without a word (RFC 7296 §2.4).
func TestInitialContact(t *testing.T) {
	r, _ := settled(t)
	r.pass(time.Minute)
	q := newPuppet(r, 2)
	q.init()
	says(t, q.auth(q.authPayloads(append([]message.Payload{note(message.NotifyInitialContact)}, q.childOffer()...)...)...), "IDr AUTH SA TSi TSr")
	r.silent("initial contact")
	if len(r.e.SAs()) != 1 || r.e.SAs()[0].SPIi != q.spii {
		t.Errorf("left: %v", r.e.SAs())
	}
	// Somebody else's initial contact is not about us.
	w := newPuppet(r, 3)
	w.id = fqdn("other.example")
	w.init()
	w.auth(w.authPayloads(append([]message.Payload{note(message.NotifyInitialContact)}, w.childOffer()...)...)...)
	if len(r.e.SAs()) != 2 {
		t.Errorf("left: %v", r.e.SAs())
	}
	// Without proof it is worth nothing.
	x := newPuppet(r, 4)
	x.psk = "wrong"
	x.init()
	says(t, x.auth(x.authPayloads(note(message.NotifyInitialContact))...), "N(AUTHENTICATION_FAILED)")
	if len(r.e.SAs()) != 2 {
		t.Errorf("left: %v", r.e.SAs())
	}
}

// As initiator: what we think of the responder's proof.
//
//	IDi AUTH SA TSi TSr -->  <-- IDr AUTH(wrong) SA TSi TSr   N(AUTHENTICATION_FAILED) -->
func TestInitiatorDistrusts(t *testing.T) {
	named := func(c *core.Config) { c.Peers[0].Identities[0].RemoteID = fqdn("b.example") }
	for _, c := range []struct {
		name, psk string
		id        core.ID
		reason    string
	}{
		{"wrong secret", "wrong", fqdn("b.example"), "compare the secret"},
		{"wrong ID", "thisisnotasecurepsk", fqdn("c.example"), "remote-id wants fqdn:b.example"},
	} {
		r := newRig(t, initiates, named)
		p := newPuppet(r, 1)
		p.psk, p.id = c.psk, c.id
		p.acceptInit()
		h, ps := p.asked(message.ExchangeIKEAuth)
		says(t, ps, "IDi IDr N(INITIAL_CONTACT) AUTH SA TSi TSr") // we say whom we want
		p.answer(h, p.authPayloads(p.childAnswer()...)...)
		h, ps = p.asked(message.ExchangeInformational)
		says(t, ps, "N(AUTHENTICATION_FAILED) Delete")
		if h.ID != 2 {
			t.Errorf("it has ID %d", h.ID)
		}
		if e := r.event(core.EvAuthFailed); !strings.Contains(e.Reason, c.reason) {
			t.Error(e.Reason)
		}
		if !r.e.Idle() || len(r.children) != 0 {
			t.Errorf("left: %v", r.e.SAs())
		}
	}
	// And a responder that refuses us.
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	p.acceptInit()
	h, _ := p.asked(message.ExchangeIKEAuth)
	p.answer(h, note(message.NotifyAuthenticationFailed))
	if e := r.event(core.EvAuthFailed); !strings.Contains(e.Reason, "compare secret, my-id and remote-id") {
		t.Error(e.Reason)
	}
	if !r.e.Idle() {
		t.Error("the SA is still there")
	}
	// A responder whose initiator distrusts it hears so, and ends the SA.
	r, p = settled(t)
	says(t, p.request(message.ExchangeInformational, note(message.NotifyAuthenticationFailed)), "")
	if !r.e.Idle() {
		t.Error("the SA is still there")
	}
	if e := r.event(core.EvAuthFailed); !strings.Contains(e.Reason, "compare secret, my-id and remote-id") || e.Detail == nil {
		t.Errorf("%+v", e)
	}
	if e := r.event(core.EvIKEDown); !strings.Contains(e.Reason, "refused our proof") {
		t.Error(e.Reason)
	}
}

// The refusal of a proof is lost: the initiator repeats IKE_AUTH and gets it.
func TestRefusalLost(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.psk = "wrong"
	p.init()
	raw := p.seal(p.header(message.ExchangeIKEAuth, 1, false), p.authPayloads(p.childOffer()...)...)
	r.datagram(p.addr, raw)
	first := r.one()
	r.datagram(p.addr, raw)
	if !bytes.Equal(r.one().Data, first.Data) {
		t.Error("other bytes")
	}
	r.nothingLeft()
}

// A peer behind a NAT whose mapping changed is answered where it is now; a
// recorded message moves nothing.
func TestPeerMoves(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.natted = true
	p.connect()
	at := func() netip.AddrPort { return r.e.SAs()[0].Remote }
	recorded := p.seal(p.header(message.ExchangeInformational, p.nextID-1, false))
	old := p.addr
	r.datagram(netip.MustParseAddrPort("203.0.113.66:4500"), recorded)
	r.take()
	if at() != old {
		t.Fatalf("the SA moved to %v over a recorded message", at())
	}
	r.datagram(netip.MustParseAddrPort("203.0.113.66:4500"), make([]byte, 60))
	p.addr = netip.MustParseAddrPort("192.0.2.2:4500")
	p.request(message.ExchangeInformational)
	p.addr = netip.MustParseAddrPort("192.0.2.77:4500")
	r.datagram(p.addr, p.seal(p.header(message.ExchangeInformational, p.nextID, false)))
	if s := r.one(); s.Remote != p.addr {
		t.Errorf("answered to %v, not where the request came from (RFC 7296 §2.11)", s.Remote)
	}
	if at() != p.addr || len(r.moves) != 1 || r.moves[0].Remote != p.addr {
		t.Errorf("the SA is at %v, moves %v", at(), r.moves)
	}
}

// Who is behind a NAT keeps its mapping alive every 20 s (RFC 3948 §4), and nobody else does.
func TestKeepalives(t *testing.T) {
	for _, behind := range []bool{false, true} {
		r := newRig(t)
		p := newPuppet(r, 1)
		if behind {
			p.sees = netip.MustParseAddrPort("203.0.113.9:500")
		}
		p.connect()
		r.pass(65 * time.Second)
		sent := seen[core.KeepaliveTo](r)
		if n := len(sent); behind && n != 3 || !behind && n != 0 {
			t.Fatalf("behind a NAT %t: %d keepalives", behind, n)
		}
		for _, k := range sent {
			if k.Remote != p.addr {
				t.Errorf("a keepalive to %v", k.Remote)
			}
		}
	}
}

// send-initial-contact = no: the initiator does not say it.
func TestNoInitialContact(t *testing.T) {
	r := newRig(t, initiates, func(c *core.Config) { c.Peers[0].InitialContact = false })
	p := newPuppet(r, 1)
	p.acceptInit()
	_, in := p.asked(message.ExchangeIKEAuth)
	says(t, in, "IDi AUTH SA TSi TSr")
}

// INITIAL_CONTACT is about what was there when its IKE SA was begun: one that came up since stays.
//
//	puppet p                            endpoint                             puppet q, the same peer
//	IKE_SA_INIT              ────────►
//	                                            ◄────────  IKE_SA_INIT, IKE_AUTH: up
//	IKE_AUTH, N(INITIAL_CONTACT) ────►  both are up
func TestInitialContactSparesWhatCameSince(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.init()
	r.pass(time.Second)
	q := newPuppet(r, 2)
	q.connect()
	r.pass(time.Second)
	says(t, p.auth(p.authPayloads(append([]message.Payload{note(message.NotifyInitialContact)}, p.childOffer()...)...)...), "IDr AUTH SA TSi TSr")
	if n := r.established(); n != 2 {
		t.Errorf("%d IKE SAs, not both: %s", n, r.reasons())
	}
}

// Where there is no NAT, or we are the one behind it, a peer that is heard from elsewhere is answered
// there and moves nothing (RFC 7296 §2.23).
func TestPeerThatNoNATMoves(t *testing.T) {
	for _, c := range []struct {
		name   string
		natted bool
		sees   netip.AddrPort // where the peer sees us
	}{
		{name: "no NAT"},
		{name: "we are behind a NAT", sees: netip.MustParseAddrPort("203.0.113.9:500")},
		{name: "both are", natted: true, sees: netip.MustParseAddrPort("203.0.113.9:500")},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			p := newPuppet(r, 1)
			p.natted, p.sees = c.natted, c.sees
			p.connect()
			old := p.addr
			p.addr = netip.MustParseAddrPort("192.0.2.77:4500")
			r.datagram(p.addr, p.seal(p.header(message.ExchangeInformational, p.nextID, false)))
			if s := r.one(); s.Remote != p.addr {
				t.Errorf("answered to %v, not where the request came from", s.Remote)
			}
			if at := r.e.SAs()[0].Remote; at != old || len(r.moves) != 0 {
				t.Errorf("the SA is at %v, moves %v", at, r.moves)
			}
		})
	}
}

// Deletions, rekeys and questions wait for the answers to Asks; what comes when
// the SA is gone is dropped, and leaves nothing.
func TestAnswerAfterTheEnd(t *testing.T) {
	slow := func(c *core.Config) {
		g := *c.Peers[0].Profile.Groups[0]
		g.Slow = true
		c.Peers[0].Profile.Groups = append(c.Peers[0].Profile.Groups[:0:0], &g)
	}
	r := newRig(t, slow)
	r.hold = true
	p := newPuppet(r, 1)
	r.datagram(p.addr, p.initRequest())
	r.datagram(p.addr, p.initRequest()) // again while it is computed: no second SA
	if len(r.asks) != 1 || len(r.e.SAs()) != 1 {
		t.Fatalf("%d questions, %v", len(r.asks), r.e.SAs())
	}
	r.silent("a request that is being computed")
	r.pass(31 * time.Second) // nobody computes it
	if !r.e.Idle() {
		t.Error("the half-open SA is still there")
	}
	r.answer(r.asks[0])
	r.answer(r.asks[0])
	r.silent("an answer for an SA that is gone")
	r.nothingLeft()
}
