package ike

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/ike/core"
)

// routed has the system of a side say which address of ours leads to any peer; "": none does.
func (s *side) routed(local string) {
	s.system = func(a core.Ask) (core.Answer, bool) {
		if _, ok := a.Work.(core.SourceFor); !ok {
			return core.Answer{}, false
		}
		if local == "" {
			return core.Answer{ID: a.ID, Err: errors.New("network is unreachable")}, true
		}
		return core.Answer{ID: a.ID, Data: netip.MustParseAddr(local).AsSlice()}, true
	}
}

// cut has nothing go from an address of a side any more, although the side has it.
func (p *pair) cut(addr string) {
	delete(p.byIP, netip.MustParseAddr(addr))
}

// bothAddrs is a pair that is up, whose a has two addresses and uses the first.
func bothAddrs(t *testing.T, seed uint64, change ...func(a, b *core.Config)) *pair {
	p := newPair(t, seed, goodLink, append(change, passive, func(_, b *core.Config) { b.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0") })...)
	p.log = testing.Verbose()
	p.a.have("192.0.2.1", "198.51.100.1")
	p.b.have("192.0.2.2")
	p.up()
	p.until(time.Minute, "both ends up", p.bothUpOrStandby)
	p.run(10 * time.Second)
	return p
}

// The uplink of the address in use is gone, by its route or its carrier; the address stays. With
// MOBIKE the SAs go over to the other address within 5 seconds.
func TestUplinkGoneWithMOBIKE(t *testing.T) {
	for name, gone := range map[string]func(p *pair){
		"the other one leads there": func(p *pair) { p.a.routed("198.51.100.1"); p.a.in(core.RoutesChanged{}) },
		"no route":                  func(p *pair) { p.a.routed(""); p.a.in(core.RoutesChanged{}) },
		"no carrier": func(p *pair) {
			p.a.routed("192.0.2.1")
			p.a.in(core.LocalAddrs{Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := bothAddrs(t, 61, mobile)
			p.cut("192.0.2.1")
			gone(p)
			p.until(5*time.Second, "moved", p.both("198.51.100.1", "192.0.2.2"))
			p.esps()
			if p.a.count(core.EvIKEUp) != 1 || p.a.count(core.EvChildUp) != 1 {
				t.Error("the SAs are not the same")
			}
		})
	}
}

// What is sent from the address in use would leave by the other uplink: nothing is asked on that path first. With MOBIKE the
// SAs go over at once. Without it the packets of the old SA leave from the new address as well, until the new IKE SA is there.
func TestPacketsWouldStray(t *testing.T) {
	stray := func(p *pair) {
		p.cut("192.0.2.1")
		p.a.system = func(a core.Ask) (core.Answer, bool) {
			w, ok := a.Work.(core.SourceFor)
			local := netip.MustParseAddr("198.51.100.1")
			return core.Answer{ID: a.ID, Data: core.PackSource(local, w.Own == netip.MustParseAddr("192.0.2.1"))}, ok
		}
		p.a.in(core.RoutesChanged{})
	}
	t.Run("MOBIKE", func(t *testing.T) {
		p := bothAddrs(t, 71, mobile)
		stray(p)
		p.until(time.Second, "moved", p.both("198.51.100.1", "192.0.2.2"))
		p.esps()
		if p.a.count(core.EvIKEUp) != 1 || p.a.count(core.EvMoved) != 1 {
			t.Errorf("%d IKE SAs, moved %d times", p.a.count(core.EvIKEUp), p.a.count(core.EvMoved))
		}
		before := len(p.a.sent)
		p.a.in(core.RoutesChanged{})
		p.run(time.Second)
		if len(p.a.sent) != before {
			t.Error("a further change is asked about, although the address leads to the peer")
		}
	})
	t.Run("without", func(t *testing.T) {
		p := bothAddrs(t, 72)
		var moves []netip.AddrPort
		p.a.tap2(func(o core.Output) {
			if m, ok := o.(core.Move); ok {
				moves = append(moves, m.Local)
			}
		})
		stray(p)
		p.run(time.Millisecond)
		if len(moves) != 1 || moves[0].Addr() != netip.MustParseAddr("198.51.100.1") {
			t.Errorf("ESP leaves from %v", moves)
		}
		p.until(time.Second, "up from the other address", func() bool { return p.a.count(core.EvIKEUp) == 2 })
		p.until(10*time.Second, "the old one is gone at both ends", func() bool { return len(p.a.e.SAs()) == 1 && len(p.b.e.SAs()) == 1 })
		p.esps()
	})
}

// Without MOBIKE another IKE SA begins at the address that leads to the peer now, at once, and takes
// over. The peer is told that the old one ends.
func TestUplinkGoneWithoutMOBIKE(t *testing.T) {
	for name, gone := range map[string]func(p *pair){
		"another route":       func(p *pair) { p.a.in(core.RoutesChanged{}) },
		"our address is gone": func(p *pair) { p.a.have("198.51.100.1") },
		"and the way comes late": func(p *pair) {
			p.a.routed("")
			p.a.have()
			p.run(30 * time.Second)
			p.a.routed("198.51.100.1")
			p.a.have("198.51.100.1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := bothAddrs(t, 62)
			p.cut("192.0.2.1")
			p.a.routed("198.51.100.1")
			gone(p)
			p.until(time.Second, "up from the other address", func() bool { return p.a.count(core.EvIKEUp) == 2 })
			p.until(10*time.Second, "the old one is gone at both ends", func() bool { return len(p.a.e.SAs()) == 1 && len(p.b.e.SAs()) == 1 })
			if !p.a.between("198.51.100.1", "192.0.2.2") {
				t.Errorf("%v", p.a.e.SAs())
			}
			p.esps()
			if p.a.count(core.EvInitFailed) > 0 || len(p.a.e.replacing) > 0 {
				t.Errorf("%d attempts failed", p.a.count(core.EvInitFailed))
			}
		})
	}
}

// Without MOBIKE, and where the same address still leads to the peer although its link has no carrier,
// the peer is asked whether it hears us. One that answers keeps its IKE SA.
func TestCarrierGoneWithoutMOBIKE(t *testing.T) {
	p := bothAddrs(t, 67)
	p.a.routed("192.0.2.1")
	before := len(p.a.sent)
	p.a.in(core.LocalAddrs{Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}})
	p.run(2 * time.Second)
	if len(p.a.sent) != before+1 || p.a.count(core.EvIKEUp) != 1 || len(p.a.e.SAs()) != 1 {
		t.Errorf("%d messages sent, %d IKE SAs", len(p.a.sent)-before, p.a.count(core.EvIKEUp))
	}
}

// What does not concern a peer changes nothing: the address that is in use still leads to it, or a
// peer is tied to its local address, or nothing leads to it and there is no other path.
func TestRoutesChangedElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a, b *core.Config)
		routed string
	}{
		"still the same":      {func(a, b *core.Config) {}, "192.0.2.1"},
		"local-address":       {func(a, b *core.Config) { a.Peers[0].Local = netip.MustParseAddr("192.0.2.1") }, "198.51.100.1"},
		"nothing leads there": {func(a, b *core.Config) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := bothAddrs(t, 63, c.change)
			p.a.routed(c.routed)
			before := len(p.a.sent)
			for range 50 {
				p.a.in(core.RoutesChanged{})
				p.run(200 * time.Millisecond)
			}
			if len(p.a.sent) != before || p.a.count(core.EvIKEUp) != 1 {
				t.Errorf("%d messages sent", len(p.a.sent)-before)
			}
		})
	}
}

