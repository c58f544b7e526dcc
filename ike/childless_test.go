package ike

import (
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Every response to IKE_SA_INIT says that IKE_AUTH may be without CHILD SA, and it
// may; the CHILD SA comes later.
func TestChildless(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.init()
	if _, in := p.open(p.got); findNotify(in, message.NotifyChildlessIKEv2Supported) == nil {
		t.Errorf("the response is %q", describe(in))
	}
	says(t, p.auth(p.authPayloads()...), "IDr AUTH")
	if r.established() != 1 || len(r.children) != 0 {
		t.Fatalf("%d IKE SAs, %d CHILD SAs", r.established(), len(r.children))
	}
	says(t, p.request(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(5))...), "SA Nonce TSi TSr")
	if len(r.children) != 1 {
		t.Errorf("%d CHILD SAs after CREATE_CHILD_SA", len(r.children))
	}
}

func childless(want core.Childless) func(*core.Config) {
	return func(c *core.Config) { c.Peers[0].Childless = want }
}

// As initiator: where the responder announces it and the configuration wants it,
// IKE_AUTH makes no CHILD SA; what is wanted follows with a key exchange of its own.
func TestChildlessAsInitiator(t *testing.T) {
	for _, c := range []struct {
		want      core.Childless
		announced bool
		auth      string // what IKE_AUTH has; empty: there is none
	}{
		{core.ChildlessNo, true, "IDi N(INITIAL_CONTACT) AUTH SA TSi TSr"},
		{core.ChildlessNo, false, "IDi N(INITIAL_CONTACT) AUTH SA TSi TSr"},
		{core.ChildlessPrefer, true, "IDi N(INITIAL_CONTACT) AUTH"},
		{core.ChildlessPrefer, false, "IDi N(INITIAL_CONTACT) AUTH SA TSi TSr"},
		{core.ChildlessRequire, true, "IDi N(INITIAL_CONTACT) AUTH"},
		{core.ChildlessRequire, false, ""},
	} {
		r := newRig(t, initiates, pfs("x25519"), twoPolicies, childless(c.want))
		p := newPuppet(r, 1)
		if c.announced {
			p.first = []message.Payload{note(message.NotifyChildlessIKEv2Supported)}
		}
		p.acceptInit()
		if c.auth == "" {
			r.silent("a responder that must be able to do without")
			if e := r.event(core.EvInitFailed); !strings.Contains(e.Reason, "CHILDLESS_IKEV2_SUPPORTED") || !strings.Contains(e.Reason, `"prefer"`) {
				t.Errorf("the event says %q", e.Reason)
			}
			continue
		}
		h, ps := p.asked(message.ExchangeIKEAuth)
		says(t, ps, c.auth)
		if findPayload[*message.SA](ps) != nil {
			continue
		}
		p.answer(h, p.authPayloads()...)
		if r.established() != 1 || len(r.children) != 0 {
			t.Fatalf("%d IKE SAs, %d CHILD SAs", r.established(), len(r.children))
		}
		for range 2 { // one for each policy
			h, ps = p.asked(message.ExchangeCreateChildSA)
			says(t, ps, "SA Nonce KE TSi TSr")
			p.note(ps)
			answer := p.pfsAnswer(groupESP, 2)
			answer[3], answer[4] = findPayload[*message.TS](ps), ps[len(ps)-1]
			p.answer(h, answer...)
			r.states(t, "made", map[uint32]string{p.peerSPI: "seals"})
		}
	}
}

// As responder that requires it: a CHILD SA in IKE_AUTH is refused, and comes by
// CREATE_CHILD_SA.
func TestChildlessRequiredOfPeer(t *testing.T) {
	r := newRig(t, pfs("x25519"), childless(core.ChildlessRequire))
	p := newPuppet(r, 1)
	p.init()
	says(t, p.auth(p.authPayloads(p.childOffer()...)...), "IDr AUTH N(NO_PROPOSAL_CHOSEN)")
	if e := r.event(core.EvNoProposal); !strings.Contains(e.Reason, `childless = "require"`) {
		t.Errorf("the event says %q", e.Reason)
	}
	if r.established() != 1 || len(r.children) != 0 {
		t.Fatalf("%d IKE SAs, %d CHILD SAs", r.established(), len(r.children))
	}
	says(t, p.request(message.ExchangeCreateChildSA, p.pfsOffer(groupESP, 0, 1)...), singleAnswer)
}

