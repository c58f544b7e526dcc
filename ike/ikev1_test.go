package ike

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

// inMainMode makes the peers of a pair speak IKEv1.
func inMainMode(a, b *core.Config) {
	for _, c := range []*core.Config{a, b} {
		c.Encapsulation = core.EncapDetect
		p := c.Peers[0]
		p.Version = core.IKEv1
		p.Profile.Groups = []*suite.Group{suite.GroupByName("ecp256")}
		p.Profile.DPDFailures = 5
	}
}

// bPassive has a alone begin.
func bPassive(_, b *core.Config) { b.Peers[0].Passive = true }

var quick = simnet.Link{Delay: 20 * time.Millisecond}

// works checks that ESP goes both ways.
func (p *pair) works() {
	p.t.Helper()
	a, b := p.a.opened, p.b.opened
	if !p.a.esp() || !p.b.esp() {
		p.t.Fatal("no outbound SA")
	}
	p.run(time.Second)
	if p.a.opened != a+1 || p.b.opened != b+1 {
		p.t.Fatalf("opened %d and %d, lost %v %v", p.a.opened-a, p.b.opened-b, p.a.lost, p.b.lost)
	}
}

// Main mode and quick mode, whoever begins: the responder seals as soon as it has message 3.
func TestMainMode(t *testing.T) {
	for _, encap := range []core.Encapsulation{core.EncapDetect, core.EncapUDP, core.EncapRaw} {
		p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) { a.Encapsulation, b.Encapsulation = encap, encap })
		p.up()
		p.until(5*time.Second, "up", p.bothUp)
		p.works()
		if n := len(p.a.sent) + len(p.b.sent); n != 9 {
			t.Errorf("%d messages, not 9", n)
		}
		if natt := p.a.outbound().Remote.Port() == 4500; natt != (encap == core.EncapUDP) || p.a.outbound().UDP != natt || p.b.outbound().UDP != natt {
			t.Errorf("encapsulation %d: %+v", encap, p.a.outbound().Install)
		}
		if r := p.b.event(core.EvIKEUp).Reason; !strings.Contains(r, "IKEv1, aes-128/sha256, prf sha256, ecp256") {
			t.Errorf("%q", r)
		}
	}
}

// event is the last event of a kind.
func (s *side) event(k core.EventKind) core.Event {
	s.t.Helper()
	for _, e := range slices.Backward(s.events) {
		if e.Kind == k {
			return e
		}
	}
	s.t.Fatalf("%s: no event %v among %v", s.name, k, s.events)
	return core.Event{}
}

// Each message is lost once, or comes twice, or a second later: the same SAs come up, and no more.
func TestMainModeMessagesLostDoubledLate(t *testing.T) {
	for _, fate := range []string{"lost", "doubled", "late"} {
		for n := range 9 {
			t.Run(fmt.Sprintf("%s %d", fate, n+1), func(t *testing.T) {
				p := newPair(t, 1, quick, inMainMode, bPassive)
				at := 0
				p.carry = func(deliver func()) {
					at++
					switch {
					case at-1 != n:
						deliver()
					case fate == "doubled":
						deliver()
						deliver()
					case fate == "late":
						p.clock.After(time.Second, deliver)
					}
				}
				p.up()
				p.until(20*time.Second, "up", p.bothUp)
				p.run(90 * time.Second)
				p.works()
				if len(p.a.children) != 1 || len(p.b.children) != 1 || len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 {
					t.Errorf("%d and %d CHILD SAs, %d and %d IKE SAs", len(p.a.children), len(p.b.children), len(p.a.e.SAs()), len(p.b.e.SAs()))
				}
			})
		}
	}
}

