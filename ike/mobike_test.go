package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

func mobile(a, b *core.Config) {
	for _, c := range []*core.Config{a, b} {
		c.Peers[0].Profile.MOBIKE = true
	}
}

// have gives a side addresses; what it asks the system for is the first of them.
func (s *side) have(addrs ...string) {
	for a, owner := range s.byIP {
		if owner == s {
			delete(s.byIP, a)
		}
	}
	var list []netip.Addr
	for _, text := range addrs {
		a := netip.MustParseAddr(text)
		s.byIP[a] = s
		list = append(list, a)
	}
	if len(list) > 0 {
		s.addr = list[0]
	}
	s.in(core.LocalAddrs{Addrs: list})
}

// between reports whether the one IKE SA of the side and all its CHILD SAs
// travel between two addresses.
func (s *side) between(local, remote string) bool {
	l, r := netip.MustParseAddr(local), netip.MustParseAddr(remote)
	for _, k := range s.children {
		if !k.retired && (k.Local.Addr() != l || k.Remote.Addr() != r) {
			return false
		}
	}
	for _, sa := range s.e.SAs() {
		if sa.State == "established" && (sa.Local.Addr() != l || sa.Remote.Addr() != r) {
			return false
		}
	}
	return s.established() == 1 && len(s.children) > 0
}

func (p *pair) both(a, b string) func() bool {
	return func() bool { return p.a.between(a, b) && p.b.between(b, a) }
}

// met reports whether both ends are at addresses that they have, and at the same.
func (p *pair) met() bool {
	for x, a := range p.byIP {
		for y, b := range p.byIP {
			if a == p.a && b == p.b && p.both(x.String(), y.String())() {
				return true
			}
		}
	}
	return false
}

// mobilePair is up: a leads at 192.0.2.1, b at 192.0.2.2.
func mobilePair(t *testing.T, seed uint64, link simnet.Link, change ...func(a, b *core.Config)) *pair {
	p := newPair(t, seed, link, append(change, passive, mobile)...)
	p.log = testing.Verbose()
	p.a.have("192.0.2.1")
	p.b.have("192.0.2.2")
	p.up()
	p.until(time.Minute, "both ends up", p.bothUpOrStandby)
	p.run(10 * time.Second)
	return p
}

// esps sends a packet each way and expects both to arrive.
func (p *pair) esps() {
	p.t.Helper()
	a, b := p.a.opened, p.b.opened
	if !p.a.esp() || !p.b.esp() {
		p.t.Fatal("an end has no SA to seal with")
	}
	p.run(time.Second)
	if p.a.opened != a+1 || p.b.opened != b+1 {
		p.t.Errorf("of one packet each way a opened %d and b %d", p.a.opened-a, p.b.opened-b)
	}
}

// Our address is gone and another one is there: the SAs are the same, between
// other addresses.
func TestWeMove(t *testing.T) {
	p := mobilePair(t, 1, goodLink)
	p.a.have("198.51.100.1")
	p.until(time.Second, "moved", p.both("198.51.100.1", "192.0.2.2"))
	p.esps()
	if p.a.count(core.EvIKEUp) != 1 || p.a.count(core.EvChildUp) != 1 || p.b.count(core.EvMoved) != 1 {
		t.Error("the SAs are not the same")
	}
	// And after a rekey of the IKE SA, from where the other end rekeyed it.
	p.b.in(core.Command{Do: core.RekeyIKE})
	p.run(5 * time.Second)
	p.a.have("198.51.100.7", "198.51.100.8")
	p.until(time.Second, "moved again", p.both("198.51.100.7", "192.0.2.2"))
	p.esps()
}

// All addresses are gone for a while, with a request under way.
func TestWeMoveAfterAGap(t *testing.T) {
	p := mobilePair(t, 2, goodLink)
	p.a.have()
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(20 * time.Second)
	p.a.have("198.51.100.1")
	p.until(2*time.Second, "moved", p.both("198.51.100.1", "192.0.2.2"))
	p.until(2*time.Second, "rekeyed", func() bool { return p.a.count(core.EvChildRekeyed) == 1 && p.b.count(core.EvChildRekeyed) == 1 })
	p.run(10 * time.Second)
	p.esps()
}