// A change has the system asked once for each address of a peer, and by who could do something
// about it alone.
func TestWaysAreAskedForOnce(t *testing.T) {
	p := bothAddrs(t, 64)
	asked := func(s *side) *int {
		n := new(int)
		s.tap2(func(o core.Output) {
			if a, ok := o.(core.Ask); ok {
				if _, ok := a.Work.(core.SourceFor); ok {
					*n++
				}
			}
		})
		return n
	}
	a, b := asked(p.a), asked(p.b)
	p.a.in(core.RoutesChanged{})
	p.b.in(core.RoutesChanged{})
	if *a != 1 || *b != 0 {
		t.Errorf("a asks %d times, b, which only waits, %d times", *a, *b)
	}
}

// tap2 sees the outputs of one side.
func (s *side) tap2(see func(core.Output)) {
	old := s.pair.tap
	s.pair.tap = func(from *side, o core.Output) {
		if from == s {
			see(o)
		}
		if old != nil {
			old(from, o)
		}
	}
}

// An attempt that failed for lack of a route is made again as soon as there is one, however many
// failed before; one that the peer refused is not.
func TestNetworkComesLater(t *testing.T) {
	p := newPair(t, 65, goodLink, passive)
	p.log = testing.Verbose()
	p.a.routed("")
	p.up()
	p.until(20*time.Minute, "some attempts fail", func() bool { h := p.a.e.Holds(); return len(h) > 0 && h[0].Failures > 6 })
	p.run(time.Second)
	p.a.routed("192.0.2.1")
	p.a.in(core.RoutesChanged{})
	p.until(time.Second, "both ends up", p.bothUpOrStandby)

	q := newPair(t, 66, goodLink, passive, func(_, b *core.Config) { b.Peers[0].Identities[0].Secret = []byte("another") })
	q.up()
	q.until(20*time.Minute, "some attempts fail", func() bool { h := q.a.e.Holds(); return len(h) > 0 && h[0].Failures > 6 })
	q.run(time.Second)
	before := len(q.a.sent)
	q.a.in(core.RoutesChanged{})
	q.run(time.Second)
	if len(q.a.sent) != before || !slices.ContainsFunc(q.a.events, func(e core.Event) bool { return e.Kind == core.EvAuthFailed }) {
		t.Errorf("%d messages after a refusal", len(q.a.sent)-before)
	}
}
