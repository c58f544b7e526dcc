package ike

import (
	"slices"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/internal/testing/simnet"
	"culvert/internal/testing/simnet/sweep"
)

// badLink loses, doubles and reorders every tenth IKE message.
var badLink = simnet.Link{Loss: 0.1, Dup: 0.1, Reorder: 0.1, Delay: 30 * time.Millisecond, Jitter: 40 * time.Millisecond}

// short lifetimes: a CHILD SA is rekeyed after four minutes, the IKE SA after ten.
func short(a, b *core.Config) {
	for _, c := range []*core.Config{a, b} {
		c.Peers[0].Profile.Lifetime = 12 * time.Minute
		c.Policies[0].Proposal.Lifetime = 5 * time.Minute
	}
}

func TestRekeysOnABadNetwork(t *testing.T) {
	sweep.Run(t, 60, func(t *testing.T, seed uint64) sweep.Tally { return storm(t, seed) })
}

// TestRekeysInFragmentsOnABadNetwork: the same with nearly every message in fragments.
func TestRekeysInFragmentsOnABadNetwork(t *testing.T) {
	sweep.Run(t, 20, func(t *testing.T, seed uint64) sweep.Tally { return storm(t, seed, fragmented) })
}

// TestRekeysWithSeveralKeyExchangesOnABadNetwork: IKE SAs and CHILD SAs with
// additional key exchanges, which one end can do without every other time.
func TestRekeysWithSeveralKeyExchangesOnABadNetwork(t *testing.T) {
	sweep.Run(t, 12, func(t *testing.T, seed uint64) sweep.Tally {
		return storm(t, 2*seed, func(a, b *core.Config) {
			for _, c := range []*core.Config{a, b} {
				exchanges(c, hybrid)
				pfs(hybrid, "x25519")(c)
			}
			if seed%2 == 1 {
				b.Policies[0].Proposal.PFS = slices.Clone(b.Policies[0].Proposal.PFS)
				slices.Reverse(b.Policies[0].Proposal.PFS)
			}
		})
	})
}

// storm: both ends initiate, both rekey, with and without perfect forward
// secrecy, and with Asks that take their time. While it lasts every ESP packet
// that arrives is opened, and as long as there was an SA once every packet is
// sealed.
func storm(t *testing.T, seed uint64, change ...func(a, b *core.Config)) sweep.Tally {
	const rekeys = 20
	p := newPair(t, seed, badLink, append(change, short, func(a, b *core.Config) {
		for _, c := range []*core.Config{a, b} {
			if seed%2 == 1 {
				pfs("x25519")(c)
			}
			if seed%4 == 3 {
				g := *suite.GroupByName("x25519")
				g.Slow = true
				c.Peers[0].Profile.Groups = []*suite.Group{&g}
				c.Policies[0].Proposal.PFS = []suite.KeyExchange{{Group: &g}}
			}
		}
	})...)
	p.askDelay = 50 * time.Millisecond
	p.log = testing.Verbose()
	p.up()
	p.until(5*time.Minute, "both ends up", p.bothUp)
	p.a.sealed, p.b.sealed = 0, 0
	offered := 0
	for p.a.count(core.EvChildRekeyed) < rekeys || p.b.count(core.EvChildRekeyed) < rekeys {
		p.run(250 * time.Millisecond)
		offered++
		for _, s := range []*side{p.a, p.b} {
			if !s.esp() {
				t.Fatalf("%v: %s has no SA to seal with", p.clock.Now().Sub(epoch), s.name)
			}
		}
		if offered > 4*3600*4 {
			t.Fatalf("only %d and %d rekeys in four hours", p.a.count(core.EvChildRekeyed), p.b.count(core.EvChildRekeyed))
		}
	}
	p.run(time.Minute) // leftovers go
	for _, s := range []*side{p.a, p.b} {
		if len(s.lost) > 0 {
			t.Errorf("%s could not open %d packets, e.g. %s", s.name, len(s.lost), s.lost[0])
		}
		if n := s.established(); n != 1 || len(s.children) > 3 {
			t.Errorf("%s is left with %d IKE SAs and %d CHILD SAs: %v", s.name, n, len(s.children), s.e.SAs())
		}
		if s.count(core.EvIKERekeyed) < 3 {
			t.Errorf("%s saw %d rekeys of the IKE SA", s.name, s.count(core.EvIKERekeyed))
		}
		if n := s.count(core.EvPeerDead); n > 0 {
			t.Errorf("%s took the peer for dead %d times", s.name, n)
		}
	}
	if p.a.opened+p.b.opened < 2*offered-2 {
		t.Errorf("%d packets sealed, %d opened", 2*offered, p.a.opened+p.b.opened)
	}
	tally := sweep.Tally{"packets opened": p.a.opened + p.b.opened}
	for _, e := range slices.Concat(p.a.events, p.b.events) {
		tally["event: "+e.Kind.String()]++
	}
	return tally
}