// All that was said is said again, much later: the same SAs stay.
func TestMainModeReplay(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive)
	var all []core.Send
	p.tap = func(_ *side, o core.Output) {
		if s, ok := o.(core.Send); ok {
			all = append(all, s)
		}
	}
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(5 * time.Minute)
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(3 * time.Minute)
	said := slices.Clone(all)
	sas := func() (all string) {
		for _, s := range []*side{p.a, p.b} {
			all += fmt.Sprint(slices.Sorted(maps.Keys(s.children)))
			for _, sa := range s.e.SAs() {
				all += fmt.Sprint(" IKE SA ", sa.ID, sa.Remote, sa.Children, " ")
			}
		}
		return all
	}
	before := sas()
	for _, s := range said {
		for _, to := range []*side{p.a, p.b} {
			from := netip.AddrPortFrom(s.Local.Addr(), s.Local.Port())
			to.in(core.Datagram{Local: netip.AddrPortFrom(to.addr, s.Remote.Port()), Remote: from, NATT: s.NATT, Data: bytes.Clone(s.Data)})
		}
	}
	p.run(2 * time.Second)
	// A first message that comes again makes a half-open SA, which ends by itself.
	p.run(2 * time.Minute)
	if after := sas(); after != before {
		t.Errorf("%s, before %s", after, before)
	}
	p.works()
}

// As responder nothing is sent twice by itself before the peer's second message (CVE-2016-5361).
func TestMainModeAmplifiesNothing(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive)
	p.drop = func(from *side, _ message.Header) bool { return from == p.b }
	p.up()
	p.run(3 * time.Minute)
	if a, b := len(p.a.sent), len(p.b.sent); b > a || a < 12 {
		t.Errorf("a sent %d messages, b %d", a, b)
	}
	if r := p.a.event(core.EvInitFailed).Reason; !strings.Contains(r, "message 2 of main mode") || !strings.Contains(r, "never came") {
		t.Errorf("%q", r)
	}
}

// A CHILD SA is rekeyed by each side and by its lifetime: the newest one seals, the old one opens until its lifetime ends.
func TestQuickModeRekeys(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
		for _, c := range []*core.Config{a, b} {
			c.Policies[0].Proposal.PFS = []suite.KeyExchange{{Group: suite.GroupByName("ecp256")}}
		}
	})
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	for _, s := range []*side{p.a, p.b} {
		old := s.outbound()
		s.in(core.Command{Do: core.RekeyChildren})
		p.run(time.Second)
		if n := s.outbound(); n == old || n.In.EncKey.Equal(old.In.EncKey) || s.count(core.EvChildRekeyed) == 0 {
			t.Fatalf("%s: not rekeyed", s.name)
		}
		if old.retired || len(p.a.children) != len(p.b.children) {
			t.Errorf("%s: the old one opens no more", s.name)
		}
		p.works()
	}
	p.run(3 * time.Hour)
	p.works()
	if n := len(p.a.children); n > 3 || p.a.count(core.EvChildRekeyed) < 6 {
		t.Errorf("%d CHILD SAs after %d rekeys", n, p.a.count(core.EvChildRekeyed))
	}
	if len(p.a.lost)+len(p.b.lost) > 0 || p.a.count(core.EvChildDown)+p.b.count(core.EvChildDown) > 0 {
		t.Errorf("lost %v %v", p.a.lost, p.b.lost)
	}
}

// Both ends rekey at once, again and again: there are never more than a few CHILD SAs, and always one that seals.
func TestQuickModeRekeysAtOnce(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	for range 4 {
		p.a.in(core.Command{Do: core.RekeyChildren})
		p.b.in(core.Command{Do: core.RekeyChildren})
		p.run(time.Minute)
		p.works()
	}
	p.run(2 * time.Hour)
	p.works()
	if n := len(p.a.children); n > 4 || len(p.a.lost)+len(p.b.lost) > 0 {
		t.Errorf("%d CHILD SAs, lost %v %v", n, p.a.lost, p.b.lost)
	}
}

