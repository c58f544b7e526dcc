package ike

import (
	"fmt"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Both ends begin at once, and what one of them says is lost for a while:
//
//	a: IKE_SA_INIT  IKE_AUTH ──────────► up
//	b: IKE_SA_INIT ─╳ ─╳ ─╳ ─ … ───────────────────► up as well
//
// However long after the first the second IKE SA comes up, and whether the first
// was rekeyed meanwhile, one is left, with one CHILD SA, and neither end was
// without one.
func TestTwinsFarApart(t *testing.T) {
	for _, lost := range []time.Duration{12 * time.Second, 30 * time.Second, 60 * time.Second} {
		for _, kind := range []message.ExchangeType{message.ExchangeIKESAInit, message.ExchangeIKEAuth} {
			for _, rekeyed := range []bool{false, true} {
				for seed := range uint64(4) { // each end has the lower nonce in some
					t.Run(fmt.Sprint(kind, " ", lost, " ", rekeyed, " ", seed), func(t *testing.T) {
						twinsFarApart(t, seed, kind, lost, rekeyed)
					})
				}
			}
		}
	}
}

func twinsFarApart(t *testing.T, seed uint64, kind message.ExchangeType, lost time.Duration, rekeyed bool) {
	p := newPair(t, seed, goodLink)
	p.log = testing.Verbose()
	early := true
	p.drop = func(from *side, h message.Header) bool {
		// All that is said to begin b's IKE SA, or the answers to its IKE_AUTH.
		if kind == message.ExchangeIKEAuth {
			return early && h.Exchange == kind && from == p.a && h.Response()
		}
		return early && h.Exchange == kind && (from == p.b) != h.Response()
	}
	p.up()
	p.until(5*time.Second, "a's IKE SA up at both ends", p.bothUp)
	p.run(lost)
	if rekeyed {
		p.a.in(core.Command{Do: core.RekeyIKE})
	}
	early = false
	for range 120 {
		p.run(time.Second)
		if !p.a.esp() || !p.b.esp() {
			t.Fatal("an end has no SA to seal with")
		}
	}
	for _, s := range []*side{p.a, p.b} {
		if s.established() != 1 || len(s.kids) != 1 || len(s.lost) > 0 {
			t.Errorf("%s has %d IKE SAs and %d CHILD SAs, and could not open %v", s.name, s.established(), len(s.kids), s.lost)
		}
		if s.count(core.EvIKEUp) != 2 {
			t.Errorf("%s saw %d IKE SAs come up, not both", s.name, s.count(core.EvIKEUp))
		}
	}
}
