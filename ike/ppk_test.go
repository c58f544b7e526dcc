package ike

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

func ppk(id, key string, required bool) *core.PPK {
	return &core.PPK{ID: id, Secret: secret.Bytes(key), Required: required}
}

// Each side has a PPK, another one, one of that name with another secret, or none;
// and requires it or not.
func TestPPKMatrix(t *testing.T) {
	tests := []struct {
		a, b  *core.PPK
		up    bool
		mixed bool
		why   string // of an event of a failure on either side
	}{
		{nil, nil, true, false, ""},
		{ppk("one", "k", false), nil, true, false, ""},
		{nil, ppk("one", "k", false), true, false, ""},
		{ppk("one", "k", true), nil, false, false, "ppk-required wants one"},
		{nil, ppk("one", "k", true), false, false, "ppk-required wants"},
		{ppk("one", "k", false), ppk("one", "k", false), true, true, ""},
		{ppk("one", "k", true), ppk("one", "k", false), true, true, ""},
		{ppk("one", "k", false), ppk("one", "k", true), true, true, ""},
		{ppk("one", "k", true), ppk("one", "k", true), true, true, ""},
		{ppk("one", "k", false), ppk("two", "k", false), true, false, ""},
		{ppk("one", "k", true), ppk("two", "k", false), false, false, "another or none"},
		{ppk("one", "k", false), ppk("two", "k", true), false, false, "ppk-required wants"},
		{ppk("one", "k", true), ppk("two", "k", true), false, false, "ppk-required wants"},
		{ppk("one", "k", false), ppk("one", "l", false), false, false, "the proof of"},
	}
	for i, c := range tests {
		name := func(p *core.PPK) string {
			if p == nil {
				return "none"
			}
			return fmt.Sprintf("%s=%s,%t", p.ID, string(p.Secret), p.Required)
		}
		t.Run(name(c.a)+"/"+name(c.b), func(t *testing.T) {
			p := newPair(t, uint64(100+i), simnet.Link{Delay: 5 * time.Millisecond}, func(a, b *core.Config) {
				a.Peers[0].Identities[0].PPK, b.Peers[0].Identities[0].PPK = c.a, c.b
				b.Peers[0].Passive = true
			})
			var sent, back []byte // the last PPK_IDENTITY of each side
			p.a.e.env.Trace = func(out bool, h message.Header, body []message.Payload) {
				if n := findNotify(body, message.NotifyPPKIdentity); n != nil && out {
					sent = bytes.Clone(n.Data)
				} else if n != nil {
					back = append([]byte{}, n.Data...)
				}
			}
			p.up()
			p.run(3 * time.Second)
			if p.bothUp() != c.up {
				t.Fatalf("up: %v, not %v", p.bothUp(), c.up)
			}
			if (back != nil) != (c.mixed) {
				t.Errorf("the responder says that it uses the PPK: %t", back != nil)
			}
			if c.mixed && string(sent) != "\x02"+c.a.ID {
				t.Errorf("PPK_IDENTITY is %q", sent)
			}
			if c.up {
				p.a.esp()
				p.b.esp()
				p.a.in(core.Command{Do: core.RekeyIKE})
				p.run(time.Second)
				p.a.in(core.Command{Do: core.RekeyChildren})
				p.run(time.Second)
				p.a.esp()
				p.b.esp()
				p.run(time.Second)
				if p.a.opened != 2 || p.b.opened != 2 || len(p.a.lost)+len(p.b.lost) > 0 {
					t.Errorf("opened %d and %d of 2: %v %v", p.a.opened, p.b.opened, p.a.lost, p.b.lost)
				}
				return
			}
			var said string
			for _, e := range append(p.a.events, p.b.events...) {
				if e.Kind == core.EvAuthFailed {
					said += e.Reason + "\n"
				}
			}
			if !strings.Contains(said, c.why) {
				t.Errorf("the events say %q, not %q", said, c.why)
			}
		})
	}
}

// mix is RFC 8784 §3.
func (p *puppet) mix(ppk string) {
	p.d = prfPlus([]byte(ppk), 32, p.d)
	p.p = [2][]byte{prfPlus([]byte(ppk), 32, p.p[0]), prfPlus([]byte(ppk), 32, p.p[1])}
}

func ppkIdentity(id string) *message.Notify {
	return &message.Notify{Kind: message.NotifyPPKIdentity, Data: []byte("\x02" + id)}
}

