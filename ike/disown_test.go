package ike

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// deletes is what the endpoint has deleted since the last take, as "ESP 0000c001" or "IKE". Its
// requests are answered, but for those that keep says are to stay.
func (p *puppet) deletes() (list []string) {
	p.t.Helper()
	for range 4 {
		for _, s := range p.r.take() {
			h, err := message.ParseHeader(s.Data)
			if err != nil || h.Response() || h.SPIi != p.spii || h.SPIr != p.spir {
				continue
			}
			h, ps := p.open(s.Data)
			for _, x := range ps {
				d, ok := x.(*message.Delete)
				switch {
				case !ok:
				case d.Protocol == 1:
					list = append(list, "IKE")
				default:
					for _, spi := range d.SPIs {
						list = append(list, "ESP "+string(spi))
					}
				}
			}
			if h.Exchange == message.ExchangeInformational {
				p.answer(h)
			}
		}
	}
	return list
}

// Whatever is wrong with the response to a CREATE_CHILD_SA, the peer has installed the SA: it is
// told to delete that, or the IKE SA with all there is.
func TestRejectedResponseIsDeleted(t *testing.T) {
	tsi, tsr := ts(true, "10.1.0.0/16"), ts(false, "10.2.0.0/16")
	made := func(p message.Proposal) *message.SA { return saOf(withSPI(p, u32(0xcafe0002))) }
	many := &message.TS{Initiator: true}
	for i := range 17 {
		s := ts(true, "10.1.0.0/16").Selectors[0]
		s.PortLo, s.PortHi, s.Proto = uint16(i), uint16(i), 6
		many.Selectors = append(many.Selectors, s)
	}
	wrongSPI := saOf(withSPI(groupESP, []byte{1, 2, 3, 4, 5, 6, 7, 8}))
	for _, v := range []struct {
		name   string
		answer func(p *puppet) []message.Payload
		group  string // pfs-group
	}{
		{"wider selectors", func(p *puppet) []message.Payload {
			return []message.Payload{made(groupESP), nonce(4), p.ke(), ts(true, "10.0.0.0/8"), tsr}
		}, "x25519"},
		{"no selectors", func(p *puppet) []message.Payload { return []message.Payload{made(groupESP), nonce(4), p.ke()} }, "x25519"},
		{"too many selectors", func(p *puppet) []message.Payload {
			return []message.Payload{made(groupESP), nonce(4), p.ke(), many, tsr}
		}, "x25519"},
		{"an SPI of 8 bytes", func(p *puppet) []message.Payload { return []message.Payload{wrongSPI, nonce(4), p.ke(), tsi, tsr} }, "x25519"},
		{"the SPI 0", func(p *puppet) []message.Payload {
			return []message.Payload{saOf(withSPI(groupESP, u32(0))), nonce(4), p.ke(), tsi, tsr}
		}, "x25519"},
		{"no key exchange", func(p *puppet) []message.Payload { return []message.Payload{made(groupESP), nonce(4), tsi, tsr} }, "x25519"},
		{"a public value that is none", func(p *puppet) []message.Payload {
			return []message.Payload{made(groupESP), nonce(4), &message.KE{Group: 31, Data: make([]byte, 32)}, tsi, tsr}
		}, "x25519"},
		{"another group", func(p *puppet) []message.Payload {
			return []message.Payload{made(withGroup(espProposal, 19)), nonce(4), p.ke(), tsi, tsr}
		}, "x25519"},
		{"no group", func(p *puppet) []message.Payload { return []message.Payload{made(espProposal), nonce(4), tsi, tsr} }, "x25519"},
		{"transport mode", func(p *puppet) []message.Payload {
			return []message.Payload{note(message.NotifyUseTransportMode), made(groupESP), nonce(4), p.ke(), tsi, tsr}
		}, "x25519"},
		{"no nonce", func(p *puppet) []message.Payload { return []message.Payload{made(groupESP), p.ke(), tsi, tsr} }, "x25519"},
		{"SA twice", func(p *puppet) []message.Payload {
			return []message.Payload{made(groupESP), made(groupESP), nonce(4), p.ke(), tsi, tsr}
		}, "x25519"},
		{"no additional key exchange agreed on", func(p *puppet) []message.Payload {
			return []message.Payload{made(groupESP), nonce(4), p.ke(), tsi, tsr}
		}, hybrid},
		{"no ADDITIONAL_KEY_EXCHANGE", func(p *puppet) []message.Payload {
			return []message.Payload{made(hybridESP), nonce(4), p.ke(), tsi, tsr}
		}, hybrid},
		{"an unknown critical payload", func(p *puppet) []message.Payload {
			return []message.Payload{made(groupESP), nonce(4), p.ke(), tsi, tsr, &message.Unknown{T: 200, Critical: true}}
		}, "x25519"},
	} {
		t.Run("rekey/"+v.name, func(t *testing.T) {
			r, p := settled(t, pfs(v.group))
			r.in(core.Expire{Child: 1})
			h, ps := p.asked(message.ExchangeCreateChildSA)
			p.note(ps)
			spi := "ESP " + string(u32(p.peerSPI))
			p.answer(h, v.answer(p)...)
			r.pass(100 * time.Millisecond)
			if got := p.deletes(); !slices.Contains(got, spi) && !slices.Contains(got, "IKE") {
				t.Errorf("the peer keeps the SA that it has made: %q deleted; %s", got, r.reasons())
			}
		})
	}
}