// A new phase 1 takes over before the lifetime of the old one ends. The CHILD SA stays.
func TestPhase1Rekeys(t *testing.T) {
	for _, by := range []string{"lifetime", "a", "b"} {
		p := newPair(t, 1, quick, inMainMode, func(a, b *core.Config) {
			for _, c := range []*core.Config{a, b} {
				c.Policies[0].Proposal.Lifetime = 100 * time.Hour
			}
			if by == "lifetime" {
				bPassive(a, b)
			}
		})
		p.up()
		p.until(10*time.Second, "up", p.bothUp)
		p.run(time.Minute)
		old, child := p.a.e.SAs()[0].ID, p.a.outbound().Child
		switch by {
		case "lifetime":
			p.run(24 * time.Hour)
		case "a":
			p.a.in(core.Command{Do: core.RekeyIKE})
		case "b":
			p.b.in(core.Command{Do: core.RekeyIKE})
		}
		p.run(2 * time.Minute)
		sas := p.a.e.SAs()
		if len(sas) != 1 || len(p.b.e.SAs()) != 1 || sas[0].ID == old {
			t.Errorf("%s: %v, %v", by, sas, p.b.e.SAs())
		}
		if c := p.a.outbound(); c == nil || c.Child != child || len(sas[0].Children) != 1 {
			t.Errorf("%s: the CHILD SA is another one", by)
		}
		p.works()
		p.a.in(core.Command{Do: core.RekeyChildren})
		p.run(time.Second)
		p.works()
	}
}

// Without DPD nobody replaces an IKE SA before its lifetime ends, as the manual says.
func TestPhase1IsRekeyedWithDPDAlone(t *testing.T) {
	for _, dpd := range []time.Duration{0, 2 * time.Minute} {
		p := newPair(t, 1, quick, short, inMainMode, bPassive, func(a, b *core.Config) {
			for _, c := range []*core.Config{a, b} {
				c.Peers[0].Profile.DPD = dpd
			}
		})
		p.up()
		p.until(10*time.Second, "up", p.bothUp)
		p.run(11 * time.Minute) // the soft lifetime is over, the hard one is not
		if was := p.a.count(core.EvIKEUp) > 1; was != (dpd > 0) || p.a.established() != 1 {
			t.Errorf("dpd-interval %v: replaced %v, %d IKE SAs", dpd, was, p.a.established())
		}
	}
}

// What one end deletes is gone at the other end.
func TestMainModeDeletes(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.b.in(core.Command{Do: core.FlushSAs})
	p.run(100 * time.Millisecond)
	if len(p.b.children) != 0 || p.a.count(core.EvChildDown) != 1 {
		t.Errorf("%d CHILD SAs", len(p.b.children))
	}
	p.until(30*time.Second, "up again", p.bothUp)
	p.works()
	p.a.in(core.Command{Do: core.Shutdown})
	p.run(5 * time.Second)
	if !p.a.e.Idle() || !p.b.e.Idle() || len(p.a.children)+len(p.b.children) > 0 {
		t.Errorf("%v, %v", p.a.e.SAs(), p.b.e.SAs())
	}
}

// A silent peer is asked, and is dead after dpd-maximum-failures questions.
func TestMainModeDPD(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, func(a, _ *core.Config) { a.Peers[0].Profile.DPD, a.Peers[0].Profile.DPDFailures = 10*time.Second, 3 })
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(10 * time.Minute)
	if p.a.count(core.EvPeerDead) != 0 || p.a.established() != 1 {
		t.Fatal("a peer that answers is dead")
	}
	if asked := len(p.a.sent); asked < 50 || asked > 80 {
		t.Errorf("%d messages in ten minutes", asked)
	}
	p.b.dead = true
	p.run(29 * time.Second)
	if p.a.count(core.EvPeerDead) != 0 {
		t.Error("dead too early")
	}
	p.run(12 * time.Second)
	if p.a.count(core.EvPeerDead) != 1 || p.a.outbound() != nil {
		t.Error("not dead")
	}
}

// Peers of one address in main mode are told apart by their secrets.
func TestMainModeTriesSecrets(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, func(_, b *core.Config) {
		other := *b.Peers[0]
		other.Name = "other"
		id := *other.Identities[0]
		id.Secret = secret.Bytes("another secret")
		other.Identities = []*core.Identity{&id}
		b.Peers = append([]*core.Peer{&other}, b.Peers...)
	})
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	if sas := p.b.e.SAs(); len(sas) != 1 || sas[0].Peer != "a" {
		t.Errorf("%v", sas)
	}
	p.works()
}

