package ike

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// INVALID_KE_PAYLOAD in CREATE_CHILD_SA (RFC 7296 §1.3): the request is sent again
// at once, as a new one, with the group that the responder wants.

// groupOfKE is the group of the key exchange in a message.
func groupOfKE(t testing.TB, ps []message.Payload) uint16 {
	t.Helper()
	ke := findPayload[*message.KE](ps)
	if ke == nil {
		t.Fatalf("no key exchange in %q", describe(ps))
	}
	return ke.Group
}

// p256 is a key exchange of ecp256; nobody computes with it.
func p256() *message.KE { return &message.KE{Group: 19, Data: make([]byte, 64)} }

// retried answers the endpoint's request with INVALID_KE_PAYLOAD for x25519 and
// returns the request that follows.
func (p *puppet) retried(h message.Header) (message.Header, []message.Payload) {
	p.t.Helper()
	p.answer(h, wantGroup(31))
	h2, ps := p.asked(message.ExchangeCreateChildSA)
	if h2.ID != h.ID+1 || groupOfKE(p.t, ps) != 31 {
		p.t.Errorf("the second try has ID %d after %d, group %d", h2.ID, h.ID, groupOfKE(p.t, ps))
	}
	p.note(ps)
	return h2, ps
}

// twoGroups begins with a group that the puppet does not want.
func twoGroups(multi bool) (func(c *core.Config), message.Proposal) {
	if multi {
		return pfs("ecp256+ml-kem-768", hybrid), hybridESP
	}
	return pfs("ecp256", "x25519"), groupESP
}

// goOn runs the IKE_FOLLOWUP_KE of the endpoint, if there is one to come.
func (p *puppet) goOn(multi bool) {
	p.t.Helper()
	if multi {
		h, ps := p.asked(message.ExchangeFollowUpKE)
		p.answer(h, p.kemAnswer(ps))
	}
}

func links(multi bool) []message.Payload {
	if multi {
		return []message.Payload{link(1)}
	}
	return nil
}

// A new CHILD SA, and rekeys of it: the first with another group, the next with
// the one that was agreed on.
func TestInvalidKEOfChild(t *testing.T) {
	for _, multi := range []bool{false, true} {
		change, prop := twoGroups(multi)
		r, p := settled(t, initiates, change)
		r.in(core.Command{Do: core.FlushSAs})
		h, _ := p.asked(message.ExchangeInformational)
		p.answer(h, deleteESP(p.spi))
		r.pass(2 * time.Second)
		h, ps := p.asked(message.ExchangeCreateChildSA)
		says(t, ps, "SA Nonce KE TSi TSr")
		first := findPayload[*message.Nonce](ps).Data
		spi := findPayload[*message.SA](ps).Proposals[0].SPI
		if groupOfKE(t, ps) != 19 {
			t.Errorf("it begins with group %d", groupOfKE(t, ps))
		}
		h, ps = p.retried(h)
		says(t, ps, "SA Nonce KE TSi TSr")
		if bytes.Equal(findPayload[*message.Nonce](ps).Data, first) || !bytes.Equal(findPayload[*message.SA](ps).Proposals[0].SPI, spi) {
			t.Error("the nonce is the same, or the SPI is not")
		}
		p.answer(h, p.pfsAnswer(prop, 1, links(multi)...)...)
		p.goOn(multi)
		r.states(t, "made", map[uint32]string{p.peerSPI: "seals"})
		h, _ = p.asked(message.ExchangeInformational) // the peer is told that we have it
		p.answer(h)

		oldOurs, old := p.spi, p.peerSPI
		r.in(core.Command{Do: core.RekeyChildren})
		h, ps = p.asked(message.ExchangeCreateChildSA)
		if groupOfKE(t, ps) != 31 {
			t.Errorf("the rekey begins with group %d", groupOfKE(t, ps))
		}
		p.answer(h, p.pfsAnswer(prop, 2, links(multi)...)...)
		p.goOn(multi)
		h, _ = p.asked(message.ExchangeInformational)
		p.answer(h, deleteESP(oldOurs))
		r.pass(6 * time.Second)
		r.states(t, "rekeyed", map[uint32]string{old: "gone"})
	}
}

// As responder, with several groups.
func TestInvalidKEToPeer(t *testing.T) {
	for _, multi := range []bool{false, true} {
		change, prop := twoGroups(multi)
		r, p := settled(t, change)
		oldOurs := p.spi
		bad := p.pfsOffer(prop, oldOurs, 1)
		bad[3] = p256()
		in := p.request(message.ExchangeCreateChildSA, bad...)
		says(t, in, "N(INVALID_KE_PAYLOAD)")
		if n := findNotify(in, message.NotifyInvalidKEPayload); !bytes.Equal(n.Data, []byte{0, 31}) {
			t.Errorf("it wants %x", n.Data)
		}
		in = p.request(message.ExchangeCreateChildSA, p.pfsOffer(prop, oldOurs, 1)...)
		if multi {
			says(t, in, multiAnswer)
			says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "KE")
		} else {
			says(t, in, singleAnswer)
		}
		if len(r.children) != 2 {
			t.Errorf("%d CHILD SAs", len(r.children))
		}
	}
}

