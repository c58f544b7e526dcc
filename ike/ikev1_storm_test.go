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

// What the simulated networks found (TestWeatherOfIKEv1), each by itself.

// A DELETE is lost, which nobody answers: the packets of the peer show it, and it is said again. Of an SPI that we send with nobody is
// told, since a DELETE may name that too, and anybody can forge such a packet.
func TestLostDeleteIsSaidAgain(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, longChildren, bPassive)
	p.b.spi = 0x80000000
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(time.Minute)
	p.drop = func(from *side, h message.Header) bool {
		return from == p.b && h.Exchange == isakmp.ExchangeInformational
	}
	p.b.in(core.Command{Do: core.FlushSAs})
	p.run(10 * time.Second)
	p.drop = nil
	if len(p.b.children) != 0 || p.a.outbound() == nil {
		t.Fatalf("a has %d CHILD SAs, b %d", len(p.a.children), len(p.b.children))
	}
	k := p.a.outbound()
	unknown := func(spi uint32) {
		p.b.in(core.UnknownSPI{Local: netip.AddrPortFrom(p.b.addr, 500), Remote: netip.AddrPortFrom(p.a.addr, 500), SPI: spi})
		p.run(time.Second)
	}
	sent := len(p.b.sent)
	p.b.dead = false
	for range 100 {
		p.b.in(core.UnknownSPI{Local: netip.AddrPortFrom(p.b.addr, 500), Remote: netip.MustParseAddrPort("192.0.2.77:500"), SPI: k.Out.SPI})
	}
	if p.run(time.Second); len(p.b.sent) != sent {
		t.Errorf("%d messages about a packet of somebody else", len(p.b.sent)-sent)
	}
	unknown(k.Out.SPI)
	if p.a.children[k.Child] != nil && !p.a.children[k.Child].retired {
		t.Error("a seals with what b does not have")
	}
	p.until(10*time.Second, "up again", p.bothUp)
	p.works()

	sent = len(p.b.sent)
	out := p.b.outbound().Out.SPI
	unknown(out)
	if p.a.outbound() == nil || p.b.outbound() == nil || len(p.b.sent) != sent {
		t.Errorf("a packet with an SPI of a's own had b say %d messages, and a has %d CHILD SAs", len(p.b.sent)-sent, len(p.a.children))
	}
	sent = len(p.b.sent)
	for i := range 100 {
		p.b.in(core.UnknownSPI{Local: netip.AddrPortFrom(p.b.addr, 500), Remote: netip.AddrPortFrom(p.a.addr, 500), SPI: 0x90000000 + uint32(i)})
	}
	if p.run(time.Second); len(p.b.sent)-sent > 4 || len(p.b.sent) == sent {
		t.Errorf("%d messages about 100 packets in a second", len(p.b.sent)-sent)
	}
	p.works()
}

// Both begin, and the first message of one of them is lost: the other one takes its repetition for a rekey, and it for a twin. Nothing
// that carries traffic may end.
func TestTwinThatLooksLikeARekey(t *testing.T) {
	for _, mode := range []func(a, b *core.Config){inMainMode, inAggressiveMode} {
		for _, lost := range []int{1, 2, 3} {
			p := newPair(t, 1, quick, mode, longChildren)
			n := 0
			p.drop = func(from *side, h message.Header) bool {
				if from != p.b || h.SPIr != 0 {
					return false
				}
				n++
				return n <= lost
			}
			p.up()
			p.until(5*time.Second, "up", p.bothUp)
			for range 4 * 60 {
				p.run(time.Second / 2)
				if !p.a.esp() || !p.b.esp() {
					t.Fatalf("%d lost: no SA at %v\na: %v\nb: %v", lost, p.clock.Now().Sub(epoch), p.a.e.SAs(), p.b.e.SAs())
				}
			}
			if len(p.a.lost)+len(p.b.lost) > 0 || p.a.established() != 1 || p.b.established() != 1 || p.a.e.SAs()[0].SPIi != p.b.e.SAs()[0].SPIi {
				t.Errorf("%d lost: packets lost %v %v\na: %v\nb: %v", lost, p.a.lost, p.b.lost, p.a.e.SAs(), p.b.e.SAs())
			}
		}
	}
}

