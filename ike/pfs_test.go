package ike

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// unwritten is a proposal whose pfs-group nobody wrote, with ciphers that every peer has.
func unwritten(c *core.Config) {
	p := &c.Policies[0].Proposal
	p.AnyPFS = true
	for _, n := range []string{"ecp256", "x25519", "modp2048", "modp1024"} {
		p.PFS = append(p.PFS, *suite.KeyExchangeByName(n))
	}
	p.PFS = append(p.PFS, suite.KeyExchange{})
	p.Encrs, p.Integs = nil, nil
	for _, n := range []string{"aes-128-gcm", "aes-256-gcm", "aes-256-cbc", "aes-128-cbc"} {
		p.Encrs = append(p.Encrs, suite.EncrByName(n))
	}
	for _, n := range []string{"sha256", "sha1"} {
		p.Integs = append(p.Integs, suite.IntegByName(n))
	}
}

// esp is a proposal for a CHILD SA: "20/256,20/128 - 31" are ciphers, integrity and groups.
func esp(number uint8, words string) message.Proposal {
	p := message.Proposal{Number: number, Protocol: 3}
	for i, list := range strings.Fields(words) {
		for _, item := range strings.Split(list, ",") {
			t := message.Transform{Type: []suite.TransformType{1, 3, 4}[i]}
			if n, _ := fmt.Sscanf(item, "%d/%d", &t.ID, &t.KeyBits); n > 0 {
				p.Transforms = append(p.Transforms, t)
			}
		}
	}
	p.Transforms = append(p.Transforms, message.Transform{Type: 5})
	return p
}

// defaults are what peers propose for a CHILD SA in CREATE_CHILD_SA if nobody says anything
// else. The group of the IKE SA is 31; libreswan uses that one again.
var defaults = []struct {
	peer      string
	proposals []message.Proposal
	group     uint16 // of the KE payload; 0: none
}{
	{"strongSwan", []message.Proposal{esp(1, "12/128,12/192,12/256 12,13,14,2 -"), esp(2, "20/128,20/192,20/256 - -")}, 0},
	{"libreswan", []message.Proposal{esp(1, "20/256 - 31"), esp(2, "20/128 - 31"), esp(3, "12/256 14,12 31"), esp(4, "12/128 14,12 31")}, 31},
	{"Windows", []message.Proposal{esp(1, "12/256 2 -"), esp(2, "12/128 2 -"), esp(3, "3 2 -")}, 0},
	{"Apple", []message.Proposal{esp(1, "20/256 - -")}, 0},
	{"Apple with EnablePFS", []message.Proposal{esp(1, "20/256 - 31")}, 31},
	{"Azure", []message.Proposal{esp(1, "20/256 - 0"), esp(2, "12/256 2 0"), esp(3, "12/256 12 0"), esp(4, "12/128 2 0")}, 0},
	{"RouterOS", []message.Proposal{esp(1, "12/256,12/192,12/128 2 2")}, 2},
}

// fits finds, as such a peer does, the first of our proposals that it accepts, and the answer.
func fits(ours, theirs []message.Proposal) (message.Proposal, uint16, bool) {
	ids := func(p message.Proposal, t suite.TransformType) (list []message.Transform) {
		for _, x := range p.Transforms {
			if x.Type == t {
				list = append(list, x)
			}
		}
		return list
	}
	for _, q := range theirs {
		for _, p := range ours {
			answer, ok := message.Proposal{Number: p.Number, Protocol: 3, SPI: p.SPI}, true
			for _, t := range []suite.TransformType{1, 3, 4, 5} {
				a, b := ids(p, t), ids(q, t)
				i := slices.IndexFunc(b, func(x message.Transform) bool { return slices.Contains(a, x) })
				none := message.Transform{Type: t}
				switch {
				case i >= 0 && b[i].ID == 0 && t == 4:
				case i >= 0:
					answer.Transforms = append(answer.Transforms, b[i])
				case (len(a) == 0 || slices.Contains(a, none)) && (len(b) == 0 || slices.Contains(b, none)):
				default:
					ok = false
				}
			}
			if ok {
				group := uint16(0)
				for _, x := range ids(answer, 4) {
					group = x.ID
				}
				return answer, group, true
			}
		}
	}
	return message.Proposal{}, 0, false
}