// The peer wants a group that we do not have, or changes its mind without end.
func TestInvalidKEOfChildInVain(t *testing.T) {
	r, p := settled(t, pfs("ecp256", "x25519"))
	r.in(core.Expire{Child: 1})
	h, _ := p.asked(message.ExchangeCreateChildSA)
	p.answer(h, wantGroup(14))
	r.silent("a group that we do not have")
	e := r.event(core.EvNotify)
	if d := e.Detail; d == nil || !strings.Contains(strings.Join(d.Ours, " "), "ecp256, x25519") || !strings.Contains(strings.Join(d.Theirs, " "), "modp2048") || !strings.Contains(d.Hint, "pfs-group") {
		t.Errorf("the event is %+v", e.Detail)
	}
	r.pass(4 * time.Second)
	for i := range 6 {
		h, _ = p.asked(message.ExchangeCreateChildSA)
		p.answer(h, wantGroup([]uint16{31, 19}[i%2]))
	}
	r.silent("five changes of mind")
	r.states(t, "in vain", map[uint32]string{p.peerSPI: "seals"})
	r.pass(4 * time.Second)
	p.asked(message.ExchangeCreateChildSA)
}

// Both rekey the CHILD SA at once, both with a group that the other does not want.
func TestBothRekeyChildInvalidKE(t *testing.T) {
	change, prop := twoGroups(false)
	begin := func() (r *rig, p *puppet, h message.Header, oldOurs, old uint32) {
		r, p = settled(t, change)
		oldOurs, old = p.spi, p.peerSPI
		r.in(core.Expire{Child: 1})
		h, _ = p.asked(message.ExchangeCreateChildSA)
		bad := p.pfsOffer(prop, oldOurs, 1)
		bad[3] = p256()
		says(t, p.request(message.ExchangeCreateChildSA, bad...), "N(INVALID_KE_PAYLOAD)")
		h, _ = p.retried(h)
		return r, p, h, oldOurs, old
	}
	for _, weWin := range []bool{true, false} {
		r, p, h, oldOurs, old := begin()
		mine := p.peerSPI
		low := map[bool]byte{true: 0, false: 255}[weWin]
		says(t, p.request(message.ExchangeCreateChildSA, p.pfsOffer(prop, oldOurs, low)...), singleAnswer)
		theirsOurs, theirs := p.spi, p.peerSPI
		p.answer(h, p.pfsAnswer(prop, 255-low)...)
		mineOurs := p.spi
		h, _ = p.asked(message.ExchangeInformational)
		if weWin {
			p.answer(h, deleteESP(oldOurs))
			says(t, p.request(message.ExchangeInformational, deleteESP(theirsOurs)), "Delete")
			r.pass(6 * time.Second)
			r.states(t, "we win", map[uint32]string{old: "gone", theirs: "gone", mine: "seals"})
			continue
		}
		p.answer(h, deleteESP(mineOurs))
		says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
		r.pass(6 * time.Second)
		r.states(t, "the peer wins", map[uint32]string{old: "gone", theirs: "seals", mine: "gone"})
	}
	// Our second try is late: the peer has rekeyed and deletes the old one by then.
	for _, refusal := range []message.NotifyType{message.NotifyTemporaryFailure, message.NotifyChildSANotFound} {
		r, p, h, oldOurs, old := begin()
		says(t, p.request(message.ExchangeCreateChildSA, p.pfsOffer(prop, oldOurs, 1)...), singleAnswer)
		theirs := p.peerSPI
		if refusal == message.NotifyTemporaryFailure {
			p.answer(h, note(refusal))
			says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
		} else {
			says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
			p.answer(h, note(refusal))
		}
		r.pass(10 * time.Second)
		r.silent("the end of it")
		r.states(t, "the peer's", map[uint32]string{old: "gone", theirs: "seals"})
	}
	// The peer's second try is late: we have rekeyed and delete the old one.
	r, p, h, oldOurs, old := begin()
	mine := p.peerSPI
	p.answer(h, p.pfsAnswer(prop, 1)...)
	h, _ = p.asked(message.ExchangeInformational)
	says(t, p.request(message.ExchangeCreateChildSA, p.pfsOffer(prop, oldOurs, 1)...), "N(TEMPORARY_FAILURE)")
	p.answer(h, deleteESP(oldOurs))
	says(t, p.request(message.ExchangeCreateChildSA, p.pfsOffer(prop, oldOurs, 1)...), "N(CHILD_SA_NOT_FOUND)")
	r.pass(6 * time.Second)
	r.states(t, "ours", map[uint32]string{old: "gone", mine: "seals"})
	// The peer deletes the old one instead of a second try of ours.
	r, p = settled(t, change)
	r.in(core.Expire{Child: 1})
	h, _ = p.asked(message.ExchangeCreateChildSA)
	says(t, p.request(message.ExchangeInformational, deleteESP(p.spi)), "Delete")
	p.answer(h, wantGroup(31))
	r.silent("a rekey of what is gone")
}