// The puppet mixes by itself: the endpoint's CHILD SA keys and proof are those
// of the RFC.
func TestPPKResponder(t *testing.T) {
	r := newRig(t, func(c *core.Config) { c.Peers[0].Identities[0].PPK = ppk("one", "postquantum", true) })
	p := newPuppet(r, 1)
	p.first = []message.Payload{note(message.NotifyUsePPK)}
	p.init()
	p.mix("postquantum")
	in := p.auth(p.authPayloads(append(p.childOffer(), ppkIdentity("one"))...)...)
	says(t, in, "IDr N(PPK_IDENTITY) AUTH SA TSi TSr")
	if n := findNotify(in, message.NotifyPPKIdentity); len(n.Data) != 0 {
		t.Errorf("the answer's PPK_IDENTITY has data: %x", n.Data)
	}
	p.checkProof(in)
	k := prfPlus(p.d, 40, p.ni, p.nr)
	for _, child := range r.children {
		if !child.In.EncKey.Equal(k[:20]) || !child.Out.EncKey.Equal(k[20:]) {
			t.Error("the keys of the CHILD SA do not come of the mixed SK_d")
		}
	}
	if len(r.children) != 1 {
		t.Errorf("%d CHILD SAs", len(r.children))
	}
}

// checkProof checks the endpoint's AUTH of a message.
func (p *puppet) checkProof(in []message.Payload) {
	p.t.Helper()
	id, a := findPayload[*message.ID](in), findPayload[*message.Auth](in)
	var octets []byte
	if p.initiator {
		octets = bytes.Join([][]byte{p.got, p.ni, mac(p.p[1], id.AppendBody(nil))}, nil)
	} else {
		octets = bytes.Join([][]byte{p.got, p.nr, mac(p.p[0], id.AppendBody(nil))}, nil)
	}
	if want := mac(mac([]byte(p.psk), []byte("Key Pad for IKEv2")), octets); !bytes.Equal(a.Data, want) {
		p.t.Error("the endpoint's proof is not the RFC's")
	}
}

// What the endpoint as responder makes of odd PPK_IDENTITYs.
func TestPPKResponderOddities(t *testing.T) {
	tests := []struct {
		name string
		use  bool // USE_PPK in IKE_SA_INIT
		more func(p *puppet) []message.Payload
		says string
	}{
		{"no identity", true, func(p *puppet) []message.Payload { return nil }, "IDr AUTH SA TSi TSr"},
		{"USE_PPK was not said", false, func(p *puppet) []message.Payload { return []message.Payload{ppkIdentity("one")} }, "IDr AUTH SA TSi TSr"},
		{"empty identity", true, func(p *puppet) []message.Payload { return []message.Payload{note(message.NotifyPPKIdentity)} }, "IDr AUTH SA TSi TSr"},
		{"opaque identity, nothing else", true, func(p *puppet) []message.Payload {
			return []message.Payload{&message.Notify{Kind: message.NotifyPPKIdentity, Data: []byte("\x01one")}}
		}, "N(AUTHENTICATION_FAILED)"},
		{"strange identity and a proof without", true, func(p *puppet) []message.Payload {
			id := &message.ID{Initiator: true, IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}
			return []message.Payload{ppkIdentity("other"), &message.Notify{Kind: message.NotifyNoPPKAuth, Data: p.proof(id).Data}}
		}, "IDr AUTH SA TSi TSr"},
		{"strange identity and a wrong proof without", true, func(p *puppet) []message.Payload {
			return []message.Payload{ppkIdentity("other"), &message.Notify{Kind: message.NotifyNoPPKAuth, Data: make([]byte, 32)}}
		}, "N(AUTHENTICATION_FAILED)"},
		{"our identity and a proof without the PPK", true, func(p *puppet) []message.Payload {
			id := &message.ID{Initiator: true, IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}
			return []message.Payload{ppkIdentity("one"), &message.Notify{Kind: message.NotifyNoPPKAuth, Data: p.proof(id).Data}}
		}, "N(AUTHENTICATION_FAILED)"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(cfg *core.Config) { cfg.Peers[0].Identities[0].PPK = ppk("one", "postquantum", false) })
			p := newPuppet(r, 1)
			if c.use {
				p.first = []message.Payload{note(message.NotifyUsePPK)}
			}
			p.init()
			says(t, p.auth(p.authPayloads(append(p.childOffer(), c.more(p)...)...)...), c.says)
		})
	}
}

