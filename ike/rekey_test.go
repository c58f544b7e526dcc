package ike

import (
	"bytes"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// settled is an endpoint with one IKE SA and one CHILD SA, which the puppet began.
func settled(t testing.TB, change ...func(c *core.Config)) (*rig, *puppet) {
	t.Helper()
	r := newRig(t, change...)
	p := newPuppet(r, 1)
	p.connect()
	p.request(message.ExchangeInformational) // the endpoint knows now that we have it
	r.take()
	if r.established() != 1 || len(r.children) != 1 {
		t.Fatalf("%d IKE SAs, %d CHILD SAs; %s", r.established(), len(r.children), r.reasons())
	}
	return r, p
}

// kidIn is the CHILD SA that opens with an SPI.
func (r *rig) kidIn(spi uint32) *child {
	for _, k := range r.children {
		if k.In.SPI == spi {
			return k
		}
	}
	return nil
}

// state says of a CHILD SA what it does: "seals", "opens", "gone".
func (r *rig) state(spi uint32) string {
	switch k := r.kidIn(spi); {
	case k == nil:
		return "gone"
	case k.active && !k.retired:
		return "seals"
	default:
		return "opens"
	}
}

func (r *rig) states(t *testing.T, when string, want map[uint32]string) {
	t.Helper()
	for spi, s := range want {
		if got := r.state(spi); got != s {
			t.Errorf("%s: the CHILD SA %08x %s, not %s", when, spi, got, s)
		}
	}
}

// theRekey is our CREATE_CHILD_SA request that replaces what we receive with old on.
func (p *puppet) theRekey(old uint32, n byte) []message.Payload {
	return append(append([]message.Payload{rekeySA(old)}, p.childOffer()...), nonce(n))
}

// The peer rekeys the CHILD SA:
//
//	N(REKEY_SA) SA Ni TSi TSr -->  <-- SA Nr TSi TSr   D -->  <-- D
func TestPeerRekeysChild(t *testing.T) {
	r, p := settled(t)
	oldOurs, old := p.spi, p.peerSPI
	says(t, p.request(message.ExchangeCreateChildSA, p.theRekey(oldOurs, 1)...), "SA Nonce TSi TSr")
	made := p.peerSPI
	// The new one opens at once and seals once the peer is known to have it.
	r.states(t, "rekeyed", map[uint32]string{old: "seals", made: "opens"})
	in := p.request(message.ExchangeInformational, deleteESP(oldOurs))
	says(t, in, "Delete")
	if d := findPayload[*message.Delete](in); string(d.SPIs[0]) != string(u32(old)) {
		t.Errorf("the answer deletes %x, not %08x", d.SPIs, old)
	}
	// The old one opens packets that are under way, for a while.
	r.states(t, "deleted", map[uint32]string{old: "opens", made: "seals"})
	r.pass(6 * time.Second)
	r.states(t, "later", map[uint32]string{old: "gone", made: "seals"})
	if r.count(core.EvChildDown) != 0 || r.count(core.EvChildRekeyed) != 1 {
		t.Errorf("events %s", r.reasons())
	}
}

// The endpoint rekeys the CHILD SA, and retries a refusal until it works.
func TestWeRekeyChild(t *testing.T) {
	r, p := settled(t)
	oldOurs, old := p.spi, p.peerSPI
	r.in(core.Expire{Child: 1}) // soft
	for _, refusal := range []message.NotifyType{message.NotifyTemporaryFailure, message.NotifyNoProposalChosen, message.NotifyTSUnacceptable} {
		h, ps := p.asked(message.ExchangeCreateChildSA)
		says(t, ps, "N(REKEY_SA) SA Nonce TSi TSr")
		if n := findNotify(ps, message.NotifyRekeySA); n.Protocol != 3 || !bytes.Equal(n.SPI, u32(old)) {
			t.Errorf("REKEY_SA names %d %x, not our inbound SPI %08x (RFC 7296 §1.3.3)", n.Protocol, n.SPI, old)
		}
		p.answer(h, note(refusal))
		r.states(t, "refused", map[uint32]string{old: "seals"})
		r.pass(4 * time.Second)
	}
	h, ps := p.asked(message.ExchangeCreateChildSA)
	p.note(ps)
	p.answer(h, append(p.childAnswer(), nonce(2))...)
	// Ours: it seals at once, and we delete the old one.
	r.states(t, "rekeyed", map[uint32]string{old: "opens", p.peerSPI: "seals"})
	h, ps = p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h, deleteESP(oldOurs))
	r.pass(6 * time.Second)
	r.states(t, "later", map[uint32]string{old: "gone", p.peerSPI: "seals"})
}

