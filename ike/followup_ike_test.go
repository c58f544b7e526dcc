package ike

import (
	"bytes"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

var hybridIKE = extraKE(ikeProposal, 36)

// settledHybrid is an endpoint whose IKE SA, which the puppet began, has an
// additional key exchange, so that rekeys of it have one, too.
func settledHybrid(t testing.TB, names ...string) (*rig, *puppet) {
	t.Helper()
	r := newRig(t, func(c *core.Config) { exchanges(c, names...) })
	p := newPuppet(r, 1)
	p.initOffering(hybridIKE)
	intAuth := p.intermediate(t, p.kemOffer(), func(ke *message.KE) []byte { return p.decapsulated(ke) })
	id := &message.ID{Initiator: true, IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}
	octets := bytes.Join([][]byte{p.sent, p.nr, mac(p.p[0], id.AppendBody(nil)), intAuth}, nil)
	proof := &message.Auth{Method: 2, Data: mac(mac([]byte(p.psk), []byte("Key Pad for IKEv2")), octets)}
	says(t, p.auth(append([]message.Payload{id, proof}, p.childOffer()...)...), "IDr AUTH SA TSi TSr")
	says(t, p.request(message.ExchangeInformational), "")
	r.take()
	return r, p
}

func (p *puppet) decapsulated(ke *message.KE) []byte {
	p.t.Helper()
	shared, err := kemKey(p.t).Decapsulate(ke.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return shared
}

// ikeRekeyOf is ikeRekey with a proposal of the test's and more payloads.
func (p *puppet) ikeRekeyOf(prop message.Proposal, spi uint64, n byte, more ...message.Payload) []message.Payload {
	return append([]message.Payload{saOf(withSPI(prop, u64(spi))), nonce(n), p.ke()}, more...)
}

// with goes over to the keys that an additional key exchange gives, once rekeyed
// has made the puppet of the successor.
func (q *puppet) with(old *puppet, extra []byte) *puppet {
	q.derive(mac(old.d, q.shared, q.ni, q.nr, extra))
	return q
}

const multiIKE = "SA Nonce KE N(ADDITIONAL_KEY_EXCHANGE)"

// Both rekey the IKE SA with several key exchanges at once: only the winner goes on.
func TestBothRekeyIKEMultiKE(t *testing.T) {
	for _, weWin := range []bool{true, false} {
		r, p := settledHybrid(t, hybrid)
		low := map[bool]byte{true: 0, false: 255}[weWin]
		r.in(core.Command{Do: core.RekeyIKE})
		h, asked := p.asked(message.ExchangeCreateChildSA)
		in := p.request(message.ExchangeCreateChildSA, p.ikeRekeyOf(hybridIKE, 0xaaaa, low)...)
		says(t, in, multiIKE)
		theirs := p.rekeyed(true, 0xaaaa, low, in)
		p.answer(h, p.ikeRekeyOf(hybridIKE, 0xcccc, 255-low, link(5))...)
		if weWin {
			h, ps := p.asked(message.ExchangeFollowUpKE)
			says(t, ps, followUp)
			if r.established() != 1 {
				t.Error("the successor is there before its last key exchange")
			}
			p.answer(h, p.kemAnswer(ps))
			h, ps = p.asked(message.ExchangeInformational)
			says(t, ps, "Delete")
			says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "N(TEMPORARY_FAILURE)")
			p.answer(h)
			if asked == nil || r.count(core.EvIKERekeyed) != 1 {
				t.Error(r.reasons())
			}
		} else {
			r.silent("a collision that the peer wins")
			answer := p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in))
			says(t, answer, "KE")
			theirs.with(p, theirs.decapsulated(findPayload[*message.KE](answer)))
			says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
			says(t, theirs.request(message.ExchangeInformational), "")
		}
		r.pass(10 * time.Second)
		if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 || parked(r) != 0 {
			t.Errorf("we win=%v; left: %v, %d CHILD SAs, %d parked", weWin, r.e.SAs(), len(r.children), parked(r))
		}
	}
}

// The peer wins and is not heard of again: the endpoint rekeys when the peer's is
// forgotten.
func TestWinnerOfIKERekeyIsSilent(t *testing.T) {
	r, p := settledHybrid(t, hybrid)
	r.in(core.Command{Do: core.RekeyIKE})
	h, _ := p.asked(message.ExchangeCreateChildSA)
	says(t, p.request(message.ExchangeCreateChildSA, p.ikeRekeyOf(hybridIKE, 0xaaaa, 255)...), multiIKE)
	p.answer(h, p.ikeRekeyOf(hybridIKE, 0xcccc, 0, link(5))...)
	r.pass(28 * time.Second)
	r.silent("the wait for the winner")
	r.pass(8 * time.Second)
	_, ps := p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "SA Nonce KE")
}