// The same of IKE_AUTH: the IKE SA stays where only its CHILD SA is of no use, and is deleted where
// the whole response is.
func TestRejectedAuthIsDeleted(t *testing.T) {
	for _, v := range []struct {
		name  string
		child func(p *puppet) []message.Payload
		ike   bool
	}{
		{"wider selectors", func(p *puppet) []message.Payload {
			return []message.Payload{p.childAnswer()[0], ts(true, "10.0.0.0/8"), ts(false, "10.2.0.0/16")}
		}, false},
		{"the SPI 0", func(p *puppet) []message.Payload {
			return append([]message.Payload{saOf(withSPI(espProposal, u32(0)))}, p.childAnswer()[1:]...)
		}, false},
		{"another cipher", func(p *puppet) []message.Payload {
			return append([]message.Payload{saOf(withSPI(esp(1, "20/256 - -"), u32(0xcafe)))}, p.childAnswer()[1:]...)
		}, false},
		{"SA twice", func(p *puppet) []message.Payload { return append(p.childAnswer(), p.childAnswer()[0]) }, true},
		{"an unknown critical payload", func(p *puppet) []message.Payload {
			return append(p.childAnswer(), &message.Unknown{T: 200, Critical: true})
		}, true},
	} {
		t.Run(v.name, func(t *testing.T) {
			r := newRig(t, initiates)
			p := newPuppet(r, 1)
			p.acceptInit()
			h, ps := p.asked(message.ExchangeIKEAuth)
			p.note(ps)
			want := "ESP " + string(u32(p.peerSPI))
			if v.ike {
				want = "IKE"
			}
			p.answer(h, p.authPayloads(v.child(p)...)...)
			if got := p.deletes(); !slices.Contains(got, want) {
				t.Errorf("%q deleted; %s", got, r.reasons())
			}
			if (r.established() == 1) == v.ike {
				t.Errorf("%d IKE SAs", r.established())
			}
		})
	}
}

// A peer whose proof is wrong has its IKE SA, and is told to delete it.
func TestWrongProofIsDeleted(t *testing.T) {
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	p.psk = "another"
	p.acceptInit()
	h, _ := p.asked(message.ExchangeIKEAuth)
	p.answer(h, p.authPayloads(p.childAnswer()...)...)
	s := r.one()
	_, ps := p.open(s.Data)
	says(t, ps, "N(AUTHENTICATION_FAILED) Delete")
}

