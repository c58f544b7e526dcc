package ike

import (
	"crypto/ecdh"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// ikeRekey are the payloads of a request or response that rekeys the IKE SA.
func (p *puppet) ikeRekey(spi uint64, n byte) []message.Payload {
	return []message.Payload{saOf(withSPI(ikeProposal, u64(spi))), nonce(n), &message.KE{Group: 31, Data: p.priv.PublicKey().Bytes()}}
}

// rekeyed makes the puppet of the successor out of what both sent.
func (p *puppet) rekeyed(initiator bool, ours uint64, n byte, in []message.Payload) *puppet {
	p.t.Helper()
	theirs := findPayload[*message.SA](in).Proposals[0].SPI
	pub, err := ecdh.X25519().NewPublicKey(findPayload[*message.KE](in).Data)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.shared, err = p.priv.ECDH(pub); err != nil {
		p.t.Fatal(err)
	}
	mine, other := nonce(n).Data, findPayload[*message.Nonce](in).Data
	var spi uint64
	for _, b := range theirs {
		spi = spi<<8 | uint64(b)
	}
	if initiator {
		return p.successor(true, ours, spi, mine, other)
	}
	return p.successor(false, spi, ours, other, mine)
}

// The peer rekeys the IKE SA: SA Ni KEi -->  <-- SA Nr KEr   D -->  <--
// The keys of the successor are RFC 7296 §2.18; its CHILD SA lives on.
func TestPeerRekeysIKE(t *testing.T) {
	r, p := settled(t)
	in := p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 3)...)
	says(t, in, "SA Nonce KE")
	q := p.rekeyed(true, 0xaaaa, 3, in)
	// Work on the old one is over, but for its Delete.
	says(t, p.request(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(4))...), "N(TEMPORARY_FAILURE)")
	says(t, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xbbbb, 4)...), "N(TEMPORARY_FAILURE)")
	says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
	says(t, q.request(message.ExchangeInformational), "")
	q.spi = p.spi - 1
	says(t, q.request(message.ExchangeCreateChildSA, q.theRekey(q.spi, 5)...), "SA Nonce TSi TSr")
	if r.established() != 1 || len(r.e.SAs()) != 1 {
		t.Errorf("left: %v", r.e.SAs())
	}
	if r.count(core.EvIKEUp) != 1 || r.count(core.EvIKERekeyed) != 1 || r.count(core.EvChildDown) != 0 {
		t.Error(r.reasons())
	}
}

// The endpoint rekeys the IKE SA, by command or at its soft lifetime; refused it
// tries again.
func TestWeRekeyIKE(t *testing.T) {
	r, p := settled(t)
	r.in(core.Command{Do: core.RekeyIKE})
	r.in(core.Command{Do: core.RekeyIKE})
	h, ps := p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "SA Nonce KE")
	r.silent("a second command")
	p.answer(h, note(message.NotifyTemporaryFailure))
	r.pass(4 * time.Second)
	h, ps = p.asked(message.ExchangeCreateChildSA)
	// While that is under way the peer gets no CHILD SA (§2.25.2).
	says(t, p.request(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(4))...), "N(TEMPORARY_FAILURE)")
	says(t, p.request(message.ExchangeCreateChildSA, p.theRekey(p.spi-1, 4)...), "N(TEMPORARY_FAILURE)")
	p.answer(h, p.ikeRekey(0xcccc, 6)...)
	q := p.rekeyed(false, 0xcccc, 6, ps)
	h, ps = p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h)
	says(t, q.request(message.ExchangeInformational), "")
	if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 {
		t.Errorf("left: %v, %d CHILD SAs", r.e.SAs(), len(r.children))
	}
}

// RFC 7296 §2.25.2: rekeying the IKE SA while the endpoint changes a CHILD SA or
// closes; closing it while the endpoint rekeys it.
func TestCollisionsOfIKE(t *testing.T) {
	r, p := settled(t)
	r.in(core.Expire{Child: 1})
	h, _ := p.asked(message.ExchangeCreateChildSA)
	says(t, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 3)...), "N(TEMPORARY_FAILURE)")
	p.answer(h, note(message.NotifyTemporaryFailure))
	r.in(core.Command{Do: core.KillAll})
	p.asked(message.ExchangeInformational)
	says(t, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 3)...), "N(TEMPORARY_FAILURE)")
	says(t, p.request(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(4))...), "N(TEMPORARY_FAILURE)")
	says(t, p.request(message.ExchangeInformational, deleteIKE()), "") // crossing
	if !r.e.Idle() || len(r.children) != 0 {
		t.Errorf("left: %v", r.e.SAs())
	}

	r, p = settled(t)
	r.in(core.Command{Do: core.RekeyIKE})
	h, _ = p.asked(message.ExchangeCreateChildSA)
	says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
	p.answer(h, p.ikeRekey(0xcccc, 6)...)
	if !r.e.Idle() || len(r.children) != 0 {
		t.Errorf("left: %v", r.e.SAs())
	}
}