// Both rekey the IKE SA at once, and only one of them with several key exchanges.
func TestBothRekeyIKEMixed(t *testing.T) {
	for _, weWin := range []bool{true, false} {
		low := map[bool]byte{true: 0, false: 255}[weWin]
		t.Run("ours has several", func(t *testing.T) {
			r, p := settledHybrid(t, hybrid, "x25519")
			r.in(core.Command{Do: core.RekeyIKE})
			h, _ := p.asked(message.ExchangeCreateChildSA)
			in := p.request(message.ExchangeCreateChildSA, p.ikeRekeyOf(ikeProposal, 0xaaaa, low)...)
			says(t, in, "SA Nonce KE")
			theirs := p.rekeyed(true, 0xaaaa, low, in)
			p.answer(h, p.ikeRekeyOf(hybridIKE, 0xcccc, 255-low, link(5))...)
			if weWin { // the peer deletes what it made; we go on
				h, ps := p.asked(message.ExchangeFollowUpKE)
				says(t, theirs.request(message.ExchangeInformational, deleteIKE()), "")
				p.answer(h, p.kemAnswer(ps))
				h, ps = p.asked(message.ExchangeInformational)
				says(t, ps, "Delete")
				p.answer(h)
			} else {
				r.silent("a collision that the peer wins")
				says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
				says(t, theirs.request(message.ExchangeInformational), "")
			}
			r.pass(10 * time.Second)
			if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 {
				t.Errorf("we win=%v; left: %v, %d CHILD SAs", weWin, r.e.SAs(), len(r.children))
			}
		})
		t.Run("the peer's has several", func(t *testing.T) {
			r, p := settledHybrid(t, hybrid, "x25519")
			r.in(core.Command{Do: core.RekeyIKE})
			h, asked := p.asked(message.ExchangeCreateChildSA)
			in := p.request(message.ExchangeCreateChildSA, p.ikeRekeyOf(hybridIKE, 0xaaaa, low)...)
			says(t, in, multiIKE)
			theirs := p.rekeyed(true, 0xaaaa, low, in)
			p.answer(h, p.ikeRekeyOf(ikeProposal, 0xcccc, 255-low)...)
			mine := p.rekeyed(false, 0xcccc, 255-low, asked)
			if weWin {
				h, ps := p.asked(message.ExchangeInformational)
				says(t, ps, "Delete")
				says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "N(TEMPORARY_FAILURE)")
				p.answer(h)
				says(t, mine.request(message.ExchangeInformational), "")
			} else { // the endpoint deletes what it made, and the old one serves on
				h, ps := mine.asked(message.ExchangeInformational)
				says(t, ps, "Delete")
				mine.answer(h)
				answer := p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in))
				says(t, answer, "KE")
				theirs.with(p, theirs.decapsulated(findPayload[*message.KE](answer)))
				says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
				says(t, theirs.request(message.ExchangeInformational), "")
			}
			r.pass(10 * time.Second)
			if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 || parked(r) != 0 {
				t.Errorf("we win=%v; left: %v, %d CHILD SAs", weWin, r.e.SAs(), len(r.children))
			}
		})
	}
}

// A collision that the peer wins, whose answer to ours comes late: after its
// IKE_FOLLOWUP_KE, or not before it has deleted the old one.
func TestBothRekeyIKEMultiKEDelayedResponse(t *testing.T) {
	for _, afterDelete := range []bool{false, true} {
		r, p := settledHybrid(t, hybrid)
		r.in(core.Command{Do: core.RekeyIKE})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		in := p.request(message.ExchangeCreateChildSA, p.ikeRekeyOf(hybridIKE, 0xaaaa, 255)...)
		theirs := p.rekeyed(true, 0xaaaa, 255, in)
		answer := p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in))
		says(t, answer, "KE")
		theirs.with(p, theirs.decapsulated(findPayload[*message.KE](answer)))
		if !afterDelete {
			p.answer(h, p.ikeRekeyOf(hybridIKE, 0xcccc, 0, link(5))...)
			r.silent("a collision that the peer wins")
		}
		says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
		if afterDelete {
			p.answer(h, p.ikeRekeyOf(hybridIKE, 0xcccc, 0, link(5))...)
		}
		says(t, theirs.request(message.ExchangeInformational), "")
		r.pass(10 * time.Second)
		if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 {
			t.Errorf("after the Delete=%v; left: %v, %d CHILD SAs", afterDelete, r.e.SAs(), len(r.children))
		}
	}
}

