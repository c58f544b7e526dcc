package ike

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// twoPolicies adds 10.1.0.0/16 => 10.3.0.0/16 as policy 2.
func twoPolicies(c *core.Config) {
	q := *c.Policies[0]
	q.Ref, q.Index = 2, 1
	q.Pair.Remote = selector.FromPrefix(netip.MustParsePrefix("10.3.0.0/16"))
	c.Policies = append(c.Policies, &q)
}

func pfs(names ...string) func(c *core.Config) {
	return func(c *core.Config) {
		for _, n := range names {
			c.Policies[0].Proposal.PFS = append(c.Policies[0].Proposal.PFS, *suite.KeyExchangeByName(n))
		}
	}
}

func (r *rig) pairs() (out []string) {
	for id := core.ChildID(1); id < 1000; id++ {
		if k := r.children[id]; k != nil {
			for _, p := range k.Pairs {
				out = append(out, p.String())
			}
		}
	}
	return out
}

// withGroup adds a DH transform to a proposal.
func withGroup(p message.Proposal, ids ...uint16) message.Proposal {
	p.Transforms = append([]message.Transform{}, p.Transforms...)
	for _, id := range ids {
		p.Transforms = append(p.Transforms, message.Transform{Type: 4, ID: id})
	}
	return p
}

