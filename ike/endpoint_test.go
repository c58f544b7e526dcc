package ike

import (
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/simnet"
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
	return p.a.established() == 1 && p.b.established() == 1 && len(p.a.kids) == 1 && len(p.b.kids) == 1
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
	if len(p.a.kids) != 1 || len(p.b.kids) != 1 {
		t.Errorf("%d and %d CHILD SAs are left, not one each", len(p.a.kids), len(p.b.kids))
	}
}