// One end does not notice the collision, because a request is late.
func TestBothRekeyIKEMultiKEDelayedRequest(t *testing.T) {
	t.Run("the peer's", func(t *testing.T) { // it comes while our IKE_FOLLOWUP_KE is under way
		r, p := settledHybrid(t, hybrid)
		r.in(core.Command{Do: core.RekeyIKE})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, p.ikeRekeyOf(hybridIKE, 0xcccc, 0, link(5))...)
		h, ps := p.asked(message.ExchangeFollowUpKE)
		says(t, p.request(message.ExchangeCreateChildSA, p.ikeRekeyOf(hybridIKE, 0xaaaa, 255)...), "N(TEMPORARY_FAILURE)")
		p.answer(h, p.kemAnswer(ps))
		h, ps = p.asked(message.ExchangeInformational)
		says(t, ps, "Delete")
		p.answer(h)
		r.pass(10 * time.Second)
		if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 {
			t.Errorf("left: %v, %d CHILD SAs", r.e.SAs(), len(r.children))
		}
	})
	for _, afterDelete := range []bool{false, true} {
		t.Run("ours", func(t *testing.T) { // the peer refuses it, since its own goes on
			r, p := settledHybrid(t, hybrid)
			r.in(core.Command{Do: core.RekeyIKE})
			h, _ := p.asked(message.ExchangeCreateChildSA)
			in := p.request(message.ExchangeCreateChildSA, p.ikeRekeyOf(hybridIKE, 0xaaaa, 1)...)
			theirs := p.rekeyed(true, 0xaaaa, 1, in)
			if !afterDelete {
				p.answer(h, note(message.NotifyTemporaryFailure))
			}
			answer := p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in))
			says(t, answer, "KE")
			theirs.with(p, theirs.decapsulated(findPayload[*message.KE](answer)))
			says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
			r.pass(10 * time.Second)
			says(t, theirs.request(message.ExchangeInformational), "")
			if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 {
				t.Errorf("left: %v, %d CHILD SAs", r.e.SAs(), len(r.children))
			}
		})
	}
}

// One end deletes the IKE SA while the other rekeys it with several key exchanges.
func TestDeleteIKEWhileMultiKE(t *testing.T) {
	t.Run("we delete it", func(t *testing.T) {
		r, p := settledHybrid(t, hybrid)
		in := p.request(message.ExchangeCreateChildSA, p.ikeRekeyOf(hybridIKE, 0xaaaa, 1)...)
		r.in(core.Command{Do: core.KillAll})
		h, _ := p.asked(message.ExchangeInformational)
		says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "N(TEMPORARY_FAILURE)")
		p.answer(h)
		r.nothingLeft()
	})
	t.Run("the peer deletes it", func(t *testing.T) {
		r, p := settledHybrid(t, hybrid)
		r.in(core.Command{Do: core.RekeyIKE})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, p.ikeRekeyOf(hybridIKE, 0xcccc, 0, link(5))...)
		h, _ = p.asked(message.ExchangeFollowUpKE)
		says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
		p.answer(h, note(message.NotifyTemporaryFailure))
		r.nothingLeft()
	})
}

// What the peer begins and does not go on with is forgotten, as for CHILD SAs.
func TestParkedIKE(t *testing.T) {
	r, p := settledHybrid(t, hybrid)
	first := p.request(message.ExchangeCreateChildSA, p.ikeRekeyOf(hybridIKE, 0xaaaa, 1)...)
	second := p.request(message.ExchangeCreateChildSA, p.ikeRekeyOf(hybridIKE, 0xbbbb, 1)...) // it began anew
	says(t, second, multiIKE)
	says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, first)), "N(STATE_NOT_FOUND)")
	if n := parked(r); n != 1 {
		t.Errorf("%d are kept", n)
	}
	r.pass(31 * time.Second)
	says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, second)), "N(STATE_NOT_FOUND)")
	if parked(r) != 0 || r.established() != 1 {
		t.Errorf("%d are kept; %v", parked(r), r.e.SAs())
	}
}
