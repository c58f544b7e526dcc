package ike

import (
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
)

// phase1Of has phase 1 live for a while, and be made anew by nobody unless dpd is not 0.
func phase1Of(life, dpd time.Duration) func(a, b *core.Config) {
	return func(a, b *core.Config) {
		for _, c := range []*core.Config{a, b} {
			c.Peers[0].Profile.Lifetime, c.Peers[0].Profile.DPD = life, dpd
		}
	}
}

func childrenOf(life time.Duration) func(a, b *core.Config) {
	return func(a, b *core.Config) {
		a.Policies[0].Proposal.Lifetime, b.Policies[0].Proposal.Lifetime = life, life
	}
}

// flows has time go by in which both ends send each second: every packet arrives.
func (p *pair) flows(d time.Duration) {
	p.t.Helper()
	for end := p.clock.Now().Add(d); p.clock.Now().Before(end); {
		if !p.a.esp() || !p.b.esp() {
			p.t.Fatalf("no SA at %v\na: %v\nb: %v", p.clock.Now().Sub(epoch), p.a.e.SAs(), p.b.e.SAs())
		}
		p.run(time.Second)
	}
	if len(p.a.lost)+len(p.b.lost) > 0 {
		p.t.Fatalf("packets lost: %v %v", p.a.lost, p.b.lost)
	}
}

// states are those of the IKE SAs of a side.
func (s *side) states() (text string) {
	for _, sa := range s.e.SAs() {
		text += sa.State + " "
	}
	return text
}

// expiredPair is a pair whose phase 1 is over, and whose CHILD SA goes on.
func expiredPair(t *testing.T, change ...func(a, b *core.Config)) *pair {
	t.Helper()
	p := newPair(t, 1, quick, append([]func(a, b *core.Config){inMainMode, longChildren, phase1Of(10*time.Minute, 0)}, change...)...)
	p.a.leasing("192.168.77.9")
	p.b.leasing("192.168.77.9")
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.flows(30 * time.Minute)
	if p.a.states() != "expired " || p.b.states() != "expired " {
		t.Fatalf("a: %v\nb: %v", p.a.e.SAs(), p.b.e.SAs())
	}
	return p
}

// Nobody makes phase 1 anew without DPD. The CHILD SA goes on, and whoever rekeys it makes another phase 1 first, which takes it over.
func TestPhase2OutlivesPhase1(t *testing.T) {
	for _, mode := range []func(a, b *core.Config){inMainMode, inAggressiveMode} {
		for _, who := range []string{"a", "b"} {
			p := expiredPair(t, mode, func(a, b *core.Config) { a.Peers[0].Passive, b.Peers[0].Passive = who == "b", who == "a" })
			for _, s := range []*side{p.a, p.b} {
				if s.count(core.EvIKEDown) != 1 || s.count(core.EvChildDown) != 0 || len(s.e.SAs()[0].Children) != 1 {
					t.Fatalf("%s: %v %v", s.name, s.events, s.e.SAs())
				}
			}
			old := p.a.outbound().Child
			s := p.a
			if who == "b" {
				s = p.b
			}
			s.in(core.Command{Do: core.RekeyChildren})
			p.flows(20 * time.Second)
			if p.a.states() != "established " || p.b.states() != "established " || p.a.outbound().Child == old || s.count(core.EvChildRekeyed) != 1 {
				t.Errorf("%s rekeys: %v\na: %v\nb: %v", who, p.a.outbound().Child == old, p.a.e.SAs(), p.b.e.SAs())
			}
			if a, b := p.a.e.SAs(), p.b.e.SAs(); a[0].SPIi != b[0].SPIi || len(a[0].Children) != 2 || len(b[0].Children) != 2 {
				t.Errorf("%s: not taken over: %v %v", who, a, b)
			}
			if p.a.count(core.EvIKEDown) != 1 || p.b.count(core.EvIKEDown) != 1 {
				t.Errorf("the end of phase 1 was reported more than once: %v", p.a.events)
			}
		}
	}
}