// Rekeys of the IKE SA: to another group and back, with one key exchange and with
// several, and without end.
func TestInvalidKEOfIKERekey(t *testing.T) {
	for _, multi := range []bool{false, true} {
		var r *rig
		var p *puppet
		prop, more := ikeProposal, links(multi)
		if multi {
			r, p = settledHybrid(t, hybrid, "ecp256+ml-kem-768")
			prop = hybridIKE
		} else {
			r, p = settled(t, func(c *core.Config) { exchanges(c, "x25519", "ecp256") })
		}
		r.in(core.Command{Do: core.RekeyIKE})
		for _, g := range []uint16{31, 19, 31, 19} {
			h, ps := p.asked(message.ExchangeCreateChildSA)
			if groupOfKE(t, ps) != g {
				t.Errorf("the key exchange is of group %d, not %d", groupOfKE(t, ps), g)
			}
			p.answer(h, wantGroup(19+31-g))
		}
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, p.ikeRekeyOf(prop, 0xcccc, 6, more...)...)
		p.goOn(multi)
		h, ps := p.asked(message.ExchangeInformational)
		says(t, ps, "Delete")
		p.answer(h)
		if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 {
			t.Errorf("left: %v, %d CHILD SAs", r.e.SAs(), len(r.children))
		}
	}
	r, p := settled(t, func(c *core.Config) { exchanges(c, "x25519", "ecp256") })
	r.in(core.Command{Do: core.RekeyIKE})
	for i := range 6 {
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, wantGroup([]uint16{19, 31}[i%2]))
	}
	r.silent("five changes of mind")
	if d := r.event(core.EvNotify).Detail; d == nil || !strings.Contains(strings.Join(d.Ours, " "), "x25519, ecp256") {
		t.Errorf("the detail is %+v", d)
	}
	r.pass(4 * time.Second)
	p.asked(message.ExchangeCreateChildSA)
}

// Both rekey the IKE SA at once, both with a group that the other does not want;
// or the second try of one of them is late.
func TestBothRekeyIKEInvalidKE(t *testing.T) {
	begin := func() (*rig, *puppet, message.Header, []message.Payload) {
		r, p := settled(t, func(c *core.Config) { exchanges(c, "x25519", "ecp256") })
		r.in(core.Command{Do: core.RekeyIKE})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, wantGroup(19))
		h, _ = p.asked(message.ExchangeCreateChildSA)
		bad := p.ikeRekey(0xaaaa, 1)
		bad[2] = p256()
		says(t, p.request(message.ExchangeCreateChildSA, bad...), "N(INVALID_KE_PAYLOAD)")
		h, ps := p.retried(h)
		return r, p, h, ps
	}
	end := func(r *rig, what string) {
		r.pass(10 * time.Second)
		if r.established() != 1 || len(r.e.SAs()) != 1 || len(r.children) != 1 {
			t.Errorf("%s; left: %v, %d CHILD SAs", what, r.e.SAs(), len(r.children))
		}
	}
	for _, weWin := range []bool{true, false} {
		r, p, h, asked := begin()
		low := map[bool]byte{true: 0, false: 255}[weWin]
		in := p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, low)...)
		says(t, in, "SA Nonce KE")
		theirs := p.rekeyed(true, 0xaaaa, low, in)
		p.answer(h, p.ikeRekey(0xcccc, 255-low)...)
		mine := p.rekeyed(false, 0xcccc, 255-low, asked)
		if weWin {
			h, _ := p.asked(message.ExchangeInformational)
			p.answer(h)
			says(t, theirs.request(message.ExchangeInformational, deleteIKE()), "")
		} else {
			h, _ := mine.asked(message.ExchangeInformational)
			mine.answer(h)
			says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
		}
		end(r, "both")
	}
	r, p, h, _ := begin() // ours is late
	in := p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 1)...)
	theirs := p.rekeyed(true, 0xaaaa, 1, in)
	p.answer(h, note(message.NotifyTemporaryFailure))
	says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
	says(t, theirs.request(message.ExchangeInformational), "")
	end(r, "ours is late")
	r, p, h, asked := begin() // the peer's is late
	p.answer(h, p.ikeRekey(0xcccc, 1)...)
	mine := p.rekeyed(false, 0xcccc, 1, asked)
	h, _ = p.asked(message.ExchangeInformational)
	says(t, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 1)...), "N(TEMPORARY_FAILURE)")
	p.answer(h)
	says(t, mine.request(message.ExchangeInformational), "")
	end(r, "the peer's is late")
}