// With another secret neither end comes up, and both say why.
func TestMainModeOtherSecret(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, func(_, b *core.Config) { b.Peers[0].Identities[0].Secret = secret.Bytes("another secret") })
	p.up()
	p.run(80 * time.Second)
	if p.a.established()+p.b.established() > 0 {
		t.Fatal("established")
	}
	e := p.b.event(core.EvAuthFailed)
	if !strings.Contains(e.Reason, "compare secret") || e.Detail == nil || e.Detail.Part != "secret" {
		t.Errorf("%+v", e)
	}
	if r := p.a.event(core.EvInitFailed).Reason; !strings.Contains(r, "message 6 of main mode") || !strings.Contains(r, "secret") {
		t.Errorf("%q", r)
	}
}

// The responder tries its secrets for a bounded number of messages of one peer.
func TestMainModeTriesSecretsSoOften(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, func(_, b *core.Config) { b.Peers[0].Identities[0].Secret = secret.Bytes("another secret") })
	var last core.Send
	p.tap = func(s *side, o core.Output) {
		if send, ok := o.(core.Send); ok && s == p.a {
			last = send
		}
	}
	p.up()
	p.run(3 * time.Second)
	unread := func() (n int) {
		for _, e := range p.b.events {
			if e.Kind == core.EvBadMessage && strings.Contains(e.Reason, "cannot be read with the secret") {
				n++
			}
		}
		return n
	}
	if unread() == 0 {
		t.Fatal("message 5 did not arrive")
	}
	for range 100 {
		p.b.in(core.Datagram{Local: last.Remote, Remote: last.Local, NATT: last.NATT, Data: bytes.Clone(last.Data)})
	}
	if n := unread(); n != core.Tries+4 {
		t.Errorf("secrets were tried for %d messages, want %d", n, core.Tries+4)
	}
	if e := p.b.events[len(p.b.events)-1]; !strings.Contains(e.Reason, "has to begin again") {
		t.Errorf("%+v", e)
	}
}

// What the responder does not allow is compared, attribute by attribute, and the initiator is told.
func TestMainModeNoProposal(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, func(_, b *core.Config) { b.Peers[0].Profile.Encrs = []*suite.Encr{suite.EncrByIKEName("aes-256")} })
	p.up()
	p.run(80 * time.Second)
	e := p.b.event(core.EvNoProposal)
	if e.Detail == nil || e.Detail.Part != "encryption" || !slices.Contains(e.Detail.Theirs, "encryption: aes-128") {
		t.Errorf("%+v", e.Detail)
	}
	if r := p.a.event(core.EvInitFailed).Reason; !strings.Contains(r, "NO-PROPOSAL-CHOSEN") {
		t.Errorf("%q", r)
	}
	q := newPair(t, 1, quick, inMainMode, bPassive, func(_, b *core.Config) {
		b.Policies[0].Proposal.Encrs = []*suite.Encr{suite.EncrByName("aes-256-gcm")}
	})
	q.up()
	q.run(5 * time.Second)
	if e := q.b.event(core.EvNoProposal); e.Detail == nil || e.Detail.Part != "encryption" {
		t.Errorf("%+v", e)
	}
	if e := q.a.event(core.EvNoProposal); !strings.Contains(e.Reason, "NO-PROPOSAL-CHOSEN") || q.a.established() != 1 {
		t.Errorf("%+v", e)
	}
}