// Both rekey the IKE SA at once (RFC 7296 §2.8.2).
func TestBothRekeyIKE(t *testing.T) {
	for _, weWin := range []bool{true, false} {
		r, p := settled(t)
		low := map[bool]byte{true: 0, false: 255}[weWin]
		r.in(core.Command{Do: core.RekeyIKE})
		h, asked := p.asked(message.ExchangeCreateChildSA)
		in := p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, low)...)
		says(t, in, "SA Nonce KE")
		theirs := p.rekeyed(true, 0xaaaa, low, in)
		p.answer(h, p.ikeRekey(0xcccc, 255-low)...)
		mine := p.rekeyed(false, 0xcccc, 255-low, asked)
		if weWin {
			h, ps := p.asked(message.ExchangeInformational) // the endpoint deletes the old one
			says(t, ps, "Delete")
			p.answer(h)
			says(t, theirs.request(message.ExchangeInformational, deleteIKE()), "")
			says(t, mine.request(message.ExchangeInformational), "")
		} else {
			h, ps := mine.asked(message.ExchangeInformational) // the endpoint deletes its own
			says(t, ps, "Delete")
			mine.answer(h)
			says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
			says(t, theirs.request(message.ExchangeInformational), "")
		}
		r.pass(time.Second)
		if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 {
			t.Errorf("we win=%v; left: %v, %d CHILD SAs", weWin, r.e.SAs(), len(r.children))
		}
	}
}

// A peer that rekeys the IKE SA over and over and never deletes is held up.
func TestRekeyStorm(t *testing.T) {
	r, p := settled(t)
	for i := range 20 {
		in := p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa+uint64(i), byte(i))...)
		if i >= 8 {
			says(t, in, "N(TEMPORARY_FAILURE)")
			continue
		}
		says(t, in, "SA Nonce KE")
		p = p.rekeyed(true, 0xaaaa+uint64(i), byte(i), in)
	}
	if n := len(r.e.SAs()); n != 9 {
		t.Errorf("%d IKE SAs", n)
	}
	r.pass(61 * time.Second)
	if n := len(r.e.SAs()); n != 1 {
		t.Errorf("%d IKE SAs a minute later", n)
	}
	says(t, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xffff, 9)...), "SA Nonce KE")
}

// The answer to our rekey of the IKE SA cannot be used, but the peer has moved on
// to a successor: the SA ends, and all begins anew.
func TestUnusableAnswerToIKERekey(t *testing.T) {
	for name, answer := range map[string]func(p *puppet) []message.Payload{
		"a public value that is none": func(p *puppet) []message.Payload {
			return []message.Payload{saOf(withSPI(ikeProposal, u64(1))), nonce(1), &message.KE{Group: 31, Data: make([]byte, 32)}}
		},
		"SPI 0": func(p *puppet) []message.Payload { return p.ikeRekey(0, 1) },
		"no key exchange": func(p *puppet) []message.Payload {
			return []message.Payload{saOf(withSPI(ikeProposal, u64(1))), nonce(1)}
		},
		"another cipher": func(p *puppet) []message.Payload {
			q := ikeProposal
			q.Transforms = append([]message.Transform{{Type: 1, ID: 12, KeyBits: 256}}, q.Transforms[1:]...)
			return []message.Payload{saOf(withSPI(q, u64(1))), nonce(1), &message.KE{Group: 31, Data: p.priv.PublicKey().Bytes()}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := settled(t)
			r.in(core.Command{Do: core.RekeyIKE})
			h, _ := p.asked(message.ExchangeCreateChildSA)
			p.answer(h, answer(p)...)
			for _, s := range r.take() {
				h, ps := p.open(s.Data)
				says(t, ps, "Delete")
				p.answer(h)
			}
			r.nothingLeft()
		})
	}
}

// Nobody lets the endpoint rekey the IKE SA: at the hard lifetime it goes, and
// that is said once.
func TestHardLifetimeOfIKE(t *testing.T) {
	r, p := settled(t, func(c *core.Config) {
		c.Peers[0].Profile.Lifetime = 10 * time.Minute
		c.Peers[0].Profile.DPD = 0
	})
	tries := 0
	for r.now.Sub(epoch) < 10*time.Minute+3*time.Second {
		r.pass(time.Second)
		for _, s := range r.take() {
			switch h, _ := p.open(s.Data); h.Exchange {
			case message.ExchangeCreateChildSA:
				tries++
				p.answer(h, note(message.NotifyNoProposalChosen))
			default:
				p.answer(h)
			}
		}
	}
	if n := r.count(core.EvIKEDown); n != 1 || tries < 10 {
		t.Errorf("%d times down after %d tries to rekey", n, tries)
	}
	r.nothingLeft()
}