// CHILD SAs reach their soft lifetime after phase 1 is over, again and again.
func TestSoftLifetimeAfterPhase1(t *testing.T) {
	for name, change := range map[string]func(a, b *core.Config){"both begin": func(_, _ *core.Config) {}, "b is passive": bPassive} {
		p := newPair(t, 1, quick, inMainMode, phase1Of(10*time.Minute, 0), childrenOf(30*time.Minute), change)
		p.up()
		p.until(5*time.Second, "up", p.bothUp)
		p.flows(5 * time.Hour)
		if n := p.a.count(core.EvChildRekeyed); n < 10 {
			t.Errorf("%s: %d rekeys", name, n)
		}
		if up, down := p.a.count(core.EvIKEUp), p.a.count(core.EvChildDown); up < 10 || up > 14 || down != 0 {
			t.Errorf("%s: %d phases 1, %d CHILD SAs ended", name, up, down)
		}
	}
}

// Each side has its own lifetime: the shorter one counts at both, so that no end speaks by a phase 1 that the other does not have.
func TestPhase1LivesForTheShorterOfTwo(t *testing.T) {
	for _, c := range []struct{ a, b time.Duration }{{10 * time.Minute, 3 * time.Hour}, {3 * time.Hour, 10 * time.Minute}} {
		for _, mode := range []func(a, b *core.Config){inMainMode, inAggressiveMode, inBaseMode} {
			p := newPair(t, 1, quick, mode, longChildren, bPassive, phase1Of(c.a, 0), func(_, b *core.Config) { b.Peers[0].Profile.Lifetime = c.b })
			p.up()
			p.until(5*time.Second, "up", p.bothUp)
			p.flows(11 * time.Minute)
			if p.a.states() != "expired " || p.b.states() != "expired " {
				t.Errorf("%+v: a %s, b %s", c, p.a.states(), p.b.states())
			}
		}
	}
}

// The end of the CHILD SA's lifetime ends it, and with it what is left of phase 1. Traffic begins both anew.
func TestHardLifetimeAfterPhase1(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, phase1Of(10*time.Minute, 0), childrenOf(20*time.Minute), func(a, b *core.Config) {
		a.Peers[0].OnDemand, b.Peers[0].OnDemand = true, true
	})
	p.up()
	p.a.in(core.Acquire{Policy: 1})
	p.until(5*time.Second, "up", p.bothUp)
	p.drop = func(_ *side, h message.Header) bool { return h.Exchange == isakmp.ExchangeMain }
	p.run(19 * time.Minute)
	if p.a.states() == "" || p.a.outbound() == nil {
		t.Fatal("a's CHILD SA ended too early")
	}
	p.run(10 * time.Minute)
	for _, s := range []*side{p.a, p.b} {
		if s.states() != "" || len(s.children) != 0 || s.leftovers() != "" {
			t.Errorf("%s keeps %v, %d CHILD SAs, %s", s.name, s.e.SAs(), len(s.children), s.leftovers())
		}
	}
	p.drop = nil
	p.run(5 * time.Minute)
	p.a.in(core.Acquire{Policy: 1})
	p.until(5*time.Second, "up again", p.bothUp)
	p.works()
}

