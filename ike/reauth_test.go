package ike

import (
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/simnet"
)

// The initiator authenticates anew before the time that its own configuration or
// the responder's AUTH_LIFETIME gives runs out; no packet is lost over it.
func TestReauthentication(t *testing.T) {
	for name, who := range map[string]func(a, b *core.Config){
		"the initiator's wish":          func(a, _ *core.Config) { a.Peers[0].Profile.Reauth = time.Hour },
		"the responder's AUTH_LIFETIME": func(_, b *core.Config) { b.Peers[0].Profile.Reauth = time.Hour },
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
				if n := s.established(); n != 1 || len(s.kids) > 2 {
					t.Errorf("%s is left with %d IKE SAs and %d CHILD SAs", s.name, n, len(s.kids))
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
