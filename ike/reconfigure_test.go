package ike

import (
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// another is the configuration of the rig made anew, with changes.
func another(change ...func(c *core.Config)) core.Reconfigure {
	cfg, _ := pairConfigs()
	for _, f := range append([]func(*core.Config){initiates}, change...) {
		f(cfg)
	}
	return core.Reconfigure{Config: cfg}
}

// calling is an endpoint that called the puppet, with a CHILD SA.
func calling(t *testing.T, change ...func(c *core.Config)) (*rig, *puppet) {
	t.Helper()
	r := newRig(t, append(change, initiates)...)
	p := newPuppet(r, 1)
	p.accept()
	r.silent("the confirmation")
	if r.established() != 1 || len(r.children) != 1 {
		t.Fatalf("%d IKE SAs, %d CHILD SAs", r.established(), len(r.children))
	}
	return r, p
}

// An equal configuration changes nothing, and what is up goes on being kept up
// by it.
func TestEqualConfiguration(t *testing.T) {
	r, p := calling(t)
	r.in(another())
	r.silent("an equal configuration")
	if r.established() != 1 || len(r.children) != 1 || r.children[1].retired {
		t.Error("something changed")
	}
	says(t, p.request0(message.ExchangeInformational, deleteESP(p.spi)), "Delete")
	r.pass(1300 * time.Millisecond)
	_, ps := p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "SA Nonce TSi TSr")
}

// request0 is the first request of a puppet that responded so far.
func (p *puppet) request0(x message.ExchangeType, ps ...message.Payload) []message.Payload {
	p.nextID = 0
	return p.request(x, ps...)
}

// The same while IKE_AUTH is under way: nothing is made twice, and the CHILD SA
// that comes of it is kept up.
func TestEqualConfigurationMeanwhile(t *testing.T) {
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	p.acceptInit()
	h, _ := p.asked(message.ExchangeIKEAuth)
	r.in(another())
	r.silent("an equal configuration")
	p.answer(h, p.authPayloads(p.childAnswer()...)...)
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	r.pass(10 * time.Second)
	r.silent("all is up")
	says(t, p.request0(message.ExchangeInformational, deleteESP(p.spi)), "Delete")
	r.pass(1300 * time.Millisecond)
	p.asked(message.ExchangeCreateChildSA)
}

// The same while the system is asked for the local address.
func TestEqualConfigurationBeforeTheRoute(t *testing.T) {
	r := &rig{t: t, e: New([32]byte{7}), now: epoch, children: map[core.ChildID]*child{}, freed: map[uint32]bool{}, spi: 0x1000, local: rigAddr, hold: true}
	r.in(another())
	r.in(another())
	r.hold = false
	for _, a := range r.asks {
		r.answer(a)
	}
	r.one() // one IKE_SA_INIT request, not none, not two
	if len(r.e.SAs()) != 1 {
		t.Errorf("%v", r.e.SAs())
	}
}

// What concerns the peer ends the IKE SA; what is new comes up at once.
func TestChangedPeer(t *testing.T) {
	for name, change := range map[string]func(c *core.Config){
		"secret":  func(c *core.Config) { c.Peers[0].Identities[0].Secret = secret.Bytes("another secret") },
		"my-id":   func(c *core.Config) { c.Peers[0].Identities[0].MyID = fqdn("new.example") },
		"profile": func(c *core.Config) { c.Peers[0].Profile.Lifetime = time.Hour },
		"groups":  func(c *core.Config) { c.Peers[0].Profile.Groups = groups("x25519", "ecp256") },
	} {
		r, p := calling(t)
		r.in(another(change))
		h, ps := p.asked(message.ExchangeInformational)
		if d := findPayload[*message.Delete](ps); d == nil || d.Protocol != 1 {
			t.Errorf("%s: the endpoint says %s, not a Delete of the IKE SA", name, describe(ps))
		}
		if !r.children[1].retired {
			t.Errorf("%s: the CHILD SA still seals", name)
		}
		s := r.one() // and calls anew
		if h, _ := message.ParseHeader(s.Data); h.Exchange != message.ExchangeIKESAInit {
			t.Errorf("%s: the endpoint sends %v", name, h.Exchange)
		}
		p.answer(h)
		if len(r.e.SAs()) != 1 {
			t.Errorf("%s: %v", name, r.e.SAs())
		}
	}
}

// What concerns a policy ends its CHILD SA and leaves the IKE SA and the others.
func TestChangedPolicy(t *testing.T) {
	r, p := calling(t)
	ours := p.spi
	r.in(another(twoPolicies, func(c *core.Config) {
		c.Policies[0].Ref = 7 // a reference is of one policy as it is
		c.Policies[0].Proposal.Encrs = []*suite.Encr{suite.EncrByName("aes-256-gcm"), suite.EncrByName("aes-128-gcm")}
	}))
	h, ps := p.asked(message.ExchangeInformational)
	if d := findPayload[*message.Delete](ps); d == nil || d.Protocol != 3 {
		t.Fatalf("the endpoint says %s, not a Delete of the CHILD SA", describe(ps))
	}
	p.answer(h, deleteESP(ours))
	for i := range 2 { // the policy as it is now, and the new one
		h, _ = p.asked(message.ExchangeCreateChildSA)
		remote := []string{"10.2.0.0/16", "10.3.0.0/16"}[i]
		p.spi++
		p.answer(h, saOf(withSPI(espProposal, u32(p.spi))), nonce(byte(i)), ts(true, "10.1.0.0/16"), ts(false, remote))
	}
	r.pass(10 * time.Second)
	if len(r.e.SAs()) != 1 || len(r.children) != 2 {
		t.Errorf("%v, %d CHILD SAs", r.e.SAs(), len(r.children))
	}
}

// A policy that goes while its CHILD SA is being made: it goes when it is made.
func TestPolicyRemovedMeanwhile(t *testing.T) {
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	p.acceptInit()
	h, _ := p.asked(message.ExchangeIKEAuth)
	r.in(another(func(c *core.Config) { c.Policies = nil }))
	p.answer(h, p.authPayloads(p.childAnswer()...)...)
	for r.sends != nil {
		h, ps := p.asked(message.ExchangeInformational)
		if d := findPayload[*message.Delete](ps); d != nil {
			p.answer(h, deleteESP(p.spi))
			break
		}
		p.answer(h)
	}
	if len(r.children) != 0 || len(r.e.children) != 0 {
		t.Errorf("%d CHILD SAs", len(r.children))
	}
}

// A peer that is removed is told, and gone.
func TestRemovedPeer(t *testing.T) {
	r, p := calling(t)
	r.in(core.Reconfigure{Config: &core.Config{}})
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h)
	r.silent("a removed peer")
	r.nothingLeft()
	r.silent("long after")
}
