package ike

import (
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/testing/simnet"
)

var goodLink = simnet.Link{Delay: 10 * time.Millisecond}

// passive makes b wait for a.
func passive(_, b *core.Config) { b.Peers[0].Passive = true }

func TestEstablish(t *testing.T) {
	p := newPair(t, 1, goodLink, passive)
	p.log = testing.Verbose()
	p.up()
	p.until(time.Second, "both ends up", p.bothUpOrStandby)
	if !p.a.esp() {
		t.Fatal("a has no SA to seal with")
	}
	p.run(time.Second)
	if p.b.opened != 1 || !p.b.esp() {
		t.Fatalf("b opened %d packets (%v)", p.b.opened, p.b.lost)
	}
	p.run(time.Second)
	if p.a.opened != 1 {
		t.Fatalf("a opened %d packets (%v)", p.a.opened, p.a.lost)
	}
}

func (p *pair) bothUpOrStandby() bool {
	return p.a.established() == 1 && p.b.established() == 1 && len(p.a.children) == 1 && len(p.b.children) == 1
}

// Both ends begin at once: one IKE SA and one CHILD SA are left.
func TestEstablishFromBothEnds(t *testing.T) {
	p := newPair(t, 2, goodLink)
	p.log = testing.Verbose()
	p.up()
	p.run(20 * time.Second)
	if a, b := p.a.established(), p.b.established(); a != 1 || b != 1 {
		t.Errorf("%d and %d IKE SAs are left, not one each", a, b)
	}
	if len(p.a.children) != 1 || len(p.b.children) != 1 {
		t.Errorf("%d and %d CHILD SAs are left, not one each", len(p.a.children), len(p.b.children))
	}
}

// An on-demand peer is connected to by traffic and not before, and after the
// tunnel was taken down by traffic again.
func TestOnDemand(t *testing.T) {
	p := newPair(t, 3, goodLink, passive, func(a, _ *core.Config) { a.Peers[0].OnDemand = true })
	p.up()
	p.run(time.Minute)
	if len(p.a.sent) != 0 {
		t.Fatalf("a sent %v before there was traffic", p.a.sent)
	}
	flow := p.a.cfg.Policies[0].Pair
	p.a.in(core.Acquire{Policy: 1, Flow: flow})
	p.until(time.Second, "both ends up", p.bothUpOrStandby)
	p.b.in(core.Command{Do: core.KillAll})
	p.run(time.Minute)
	if p.a.established() != 0 || p.b.established() != 0 {
		t.Fatal("the tunnel is up again without traffic")
	}
	p.a.in(core.Acquire{Policy: 1, Flow: flow})
	p.until(time.Second, "both ends up again", p.bothUpOrStandby)
}
