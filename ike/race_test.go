package ike

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// namedPair are two ends of which a has b by a name, at the addresses that at says.
func namedPair(t *testing.T, seed uint64, at *[]string, change ...func(a, b *core.Config)) *pair {
	p := newPair(t, seed, goodLink, append(change, passive, func(a, _ *core.Config) {
		a.Peers[0].Address, a.Peers[0].DNSName = netip.Prefix{}, "b.example"
	})...)
	p.log = testing.Verbose()
	p.a.system = func(a core.Ask) (core.Answer, bool) {
		if _, ok := a.Work.(core.Resolve); !ok {
			return core.Answer{}, false
		}
		var list []netip.Addr
		for _, s := range *at {
			list = append(list, netip.MustParseAddr(s))
		}
		return core.Answer{ID: a.ID, Data: core.PackAddrs(list)}, true
	}
	return p
}

// alone checks that one IKE SA came up with b at an address, and nothing is left of the race.
func (p *pair) alone(t *testing.T, at string) {
	t.Helper()
	p.run(10 * time.Second)
	if sas := p.a.e.SAs(); len(sas) != 1 || sas[0].Remote.Addr().String() != at {
		t.Errorf("%v", sas)
	}
	if p.a.count(core.EvIKEUp) != 1 || p.a.count(core.EvIKEDown) != 0 || len(p.a.e.races) != 0 || p.a.outbound() == nil {
		t.Errorf("up %d times, down %d times, %d races", p.a.count(core.EvIKEUp), p.a.count(core.EvIKEDown), len(p.a.e.races))
	}
	p.run(time.Minute)
	if n := len(p.b.e.SAs()); n != 1 {
		t.Errorf("b has %d IKE SAs", n)
	}
}

// The first address of a name is dead: the next one is tried after a quarter of a second.
func TestRaceLeavesADeadAddress(t *testing.T) {
	p := namedPair(t, 51, &[]string{"203.0.113.9", "203.0.113.10", "192.0.2.2"})
	p.up()
	p.until(900*time.Millisecond, "both ends up", p.bothUpOrStandby)
	p.alone(t, "192.0.2.2")
	if p.a.count(core.EvInitFailed) > 0 {
		t.Error(p.a.reasons(core.EvInitFailed))
	}
}

// A host that has only IPv6 connects to the IPv6 address of the name, at once.
func TestRaceWithoutRouteOfAFamily(t *testing.T) {
	p := namedPair(t, 52, &[]string{"192.0.2.2", "2001:db8::2"}, func(_, b *core.Config) { b.Peers[0].Address = netip.MustParsePrefix("2001:db8::1/128") })
	resolve := p.a.system
	p.a.system = func(a core.Ask) (core.Answer, bool) {
		if w, ok := a.Work.(core.SourceFor); ok && w.Remote.Is4() {
			return core.Answer{ID: a.ID, Err: errors.New("network is unreachable")}, true
		}
		return resolve(a)
	}
	p.byIP[netip.MustParseAddr("2001:db8::1")], p.byIP[netip.MustParseAddr("2001:db8::2")] = p.a, p.b
	p.a.addr = netip.MustParseAddr("2001:db8::1")
	p.up()
	p.until(240*time.Millisecond, "both ends up", p.bothUpOrStandby)
	p.alone(t, "2001:db8::2")
}

// local-address says which family it is.
func TestRaceWithALocalAddress(t *testing.T) {
	p := namedPair(t, 53, &[]string{"2001:db8::2", "192.0.2.2"}, func(a, _ *core.Config) { a.Peers[0].Local = netip.MustParseAddr("192.0.2.1") })
	p.up()
	p.until(240*time.Millisecond, "both ends up", p.bothUpOrStandby)
	p.alone(t, "192.0.2.2")
}