// Traffic for a policy without CHILD SA makes another phase 1, which takes over what the old one left.
func TestTrafficAfterPhase1(t *testing.T) {
	p := expiredPair(t, bPassive, func(a, b *core.Config) {
		for _, c := range []*core.Config{a, b} {
			c.Peers[0].OnDemand = true
			q := *c.Policies[0]
			q.Ref, q.Pair.Local, q.Pair.Remote = 2, shifted(q.Pair.Local, 2), shifted(q.Pair.Remote, 2)
			c.Policies = append(c.Policies, &q)
		}
		a.Peers[0].OnDemand = false
		a.Policies = a.Policies[:1]
	})
	two := *p.a.cfg
	q := *two.Policies[0]
	q.Ref, q.Pair.Local, q.Pair.Remote = 2, shifted(q.Pair.Local, 2), shifted(q.Pair.Remote, 2)
	two.Policies = append(two.Policies[:1:1], &q)
	p.a.in(core.Reconfigure{Config: &two})
	p.until(10*time.Second, "the second policy", func() bool { return p.a.sealer(2) != nil && p.b.sealer(2) != nil })
	if a, b := p.a.e.SAs(), p.b.e.SAs(); len(a) != 1 || len(b) != 1 || len(a[0].Children) != 2 || len(b[0].Children) != 2 || a[0].State != "established" {
		t.Errorf("a: %v\nb: %v", a, b)
	}
	if p.a.sealer(1) == nil || p.a.count(core.EvChildDown) != 0 {
		t.Error("the first policy has lost its CHILD SA")
	}
}

// The peer deletes phase 1 alone: its CHILD SAs go on. A DELETE of theirs counts under any other phase 1 with the same peer, and of
// nobody else.
func TestPhase1DeletedAlone(t *testing.T) {
	for _, c := range []struct {
		name  string
		third core.ID
		left  int
	}{{"the same peer", core.ID{}, 0}, {"another one", core.ID{Type: core.IDFQDN, Data: "other.example"}, 1}} {
		r := newRig(t, inMainModeRig, fromAnywhere)
		first := newPuppet1(r, 1)
		first.id = core.ID{Type: core.IDFQDN, Data: "x.example"}
		first.main()
		first.quick(0xc0000001)
		first.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{first.cookies()}})
		if sas := r.e.SAs(); len(sas) != 1 || sas[0].State != "expired" || len(sas[0].Children) != 1 || len(r.children) != 1 {
			t.Fatalf("%+v", sas)
		}
		r.pass(5 * time.Second)
		first.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, SPIs: [][]byte{{0xc0, 0, 0, 1}}})
		if len(r.children) != 1 {
			t.Fatal("a phase 1 that is over can still delete")
		}
		second := newPuppet1(r, 2)
		second.id = first.id
		if c.third != (core.ID{}) {
			second.id, second.addr = c.third, netip.MustParseAddrPort("192.0.2.3:500")
		} else {
			second.addr = netip.MustParseAddrPort("192.0.2.3:500") // another place, so that it takes nothing over
		}
		second.main()
		second.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, SPIs: [][]byte{{0xc0, 0, 0, 1}}})
		r.pass(time.Minute)
		if n := len(r.children); n != c.left {
			t.Errorf("%s: %d CHILD SAs left, want %d", c.name, n, c.left)
		}
		if sas := r.e.SAs(); len(sas) != 1+c.left {
			t.Errorf("%s: %+v", c.name, sas)
		}
	}
}

// The DELETE of the CHILD SA is overtaken by that of its phase 1. It counts, and nothing else does.
func TestDeleteOvertaken(t *testing.T) {
	r := newRig(t, inMainModeRig)
	p := newPuppet1(r, 1)
	p.main()
	p.quick(0xc0000001)
	p.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{p.cookies()}})
	for _, n := range []isakmp.Payload{
		&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyInitialContact, SPI: p.cookies()},
		&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyRUThere, SPI: p.cookies(), Data: u32(7)},
	} {
		if out := p.inform(n); len(out) != 0 || len(r.children) != 1 {
			t.Errorf("%v: %d answers, %d CHILD SAs", n, len(out), len(r.children))
		}
	}
	p.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, SPIs: [][]byte{{0xc0, 0, 0, 1}}})
	if len(r.children) != 0 || len(r.e.SAs()) != 0 {
		t.Errorf("%d CHILD SAs, %+v", len(r.children), r.e.SAs())
	}
}