// Of several identities that fit alike, the PPK that the peer names decides.
func TestPPKSeveralIdentities(t *testing.T) {
	for _, id := range []string{"one", "two"} {
		r := newRig(t, func(c *core.Config) {
			c.Peers[0].Identities = []*core.Identity{
				{Auth: core.AuthPSK, Secret: secret.Bytes("thisisnotasecurepsk"), PPK: ppk("one", "k1", true)},
				{Auth: core.AuthPSK, Secret: secret.Bytes("thisisnotasecurepsk"), PPK: ppk("two", "k2", true)},
				{Auth: core.AuthPSK, RemoteID: fqdn("else.example"), Secret: secret.Bytes("thisisnotasecurepsk")},
			}
		})
		p := newPuppet(r, 1)
		p.first = []message.Payload{note(message.NotifyUsePPK)}
		p.init()
		p.mix(map[string]string{"one": "k1", "two": "k2"}[id])
		says(t, p.auth(p.authPayloads(append(p.childOffer(), ppkIdentity(id))...)...), "IDr N(PPK_IDENTITY) AUTH SA TSi TSr")
	}
}

// The endpoint as initiator proves itself in both ways, and goes back to the
// keys without PPK where the responder does.
func TestPPKInitiator(t *testing.T) {
	for _, uses := range []bool{true, false} {
		r := newRig(t, initiates, func(c *core.Config) { c.Peers[0].Identities[0].PPK = ppk("one", "postquantum", false) })
		p := newPuppet(r, 1)
		p.first = []message.Payload{note(message.NotifyUsePPK)}
		p.acceptInit()
		h, in := p.asked(message.ExchangeIKEAuth)
		says(t, in, "IDi N(INITIAL_CONTACT) N(PPK_IDENTITY) AUTH N(NO_PPK_AUTH) SA TSi TSr")
		plain := *p
		for i, a := range in {
			if n, ok := a.(*message.Notify); ok && n.Kind == message.NotifyNoPPKAuth {
				plain.checkProof(append([]message.Payload{in[0], &message.Auth{Data: n.Data}}, in[i+1:]...))
			}
		}
		p.mix("postquantum")
		p.checkProof(in)
		answer := []message.Payload{note(message.NotifyPPKIdentity)}
		if !uses {
			p, answer = &plain, nil
		}
		p.answer(h, p.authPayloads(append(p.childAnswer(), answer...)...)...)
		k := prfPlus(p.d, 40, p.ni, p.nr)
		if r.established() != 1 || len(r.children) != 1 {
			t.Fatalf("PPK used %t: %d IKE SAs, %d CHILD SAs; %s", uses, r.established(), len(r.children), r.reasons())
		}
		for _, child := range r.children {
			if !child.Out.EncKey.Equal(k[:20]) {
				t.Errorf("PPK used %t: the keys of the CHILD SA do not come of SK_d", uses)
			}
		}
	}
}

// A responder that speaks of PPKs, proves itself without ours and does not say why: who requires
// the PPK does not follow it to the keys without, however right the proof is.
//
//	endpoint                                    puppet
//	N(USE_PPK)                   ────────►
//	                             ◄────────      N(USE_PPK)
//	N(PPK_IDENTITY), AUTH        ────────►
//	                             ◄────────      IDr, AUTH by the keys without PPK
//	N(AUTHENTICATION_FAILED)     ────────►
func TestPPKRequiredAndLeftOut(t *testing.T) {
	r := newRig(t, initiates, func(c *core.Config) { c.Peers[0].Identities[0].PPK = ppk("one", "postquantum", true) })
	p := newPuppet(r, 1)
	p.first = []message.Payload{note(message.NotifyUsePPK)}
	p.acceptInit()
	h, in := p.asked(message.ExchangeIKEAuth)
	says(t, in, "IDi N(INITIAL_CONTACT) N(PPK_IDENTITY) AUTH SA TSi TSr")
	p.answer(h, p.authPayloads(p.childAnswer()...)...)
	_, in = p.asked(message.ExchangeInformational)
	says(t, in, "N(AUTHENTICATION_FAILED) Delete")
	if r.established() != 0 || len(r.children) != 0 || !strings.Contains(r.event(core.EvAuthFailed).Reason, "ppk-required") {
		t.Errorf("%d IKE SAs, %d CHILD SAs; %s", r.established(), len(r.children), r.reasons())
	}
}
