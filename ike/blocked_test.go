package ike

import (
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// betweenHosts has both ends leave it to us what carries ESP, in transport mode, which goes without UDP.
func betweenHosts(a, b *core.Config) {
	one := func(s string) selector.TS {
		p := netip.MustParseAddr(s)
		return selector.FromPrefix(netip.PrefixFrom(p, p.BitLen()))
	}
	for _, c := range []*core.Config{a, b} {
		c.Encapsulation = core.EncapDetect
		c.Policies[0].Tunnel = false
	}
	a.Policies[0].Pair = selector.Pair{Local: one("192.0.2.1"), Remote: one("192.0.2.2")}
	b.Policies[0].Pair = selector.Pair{Local: one("192.0.2.2"), Remote: one("192.0.2.1")}
}

func (s *side) unanswered() { s.in(core.Unanswered{Child: s.outbound().Child}) }

// blocked is the pair up, with ESP without UDP.
func blocked(t *testing.T, seed uint64, change ...func(a, b *core.Config)) *pair {
	p := newPair(t, seed, goodLink, append(change, passive)...)
	p.log = testing.Verbose()
	p.up()
	p.until(time.Minute, "both ends up", p.bothUp)
	p.run(10 * time.Second)
	return p
}

// IKE is answered, and what goes by ESP is not: another IKE SA carries it in UDP, within seconds, and people are told
// once. So do those that are made later, until the configuration is loaded anew.
func TestESPBlocked(t *testing.T) {
	p := blocked(t, 71, betweenHosts)
	if k := p.a.outbound(); k.UDP {
		t.Fatal("ESP goes in UDP from the start")
	}
	p.a.unanswered()
	inUDP := func() bool {
		return p.a.outbound() != nil && p.b.outbound() != nil && p.a.outbound().UDP && p.b.outbound().UDP
	}
	p.until(3*time.Second, "ESP in UDP at both ends", inUDP)
	p.run(20 * time.Second)
	if len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 || len(p.a.children) != 1 || len(p.b.children) != 1 {
		t.Errorf("%v, %v", p.a.e.SAs(), p.b.e.SAs())
	}
	p.esps()
	p.a.unanswered() // in UDP it does not come, either: said, and nothing else is tried
	p.run(20 * time.Second)
	ups := p.a.count(core.EvIKEUp)
	if !p.a.e.SAs()[0].ESPBlocked || ups != 2 {
		t.Errorf("%+v, up %d times", p.a.e.SAs(), ups)
	}
	p.a.in(core.Alive{Child: p.a.outbound().Child})
	if p.a.e.SAs()[0].ESPBlocked {
		t.Error("something came by ESP, and it is still said to be blocked")
	}
	before := p.a.count(core.EvESPBlocked)
	p.a.unanswered()
	p.run(20 * time.Second)
	if n := p.a.count(core.EvESPBlocked); before != 2 || n != before { // once of each IKE SA
		t.Errorf("told %d times, then %d times", before, n)
	}
	p.b.in(core.Command{Do: core.KillAll})
	p.run(20 * time.Second)
	p.until(time.Minute, "up again, in UDP", inUDP)
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.run(5 * time.Second)
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(20 * time.Second)
	if !inUDP() {
		t.Error("not in UDP after rekeys")
	}
	p.b.in(core.Command{Do: core.KillAll})
	p.a.in(core.Reconfigure{Config: p.a.cfg})
	p.run(20 * time.Second)
	p.until(time.Minute, "up again, without UDP", func() bool { return p.bothUp() && !inUDP() })
}

// Something is wrong with more than ESP, or with nothing, or it is for the other end to begin: nothing is made anew.
func TestESPIsNotBlocked(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a, b *core.Config)
		do     func(p *pair)
		told   int // at both ends
	}{
		"the peer is dead": {betweenHosts, func(p *pair) { p.b.dead = true; p.a.unanswered(); p.run(20 * time.Second) }, 0},
		"something came": {betweenHosts, func(p *pair) {
			p.a.unanswered()
			p.a.in(core.Alive{Child: p.a.outbound().Child})
			p.run(20 * time.Second)
		}, 0},
		"the child is gone":     {betweenHosts, func(p *pair) { p.a.unanswered(); p.a.in(core.Command{Do: core.FlushSAs}); p.run(20 * time.Second) }, 0},
		"the peer has to begin": {betweenHosts, func(p *pair) { p.b.unanswered(); p.run(20 * time.Second) }, 1},
		"in UDP already":        {func(a, b *core.Config) {}, func(p *pair) { p.a.unanswered(); p.run(20 * time.Second); p.a.unanswered(); p.run(20 * time.Second) }, 1},
		"said once of an IKE SA": {func(a, b *core.Config) {}, func(p *pair) {
			p.a.unanswered()
			p.run(20 * time.Second)
			p.a.in(core.Alive{Child: p.a.outbound().Child})
			p.run(time.Second)
			p.a.unanswered()
			p.run(20 * time.Second)
			if !p.a.e.SAs()[0].ESPBlocked {
				t.Error("it is not seen to be blocked again")
			}
		}, 1},
		"raw by the configuration": {func(a, b *core.Config) {
			betweenHosts(a, b)
			a.Encapsulation, b.Encapsulation = core.EncapRaw, core.EncapRaw
		}, func(p *pair) { p.a.unanswered(); p.run(20 * time.Second) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := blocked(t, 72, c.change)
			c.do(p)
			if n := p.a.count(core.EvESPBlocked) + p.b.count(core.EvESPBlocked); n != c.told {
				t.Errorf("told %d times", n)
			}
			if p.a.count(core.EvIKEUp) != 1 {
				t.Errorf("%d IKE SAs", p.a.count(core.EvIKEUp))
			}
		})
	}
}