// A phase 1 that another one has replaced still hears for a moment which CHILD SA the peer deletes, and nothing else.
func TestReplacedPhase1HearsDeletes(t *testing.T) {
	r, first, second := twiceX(t)
	first.main()
	first.quick(0xc0000001)
	second.main()
	first.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{first.cookies()}})
	first.inform(&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyInitialContact, SPI: first.cookies()})
	if n := r.established(); n != 1 || len(r.children) != 1 {
		t.Fatalf("%d IKE SAs and %d CHILD SAs after INITIAL-CONTACT: %s", n, len(r.children), r.reasons())
	}
	first.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, SPIs: [][]byte{{0xc0, 0, 0, 1}}})
	if n := r.established(); n != 1 || len(r.children) != 0 {
		t.Errorf("%d IKE SAs and %d CHILD SAs after the DELETE", n, len(r.children))
	}
}

// The same device makes phase 1 anew, from a NAT's other port or from the same: what the old one left is the new one's.
func TestTakenOverAsResponder(t *testing.T) {
	r, first, second := twiceX(t)
	first.main()
	first.quick(0xc0000001)
	first.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{first.cookies()}})
	second.main()
	if sas := r.e.SAs(); len(sas) != 1 || sas[0].State != "established" || len(sas[0].Children) != 1 || len(r.children) != 1 {
		t.Errorf("%+v", sas)
	}
}

// A peer that says INITIAL-CONTACT has nothing of before, neither what an expired phase 1 left nor what another one has.
func TestInitialContactAfterPhase1(t *testing.T) {
	for _, over := range []bool{true, false} {
		for _, addr := range []string{puppetAddr.String(), "192.0.2.3:500"} {
			r, first, second := twiceX(t)
			second.addr = netip.MustParseAddrPort(addr)
			first.main()
			first.quick(0xc0000001)
			if over {
				first.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{first.cookies()}})
			}
			r.pass(time.Minute)
			second.main()
			second.inform(&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyInitialContact, SPI: second.cookies()})
			r.pass(10 * time.Second)
			if sas := r.e.SAs(); len(sas) != 1 || len(sas[0].Children) != 0 || len(r.children) != 0 {
				t.Errorf("over %v, from %s: %d CHILD SAs, %+v", over, addr, len(r.children), sas)
			}
		}
	}
}

// An end that still has CHILD SAs of an expired phase 1 does not send INITIAL-CONTACT, because the peer would end them.
func TestNoInitialContactAfterPhase1(t *testing.T) {
	p := expiredPair(t, bPassive)
	talk := p.talks()
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.flows(10 * time.Second)
	if p.a.states() != "established " || p.b.states() != "established " || p.b.count(core.EvChildDown) != 0 {
		t.Errorf("%s\na: %v\nb: %v", talk.said(), p.a.e.SAs(), p.b.e.SAs())
	}
}

// The address that the peer gave belongs to the CHILD SAs that use it, at both ends, and goes on to the next phase 1.
func TestLeaseOutlivesPhase1(t *testing.T) {
	p := newRoadWarrior(t, phase1Of(10*time.Minute, 0), func(a, b *core.Config) {
		a.Templates[0].Proposal.Lifetime = 100 * time.Hour
		for _, tp := range b.Templates {
			tp.Proposal.Lifetime = 100 * time.Hour
		}
	})
	released, gone := outputsOf[core.Release](p), outputsOf[core.Unconfigured](p)
	p.up()
	p.until(5*time.Second, "up", func() bool { return len(p.a.children) == 2 && len(p.b.children) == 2 })
	p.flows(time.Hour)
	for _, s := range []*side{p.a, p.b} {
		if sas := s.e.SAs(); s.states() != "expired " || len(sas[0].Leased) != 1 {
			t.Fatalf("%s: %+v", s.name, sas)
		}
	}
	if len(*released)+len(*gone) > 0 {
		t.Fatalf("released %v, %v", *released, *gone)
	}
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.flows(time.Minute)
	for _, s := range []*side{p.a, p.b} {
		if sas := s.e.SAs(); s.states() != "established " || len(sas[0].Leased) != 1 || len(sas[0].Children) != 2 {
			t.Errorf("%s: %+v", s.name, sas)
		}
	}
	p.a.in(core.Command{Do: core.KillAll})
	p.run(30 * time.Millisecond)
	if len(*released) == 0 || len(*gone) == 0 || len(p.b.children) != 0 {
		t.Errorf("released %v, %v, %d CHILD SAs", *released, *gone, len(p.b.children))
	}
}

