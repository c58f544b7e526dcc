package ike

import (
	"fmt"
	"testing"
	"time"

	"culvert/ike/core"
)

// life is a whole life: up, rekeys of the CHILD SA and of the IKE SA from both
// sides, an end. It must come to the same whatever happens to one message.
func life(p *pair) {
	p.t.Helper()
	within := 40 * time.Second // a repeated IKE_SA_INIT request that comes late makes a half-open SA, which expires
	p.up()
	p.until(within, "up", p.bothUp)
	rekeyed := func(s *side, k core.EventKind, do core.CommandKind) {
		p.t.Helper()
		na, nb := p.a.count(k), p.b.count(k)
		s.in(core.Command{Do: do})
		p.until(within, fmt.Sprintf("%v begun by %s", k, s.name), func() bool {
			return p.a.count(k) > na && p.b.count(k) > nb && len(p.a.children) == 1 && len(p.b.children) == 1 &&
				len(p.a.e.SAs()) == 1 && len(p.b.e.SAs()) == 1
		})
		p.a.esp()
		p.b.esp()
		p.run(time.Second)
	}
	rekeyed(p.a, core.EvChildRekeyed, core.RekeyChildren)
	rekeyed(p.b, core.EvChildRekeyed, core.RekeyChildren)
	rekeyed(p.b, core.EvIKERekeyed, core.RekeyIKE)
	rekeyed(p.a, core.EvIKERekeyed, core.RekeyIKE)
	p.a.in(core.Command{Do: core.FlushSAs})
	p.until(within, "another CHILD SA", func() bool { return p.a.count(core.EvChildUp) >= 4 && p.bothUp() && len(p.b.children) == 1 })
	p.b.in(core.Command{Do: core.Shutdown})
	p.a.in(core.Command{Do: core.Shutdown})
	p.until(within, "the end", func() bool {
		return p.a.e.Idle() && p.b.e.Idle() && len(p.a.children) == 0 && len(p.b.children) == 0
	})
	for _, s := range []*side{p.a, p.b} {
		if n := s.count(core.EvPeerDead) + s.count(core.EvNotify) + s.count(core.EvInitFailed); n > 0 {
			p.t.Errorf("%s complains: %v", s.name, s.events)
		}
		if len(s.lost) > 0 {
			p.t.Errorf("%s could not open: %v", s.name, s.lost)
		}
	}
	p.run(3 * time.Minute)
	for _, s := range []*side{p.a, p.b} {
		if at, ok := s.e.Deadline(); ok || len(s.e.finals) > 0 || len(s.e.children) > 0 {
			p.t.Errorf("%s keeps a timer (due at %v) or a final response", s.name, at)
		}
	}
}

// One message of a whole life is lost, doubled, or comes after the next one: a
// test for each message and each mishap.
func TestOneMishap(t *testing.T) {
	count := 0
	p := newPair(t, 1, goodLink, passive)
	p.carry = func(deliver func()) { count++; deliver() }
	life(p)
	if count < 24 {
		t.Fatalf("a life has only %d messages", count)
	}
	mishaps := []struct {
		name string
		do   func(p *pair, deliver func())
	}{
		{"lost", func(*pair, func()) {}},
		{"doubled", func(_ *pair, deliver func()) { deliver(); deliver() }},
		{"late", func(p *pair, deliver func()) { p.clock.After(700*time.Millisecond, deliver) }},
		{"doubled and very late", func(p *pair, deliver func()) { deliver(); p.clock.After(5*time.Second, deliver) }},
	}
	for _, m := range mishaps {
		for i := range count {
			t.Run(fmt.Sprintf("%s/%d", m.name, i), func(t *testing.T) {
				p := newPair(t, 1, goodLink, passive)
				n := 0
				p.carry = func(deliver func()) {
					n++
					if n-1 == i {
						m.do(p, deliver)
					} else {
						deliver()
					}
				}
				life(p)
			})
		}
	}
}

// The same inputs and seeds give the same outputs, byte for byte.
func TestDeterminism(t *testing.T) {
	run := func(seed uint64) (trace []string) {
		p := newPair(t, seed, badLink, short)
		p.askDelay = 50 * time.Millisecond
		p.tap = func(from *side, o core.Output) {
			if i, ok := o.(core.Install); ok { // keys hide from %v
				trace = append(trace, i.In.EncKey.Reveal(), i.Out.EncKey.Reveal())
			}
			trace = append(trace, fmt.Sprintf("%v %s %T %+v", p.clock.Now(), from.name, o, o))
		}
		p.up()
		for range 120 {
			p.run(15 * time.Second)
			p.a.esp()
			p.b.esp()
		}
		return trace
	}
	for seed := range uint64(5) {
		a, b := run(seed), run(seed)
		if len(a) < 200 {
			t.Fatalf("only %d outputs", len(a))
		}
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("seed %d: output %d is\n%.300s\nand then\n%.300s", seed, i, a[i], b[i])
			}
		}
		if len(a) != len(b) {
			t.Errorf("%d outputs, then %d", len(a), len(b))
		}
	}
}