// The address of the end that does not lead is gone: it speaks from another one,
// and the end that leads goes there.
func TestTheyMove(t *testing.T) {
	p := mobilePair(t, 3, goodLink)
	p.b.have("203.0.113.2")
	p.until(time.Second, "moved", p.both("192.0.2.1", "203.0.113.2"))
	p.esps()
}

// The path is silent, the peer has told another address: what is not answered
// goes there too.
func TestSilentPath(t *testing.T) {
	p := mobilePair(t, 4, goodLink)
	p.b.have("192.0.2.2", "203.0.113.2")
	p.run(time.Second)
	delete(p.byIP, netip.MustParseAddr("192.0.2.2")) // the network, not the host
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.until(10*time.Second, "moved", p.both("192.0.2.1", "203.0.113.2"))
	p.run(10 * time.Second)
	p.esps()
	if p.a.count(core.EvPeerDead) > 0 {
		t.Error("the peer was taken for dead")
	}
}

// An address that the peer has told and then, with NO_ADDITIONAL_ADDRESSES, has no
// more is not gone to, whatever lives there now.
func TestSilentPathAndNoOtherAddress(t *testing.T) {
	p := mobilePair(t, 4, goodLink)
	p.b.have("192.0.2.2", "203.0.113.2")
	p.run(time.Second)
	p.b.have("192.0.2.2")
	p.run(time.Second)
	p.byIP[netip.MustParseAddr("203.0.113.2")] = p.b
	delete(p.byIP, netip.MustParseAddr("192.0.2.2"))
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(10 * time.Second)
	if !p.a.between("192.0.2.1", "192.0.2.2") {
		t.Error("the SA moved")
	}
}

// Without MOBIKE at one end nothing moves.
func TestNobodyMovesUnasked(t *testing.T) {
	for i := range 2 {
		p := newPair(t, 5, goodLink, passive, mobile, func(a, b *core.Config) { []*core.Config{a, b}[i].Peers[0].Profile.MOBIKE = false })
		p.a.have("192.0.2.1")
		p.up()
		p.until(time.Second, "both ends up", p.bothUpOrStandby)
		p.a.have("198.51.100.1")
		p.run(10 * time.Second)
		if !p.b.between("192.0.2.2", "192.0.2.1") {
			t.Error("the SA moved")
		}
	}
}

// A peer with a local-address stays with it.
func TestLocalAddressStays(t *testing.T) {
	p := mobilePair(t, 6, goodLink, func(a, _ *core.Config) { a.Peers[0].Local = netip.MustParseAddr("192.0.2.1") })
	p.a.have("198.51.100.1")
	p.run(10 * time.Second)
	if !p.a.between("192.0.2.1", "192.0.2.2") {
		t.Error("the SA moved away from local-address")
	}
	p.a.have("192.0.2.1")
	p.run(time.Second)
	p.esps()
}

// An address that is in no list (on loopback, say) and that still leads to the peer
// is not gone.
func TestUnlistedAddressStays(t *testing.T) {
	p := mobilePair(t, 7, goodLink)
	p.b.have("192.0.2.2", "203.0.113.2")
	p.run(time.Second)
	p.a.in(core.LocalAddrs{Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}})
	p.run(10 * time.Second)
	if !p.both("192.0.2.1", "192.0.2.2")() {
		t.Error("the SA moved")
	}
	p.esps()
}

