package ike

import (
	"bytes"
	"fmt"
	"strings"
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
		if s.established() != 1 || len(s.children) != 1 || len(s.lost) > 0 {
			t.Errorf("%s has %d IKE SAs and %d CHILD SAs, and could not open %v", s.name, s.established(), len(s.children), s.lost)
		}
		if s.count(core.EvIKEUp) != 2 {
			t.Errorf("%s saw %d IKE SAs come up, not both", s.name, s.count(core.EvIKEUp))
		}
	}
}

// Both ends began at once, and the first of the two IKE SAs is due for
// re-authentication when the second comes up:
//
//	a: IKE_SA_INIT  IKE_AUTH ──────────► up          IKE_SA_INIT … in its place
//	b: IKE_SA_INIT ─╳ ─╳ ─╳ ─ … ──────────────────► up as well
//
// What would replace the first was begun too late to be a twin of the second, so
// first one of the two goes. One is left.
func TestTwinsOfWhichOneIsDueForReauthentication(t *testing.T) {
	for due := 46 * time.Second; due < 54*time.Second; due += 500 * time.Millisecond { // the second is up after some 48 s
		for seed := range uint64(4) { // each end has the lower nonce in some
			t.Run(fmt.Sprint(due, " ", seed), func(t *testing.T) {
				p := newPair(t, seed, goodLink, func(a, _ *core.Config) { a.Peers[0].Profile.Reauth = due * 10 / 9 })
				p.log = testing.Verbose()
				early := true
				p.drop = func(from *side, h message.Header) bool {
					return early && h.Exchange == message.ExchangeIKESAInit && (from == p.b) != h.Response()
				}
				p.up()
				p.until(5*time.Second, "a's IKE SA up at both ends", p.bothUp)
				p.run(44 * time.Second)
				early = false
				for range 30 {
					p.run(time.Second)
					if !p.a.esp() || !p.b.esp() {
						t.Fatal("an end has no SA to seal with")
					}
				}
				if !p.bothUpOrStandby() {
					t.Errorf("%d and %d IKE SAs are left, %d and %d CHILD SAs", p.a.established(), p.b.established(), len(p.a.children), len(p.b.children))
				}
			})
		}
	}
}

// A peer that keeps its twin for ever, though it is the one to go, holds the
// re-authentication up for as long as it could still have gone, and no longer.
func TestReauthenticationBesideATwinThatStays(t *testing.T) {
	r := newRig(t, initiates, func(c *core.Config) { c.Peers[0].Profile.DPD = 0 })
	ours := newPuppet(r, 1)
	theirs := newPuppet(r, 0) // the lowest nonce
	ours.accept()
	theirs.connect()
	r.take()
	ours.request(message.ExchangeInformational, &message.Notify{Kind: message.NotifyAuthLifetime, Data: u32(20)})
	r.pass(58 * time.Second)
	r.silent("what is due for re-authentication and has a twin")
	// The peer does not know which of the two is to go: we delete it in the end.
	r.pass(5 * time.Second)
	h, ps := theirs.asked(message.ExchangeInformational)
	if d := findPayload[*message.Delete](ps); d == nil || d.Protocol != 1 {
		t.Fatalf("the endpoint asks %s", describe(ps))
	}
	theirs.answer(h)
	if !strings.Contains(r.reasons(), "the peer did not delete its own IKE SA") {
		t.Errorf("why it goes: %s", r.reasons())
	}
	r.take()
	r.pass(5 * time.Second)
	again := newPuppet(r, 2)
	again.r.sends = r.sends[:min(1, len(r.sends))] // the others repeat it
	again.called()
	if r.established() != 1 {
		t.Errorf("%d IKE SAs are left", r.established())
	}
}