// As responder, CREATE_CHILD_SA: SA Ni [KEi] TSi TSr -->  <-- ?
func TestRespondChild(t *testing.T) {
	mine := func(p message.Proposal) *message.SA { return saOf(withSPI(p, u32(0xcafe0001))) }
	cbc := message.Proposal{Number: 1, Protocol: 3, Transforms: []message.Transform{{Type: 1, ID: 12, KeyBits: 128}, {Type: 3, ID: 12}, {Type: 5}}}
	esn := message.Proposal{Number: 1, Protocol: 3, Transforms: []message.Transform{{Type: 1, ID: 20, KeyBits: 128}, {Type: 5, ID: 1}}}
	both := func(c *core.Config) {
		q := &c.Policies[0].Proposal
		q.Encrs = []*suite.Encr{suite.EncrByName("aes-128-gcm"), suite.EncrByName("aes-128-cbc")}
		q.Integs = []*suite.Integ{suite.IntegByName("sha256")}
	}
	noESN := func(c *core.Config) { c.Policies[0].Proposal.ESN = []bool{false} }
	onlyESN := func(c *core.Config) { c.Policies[0].Proposal.ESN = []bool{true} }
	all := func(*core.Config) {}
	x25519 := (&puppet{}).keShare
	tests := []struct {
		name   string
		change func(c *core.Config)
		offer  []message.Payload
		says   string
		pairs  string // of the new CHILD SA
	}{
		{"as configured", all, []message.Payload{mine(espProposal), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"SA Nonce TSi TSr", "10.1.0.0/16 => 10.2.0.0/16"},
		{"narrowed", all, []message.Payload{mine(espProposal), ts(true, "0.0.0.0/0"), ts(false, "0.0.0.0/0")},
			"SA Nonce TSi TSr", "10.1.0.0/16 => 10.2.0.0/16"},
		{"less than the policy", all, []message.Payload{mine(espProposal), ts(true, "10.2.7.0/24"), ts(false, "10.1.0.0/16")},
			"SA Nonce TSi TSr", "10.1.0.0/16 => 10.2.7.0/24"},
		{"the other policy", twoPolicies, []message.Payload{mine(espProposal), ts(true, "10.3.0.0/16"), ts(false, "10.1.0.0/16")},
			"SA Nonce TSi TSr", "10.1.0.0/16 => 10.3.0.0/16"},
		{"nothing in common", all, []message.Payload{mine(espProposal), ts(true, "10.9.0.0/16"), ts(false, "10.1.0.0/16")},
			"N(TS_UNACCEPTABLE)", ""},
		{"another family", all, []message.Payload{mine(espProposal), ts(true, "2001:db8::/32"), ts(false, "2001:db8::/32")},
			"N(TS_UNACCEPTABLE)", ""},
		{"no selectors", all, []message.Payload{mine(espProposal), ts(true), ts(false)}, "N(TS_UNACCEPTABLE)", ""},
		{"CBC with HMAC", all, []message.Payload{mine(cbc), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"N(NO_PROPOSAL_CHOSEN)", ""},
		{"CBC with HMAC beside GCM", both, []message.Payload{mine(cbc), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"SA Nonce TSi TSr", "10.1.0.0/16 => 10.2.0.0/16"},
		{"ESN", all, []message.Payload{mine(esn), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"SA Nonce TSi TSr", "10.1.0.0/16 => 10.2.0.0/16"},
		{"ESN, and we do not", noESN, []message.Payload{mine(esn), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"N(NO_PROPOSAL_CHOSEN)", ""},
		{"no ESN, and we insist", onlyESN, []message.Payload{mine(espProposal), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"N(NO_PROPOSAL_CHOSEN)", ""},
		{"AH", all, []message.Payload{mine(message.Proposal{Number: 1, Protocol: 2, Transforms: cbc.Transforms[1:]}), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"N(NO_PROPOSAL_CHOSEN)", ""},
		{"an SPI of two bytes", all, []message.Payload{saOf(withSPI(espProposal, []byte{1, 2})), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"N(INVALID_SYNTAX)", ""},
		{"no PFS, and we insist", pfs("x25519"), []message.Payload{mine(espProposal), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"N(NO_PROPOSAL_CHOSEN)", ""},
		{"PFS, and we do not", all, []message.Payload{mine(withGroup(espProposal, 31)), x25519(), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"N(NO_PROPOSAL_CHOSEN)", ""},
		{"PFS or not, and we do not", all, []message.Payload{mine(withGroup(espProposal, 31, 0)), x25519(), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"SA Nonce TSi TSr", "10.1.0.0/16 => 10.2.0.0/16"},
		{"PFS", pfs("x25519"), []message.Payload{mine(withGroup(espProposal, 31)), x25519(), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"SA Nonce KE TSi TSr", "10.1.0.0/16 => 10.2.0.0/16"},
		{"PFS with another group first", pfs("x25519"), []message.Payload{mine(withGroup(espProposal, 19, 31)),
			&message.KE{Group: 19, Data: make([]byte, 64)}, ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"N(INVALID_KE_PAYLOAD)", ""},
		{"PFS with a public value that is none", pfs("x25519"), []message.Payload{mine(withGroup(espProposal, 31)),
			&message.KE{Group: 31, Data: make([]byte, 32)}, ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")},
			"N(INVALID_SYNTAX)", ""},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.change)
			p := newPuppet(r, 1)
			p.init()
			says(t, p.auth(p.authPayloads()...), "IDr AUTH") // an IKE SA without CHILD SA (RFC 6023)
			says(t, p.request(message.ExchangeCreateChildSA, append(c.offer, nonce(7))...), c.says)
			if got := strings.Join(r.pairs(), ", "); got != c.pairs {
				t.Errorf("a CHILD SA for %q, not %q", got, c.pairs)
			}
			if r.established() != 1 {
				t.Error("the IKE SA is gone")
			}
			if c.pairs == "" && len(r.e.children) != 0 {
				t.Error("a CHILD SA is kept")
			}
			says(t, p.request(message.ExchangeInformational), "") // and it works on
		})
	}
}

// keShare is a KE payload of a puppet's kind whose value is the base point.
func (p *puppet) keShare() *message.KE {
	b := make([]byte, 32)
	b[0] = 9
	return &message.KE{Group: 31, Data: b}
}

// In IKE_AUTH as responder: the CHILD SA is refused beside the proof.
func TestChildRefusedInAuth(t *testing.T) {
	for _, c := range []struct{ says, remote string }{
		{"IDr AUTH N(TS_UNACCEPTABLE)", "10.77.0.0/16"}, {"IDr AUTH N(NO_PROPOSAL_CHOSEN)", "10.2.0.0/16"},
	} {
		r := newRig(t)
		p := newPuppet(r, 1)
		p.init()
		offer := saOf(withSPI(message.Proposal{Number: 1, Protocol: 3, Transforms: []message.Transform{{Type: 1, ID: 3}, {Type: 3, ID: 2}}}, u32(0x1007)))
		if strings.Contains(c.says, "TS") {
			offer = saOf(withSPI(espProposal, u32(0x1007)))
		}
		says(t, p.auth(p.authPayloads(offer, ts(true, c.remote), ts(false, "10.1.0.0/16"))...), c.says)
		if r.established() != 1 || len(r.children) != 0 {
			t.Errorf("%d IKE SAs, %d CHILD SAs", r.established(), len(r.children))
		}
	}
}

// In IKE_AUTH as initiator: the IKE SA comes up, and the CHILD SA is tried again.
//
//	IDi AUTH SA TSi TSr -->  <-- IDr AUTH N(TS_UNACCEPTABLE)   SA Ni TSi TSr -->
func TestChildRefusedToUs(t *testing.T) {
	for _, k := range []message.NotifyType{message.NotifyTSUnacceptable, message.NotifyNoProposalChosen, message.NotifyTemporaryFailure} {
		r := newRig(t, initiates)
		p := newPuppet(r, 1)
		p.acceptInit()
		h, _ := p.asked(message.ExchangeIKEAuth)
		p.answer(h, p.authPayloads(note(k))...)
		if r.established() != 1 || len(r.children) != 0 {
			t.Fatalf("%d IKE SAs, %d CHILD SAs", r.established(), len(r.children))
		}
		if len(r.freed) != 1 {
			t.Error("the SPI was not given back")
		}
		r.silent("the refusal")
		r.pass(1300 * time.Millisecond)
		h, ps := p.asked(message.ExchangeCreateChildSA)
		says(t, ps, "SA Nonce TSi TSr")
		p.answer(h, append(p.childAnswer(), nonce(3))...)
		if len(r.children) != 1 {
			t.Errorf("%d CHILD SAs", len(r.children))
		}
	}
}

// As initiator, responses that we cannot take: the peer has a CHILD SA then and
// would send into it, so it is told to delete it.
func TestUnusableAnswer(t *testing.T) {
	pfsProposal := withGroup(espProposal, 31)
	tests := []struct {
		name   string
		change func(c *core.Config)
		answer []message.Payload
		event  core.EventKind
	}{
		{"wider selectors", initiates, []message.Payload{saOf(espProposal), ts(true, "10.0.0.0/8"), ts(false, "10.2.0.0/16")}, core.EvTSUnacceptable},
		{"other selectors", initiates, []message.Payload{saOf(espProposal), ts(true, "10.1.0.0/16"), ts(false, "10.3.0.0/16")}, core.EvTSUnacceptable},
		{"no selectors", initiates, []message.Payload{saOf(espProposal), ts(true), ts(false)}, core.EvTSUnacceptable},
		{"two proposals", initiates, []message.Payload{saOf(espProposal, espProposal), ts(true, "10.1.0.0/16"), ts(false, "10.2.0.0/16")}, core.EvNoProposal},
		{"transport mode unasked", initiates, []message.Payload{saOf(espProposal), ts(true, "10.1.0.0/16"), ts(false, "10.2.0.0/16"), note(message.NotifyUseTransportMode)}, core.EvNoProposal},
		{"PFS unasked", initiates, []message.Payload{saOf(pfsProposal), ts(true, "10.1.0.0/16"), ts(false, "10.2.0.0/16")}, core.EvNoProposal},
	}
	for _, inAuth := range []bool{true, false} {
		for _, c := range tests {
			t.Run(c.name, func(t *testing.T) {
				r := newRig(t, c.change)
				p := newPuppet(r, 1)
				p.acceptInit()
				h, ps := p.asked(message.ExchangeIKEAuth)
				sa := c.answer[0].(*message.SA)
				for i := range sa.Proposals {
					sa.Proposals[i].SPI = u32(0xcafe)
				}
				if inAuth {
					p.note(ps)
					p.answer(h, p.authPayloads(c.answer...)...)
				} else {
					p.answer(h, p.authPayloads(note(message.NotifyTSUnacceptable))...)
					r.pass(1300 * time.Millisecond)
					h, ps = p.asked(message.ExchangeCreateChildSA)
					p.note(ps)
					p.answer(h, append(c.answer, nonce(1))...)
				}
				r.event(c.event)
				if len(r.children) != 0 || r.established() != 1 {
					t.Fatalf("%d CHILD SAs, %d IKE SAs", len(r.children), r.established())
				}
				_, ps = p.asked(message.ExchangeInformational)
				d := findPayload[*message.Delete](ps)
				if d == nil || d.Protocol != 3 || len(d.SPIs) != 1 || string(d.SPIs[0]) != string(u32(p.peerSPI)) {
					t.Errorf("the peer keeps the CHILD SA: %s", describe(ps))
				}
			})
		}
	}
}

// As initiator the peer narrows: that is what it is.
func TestNarrowedByPeer(t *testing.T) {
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	p.acceptInit()
	h, _ := p.asked(message.ExchangeIKEAuth)
	p.answer(h, p.authPayloads(saOf(withSPI(espProposal, u32(0x1009))), ts(true, "10.1.1.0/24"), ts(false, "10.2.0.0/16"))...)
	if got := strings.Join(r.pairs(), ", "); got != "10.1.1.0/24 => 10.2.0.0/16" {
		t.Errorf("a CHILD SA for %q", got)
	}
}

// Several policies: one CHILD SA in IKE_AUTH, the others after it.
func TestSeveralPolicies(t *testing.T) {
	p := newPair(t, 3, goodLink, func(a, b *core.Config) {
		twoPolicies(a)
		q := *b.Policies[0]
		q.Ref = 2
		q.Pair.Local = selector.FromPrefix(netip.MustParsePrefix("10.3.0.0/16"))
		b.Policies = append(b.Policies, &q)
		b.Peers[0].Passive = true
	})
	p.up()
	p.until(10*time.Second, "two CHILD SAs each", func() bool { return len(p.a.children) == 2 && len(p.b.children) == 2 })
	p.run(time.Minute)
	if len(p.a.children) != 2 || len(p.b.children) != 2 || p.a.established() != 1 {
		t.Errorf("%d and %d CHILD SAs, %v", len(p.a.children), len(p.b.children), p.a.e.SAs())
	}
}

// A packet that met a policy comes first in the selectors (RFC 7296 §2.9). On a
// passive side it brings up a CHILD SA where there is an IKE SA, and nothing else.
func TestAcquire(t *testing.T) {
	one := func(s string) selector.TS {
		return selector.FromPrefix(netip.PrefixFrom(netip.MustParseAddr(s), 32))
	}
	flow := selector.Pair{Local: one("10.1.0.7"), Remote: one("10.2.0.9")}
	r := newRig(t)
	r.in(core.Acquire{Policy: 1, Flow: flow})
	r.silent("traffic on the passive side")
	p := newPuppet(r, 1)
	p.init()
	p.auth(p.authPayloads()...)
	r.in(core.Acquire{Policy: 1, Flow: flow})
	r.in(core.Acquire{Policy: 1, Flow: flow}) // once is enough
	r.in(core.Acquire{Policy: 99, Flow: flow})
	h, ps := p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "SA Nonce TSi TSr")
	for _, x := range ps {
		if x, ok := x.(*message.TS); ok && (len(x.Selectors) != 2 || x.Selectors[0] != map[bool]selector.TS{true: flow.Local, false: flow.Remote}[x.Initiator]) {
			t.Errorf("selectors %v", x.Selectors)
		}
	}
	p.answer(h, append(p.childAnswer(), nonce(1))...)
	p.asked(message.ExchangeInformational)
	r.silent("more")
	if len(r.children) != 1 {
		t.Errorf("%d CHILD SAs", len(r.children))
	}
}

// What an authenticated peer can make us keep is bounded: CHILD SAs, selectors.
func TestBounds(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.connect()
	for i := range 300 {
		in := p.request(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(byte(i)))...)
		if i < 255 {
			says(t, in, "SA Nonce TSi TSr")
		} else {
			says(t, in, "N(NO_ADDITIONAL_SAS)")
		}
	}
	if len(r.children) != 256 {
		t.Errorf("%d CHILD SAs", len(r.children))
	}
	r = newRig(t)
	p = newPuppet(r, 2)
	p.init()
	many := &message.TS{Initiator: true}
	for i := range 255 {
		many.Selectors = append(many.Selectors, selector.FromPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(i), 1}), 32)))
	}
	in := p.auth(p.authPayloads(saOf(withSPI(espProposal, u32(0x1005))), many, ts(false, "10.1.0.0/16"))...)
	says(t, in, "IDr AUTH SA TSi TSr")
	if n := len(r.pairs()); n != 16 {
		t.Errorf("%d selector pairs", n)
	}
}

// The stock of SPIs runs dry: no message ID is lost over it, and it goes on once
// there are SPIs.
func TestNoSPIs(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.init()
	p.auth(p.authPayloads()...)
	for {
		if _, ok := r.e.env.TakeSPI(); !ok {
			break
		}
	}
	r.in(core.Acquire{Policy: 1})
	r.silent("traffic while there is no SPI")
	r.in(core.Acquire{Policy: 1})
	h, ps := p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "SA Nonce TSi TSr")
	if h.ID != 0 {
		t.Errorf("the first request of the responder has ID %d, not 0", h.ID)
	}
}

// Two peers by one policy: the CHILD SA of one is no replacement for the other's.
func TestOnePolicyTwoPeers(t *testing.T) {
	r := newRig(t, func(c *core.Config) { c.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0") })
	p, q := newPuppet(r, 1), newPuppet(r, 2)
	q.addr, q.id = netip.MustParseAddrPort("192.0.2.3:500"), fqdn("q.example")
	for _, x := range []*puppet{p, q} {
		x.connect()
		x.request(message.ExchangeInformational)
	}
	if len(r.children) != 2 {
		t.Fatalf("%d CHILD SAs", len(r.children))
	}
	says(t, p.request(message.ExchangeInformational, deleteESP(p.spi)), "Delete")
	if r.count(core.EvChildDown) != 1 || r.kidIn(p.peerSPI) != nil {
		t.Error("it lingers as if it had been replaced")
	}
	if r.state(q.peerSPI) != "seals" {
		t.Errorf("the other %s", r.state(q.peerSPI))
	}
}