// Both addresses answer, and late: the first answer counts, and the other IKE SA is gone. A
// policy that traffic asked for meanwhile is made with the one that stays.
func TestRaceOfTwoThatAnswer(t *testing.T) {
	second := func(c *core.Config, local, remote string) {
		q := *c.Policies[0]
		q.Ref = 2
		q.Pair = selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix(local)), Remote: selector.FromPrefix(netip.MustParsePrefix(remote))}
		c.Policies = append(c.Policies, &q)
	}
	for name, first := range map[string]time.Duration{"the first is faster": 400 * time.Millisecond, "the second is faster": 900 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			p := namedPair(t, 54, &[]string{"192.0.2.22", "192.0.2.2"}, func(a, b *core.Config) {
				a.Peers[0].OnDemand = true
				second(a, "10.3.0.0/16", "10.4.0.0/16")
				second(b, "10.4.0.0/16", "10.3.0.0/16")
			})
			p.byIP[netip.MustParseAddr("192.0.2.22")] = p.b
			p.tap = func(from *side, o core.Output) {
				if s, ok := o.(core.Send); ok && from == p.a {
					p.carry = func(deliver func()) {
						p.clock.After(map[bool]time.Duration{true: first, false: 400 * time.Millisecond}[s.Remote.Addr().String() == "192.0.2.22"], deliver)
					}
				} else if ok {
					p.carry = func(deliver func()) { deliver() }
				}
			}
			p.up()
			p.a.in(core.Acquire{Policy: 1})
			p.run(300 * time.Millisecond)
			if len(p.a.e.races) != 2 {
				t.Fatalf("%d take part", len(p.a.e.races))
			}
			p.a.in(core.Acquire{Policy: 2})
			want := "192.0.2.22"
			if first > 650*time.Millisecond {
				want = "192.0.2.2"
			}
			p.until(4*time.Second, "both policies", func() bool { return len(p.a.children) == 2 })
			p.alone(t, want)
		})
	}
}

// Of two gateways behind one name the first refuses: the other one is tried at once.
func TestRaceLeavesAnAddressThatRefuses(t *testing.T) {
	p := namedPair(t, 55, &[]string{"192.0.2.3", "192.0.2.2"})
	cfg := siteConfig("a", "192.0.2.1", "10.2.0.0/16", "10.1.0.0/16")
	cfg.Peers[0].Passive = true
	cfg.Peers[0].Profile.Groups = nil
	cfg.Peers[0].Profile.PRFs = nil
	c := p.newSide("c", "192.0.2.3", 5<<32, cfg)
	c.in(core.Reconfigure{Config: cfg})
	p.up()
	p.until(240*time.Millisecond, "both ends up", p.bothUpOrStandby)
	p.alone(t, "192.0.2.2")
	if got := p.a.reasons(core.EvNoProposal); !strings.Contains(got, "none of our proposals") {
		t.Errorf("the refusal is not told: %q", got)
	}
}

// The first address refuses when the second one is under way. What was asked for meanwhile is made at the second one.
func TestRaceThatTheFirstLosesByARefusal(t *testing.T) {
	second := func(c *core.Config, local, remote string) {
		q := *c.Policies[0]
		q.Ref = 2
		q.Pair = selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix(local)), Remote: selector.FromPrefix(netip.MustParsePrefix(remote))}
		c.Policies = append(c.Policies, &q)
	}
	p := namedPair(t, 59, &[]string{"192.0.2.3", "192.0.2.2"}, func(a, b *core.Config) {
		a.Peers[0].OnDemand = true
		second(a, "10.3.0.0/16", "10.4.0.0/16")
		second(b, "10.4.0.0/16", "10.3.0.0/16")
	})
	cfg := siteConfig("a", "192.0.2.1", "10.2.0.0/16", "10.1.0.0/16")
	cfg.Peers[0].Passive = true
	cfg.Peers[0].Profile.Groups = nil
	c := p.newSide("c", "192.0.2.3", 5<<32, cfg)
	c.in(core.Reconfigure{Config: cfg})
	p.tap = func(from *side, o core.Output) {
		if s, ok := o.(core.Send); ok && from == p.a { // c answers after 400 ms, b after 600
			wait := map[bool]time.Duration{true: 400 * time.Millisecond, false: 350 * time.Millisecond}[s.Remote.Addr() == c.addr]
			p.carry = func(deliver func()) { p.clock.After(wait, deliver) }
		} else if ok {
			p.carry = func(deliver func()) { deliver() }
		}
	}
	p.up()
	p.a.in(core.Acquire{Policy: 1})
	p.run(300 * time.Millisecond)
	if len(p.a.e.races) != 2 {
		t.Fatalf("%d take part", len(p.a.e.races))
	}
	p.a.in(core.Acquire{Policy: 2}) // it joins the first
	p.until(4*time.Second, "both policies", func() bool { return len(p.a.children) == 2 })
	if p.a.count(core.EvNoProposal) != 1 {
		t.Errorf("%d refusals", p.a.count(core.EvNoProposal))
	}
	p.alone(t, "192.0.2.2")
}