// On a bad network, both ends move every minute or so while both rekey.
func TestMovingOnABadNetwork(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := mobilePair(t, seed, badLink, short, fragmented)
			p.a.lost, p.b.lost = nil, nil
			for i := range 40 {
				a, b := fmt.Sprintf("198.51.100.%d", i%7+1), fmt.Sprintf("203.0.113.%d", i%5+1)
				switch i % 3 {
				case 0:
					p.a.have(a, "198.51.100.99")
				case 1:
					p.b.have(b)
				case 2:
					p.a.have(a) // one after the other: two that leave at once lose each other
					p.until(time.Minute, "a moved", func() bool { return p.met() })
					p.b.have(b)
				}
				p.run(75 * time.Second)
				// Both may be rekeying at this moment.
				p.until(5*time.Second, fmt.Sprintf("move %d to %s or %s", i, a, b), p.met)
				if !p.a.esp() || !p.b.esp() {
					t.Fatalf("move %d: no SA to seal with", i)
				}
			}
			p.run(time.Minute)
			if p.a.opened < 40 || p.b.opened < 40 || len(p.a.lost)+len(p.b.lost) > 0 {
				t.Errorf("of 40 packets each way a opened %d and b %d; %v %v", p.a.opened, p.b.opened, p.a.lost, p.b.lost)
			}
			for _, s := range []*side{p.a, p.b} {
				if s.count(core.EvIKEUp) != 1 || s.count(core.EvPeerDead) > 0 {
					t.Errorf("%s: %d IKE SAs came up anew, %d times the peer was taken for dead", s.name, s.count(core.EvIKEUp)-1, s.count(core.EvPeerDead))
				}
			}
		})
	}
}

// Whoever answers the peer's rekey and moves before the answer arrives says so by the IKE SA
// that was replaced: the peer does not have the new one, and repeats its rekey to the former address.
func TestMovesWhileItsAnswerToARekeyIsLost(t *testing.T) {
	for _, leads := range []bool{true, false} {
		p := mobilePair(t, 1, simnet.Link{Delay: 10 * time.Millisecond})
		mover, other, to := p.a, p.b, "198.51.100.1"
		if !leads {
			mover, other, to = p.b, p.a, "203.0.113.1"
		}
		lost := 0
		p.drop = func(from *side, h message.Header) bool {
			if from == mover && h.Exchange == message.ExchangeCreateChildSA && h.Response() && lost == 0 {
				lost++
				return true
			}
			return false
		}
		other.in(core.Command{Do: core.RekeyIKE})
		p.until(5*time.Second, "the answer is lost", func() bool { return lost > 0 })
		mover.have(to)
		p.until(10*time.Second, "the peer has followed", p.met)
		p.run(2 * time.Second) // the other end asks whether it is there
		p.esps()
		for _, s := range []*side{p.a, p.b} {
			if s.count(core.EvIKERekeyed) != 1 || s.count(core.EvIKEUp) != 1 || s.count(core.EvPeerDead)+s.count(core.EvIKEDown) > 0 {
				t.Errorf("%s, which leads: %v: %d rekeys, %d IKE SAs came up, %d ended", s.name, leads, s.count(core.EvIKERekeyed), s.count(core.EvIKEUp), s.count(core.EvIKEDown))
			}
		}
	}
}

// --- the words, with a puppet ---

