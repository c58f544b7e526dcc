package ike

import (
	"fmt"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

// Two gateways start at once, or one a little later than the other: both begin, and
// neither has heard of the other's IKE SA before its own is answered. Seven seconds after both
// are up one is left, whatever is rekeyed by whom meanwhile, and neither end is without an SA once
// it had one.
func TestBothStart(t *testing.T) {
	for _, offset := range []time.Duration{0, 200 * time.Millisecond} {
		for _, hold := range []time.Duration{0, 200 * time.Millisecond, 2 * time.Second} { // of b's IKE_SA_INIT, on its way
			for _, rekey := range []string{"nothing", "a rekeys", "both rekey", "all, again and again"} {
				for seed := range uint64(2) { // each end has the lower nonce in some
					t.Run(fmt.Sprint(offset, " ", hold, " ", rekey, " ", seed), func(t *testing.T) { bothStart(t, seed, offset, hold, rekey) })
				}
			}
		}
	}
}

func bothStart(t *testing.T, seed uint64, offset, hold time.Duration, rekey string) {
	p := newPair(t, seed, simnet.Link{Delay: time.Millisecond, Jitter: 3 * time.Millisecond})
	p.log = testing.Verbose()
	p.a.in(core.Reconfigure{Config: p.a.cfg})
	early := p.clock.Now().Add(hold)
	p.drop = func(from *side, h message.Header) bool { // what is sent into the pause is repeated after it
		return h.Exchange == message.ExchangeIKESAInit && (from == p.b) != h.Response() && p.clock.Now().Before(early)
	}
	p.run(offset)
	p.b.in(core.Reconfigure{Config: p.b.cfg})
	p.until(30*time.Second, "both IKE SAs up at both ends", func() bool { return p.bothUp() && p.a.count(core.EvIKEUp)+p.b.count(core.EvIKEUp) == 4 })
	up := p.clock.Now()
	step := func(d time.Duration) {
		t.Helper()
		for range d / (100 * time.Millisecond) {
			p.run(100 * time.Millisecond)
			if !p.a.esp() || !p.b.esp() {
				t.Fatalf("%v: an end has no SA to seal with", p.clock.Now().Sub(epoch))
			}
		}
	}
	step(500 * time.Millisecond)
	both := []*side{p.a, p.b}
	switch rekey {
	case "a rekeys":
		both = both[:1]
	case "nothing":
		both = nil
	}
	rounds := 1
	if rekey == "all, again and again" {
		rounds = 4
	}
	for range rounds {
		for _, s := range both {
			s.in(core.Command{Do: core.RekeyIKE})
			if rounds > 1 {
				s.in(core.Command{Do: core.RekeyChildren})
			}
		}
		step(500 * time.Millisecond)
	}
	step(up.Add(7 * time.Second).Sub(p.clock.Now()))
	if a, b := p.a.established(), p.b.established(); a != 1 || b != 1 {
		t.Errorf("a has %d IKE SAs and b %d", a, b)
	}
	step(20 * time.Second) // what was replaced goes on opening for a while
	for _, s := range []*side{p.a, p.b} {
		if s.established() != 1 || len(s.children) != 1 || len(s.lost) > 0 || s.count(core.EvPeerDead) > 0 {
			t.Errorf("%s has %d IKE SAs and %d CHILD SAs, and could not open %v", s.name, s.established(), len(s.children), s.lost)
		}
	}
}