// Both ends make phase 1 anew at once. Each has two that are to replace the old one, and both keep the same one.
func TestPhase1RekeyedByBothAtOnce(t *testing.T) {
	for _, mode := range []func(a, b *core.Config){inMainMode, inAggressiveMode} {
		for _, later := range []time.Duration{0, 10 * time.Millisecond, 30 * time.Millisecond, 70 * time.Millisecond, 200 * time.Millisecond} {
			p := newPair(t, 1, quick, mode, longChildren)
			p.up()
			p.until(5*time.Second, "up", p.bothUp)
			p.run(10 * time.Minute)
			p.a.in(core.Command{Do: core.RekeyIKE})
			p.run(later)
			p.b.in(core.Command{Do: core.RekeyIKE})
			for range 2 * 60 {
				p.run(time.Second / 2)
				if !p.a.esp() || !p.b.esp() {
					t.Fatalf("%v: no SA at %v\na: %v\nb: %v", later, p.clock.Now().Sub(epoch), p.a.e.SAs(), p.b.e.SAs())
				}
			}
			p.run(90 * time.Second) // one that was replaced waits a minute for the peer's DELETE
			if len(p.a.lost)+len(p.b.lost) > 0 || p.a.established() != 1 || p.b.established() != 1 || p.a.e.SAs()[0].SPIi != p.b.e.SAs()[0].SPIi {
				t.Errorf("%v: packets lost %v %v\na: %v\nb: %v", later, p.a.lost, p.b.lost, p.a.e.SAs(), p.b.e.SAs())
			}
		}
	}
}

// Phase 1 is made anew in aggressive mode, and message 3 does not arrive for a while: the old one stays until the peer is known to
// have the new one.
func TestOldPhase1StaysUntilMessage3Arrives(t *testing.T) {
	p := newPair(t, 1, quick, inAggressiveMode, bPassive, longChildren)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(time.Minute)
	old := p.a.e.SAs()[0].ID
	p.drop = func(from *side, h message.Header) bool {
		return from == p.a && h.Exchange == isakmp.ExchangeAggressive && h.SPIr != 0
	}
	p.a.in(core.Command{Do: core.RekeyIKE})
	for range 20 {
		p.run(time.Second)
		if !p.a.esp() || !p.b.esp() {
			t.Fatalf("no SA at %v\na: %v\nb: %v", p.clock.Now().Sub(epoch), p.a.e.SAs(), p.b.e.SAs())
		}
	}
	p.drop = nil
	p.run(time.Minute)
	if as, bs := p.a.e.SAs(), p.b.e.SAs(); len(as) != 1 || len(bs) != 1 || as[0].ID == old || as[0].SPIi != bs[0].SPIi {
		t.Errorf("%v\n%v", as, bs)
	}
	p.works()
}

// A new phase 1 takes over, and the peer takes it back before the old one is deleted: what it had goes back to the old one, which is
// replaced again.
func TestReplacementThatIsTakenBack(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, longChildren)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(time.Minute)
	old := p.a.e.SAs()[0]
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.run(time.Second)
	for _, sa := range p.a.e.bySPI {
		if sa.ID != old.ID {
			ikesa.Expire(sa, "the peer deleted it")
		}
	}
	p.run(time.Minute)
	if sas := p.a.e.SAs(); p.a.states() != "established " || sas[0].ID == old.ID || len(sas[0].Children) != 1 || p.a.count(core.EvChildDown) != 0 || p.a.outbound() == nil {
		t.Errorf("%+v", sas)
	}
}

// Phase 1 is replaced while a CHILD SA is being rekeyed by it: what comes of the rekey belongs to the new phase 1, and does not end
// with the old one.
func TestRekeyEndsAfterPhase1WasReplaced(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, longChildren)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(time.Minute)
	p.drop = func(from *side, h message.Header) bool { return from == p.b && h.Exchange == isakmp.ExchangeQuick }
	p.b.in(core.Command{Do: core.RekeyChildren})
	p.run(100 * time.Millisecond)
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.run(200 * time.Millisecond)
	p.drop = nil
	p.run(2 * time.Minute)
	if p.b.count(core.EvChildUp) < 2 {
		t.Fatalf("b's rekey came to nothing: %v", p.b.events)
	}
	a, b := p.a.e.SAs(), p.b.e.SAs()
	if len(a) != 1 || len(b) != 1 || len(a[0].Children) != 2 || len(b[0].Children) != 2 || len(p.a.children) != 2 || len(p.b.children) != 2 {
		t.Errorf("%+v\n%+v", a, b)
	}
	p.works()
}