// Nobody lets the endpoint rekey: at the hard lifetime the CHILD SA goes.
func TestHardLifetime(t *testing.T) {
	r, p := settled(t)
	told := false
	serve := func(d time.Duration) {
		for end := r.now.Add(d); r.now.Before(end); {
			r.pass(time.Second)
			for _, s := range r.take() {
				switch h, ps := p.open(s.Data); h.Exchange {
				case message.ExchangeCreateChildSA:
					p.answer(h, note(message.NotifyTemporaryFailure))
				default:
					told = told || findPayload[*message.Delete](ps) != nil
					p.answer(h)
				}
			}
		}
	}
	serve(30*time.Minute - time.Second)
	r.states(t, "before the end", map[uint32]string{p.peerSPI: "seals"})
	if told || r.count(core.EvChildDown) > 0 {
		t.Error("deleted before its time")
	}
	serve(3 * time.Second)
	r.states(t, "deleted", map[uint32]string{p.peerSPI: "gone"})
	if !told {
		t.Error("the peer was not told")
	}
}

// Bytes used up: soft begins a rekey, hard ends it, twice hard ends it for good.
func TestExpire(t *testing.T) {
	r, p := settled(t)
	r.in(core.Expire{Child: 1})
	r.in(core.Expire{Child: 1})
	h, _ := p.asked(message.ExchangeCreateChildSA)
	r.silent("a second Expire")
	r.in(core.Expire{Child: 1, Hard: true})
	r.states(t, "hard", map[uint32]string{p.peerSPI: "opens"})
	p.answer(h, note(message.NotifyTemporaryFailure))
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h)
	r.states(t, "deleted", map[uint32]string{p.peerSPI: "gone"})
	r.in(core.Expire{Child: 1, Hard: true})
	r.in(core.Expire{Child: 77})
	r.silent("Expire of what is gone")
}

// Both rekey the CHILD SA at once (RFC 7296 §2.8.1): the new one whose exchange
// has the lowest of four nonces goes, and who made it deletes it.
func TestBothRekeyChild(t *testing.T) {
	for _, weWin := range []bool{true, false} {
		r, p := settled(t)
		oldOurs, old := p.spi, p.peerSPI
		low := map[bool]byte{true: 0, false: 255}[weWin] // the nonce of the puppet's exchange
		r.in(core.Expire{Child: 1})
		h, ps := p.asked(message.ExchangeCreateChildSA)
		in := p.request(message.ExchangeCreateChildSA, p.theRekey(oldOurs, low)...)
		says(t, in, "SA Nonce TSi TSr")
		theirsOurs, theirs := p.spi, p.peerSPI
		if !weWin { // our nonce is the lowest for certain
			p.answer(h, append(p.childAnswer(), nonce(0))...)
		} else {
			p.answer(h, append(p.childAnswer(), nonce(255))...)
		}
		mineOurs := p.spi
		p.note(ps)
		mine := p.peerSPI
		if weWin {
			// The endpoint deletes the old one, the puppet its own.
			h, ps = p.asked(message.ExchangeInformational)
			says(t, ps, "Delete")
			if d := findPayload[*message.Delete](ps); !bytes.Equal(d.SPIs[0], u32(old)) {
				t.Errorf("the endpoint deletes %x, not the old one", d.SPIs)
			}
			p.answer(h, deleteESP(oldOurs))
			says(t, p.request(message.ExchangeInformational, deleteESP(theirsOurs)), "Delete")
			r.pass(6 * time.Second)
			r.states(t, "we win", map[uint32]string{old: "gone", theirs: "gone", mine: "seals"})
			continue
		}
		// The endpoint deletes its own, the puppet the old one.
		h, ps = p.asked(message.ExchangeInformational)
		if d := findPayload[*message.Delete](ps); d == nil || !bytes.Equal(d.SPIs[0], u32(mine)) {
			t.Errorf("the endpoint deletes %s, not its own", describe(ps))
		}
		p.answer(h, deleteESP(mineOurs))
		says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
		r.pass(6 * time.Second)
		r.states(t, "the peer wins", map[uint32]string{old: "gone", theirs: "seals", mine: "gone"})
	}
}