// XAuth's user stays with the CHILD SAs, and a new phase 1 is the same user's.
func TestUserOutlivesPhase1(t *testing.T) {
	p := expiredPair(t, xauth, asksAndGives, bPassive)
	if sas := p.b.e.SAs(); sas[0].User != "anna" || len(sas[0].Leased) != 1 {
		t.Fatalf("%+v", sas)
	}
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.flows(30 * time.Second)
	if sas := p.b.e.SAs(); len(sas) != 1 || sas[0].State != "established" || sas[0].User != "anna" || len(sas[0].Children) != 2 {
		t.Errorf("%+v", sas)
	}
}

// Commands and the configuration end what an expired phase 1 left.
func TestCommandsAfterPhase1(t *testing.T) {
	for name, in := range map[string]func(p *pair) core.Input{
		"kill":     func(p *pair) core.Input { return core.Command{Do: core.KillSA, SA: p.a.e.SAs()[0].ID} },
		"kill all": func(*pair) core.Input { return core.Command{Do: core.KillAll} },
		"flush":    func(*pair) core.Input { return core.Command{Do: core.FlushSAs} },
		"shutdown": func(*pair) core.Input { return core.Command{Do: core.Shutdown} },
		"reload":   func(p *pair) core.Input { return core.Reconfigure{Config: &core.Config{IKEPort: 500, NATTPort: 4500}} },
	} {
		p := expiredPair(t, bPassive)
		p.a.in(in(p))
		if p.a.outbound() != nil || p.a.states() == "expired " {
			t.Errorf("%s: %v", name, p.a.e.SAs())
		}
	}
}

// A dead peer is found out although phase 1 is over: the new one is not answered.
func TestPeerDiesAfterPhase1(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, longChildren, bPassive, phase1Of(10*time.Minute, 30*time.Second))
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.drop = func(_ *side, h message.Header) bool { return h.Exchange == isakmp.ExchangeMain }
	p.flows(30 * time.Minute)
	if p.a.states() == "" || p.b.states() != "expired " || p.a.count(core.EvPeerDead) != 0 {
		t.Fatalf("a: %v\nb: %v", p.a.e.SAs(), p.b.e.SAs())
	}
	p.drop = nil
	p.b.dead = true
	p.run(5 * time.Minute)
	if len(p.a.children) != 0 || p.a.count(core.EvPeerDead) == 0 {
		t.Fatalf("a keeps %d CHILD SAs of a dead peer: %v", len(p.a.children), p.a.e.SAs())
	}
	p.b.dead = false
	p.b.in(core.Tick{})
	p.until(10*time.Minute, "up again", p.bothUp)
	p.run(10 * time.Second)
	p.works()
}

// Silence has a new phase 1 made, and a peer that is there is found so.
func TestSilenceAfterPhase1(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, longChildren, bPassive, phase1Of(10*time.Minute, 30*time.Second))
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.drop = func(_ *side, h message.Header) bool { return h.Exchange == isakmp.ExchangeMain }
	p.flows(30 * time.Minute)
	p.drop = nil
	p.run(3 * time.Minute)
	if p.a.states() != "established " || p.b.states() != "established " || p.a.count(core.EvPeerDead)+p.a.count(core.EvChildDown) != 0 {
		t.Errorf("a: %v\nb: %v", p.a.e.SAs(), p.b.e.SAs())
	}
	p.works()
}