// Both rekey a CHILD SA at once. Both new ones are there, and both ends rekey the same one of them next.
func TestRekeyedByBothAtOnce(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, longChildren, bPassive)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(time.Minute)
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.b.in(core.Command{Do: core.RekeyChildren})
	p.run(10 * time.Second)
	var serving [2][]uint32
	for i, s := range []*side{p.a, p.b} {
		for _, c := range s.e.children {
			if c.Serving() {
				serving[i] = append(serving[i], []uint32{c.SPIIn, c.SPIOut}[i])
			}
		}
	}
	if len(p.a.children) != 3 || len(serving[0]) != 1 || len(serving[1]) != 1 || serving[0][0] != serving[1][0] {
		t.Errorf("%d CHILD SAs, of which %08x serve", len(p.a.children), serving)
	}
	p.works()
}

// What we have begun is up here before the peer has our last message. If it begins one as well and says INITIAL-CONTACT, ours is no
// leftover of an earlier life.
func TestInitialContactBeforeOursIsUp(t *testing.T) {
	p := newPair(t, 1, quick, inAggressiveMode, longChildren)
	p.b.cfg.Peers[0].OnDemand = true
	lost, first := 0, uint64(0)
	p.drop = func(from *side, h message.Header) bool {
		switch {
		case from != p.a || h.Exchange != isakmp.ExchangeAggressive:
		case h.SPIr == 0:
			first = h.SPIi
		case h.SPIi == first && lost < 2:
			lost++
			return true
		}
		return false
	}
	contact := 0
	p.up()
	p.run(200 * time.Millisecond)
	p.b.in(core.Acquire{Policy: 1})
	p.run(time.Minute)
	for _, s := range []*side{p.a, p.b} {
		for _, e := range s.events {
			if strings.Contains(e.Reason, "initial contact") {
				contact++
			}
		}
	}
	if lost != 2 || contact != 0 {
		t.Errorf("%d messages lost, %d SAs ended by INITIAL-CONTACT", lost, contact)
	}
	p.works()
}

// A phase 1 was replaced by one that the peer does not count on, so that no DELETE of it comes. The peer is told that it is over.
func TestReplacedPhase1IsNotKept(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, longChildren)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(time.Minute)
	for _, sa := range p.b.e.bySPI {
		sa.Redundant()
	}
	p.run(65 * time.Second)
	if p.a.count(core.EvIKEDown) != 1 || p.b.count(core.EvIKEDown) != 1 {
		t.Errorf("a: %v\nb: %v", p.a.events, p.b.events)
	}
}

// Both ends made a CHILD SA for the same traffic, and phase 1 is over before one of the two is deleted. Both stay, since nobody could
// tell the peer.
func TestTwinsOfAPhase1ThatIsOver(t *testing.T) {
	for seed := range uint64(4) {
		p := newPair(t, seed, quick, inMainMode, longChildren)
		p.up()
		p.until(5*time.Second, "up", p.bothUp)
		p.run(time.Second)
		if len(p.a.children) != 2 {
			t.Fatalf("seed %d: %d CHILD SAs, not two", seed, len(p.a.children))
		}
		p.drop = func(*side, message.Header) bool { return true }
		for _, sa := range sorted(p.a.e.bySPI) {
			ikesa.Expire(sa, "the peer deleted it")
		}
		p.run(20 * time.Second)
		for _, k := range p.a.children {
			if k.retired {
				t.Errorf("seed %d: a CHILD SA was deleted", seed)
			}
		}
		if len(p.a.children) != 2 {
			t.Errorf("seed %d: %d CHILD SAs are left", seed, len(p.a.children))
		}
	}
}

// Two IKE SAs replace each other, so that one is handed what it has itself: it keeps that.
func TestHandedOverToItself(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, longChildren)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	for _, sa := range p.a.e.bySPI {
		ikesa.HandOver(sa, sa)
		if len(sa.Children) != 1 {
			t.Errorf("%d CHILD SAs", len(sa.Children))
		}
	}
	p.a.in(core.Command{Do: core.Shutdown})
	if len(p.a.children) != 0 {
		t.Errorf("%d CHILD SAs are left", len(p.a.children))
	}
}