// The first rekey of a CHILD SA with the default proposals of others, begun by each side. A
// pfs-group that is not written takes any group that is not weak, the manual's default, or none.
func TestFirstRekeyWithDefaults(t *testing.T) {
	for _, d := range defaults {
		t.Run(d.peer+" rekeys", func(t *testing.T) {
			r, p := settled(t, unwritten)
			var offer []message.Proposal
			for _, q := range d.proposals {
				offer = append(offer, withSPI(q, u32(0xcafe0001)))
			}
			ps := []message.Payload{rekeySA(p.spi), saOf(offer...), nonce(3), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")}
			if d.group == 31 {
				ps = append(ps, p.ke())
			} else if d.group != 0 { // any public value: which group comes of it is asked here
				ps = append(ps, &message.KE{Group: d.group, Data: slices.Concat(make([]byte, 127), []byte{5})})
			}
			in := p.request(message.ExchangeCreateChildSA, ps...)
			if ke := findPayload[*message.KE](in); findPayload[*message.SA](in) == nil || (ke != nil) != (d.group != 0) || ke != nil && ke.Group != d.group {
				t.Errorf("answered with %s; %s", describe(in), r.reasons())
			}
		})
		t.Run(d.peer+" is rekeyed", func(t *testing.T) {
			r, p := settled(t, unwritten)
			r.in(core.Expire{Child: 1}) // soft
			h, ps := p.asked(message.ExchangeCreateChildSA)
			p.note(ps)
			answer, group, ok := fits(findPayload[*message.SA](ps).Proposals, d.proposals)
			if !ok {
				t.Fatalf("none of %+v fits it", findPayload[*message.SA](ps).Proposals)
			}
			if ke := findPayload[*message.KE](ps); ke == nil || ke.Group != 31 {
				t.Fatalf("the first key exchange is not of the group of the IKE SA: %s", describe(ps))
			}
			if group != 0 && group != 31 { // it asks for its own
				p.answer(h, &message.Notify{Kind: message.NotifyInvalidKEPayload, Data: []byte{0, byte(group)}})
				_, ps = p.asked(message.ExchangeCreateChildSA)
				if ke := findPayload[*message.KE](ps); ke == nil || ke.Group != group {
					t.Errorf("not with the group that it asks for: %s", describe(ps))
				}
				return
			}
			out := []message.Payload{saOf(withSPI(answer, u32(0xcafe0002))), nonce(4), ts(true, "10.1.0.0/16"), ts(false, "10.2.0.0/16")}
			if group == 31 {
				out = append(out, p.ke())
			}
			p.answer(h, out...)
			if r.state(p.peerSPI) != "seals" || r.count(core.EvChildRekeyed) != 1 {
				t.Errorf("not rekeyed: %s", r.reasons())
			}
		})
	}
}

// A written list means exactly itself, in order of preference.
func TestWrittenPFS(t *testing.T) {
	none := func(c *core.Config) {
		c.Policies[0].Proposal.PFS = append(c.Policies[0].Proposal.PFS, suite.KeyExchange{})
	}
	for _, v := range []struct {
		name   string
		change []func(c *core.Config)
		offer  message.Proposal
		ke     bool   // the peer has a KE payload
		want   string // of the answer
	}{
		{"x25519, and none", []func(c *core.Config){pfs("x25519")}, espProposal, false, "N(NO_PROPOSAL_CHOSEN)"},
		{"x25519 or none, and none", []func(c *core.Config){pfs("x25519"), none}, espProposal, false, "SA Nonce TSi TSr"},
		{"x25519 or none, and x25519", []func(c *core.Config){pfs("x25519"), none}, groupESP, true, "SA Nonce KE TSi TSr"},
		{"x25519 or none, and either", []func(c *core.Config){pfs("x25519"), none}, withGroup(espProposal, 0, 31), true, "SA Nonce KE TSi TSr"},
		{"none or x25519, and either", []func(c *core.Config){none, pfs("x25519")}, withGroup(espProposal, 31, 0), true, "SA Nonce TSi TSr"},
		{"none or x25519, and x25519", []func(c *core.Config){none, pfs("x25519")}, groupESP, true, "SA Nonce KE TSi TSr"},
		{"ecp256 or none, and x25519", []func(c *core.Config){pfs("ecp256"), none}, groupESP, true, "N(NO_PROPOSAL_CHOSEN)"},
	} {
		t.Run(v.name, func(t *testing.T) {
			r, p := settled(t, v.change...)
			ps := []message.Payload{rekeySA(p.spi), saOf(withSPI(v.offer, u32(0xcafe0001))), nonce(3), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")}
			if v.ke {
				ps = append(ps, p.ke())
			}
			says(t, p.request(message.ExchangeCreateChildSA, ps...), v.want)
			if strings.HasPrefix(v.want, "N(") {
				if d := r.event(core.EvNoProposal).Detail; d == nil || d.Part != "group" || !strings.Contains(d.Hint, "pfs-group") {
					t.Errorf("the event says %+v", d)
				}
			}
		})
	}
}

// With NONE first we send no key exchange, and one with the group that the peer asks for.
func TestPFSNoneFirst(t *testing.T) {
	r, p := settled(t, func(c *core.Config) { c.Policies[0].Proposal.PFS = []suite.KeyExchange{{}} }, pfs("x25519"))
	r.in(core.Expire{Child: 1})
	h, ps := p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "N(REKEY_SA) SA Nonce TSi TSr")
	p.answer(h, &message.Notify{Kind: message.NotifyInvalidKEPayload, Data: []byte{0, 31}})
	h, ps = p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "N(REKEY_SA) SA Nonce KE TSi TSr")
	p.note(ps)
	p.answer(h, saOf(withSPI(groupESP, u32(0xcafe0002))), nonce(4), p.ke(), ts(true, "10.1.0.0/16"), ts(false, "10.2.0.0/16"))
	if r.state(p.peerSPI) != "seals" {
		t.Errorf("not rekeyed: %s", r.reasons())
	}
	r.pass(time.Second)
}