// Two CHILD SAs for the same traffic, begun by both ends at once. The peer's is the one to go, and the
// peer does not know that: we delete it in the end.
func TestChildTwinThatStays(t *testing.T) {
	r := newRig(t, initiates, func(c *core.Config) {
		c.Peers[0].Profile.DPD = 0
		c.Peers[0].Childless = core.ChildlessPrefer
	})
	p := newPuppet(r, 1)
	p.first = []message.Payload{note(message.NotifyChildlessIKEv2Supported)}
	p.acceptInit()
	h, _ := p.asked(message.ExchangeIKEAuth)
	p.answer(h, p.authPayloads()...)
	h, ps := p.asked(message.ExchangeCreateChildSA)
	p.note(ps)
	ours := p.peerSPI
	// CREATE_CHILD_SA --> with a nonce that is lower than any; ours is answered after it.
	p.nextID = 0
	p.request(message.ExchangeCreateChildSA, append(p.childOffer(), &message.Nonce{Data: make([]byte, 32)})...)
	theirs := p.peerSPI
	p.answer(h, append(p.childAnswer(), nonce(0xff))...)
	p.request(message.ExchangeInformational)
	for range 8 {
		if h, err := message.ParseHeader(r.sends[0].Data); err != nil || h.Exchange == message.ExchangeInformational {
			break
		}
		r.sends = r.sends[1:]
	}
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	if len(r.children) != 2 {
		t.Fatalf("%d CHILD SAs; %s", len(r.children), r.reasons())
	}
	r.pass(59 * time.Second)
	r.silent("while the peer may still delete its own")
	r.pass(10 * time.Second)
	h, ps = p.asked(message.ExchangeInformational)
	if d := findPayload[*message.Delete](ps); d == nil || !bytes.Equal(d.SPIs[0], u32(theirs)) {
		t.Fatalf("the endpoint asks %s", describe(ps))
	}
	p.answer(h)
	r.pass(6 * time.Second)
	r.states(t, "later", map[uint32]string{ours: "seals", theirs: "gone"})
}

// The peer's IKE SA comes up while we still ask the system for the way to it: it
// is used, and none of our own is begun.
func TestPeerIsFasterThanTheSystem(t *testing.T) {
	p := newPair(t, 1, goodLink)
	p.b.system = func(a core.Ask) (core.Answer, bool) {
		if _, ok := a.Work.(core.SourceFor); ok {
			p.clock.After(time.Second, func() { p.b.in(core.Answer{ID: a.ID, Data: p.b.addr.AsSlice()}) })
			return core.Answer{}, true
		}
		return core.Answer{}, false
	}
	p.up()
	p.run(20 * time.Second)
	if a, b := p.a.count(core.EvIKEUp), p.b.count(core.EvIKEUp); a != 1 || b != 1 || !p.bothUp() {
		t.Errorf("a made %d IKE SAs and b %d", a, b)
	}
}

// The peer's rekey of a CHILD SA is through here, our answer is lost, and now we
// want to rekey as well: not the new CHILD SA, which the peer does not have yet.
//
//	b: CREATE_CHILD_SA(rekey) ─────► a   ╳◄───── SA     CREATE_CHILD_SA(rekey of what?)
func TestRekeyOfWhatThePeerDoesNotHaveYet(t *testing.T) {
	p := newPair(t, 2, goodLink, passive)
	p.log = testing.Verbose()
	p.up()
	p.until(time.Second, "both ends up", p.bothUpOrStandby)
	p.run(10 * time.Second)
	lost := 0
	p.drop = func(from *side, h message.Header) bool {
		if from == p.a && h.Exchange == message.ExchangeCreateChildSA && h.Response() && lost < 5 {
			lost++
			return true
		}
		return false
	}
	p.b.in(core.Command{Do: core.RekeyChildren})
	p.run(20 * time.Millisecond)
	p.a.in(core.Command{Do: core.RekeyChildren})
	for range 300 {
		p.run(100 * time.Millisecond)
		if !p.a.esp() || !p.b.esp() {
			t.Fatalf("%v: an end has no SA to seal with", p.clock.Now().Sub(epoch))
		}
	}
	p.run(10 * time.Second)
	for _, s := range []*side{p.a, p.b} {
		if len(s.children) != 1 || len(s.lost) > 0 || s.count(core.EvNotify) > 0 {
			t.Errorf("%s has %d CHILD SAs, could not open %v; %v", s.name, len(s.children), s.lost, s.events)
		}
	}
}

