package ike

import (
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
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