func mobilePuppet(t *testing.T, change ...func(*core.Config)) (*rig, *puppet) {
	r := newRig(t, append(change, func(c *core.Config) { c.Peers[0].Profile.MOBIKE = true })...)
	r.in(core.LocalAddrs{Addrs: []netip.Addr{rigAddr.Addr(), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")}})
	p := newPuppet(r, 1)
	p.init()
	says(t, p.auth(p.authPayloads(append(p.childOffer(), note(message.NotifyMOBIKESupported))...)...),
		"IDr AUTH SA TSi TSr N(MOBIKE_SUPPORTED) N(ADDITIONAL_IP4_ADDRESS) N(ADDITIONAL_IP6_ADDRESS)")
	r.take()
	return r, p
}

func (p *puppet) update(more ...message.Payload) []message.Payload {
	return p.request(message.ExchangeInformational, append([]message.Payload{note(message.NotifyUpdateSAAddresses),
		&message.Notify{Kind: message.NotifyNATDetectionSourceIP, Data: natHash(p.spii, p.spir, p.addr)},
		&message.Notify{Kind: message.NotifyNATDetectionDestinationIP, Data: natHash(p.spii, p.spir, netip.AddrPortFrom(p.r.local.Addr(), 4500))}}, more...)...)
}

func (r *rig) goesTo() (to []netip.AddrPort) {
	for _, k := range r.children {
		to = append(to, k.Remote)
	}
	return to
}

// As responder: the address is taken over with the answer, ESP goes there once
// the peer has returned our COOKIE2 (RFC 4555 §3.7).
func TestUpdateSAAddresses(t *testing.T) {
	r, p := mobilePuppet(t)
	old := p.addr
	p.addr = netip.MustParseAddrPort("203.0.113.2:4500")
	cookie := &message.Notify{Kind: message.NotifyCookie2, Data: []byte("cookie of the peer")}
	in := p.update(cookie)
	says(t, in, "N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP) N(COOKIE2)")
	if n := findNotify(in, message.NotifyCookie2); string(n.Data) != "cookie of the peer" {
		t.Error("COOKIE2 came back changed")
	}
	if n := findNotify(in, message.NotifyNATDetectionDestinationIP); !slices.Equal(n.Data, natHash(p.spii, p.spir, p.addr)) {
		t.Error("the destination hash is not that of where the request came from")
	}
	if to := r.goesTo(); to[0] != old {
		t.Errorf("ESP goes to %v before the peer has answered from there", to[0])
	}
	if s := r.sends[0]; s.Remote != p.addr {
		t.Errorf("COOKIE2 goes to %v", s.Remote)
	}
	h, ask := p.asked(message.ExchangeInformational)
	says(t, ask, "N(COOKIE2) N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP)")
	p.answer(h, findNotify(ask, message.NotifyCookie2))
	if to := r.goesTo(); to[0] != p.addr {
		t.Errorf("ESP goes to %v", to[0])
	}
	if n := r.count(core.EvMoved); n != 1 {
		t.Errorf("%d events", n)
	}
	// Another port only: at once.
	p.addr = netip.MustParseAddrPort("203.0.113.2:61000")
	raw := p.seal(p.header(message.ExchangeInformational, p.nextID, false), note(message.NotifyUpdateSAAddresses))
	p.nextID++
	r.in(core.Datagram{Local: netip.AddrPortFrom(r.local.Addr(), 4500), Remote: p.addr, NATT: true, Data: raw})
	if to := r.goesTo(); to[0] != p.addr {
		t.Errorf("ESP goes to %v", to[0])
	}
	r.take()
	// A request from elsewhere is answered there, and that is all (RFC 4555 §3.8).
	at := p.addr
	p.addr = netip.MustParseAddrPort("203.0.113.9:4500")
	p.r.datagram(p.addr, p.seal(p.header(message.ExchangeInformational, p.nextID, false)))
	p.nextID++
	if s := r.one(); s.Remote != p.addr || r.goesTo()[0] != at || r.e.SAs()[0].Remote != at {
		t.Errorf("answered to %v, ESP goes to %v, the SA to %v", s.Remote, r.goesTo()[0], r.e.SAs()[0].Remote)
	}
}

func TestWrongCookie2(t *testing.T) {
	r, p := mobilePuppet(t)
	p.addr = netip.MustParseAddrPort("203.0.113.2:4500")
	p.update()
	h, _ := p.asked(message.ExchangeInformational)
	p.answer(h, &message.Notify{Kind: message.NotifyCookie2, Data: []byte("not the one you sent")})
	_, in := p.asked(message.ExchangeInformational)
	says(t, in, "Delete")
	if r.established() != 0 {
		t.Error("the IKE SA is still established")
	}
}

// A response without COOKIE2 is asked for once more, and ESP stays where it is until one comes.
func TestMissingCookie2(t *testing.T) {
	for _, returned := range []bool{true, false} {
		r, p := mobilePuppet(t)
		old := p.addr
		p.addr = netip.MustParseAddrPort("203.0.113.2:4500")
		p.update()
		h, _ := p.asked(message.ExchangeInformational)
		p.answer(h)
		h, ask := p.asked(message.ExchangeInformational)
		says(t, ask, "N(COOKIE2) N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP)")
		if to := r.goesTo()[0]; to != old {
			t.Errorf("ESP goes to %v, where the peer has not shown itself", to)
		}
		want := old
		if returned {
			want = p.addr
			p.answer(h, findNotify(ask, message.NotifyCookie2))
		} else {
			p.answer(h)
		}
		r.silent("the second response")
		if to := r.goesTo()[0]; to != want || r.established() != 1 {
			t.Errorf("returned %v: ESP goes to %v; %s", returned, to, r.reasons())
		}
	}
}

// A client that sees no NAT and stays on port 500, as libreswan does: it is at port 500 of its new
// address, without the non-ESP marker.
func TestMoveOnPort500(t *testing.T) {
	for _, encapsulation := range []core.Encapsulation{core.EncapDetect, core.EncapUDP} {
		r, p := mobilePuppet(t, func(c *core.Config) { c.Encapsulation = encapsulation })
		p.addr = netip.MustParseAddrPort("203.0.113.2:500")
		id := p.nextID
		p.nextID++
		hashes := []message.Payload{note(message.NotifyUpdateSAAddresses),
			&message.Notify{Kind: message.NotifyNATDetectionSourceIP, Data: natHash(p.spii, p.spir, p.addr)},
			&message.Notify{Kind: message.NotifyNATDetectionDestinationIP, Data: natHash(p.spii, p.spir, rigAddr)}}
		r.datagram(p.addr, p.seal(p.header(message.ExchangeInformational, id, false), hashes...))
		says(t, p.response(message.ExchangeInformational, id), "N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP)")
		if s := r.sends[0]; s.NATT || s.Remote != p.addr || s.Local != rigAddr {
			t.Errorf("our question goes from %v to %v, NATT %v", s.Local, s.Remote, s.NATT)
		}
		h, ask := p.asked(message.ExchangeInformational)
		p.answer(h, findNotify(ask, message.NotifyCookie2))
		want, udp := p.addr, false
		if encapsulation == core.EncapUDP { // no peer looks for ESP in UDP on port 500
			want, udp = netip.MustParseAddrPort("203.0.113.2:4500"), true
		}
		if m := r.moves[len(r.moves)-1]; m.Remote != want || m.UDP != udp {
			t.Errorf("ESP goes to %v, in UDP %v", m.Remote, m.UDP)
		}
		if sa := r.e.SAs()[0]; sa.Remote != p.addr || sa.NATT {
			t.Errorf("the IKE SA is at %v, NATT %v", sa.Remote, sa.NATT)
		}
	}
}

// A client that wants ESP in UDP says that it is behind a NAT. In UPDATE_SA_ADDRESSES libreswan forgets
// to, and its response to our question says so again.
func TestForcedEncapsulationOfAClientThatMoves(t *testing.T) {
	r := newRig(t, func(c *core.Config) {
		c.Peers[0].Profile.MOBIKE = true
		c.Encapsulation = core.EncapDetect
	})
	p := newPuppet(r, 1)
	p.natted = true
	p.init()
	p.auth(p.authPayloads(append(p.childOffer(), note(message.NotifyMOBIKESupported))...)...)
	r.take()
	p.addr = netip.MustParseAddrPort("203.0.113.2:4500")
	p.update()
	h, ask := p.asked(message.ExchangeInformational)
	p.answer(h, findNotify(ask, message.NotifyCookie2),
		&message.Notify{Kind: message.NotifyNATDetectionSourceIP, Data: natHash(p.spii, p.spir, netip.MustParseAddrPort("203.0.113.2:0"))},
		&message.Notify{Kind: message.NotifyNATDetectionDestinationIP, Data: natHash(p.spii, p.spir, netip.AddrPortFrom(rigAddr.Addr(), 4500))})
	if m := r.moves[len(r.moves)-1]; m.Remote != p.addr || !m.UDP {
		t.Errorf("ESP goes to %v, in UDP %v", m.Remote, m.UDP)
	}
}

// The NAT of a client that has MOBIKE gives it another port. The SA stays where it is until the
// client notices and says so, and a request of ours that is not answered there goes to the new port as well.
func TestRequestsReachAClientWhoseNATForgot(t *testing.T) {
	r := newRig(t, func(c *core.Config) { c.Peers[0].Profile.MOBIKE = true })
	p := newPuppet(r, 1)
	p.natted = true
	p.init()
	p.auth(p.authPayloads(append(p.childOffer(), note(message.NotifyMOBIKESupported))...)...)
	r.take()
	from := func(at netip.AddrPort) {
		raw := p.seal(p.header(message.ExchangeInformational, p.nextID, false))
		p.nextID++
		r.in(core.Datagram{Local: netip.AddrPortFrom(r.local.Addr(), 4500), Remote: at, NATT: true, Data: raw})
		if s := r.one(); s.Remote != at {
			t.Fatalf("answered to %v, not %v", s.Remote, at)
		}
	}
	to := func(what string, want ...netip.AddrPort) {
		t.Helper()
		var got []netip.AddrPort
		for _, s := range r.take() {
			got = append(got, s.Remote)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: sent to %v, want %v", what, got, want)
		}
	}
	old, now := p.addr, netip.AddrPortFrom(p.addr.Addr(), 61000)
	from(now)
	r.in(core.Command{Do: core.RekeyIKE})
	to("the first time", old)
	r.pass(core.RetransmitWait(0))
	to("again", old, now)
	if at := r.e.SAs()[0].Remote; at != old || len(r.moves) != 0 {
		t.Errorf("the SA is at %v, moves %v", at, r.moves)
	}
	from(old) // it was a packet of another path
	r.pass(core.RetransmitWait(1))
	to("after a message from the old port", old)
}

// Who began the IKE SA decides about addresses (RFC 4555 §3.5): UPDATE_SA_ADDRESSES of the other one moves nothing.
func TestUpdateByWhoDoesNotLead(t *testing.T) {
	r := newRig(t, initiates, func(c *core.Config) { c.Peers[0].Profile.MOBIKE = true })
	p := newPuppet(r, 1)
	p.acceptInit()
	h, in := p.asked(message.ExchangeIKEAuth)
	p.note(in)
	p.answer(h, p.authPayloads(append(p.childAnswer(), note(message.NotifyMOBIKESupported))...)...)
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	old := p.addr
	p.addr = netip.MustParseAddrPort("203.0.113.2:4500")
	p.update()
	if to := r.goesTo()[0]; to != old || r.e.SAs()[0].Remote != old || len(r.moves) != 0 {
		t.Errorf("the SA is at %v, ESP goes to %v, moves %v", r.e.SAs()[0].Remote, to, r.moves)
	}
}

func TestUpdateRefused(t *testing.T) {
	r, p := mobilePuppet(t)
	old := p.addr
	p.addr = netip.MustParseAddrPort("203.0.113.2:4500")
	// NO_NATS_ALLOWED names other addresses than the ones that we see.
	says(t, p.update(&message.Notify{Kind: message.NotifyNoNATsAllowed, Data: []byte{10, 0, 0, 1, 192, 0, 2, 1, 17, 148, 17, 148}}),
		"N(UNEXPECTED_NAT_DETECTED)")
	p.addr = netip.MustParseAddrPort("224.0.0.1:4500")
	says(t, p.update(), "N(UNACCEPTABLE_ADDRESSES)")
	if r.goesTo()[0] != old || r.e.SAs()[0].Remote != old || r.established() != 1 {
		t.Errorf("the SA went to %v", r.e.SAs()[0].Remote)
	}
	// Those that we see are well.
	p.addr = netip.MustParseAddrPort("203.0.113.2:4500")
	says(t, p.update(&message.Notify{Kind: message.NotifyNoNATsAllowed, Data: []byte{203, 0, 113, 2, 192, 0, 2, 1, 17, 148, 17, 148}}),
		"N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP)")
}

// Who does not lead tells its new addresses; the last one is told as none.
func TestAddressesAreTold(t *testing.T) {
	r, p := mobilePuppet(t)
	r.in(core.LocalAddrs{Addrs: []netip.Addr{rigAddr.Addr(), netip.MustParseAddr("198.51.100.3")}})
	h, in := p.asked(message.ExchangeInformational)
	says(t, in, "N(ADDITIONAL_IP4_ADDRESS)")
	p.answer(h)
	r.in(core.LocalAddrs{Addrs: []netip.Addr{rigAddr.Addr()}})
	h, in = p.asked(message.ExchangeInformational)
	says(t, in, "N(NO_ADDITIONAL_ADDRESSES)")
	p.answer(h)
	r.in(core.LocalAddrs{Addrs: []netip.Addr{rigAddr.Addr()}})
	r.silent("the same addresses again")
}