// Through a NAT both ends go on at port 4500, and ESP is in UDP.
func TestMainModeThroughNAT(t *testing.T) {
	public := netip.MustParseAddr("203.0.113.1")
	p := newPair(t, 1, quick, inMainMode, bPassive, func(_, b *core.Config) { b.Peers[0].Address = netip.MustParsePrefix("203.0.113.0/24") })
	p.net.Behind(netip.PrefixFrom(p.a.addr, 32), simnet.NewNAT(public))
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	a, b := p.a.e.SAs()[0], p.b.e.SAs()[0]
	if !a.NATT || !a.NAT || !b.NATT || !b.NAT || !p.a.outbound().UDP || !p.b.outbound().UDP || b.Remote.Addr() != public {
		t.Errorf("%+v\n%+v", a, b)
	}
}

// Anybody can send messages in clear with the cookies of an SA. They change nothing.
func TestMainModeStrangersEndNothing(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	sa := p.b.e.SAs()[0]
	h := message.Header{SPIi: sa.SPIi, SPIr: sa.SPIr, Version: isakmp.Version, Exchange: isakmp.ExchangeInformational, ID: 77}
	cookies := slices.Concat(u64(sa.SPIi), u64(sa.SPIr))
	for _, ps := range [][]isakmp.Payload{
		{&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{cookies}}},
		{&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyInitialContact}},
		{&isakmp.Hash{Data: make([]byte, 32)}, &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{cookies}}},
	} {
		p.b.in(core.Datagram{Local: sa.Local, Remote: sa.Remote, Data: isakmp.Append(nil, h, ps)})
		h.ID++
	}
	p.b.in(core.Datagram{Local: sa.Local, Remote: sa.Remote, Data: isakmp.AppendSealed(nil, h, isakmp.TypeHash, make([]byte, 64))})
	p.run(time.Second)
	if p.b.established() != 1 || p.b.count(core.EvBadMessage) != 4 {
		t.Errorf("%v, %d events", p.b.e.SAs(), p.b.count(core.EvBadMessage))
	}
	p.works()
}

// proposal-check decides what a responder does with the lifetime that the initiator wants; both ends then have the same.
func TestProposalCheck(t *testing.T) {
	const hour, mega = time.Hour, 1 << 20
	type life struct {
		time  time.Duration
		bytes uint64
	}
	ours := life{hour, 100 * mega}
	for _, c := range []struct {
		check       core.ProposalCheck
		theirs, got life // got zero: refused
	}{
		{core.CheckObey, life{2 * hour, 200 * mega}, life{2 * hour, 200 * mega}},
		{core.CheckObey, life{hour / 2, mega}, life{hour / 2, mega}},
		{core.CheckStrict, life{hour / 2, mega}, life{hour / 2, mega}},
		{core.CheckStrict, ours, ours},
		{core.CheckStrict, life{2 * hour, mega}, life{}},
		{core.CheckStrict, life{hour, 101 * mega}, life{}},
		{core.CheckClaim, life{2 * hour, 0}, ours},
		{core.CheckClaim, life{hour / 2, 200 * mega}, life{hour / 2, 100 * mega}},
		{core.CheckExact, ours, ours},
		{core.CheckExact, life{hour, 0}, life{}},
		{core.CheckExact, life{hour / 2, 100 * mega}, life{}},
	} {
		p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
			a.Policies[0].Proposal.Lifetime, a.Policies[0].Proposal.Lifebytes = c.theirs.time, c.theirs.bytes
			b.Policies[0].Proposal.Lifetime, b.Policies[0].Proposal.Lifebytes = ours.time, ours.bytes
			b.Peers[0].Profile.Check = c.check
		})
		p.up()
		p.run(2 * time.Second)
		if c.got == (life{}) {
			if p.a.outbound() != nil || p.b.outbound() != nil {
				t.Errorf("%v, %v: not refused", c.check, c.theirs)
			}
			if r := p.b.event(core.EvNoProposal).Reason; !strings.Contains(r, "proposal-check") {
				t.Errorf("%q", r)
			}
			continue
		}
		for _, s := range []*side{p.a, p.b} {
			if k := s.outbound(); k == nil || k.Hard != c.got.time || k.HardBytes != c.got.bytes || k.Soft >= k.Hard {
				t.Errorf("%s, %v, %v: %+v", s.name, c.check, c.theirs, k)
			}
		}
	}
}