// A whole life in which no CHILD SA is without a key exchange of its own, also
// where both ends begin, and where each message is lost once.
func TestChildlessLife(t *testing.T) {
	lives := func(seed uint64, change ...func(a, b *core.Config)) *pair {
		return newPair(t, seed, goodLink, append(change, func(a, b *core.Config) {
			for _, c := range []*core.Config{a, b} {
				pfs(hybrid)(c)
				c.Peers[0].Childless = core.ChildlessRequire
			}
		})...)
	}
	count := 0
	p := lives(1, passive)
	p.tap = func(_ *side, o core.Output) {
		if _, ok := o.(core.Send); ok {
			count++
		}
	}
	life(p)
	for _, s := range []*side{p.a, p.b} {
		for _, e := range s.events {
			if e.Kind == core.EvChildUp && !strings.Contains(e.Reason, hybrid) {
				t.Errorf("%s: %s", s.name, e.Reason)
			}
		}
	}
	for lose := range count {
		p := lives(2, passive)
		n := 0
		p.drop = func(*side, message.Header) bool {
			n++
			return n-1 == lose
		}
		life(p)
	}
	p = lives(3)
	p.up()
	p.until(time.Minute, "up", p.bothUp)
	p.run(time.Minute)
	if p.a.established() != 1 || p.b.established() != 1 || len(p.a.children) != 1 || len(p.b.children) != 1 {
		t.Errorf("both began: %v %v", p.a.e.SAs(), p.b.e.SAs())
	}
	// Make before break.
	p = lives(4, passive, func(a, _ *core.Config) { a.Peers[0].Profile.Reauth = time.Hour })
	p.up()
	p.until(time.Minute, "up", p.bothUp)
	for range 2 * 60 * 60 {
		p.run(time.Second)
		if !p.a.esp() || !p.b.esp() {
			t.Fatalf("%v: an end has no SA", p.clock.Now().Sub(epoch))
		}
	}
	p.run(time.Minute)
	if n := p.a.count(core.EvIKEUp); n < 2 || len(p.a.lost)+len(p.b.lost) > 0 || len(p.a.e.SAs()) != 1 || len(p.a.children) != 1 {
		t.Errorf("%d times up, lost %v %v, left %v", n, p.a.lost, p.b.lost, p.a.e.SAs())
	}
}

// A road warrior without CHILD SA in IKE_AUTH has its address from there, and its
// policies once it makes CHILD SAs; without an address it leaves.
func TestChildlessRoadWarrior(t *testing.T) {
	begin := func() (*rig, *puppet, message.Header) {
		r := newRig(t, asksLease, childless(core.ChildlessRequire))
		p := newPuppet(r, 1)
		p.first = []message.Payload{note(message.NotifyChildlessIKEv2Supported)}
		p.acceptInit()
		h, ps := p.asked(message.ExchangeIKEAuth)
		if req := findPayload[*message.Config](ps); req == nil || findPayload[*message.SA](ps) != nil {
			t.Fatalf("the endpoint says %q", describe(ps))
		}
		return r, p, h
	}
	r, p, h := begin()
	p.answer(h, p.authPayloads(cp(2, message.Attribute{Type: 1, Value: []byte{192, 168, 77, 254}}, subnet(10, 5, 8, 24)))...)
	if conf := seen[core.Configured](r); len(conf) != 1 || conf[0].Addrs[0].String() != "192.168.77.254" {
		t.Fatalf("configured %+v", conf)
	}
	h, ps := p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "SA Nonce TSi TSr")
	p.spi++
	p.answer(h, saOf(withSPI(espProposal, u32(p.spi))), nonce(5), wholeSpace(true), ts(false, "10.5.0.0/16"))
	if added := seen[core.AddPolicy](r); len(added) != 1 || added[0].Pairs[0].String() != "192.168.77.254/32 => 10.5.8.0/24" {
		t.Fatalf("policies %+v; %s", added, r.reasons())
	}

	r, p, h = begin()
	p.answer(h, p.authPayloads(note(message.NotifyInternalAddressFailure))...)
	h, ps = p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h)
	r.take()
	r.pass(5 * time.Second)
	if len(r.take()) == 0 || len(r.children) != 0 {
		t.Error("it is not tried again")
	}
}