// A policy's CHILD SA is deleted while it is being rekeyed, and traffic asks for
// another: the rekey brings one, and it stays the only one.
func TestOneChildAfterADeleteDuringItsRekey(t *testing.T) {
	p := newPair(t, 3, goodLink, passive)
	p.up()
	p.until(time.Second, "both ends up", p.bothUpOrStandby)
	p.run(10 * time.Second)
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.a.in(core.Command{Do: core.FlushSAs})
	p.a.in(core.Acquire{Policy: 1, Flow: p.a.cfg.Policies[0].Pair})
	p.run(20 * time.Second)
	if len(p.a.children) != 1 || len(p.b.children) != 1 || !p.bothUp() {
		t.Errorf("%d and %d CHILD SAs are left", len(p.a.children), len(p.b.children))
	}
}

// Both ends make a CHILD SA for a policy at once, and one of the two is rekeyed
// before it is settled which stays: one is left.
func TestTwinChildrenOfWhichOneIsRekeyed(t *testing.T) {
	for seed := range uint64(4) {
		p := newPair(t, seed, goodLink, passive)
		p.log = testing.Verbose()
		p.up()
		p.until(time.Second, "both ends up", p.bothUpOrStandby)
		p.run(10 * time.Second)
		p.a.in(core.Command{Do: core.FlushSAs})
		p.until(time.Second, "no CHILD SA", func() bool { return len(p.a.children)+len(p.b.children) == 0 })
		for _, s := range []*side{p.a, p.b} {
			s.in(core.Acquire{Policy: 1, Flow: s.cfg.Policies[0].Pair})
		}
		p.until(time.Second, "twins", func() bool { return len(p.a.children) == 2 && len(p.b.children) == 2 })
		p.run(2 * time.Second)
		s := []*side{p.a, p.b}[seed%2]
		s.in(core.Expire{Child: s.order[seed/2]})
		p.run(30 * time.Second)
		if len(p.a.children) != 1 || len(p.b.children) != 1 || !p.bothUp() {
			t.Errorf("seed %d: %d and %d CHILD SAs are left", seed, len(p.a.children), len(p.b.children))
		}
	}
}

// An IKE SA is deleted while we rekey it or its CHILD SA, and the first Deletes
// are lost: what the rekey brings is not used, and nothing of it is left.
func TestDeleteDuringARekey(t *testing.T) {
	for _, what := range []core.CommandKind{core.RekeyChildren, core.RekeyIKE} {
		p := newPair(t, 5, goodLink, passive)
		p.log = testing.Verbose()
		p.up()
		p.until(time.Second, "both ends up", p.bothUpOrStandby)
		p.run(10 * time.Second)
		early := true
		p.drop = func(from *side, h message.Header) bool {
			return early && from == p.b && h.Response() && h.Exchange == message.ExchangeInformational
		}
		p.a.in(core.Command{Do: what})
		p.a.in(core.Command{Do: core.KillAll})
		for range 30 {
			p.run(100 * time.Millisecond)
			p.a.esp()
		}
		early = false
		p.run(2 * time.Minute)
		for _, s := range []*side{p.a, p.b} {
			if len(s.e.SAs()) != 1 || len(s.children) != 1 || len(s.lost) > 0 || !p.bothUp() {
				t.Errorf("%v: %s has %v, %d CHILD SAs, could not open %v", what, s.name, s.e.SAs(), len(s.children), s.lost)
			}
		}
	}
}
