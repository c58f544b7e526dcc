package ike

import (
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
	"culvert/spd/selector"
)

// The initiator authenticates anew before the time that its own configuration or
// the responder's AUTH_LIFETIME gives runs out; no packet is lost over it.
func TestReauthentication(t *testing.T) {
	for name, who := range map[string]func(a, b *core.Config){
		"the initiator's wish":          func(a, _ *core.Config) { a.Peers[0].Profile.Reauth = time.Hour },
		"the responder's AUTH_LIFETIME": func(_, b *core.Config) { b.Peers[0].Profile.Reauth = time.Hour },
		"the shorter of two": func(a, b *core.Config) {
			a.Peers[0].Profile.Reauth, b.Peers[0].Profile.Reauth = 2*time.Hour, time.Hour
		},
		"across rekeys of the IKE SA": func(a, _ *core.Config) {
			a.Peers[0].Profile.Reauth = time.Hour
			a.Peers[0].Profile.Lifetime = 20 * time.Minute
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 11, simnet.Link{Loss: 0.05, Delay: 20 * time.Millisecond}, passive, who)
			p.log = testing.Verbose()
			p.up()
			p.until(time.Minute, "both ends up", p.bothUp)
			first := p.a.count(core.EvIKEUp)
			for range 4 * 60 * 60 { // four hours
				p.run(time.Second)
				if !p.a.esp() || !p.b.esp() {
					t.Fatalf("%v: an end has no SA", p.clock.Now().Sub(epoch))
				}
			}
			p.run(time.Minute)
			if n := p.a.count(core.EvIKEUp) - first; n < 3 || n > 6 {
				t.Errorf("a authenticated %d times in four hours", n)
			}
			for _, s := range []*side{p.a, p.b} {
				if len(s.lost) > 0 {
					t.Errorf("%s could not open %d packets, e.g. %s", s.name, len(s.lost), s.lost[0])
				}
				if n := s.established(); n != 1 || len(s.children) > 2 {
					t.Errorf("%s is left with %d IKE SAs and %d CHILD SAs", s.name, n, len(s.children))
				}
			}
		})
	}
}

// A responder ends an SA whose initiator does not authenticate anew in time.
func TestReauthenticationThatDoesNotCome(t *testing.T) {
	p := newPair(t, 12, goodLink, passive, func(_, b *core.Config) { b.Peers[0].Profile.Reauth = time.Hour })
	p.up()
	p.until(time.Minute, "both ends up", p.bothUpOrStandby)
	p.drop = func(_ *side, h message.Header) bool { return h.Exchange == message.ExchangeIKESAInit }
	p.run(time.Hour)
	if p.b.count(core.EvIKEDown) != 0 {
		t.Fatal("b ended the SA before its time")
	}
	p.run(time.Minute)
	if p.b.count(core.EvIKEDown) != 1 {
		t.Fatal("b did not end the SA")
	}
}

// The IKE SA is rekeyed while its replacement is made, or the replacement is before it has taken
// over: there is one replacement, and it is what is left.
func TestRekeysDuringAReauthentication(t *testing.T) {
	for name, whose := range map[string]struct {
		rekeys func(p *pair) *side
		after  time.Duration
	}{
		"we rekey the old one":       {func(p *pair) *side { return p.a }, 5 * time.Millisecond},
		"they rekey the old one":     {func(p *pair) *side { return p.b }, 5 * time.Millisecond},
		"we rekey the replacement":   {func(p *pair) *side { return p.a }, 100 * time.Millisecond},
		"they rekey the replacement": {func(p *pair) *side { return p.b }, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			// The replacement has one policy from IKE_AUTH, and the other one to take over.
			p := newPair(t, 13, goodLink, passive, func(a, b *core.Config) {
				a.Peers[0].Profile.Reauth = time.Hour
				for _, c := range []*core.Config{a, b} {
					second := *c.Policies[0]
					second.Ref, second.Pair = 2, selector.Pair{Local: shifted(second.Pair.Local, 2), Remote: shifted(second.Pair.Remote, 2)}
					c.Policies = append(c.Policies, &second)
				}
			})
			p.log = testing.Verbose()
			p.up()
			p.run(10 * time.Second)
			up := p.a.count(core.EvIKEUp)
			begun := func() bool { return len(p.a.e.replacing) > 0 }
			p.until(time.Hour, "re-authentication begins", begun)
			p.run(whose.after)
			whose.rekeys(p).in(core.Command{Do: core.RekeyIKE})
			for range 60 {
				p.run(time.Second)
				if !p.a.esp() || !p.b.esp() {
					t.Fatal("an end has no SA to seal with")
				}
			}
			if n := p.a.count(core.EvIKEUp) - up; n != 1 {
				t.Errorf("a authenticated %d times", n)
			}
			if p.a.count(core.EvIKERekeyed) == 0 {
				t.Error("nothing was rekeyed")
			}
			for _, s := range []*side{p.a, p.b} {
				if len(s.lost) > 0 || s.established() != 1 || len(s.children) != 2 {
					t.Errorf("%s is left with %d IKE SAs and %d CHILD SAs, and could not open %v", s.name, s.established(), len(s.children), s.lost)
				}
			}
		})
	}
}