// RFC 7296 §2.25.1: what is answered to requests about a CHILD SA that is being
// rekeyed or closed, and about one that does not exist.
func TestCollisionsOfChildren(t *testing.T) {
	t.Run("rekey of none", func(t *testing.T) {
		r, p := settled(t)
		in := p.request(message.ExchangeCreateChildSA, p.theRekey(0xdead, 1)...)
		says(t, in, "N(CHILD_SA_NOT_FOUND)")
		if n := findNotify(in, message.NotifyChildSANotFound); n.Protocol != 3 || !bytes.Equal(n.SPI, u32(0xdead)) {
			t.Errorf("it names %d %x (RFC 7296 §3.10.1)", n.Protocol, n.SPI)
		}
		if len(r.children) != 1 {
			t.Errorf("%d CHILD SAs", len(r.children))
		}
	})
	t.Run("rekey of what we close", func(t *testing.T) {
		r, p := settled(t)
		r.in(core.Command{Do: core.FlushSAs})
		h, _ := p.asked(message.ExchangeInformational)
		says(t, p.request(message.ExchangeCreateChildSA, p.theRekey(p.spi, 1)...), "N(TEMPORARY_FAILURE)")
		p.answer(h)
		if len(r.children) != 0 {
			t.Errorf("%d CHILD SAs", len(r.children))
		}
	})
	t.Run("closing what we rekey", func(t *testing.T) {
		for _, k := range []message.NotifyType{message.NotifyChildSANotFound, message.NotifyTemporaryFailure} {
			r, p := settled(t)
			r.in(core.Expire{Child: 1})
			h, _ := p.asked(message.ExchangeCreateChildSA)
			says(t, p.request(message.ExchangeInformational, deleteESP(p.spi)), "Delete")
			p.answer(h, note(k))
			r.pass(10 * time.Second)
			r.silent("the end of it")
			if len(r.children) != 0 || len(r.e.children) != 0 {
				t.Errorf("%d CHILD SAs", len(r.children))
			}
		}
	})
	t.Run("closing what we close", func(t *testing.T) {
		r, p := settled(t)
		r.in(core.Command{Do: core.FlushSAs})
		h, _ := p.asked(message.ExchangeInformational)
		says(t, p.request(message.ExchangeInformational, deleteESP(p.spi)), "") // no second word (§1.4.1)
		p.answer(h)
		if len(r.children) != 0 {
			t.Errorf("%d CHILD SAs", len(r.children))
		}
	})
	t.Run("rekeyed twice", func(t *testing.T) {
		r, p := settled(t)
		old := p.spi
		for i, says1 := range []string{"SA Nonce TSi TSr", "N(TEMPORARY_FAILURE)", "N(TEMPORARY_FAILURE)"} {
			says(t, p.request(message.ExchangeCreateChildSA, p.theRekey(old, byte(i))...), says1)
		}
		if len(r.children) != 2 {
			t.Errorf("%d CHILD SAs", len(r.children))
		}
	})
	t.Run("the peer takes its rekey back", func(t *testing.T) {
		r, p := settled(t)
		old := p.peerSPI
		oldOurs := p.spi
		p.request(message.ExchangeCreateChildSA, p.theRekey(oldOurs, 1)...)
		says(t, p.request(message.ExchangeInformational, deleteESP(p.spi)), "Delete")
		r.states(t, "taken back", map[uint32]string{old: "seals"})
		r.in(core.Expire{Child: 1}) // it lives on, and can be rekeyed
		_, ps := p.asked(message.ExchangeCreateChildSA)
		says(t, ps, "N(REKEY_SA) SA Nonce TSi TSr")
	})
	t.Run("the peer forgot it", func(t *testing.T) {
		r, p := settled(t)
		r.in(core.Expire{Child: 1})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, note(message.NotifyChildSANotFound))
		if len(r.children) != 0 || r.count(core.EvChildDown) != 1 {
			t.Errorf("%d CHILD SAs; %s", len(r.children), r.reasons())
		}
	})
}

// Two CHILD SAs carry the same traffic, and the one that seals ends: the other, which
// stands by, seals at once, and not only after a quiet moment.
func TestTheOtherChildSealsAtOnce(t *testing.T) {
	r, p := settled(t)
	first, firstOurs := p.peerSPI, p.spi
	says(t, p.request(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(1))...), "SA Nonce TSi TSr")
	second := p.peerSPI
	r.states(t, "both", map[uint32]string{first: "seals", second: "opens"})
	r.in(core.Expire{Child: 1, Hard: true})
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	r.states(t, "the Delete is on its way", map[uint32]string{first: "opens", second: "opens"})
	p.answer(h, deleteESP(firstOurs))
	r.states(t, "deleted", map[uint32]string{first: "opens", second: "seals"})
}

// Deletes that overtake the answer to our request are remembered, so that a CHILD SA
// that the peer has deleted is not made; but not more than maxEarly of them.
func TestEarlyDeletesAreBounded(t *testing.T) {
	const maxEarly = 16
	for others, want := range map[int]string{0: "gone", maxEarly - 1: "gone", maxEarly: "seals"} {
		r, p := settled(t)
		old := p.peerSPI
		r.in(core.Expire{Child: 1}) // soft
		h, ps := p.asked(message.ExchangeCreateChildSA)
		p.note(ps)
		made := p.peerSPI
		answer := append(p.childAnswer(), nonce(2))
		for i := range others {
			p.request(message.ExchangeInformational, deleteESP(0xdead0000+uint32(i)))
		}
		p.request(message.ExchangeInformational, deleteESP(p.spi))
		p.answer(h, answer...)
		if got := r.state(made); got != want {
			t.Errorf("after %d others: the CHILD SA that the peer deleted is %s, not %s", others, got, want)
		}
		if old != made && r.kidIn(old) == nil {
			t.Error("the old CHILD SA went")
		}
	}
}