// The rekey of the IKE SA: the peer's successor cannot be named, since no keys are agreed on. What it
// has made goes with INITIAL_CONTACT of the IKE SA that comes after.
func TestRejectedIKERekeyIsDeleted(t *testing.T) {
	for name, answer := range map[string]func(p *puppet) []message.Payload{
		"no key exchange": func(p *puppet) []message.Payload {
			return []message.Payload{saOf(withSPI(ikeProposal, u64(7))), nonce(4)}
		},
		"the SPI 0": func(p *puppet) []message.Payload {
			return []message.Payload{saOf(withSPI(ikeProposal, u64(0))), nonce(4), p.ke()}
		},
		"no ADDITIONAL_KEY_EXCHANGE": func(p *puppet) []message.Payload {
			return []message.Payload{saOf(withSPI(extraKE(ikeProposal, 36), u64(7))), nonce(4), p.ke()}
		},
		"no nonce": func(p *puppet) []message.Payload {
			return []message.Payload{saOf(withSPI(ikeProposal, u64(7))), p.ke()}
		},
	} {
		r, p := settled(t)
		if name == "no ADDITIONAL_KEY_EXCHANGE" {
			r, p = settledHybrid(t, hybrid)
		}
		r.in(core.Command{Do: core.RekeyIKE})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, answer(p)...)
		if got := p.deletes(); !slices.Equal(got, []string{"IKE"}) || r.established() != 0 {
			t.Errorf("%s: %q deleted, %d IKE SAs; %s", name, got, r.established(), r.reasons())
		}
	}
}

// briefly is AUTH = prf(SK_px, first message), as libreswan computes it.
func (p *puppet) briefly(id *message.ID) *message.Auth {
	return &message.Auth{Method: 2, Data: mac(p.p[side01(p.initiator)], p.sent)}
}

// Resumption with libreswan, by either side.
func TestResumeWithLibreswan(t *testing.T) {
	libreswan := &message.VendorID{Data: []byte("OE-Libreswan-5.4")}
	t.Run("it resumes", func(t *testing.T) {
		r, old, ticket := withTicket(t)
		p := old.again(2)
		p.resume(ticket)
		id := &message.ID{Initiator: true, IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}
		in := p.auth(append([]message.Payload{id, p.briefly(id)}, p.childOffer()...)...)
		a := findPayload[*message.Auth](in)
		if a == nil || !bytes.Equal(a.Data, mac(p.p[1], p.got)) {
			t.Errorf("answered with %s, not in the peer's own way; %s", describe(in), r.reasons())
		}
	})
	t.Run("we resume", func(t *testing.T) {
		r := newRig(t, initiates, resumes)
		p := newPuppet(r, 1)
		p.first = []message.Payload{libreswan}
		p.acceptInit()
		h, _ := p.asked(message.ExchangeIKEAuth)
		p.answer(h, p.authPayloads(append(p.childAnswer(), lifeTicket(86400, "ticket 0"))...)...)
		h, _ = p.asked(message.ExchangeInformational)
		p.answer(h)
		r.take()
		p.dies()
		p.presented("ticket 0")
		h, ps := p.acceptResume()
		if a := findPayload[*message.Auth](ps); a == nil || !bytes.Equal(a.Data, mac(p.p[0], p.got)) {
			t.Fatalf("our proof is not as libreswan checks it")
		}
		id := &message.ID{IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}
		p.answer(h, append([]message.Payload{id, p.briefly(id)}, p.childAnswer()...)...)
		if sas := r.e.SAs(); len(sas) != 1 || !sas[0].Resumed || sas[0].State != "established" {
			t.Errorf("%+v; %s", sas, r.reasons())
		}
	})
}

// A peer that takes the ticket and refuses the proof: that has words of its own, and a new IKE SA
// is made at once.
func TestResumptionRefusedInAuth(t *testing.T) {
	r, p := clientOf(t, lifeTicket(86400, "ticket 0"))
	p.dies()
	p.presented("ticket 0")
	h, _ := p.acceptResume()
	r.events = nil
	p.answer(h, note(message.NotifyAuthenticationFailed))
	if r.count(core.EvAuthFailed) != 0 || bytes.Contains([]byte(r.reasons()), []byte("secret")) {
		t.Errorf("it says %s", r.reasons())
	}
	p.addr = puppetAddr
	p.acceptInit()
	h, _ = p.asked(message.ExchangeIKEAuth)
	p.answer(h, p.authPayloads(p.childAnswer()...)...)
	if sas := r.e.SAs(); len(sas) != 1 || sas[0].Resumed || sas[0].State != "established" {
		t.Errorf("%+v; %s", sas, r.reasons())
	}
}