// A race that is won is no failure: no policy waits for another attempt.
func TestRaceThatIsWonLeavesNothingToTry(t *testing.T) {
	p := namedPair(t, 60, &[]string{"203.0.113.9", "192.0.2.2"})
	p.drop = func(from *side, h message.Header) bool { return h.Exchange == message.ExchangeIKEAuth }
	p.up()
	p.until(time.Second, "the second address answers", func() bool { return len(p.a.e.races) == 0 && len(p.a.e.SAs()) == 1 })
	if w := p.a.e.wants[1]; w.timer != nil || w.failures > 0 {
		t.Errorf("%+v", w)
	}
}

// No address answers: the attempt has failed once, whatever the number of addresses, and the
// name is looked up again for the next one.
func TestRaceThatNobodyWins(t *testing.T) {
	at := []string{"203.0.113.9", "203.0.113.10"}
	p := namedPair(t, 56, &at)
	p.up()
	p.until(5*time.Minute, "the attempt fails", func() bool { return len(p.a.e.Holds()) > 0 })
	if h := p.a.e.Holds(); h[0].Failures != 1 || len(p.a.e.races) != 0 || len(p.a.e.SAs()) != 0 {
		t.Errorf("%+v, %d races, %v", h, len(p.a.e.races), p.a.e.SAs())
	}
	if n := p.a.count(core.EvInitFailed); n != 2 {
		t.Errorf("%d failures are told, not one for each address", n)
	}
	at = []string{"192.0.2.2"}
	p.until(time.Minute, "both ends up", p.bothUpOrStandby)
}

// The peer is taken out of the configuration while its addresses are tried: nothing goes on.
func TestRaceIsCalledOff(t *testing.T) {
	for name, off := range map[string]core.Input{
		"removed": core.Reconfigure{Config: &core.Config{IKEPort: 500, NATTPort: 4500}}, "stop": core.Command{Do: core.Shutdown}, "killed": core.Command{Do: core.KillAll},
	} {
		t.Run(name, func(t *testing.T) {
			p := namedPair(t, 57, &[]string{"203.0.113.9", "203.0.113.10", "203.0.113.11"}, func(a, _ *core.Config) { a.Peers[0].OnDemand = true })
			p.up()
			p.a.in(core.Acquire{Policy: 1})
			p.run(300 * time.Millisecond)
			before := len(p.a.sent)
			p.a.in(off)
			p.run(time.Minute)
			if before != 2 || len(p.a.sent) != before || len(p.a.e.races) != 0 || len(p.a.e.SAs()) != 0 {
				t.Errorf("%d messages, then %d; %d races, %v", before, len(p.a.sent), len(p.a.e.races), p.a.e.SAs())
			}
		})
	}
}

// As responder a peer is known at each address of its name.
func TestPeerByAnyOfItsAddresses(t *testing.T) {
	for _, from := range []string{"192.0.2.1", "192.0.2.11"} {
		at := []string{"192.0.2.1", "192.0.2.11"}
		p := newPair(t, 58, goodLink, passive, func(_, b *core.Config) {
			b.Peers[0].Address, b.Peers[0].DNSName = netip.Prefix{}, "a.example"
		})
		p.b.system = func(a core.Ask) (core.Answer, bool) {
			if _, ok := a.Work.(core.Resolve); !ok {
				return core.Answer{}, false
			}
			return core.Answer{ID: a.ID, Data: core.PackAddrs([]netip.Addr{netip.MustParseAddr(at[0]), netip.MustParseAddr(at[1])})}, true
		}
		p.a.addr = netip.MustParseAddr(from)
		p.byIP[p.a.addr] = p.a
		p.b.in(core.Reconfigure{Config: p.b.cfg})
		p.run(time.Second)
		p.a.in(core.Reconfigure{Config: p.a.cfg})
		p.until(5*time.Second, "both ends up from "+from, p.bothUpOrStandby)
	}
}
