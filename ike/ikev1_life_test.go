package ike

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// longChildren have the CHILD SAs live so long that nothing rekeys them by itself.
func longChildren(a, b *core.Config) {
	for _, c := range []*core.Config{a, b} {
		c.Policies[0].Proposal.Lifetime = 100 * time.Hour
	}
}

// A new phase 1 takes over while a CHILD SA is being rekeyed and the peer does not answer that: the CHILD SA goes to the
// new one, and is rekeyed there.
func TestRekeyOfChildSurvivesPhase1(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, longChildren)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(time.Minute)
	p.drop = func(from *side, h message.Header) bool { return from == p.a && h.Exchange == isakmp.ExchangeQuick }
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(time.Second)
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.run(10 * time.Second)
	if p.a.established() != 1 || p.b.established() != 1 {
		t.Fatalf("%v, %v", p.a.e.SAs(), p.b.e.SAs())
	}
	p.drop = nil
	p.run(time.Minute)
	if p.a.count(core.EvChildRekeyed) != 1 {
		t.Errorf("%d rekeys", p.a.count(core.EvChildRekeyed))
	}
	p.works()
}

// CHILD SAs that were replaced do not count as ones that the peer has: it may rekey one as often as it likes. How many of
// the old ones are kept is bounded.
func TestManyRekeysOfOneChild(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, longChildren)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	for n := range 3 * ikesa.MaxChildren {
		old := p.a.outbound().Child
		p.a.in(core.Command{Do: core.RekeyChildren})
		p.run(200 * time.Millisecond)
		if p.a.outbound().Child == old {
			t.Fatalf("rekey %d came to nothing: %v", n, p.b.events[len(p.b.events)-1])
		}
	}
	p.run(10 * time.Second)
	if a, b := len(p.a.children), len(p.b.children); a > 2*ikesa.MaxChildren || b > 2*ikesa.MaxChildren || a != b {
		t.Errorf("%d and %d CHILD SAs", a, b)
	}
	p.works()
}

// The SPIs up to 255 are nobody's (RFC 4303 §2.1): a peer that wants to receive with one gets no CHILD SA, in either role.
func TestReservedSPIs(t *testing.T) {
	for _, version := range []func(a, b *core.Config){inMainMode, func(_, _ *core.Config) {}} {
		for _, who := range []string{"a", "b"} {
			p := newPair(t, 1, quick, version, bPassive)
			bad, other := p.a, p.b
			if who == "b" {
				bad, other = p.b, p.a
			}
			bad.spi = 0x10
			p.up()
			p.run(3 * time.Second)
			if other.outbound() != nil || other.count(core.EvChildUp) != 0 {
				t.Errorf("version %d, %s: a CHILD SA with SPI %08x", p.a.cfg.Peers[0].Version, who, other.outbound().Out.SPI)
				continue
			}
			told := false
			for _, e := range other.events {
				told = told || strings.Contains(e.Reason, "reserved") && strings.Contains(e.Reason, "update the peer")
			}
			if !told {
				t.Errorf("version %d, %s: %v", p.a.cfg.Peers[0].Version, who, other.events)
			}
		}
	}
}

// INITIAL-CONTACT in a message of its own counts only right after phase 1.
func TestLateInitialContact(t *testing.T) {
	for _, c := range []struct {
		late time.Duration
		left int
	}{{time.Second, 1}, {time.Minute, 2}} {
		r, first, second := twiceX(t)
		second.addr = netip.MustParseAddrPort("192.0.2.3:500")
		first.main()
		r.pass(time.Minute)
		second.main()
		if r.established() != 2 {
			t.Fatalf("%v %s", r.e.SAs(), r.reasons())
		}
		r.pass(c.late)
		second.inform(&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyInitialContact, SPI: second.cookies()})
		if n := r.established(); n != c.left {
			t.Errorf("after %v: %d IKE SAs, want %d", c.late, n, c.left)
		}
	}
}

// A person has two devices, which say the same of themselves. When one of them deletes its phase 1, its CHILD SAs are not the
// other one's.
func TestPhase1DeletedOfOneDevice(t *testing.T) {
	r, first, second := twiceX(t)
	second.addr = netip.MustParseAddrPort("192.0.2.3:500")
	first.main()
	first.quick(0xc0000001)
	second.main()
	if r.established() != 2 || len(r.children) != 1 {
		t.Fatalf("%v %s", r.e.SAs(), r.reasons())
	}
	first.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{first.cookies()}})
	if sas := r.e.SAs(); len(sas) != 2 || sas[0].State != "expired" || len(sas[0].Children) != 1 || len(sas[1].Children) != 0 {
		t.Errorf("%+v", sas)
	}
}

// Who makes phase 1 anew deletes the old one three seconds later: a quick mode that is under way by it then comes to its end, and what
// it makes is the new one's.
func TestReplacedPhase1IsDeletedLater(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, longChildren)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(time.Minute)
	p.drop = func(from *side, h message.Header) bool { return from == p.b && h.Exchange == isakmp.ExchangeQuick }
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(10 * time.Millisecond)
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.until(time.Second, "the new one", func() bool { return p.a.established() == 2 })
	up := p.clock.Now()
	p.drop = nil
	p.run(2 * time.Second)
	if p.a.count(core.EvChildRekeyed) != 1 || p.b.count(core.EvChildRekeyed) != 1 {
		t.Errorf("the rekey came to nothing: %v", p.a.events)
	}
	p.until(5*time.Second, "the old one is deleted", func() bool { return p.a.count(core.EvIKEDown) == 1 })
	if after := p.clock.Now().Sub(up); after < 2900*time.Millisecond || after > 3100*time.Millisecond {
		t.Errorf("it was deleted after %v", after)
	}
	p.run(10 * time.Second)
	if as, bs := p.a.e.SAs(), p.b.e.SAs(); len(as) != 1 || len(bs) != 1 || len(as[0].Children) != 2 || len(bs[0].Children) != 2 {
		t.Errorf("%v\n%v", as, bs)
	}
	p.works()
}
