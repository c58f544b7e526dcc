package ike

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

var otherGateway = netip.MustParseAddrPort("192.0.2.3:500")

// sendTo is REDIRECT to an address or name, with a nonce where there is one.
func sendTo(where string, nonce []byte) *message.Notify {
	kind, id := byte(3), []byte(where)
	if a, err := netip.ParseAddr(where); err == nil {
		kind, id = 1, a.AsSlice()
		if a.Is6() {
			kind = 2
		}
	}
	return &message.Notify{Kind: message.NotifyRedirect, Data: append(append([]byte{kind, byte(len(id))}, id...), nonce...)}
}

// gatewayAt is a puppet that the endpoint may be sent to.
func gatewayAt(r *rig, at netip.AddrPort, seed byte) *puppet {
	q := newPuppet(r, seed)
	q.addr, q.id.Data = at, string(at.Addr().AsSlice())
	return q
}

// calledFrom is called, at this puppet's address, by an endpoint that says from
// which gateway it comes; an invalid one: from none.
func (p *puppet) calledFrom(from netip.Addr) []byte {
	p.t.Helper()
	s := p.r.sends
	if len(s) == 0 || s[len(s)-1].Remote.Addr() != p.addr.Addr() {
		p.t.Fatalf("nothing was sent to %v; events %s", p.addr, p.r.reasons())
	}
	p.r.sends = s[len(s)-1:]
	_, ps := p.called()
	p.r.sends = append(s[:len(s)-1:len(s)-1], p.r.sends...)
	p.checkOrigin(ps, from)
	return bytes.Clone(findPayload[*message.Nonce](ps).Data)
}

func (p *puppet) checkOrigin(ps []message.Payload, from netip.Addr) {
	p.t.Helper()
	if findNotify(ps, message.NotifyRedirectSupported) == nil {
		p.t.Errorf("the request has no REDIRECT_SUPPORTED: %s", describe(ps))
	}
	n := findNotify(ps, message.NotifyRedirectedFrom)
	switch {
	case !from.IsValid() && n != nil:
		p.t.Errorf("the request says REDIRECTED_FROM %x, and nobody redirected", n.Data)
	case from.IsValid() && (n == nil || !bytes.Equal(n.Data, append([]byte{1, 4}, from.AsSlice()...))):
		p.t.Errorf("the request does not say REDIRECTED_FROM %v: %s", from, describe(ps))
	}
}

// takenFrom takes the endpoint in, which comes from another gateway.
func (p *puppet) takenFrom(from netip.Addr) {
	p.t.Helper()
	for _, s := range p.r.sends {
		if m, err := message.Parse(s.Data); err == nil && s.Remote == p.addr && m.Exchange == message.ExchangeIKESAInit {
			p.checkOrigin(m.Payloads, from)
			p.r.sends = []core.Send{s}
			p.accept()
			return
		}
	}
	p.t.Fatalf("no IKE_SA_INIT to %v; events %s", p.addr, p.r.reasons())
}

// at fails the test unless the only CHILD SAs go to an address.
func (r *rig) at(a netip.Addr) {
	r.t.Helper()
	if len(r.children) == 0 {
		r.t.Errorf("there is no CHILD SA; events %s", r.reasons())
	}
	for _, k := range r.children {
		if k.Remote.Addr() != a && !k.retired {
			r.t.Errorf("a CHILD SA goes to %v, not %v", k.Remote, a)
		}
	}
}

func TestRedirectInInit(t *testing.T) {
	for name, where := range map[string]string{"by address": "192.0.2.3", "by name": "other.example"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, initiates)
			p, q := newPuppet(r, 1), gatewayAt(r, otherGateway, 2)
			ni := p.calledFrom(netip.Addr{})
			r.take()
			r.hold = true
			p.replyInit(0, sendTo(where, ni))
			for len(r.asks) > 0 {
				a := r.asks[0]
				r.asks = r.asks[1:]
				if w, ok := a.Work.(core.Resolve); ok {
					if w.Name != where {
						t.Errorf("the endpoint looks up %q", w.Name)
					}
					r.in(core.Answer{ID: a.ID, Data: otherGateway.Addr().AsSlice()})
				} else {
					r.answer(a)
				}
			}
			r.hold = false
			q.takenFrom(puppetAddr.Addr())
			r.at(otherGateway.Addr())
			if e := r.event(core.EvRedirected); e.Remote != otherGateway || !strings.Contains(e.Reason, "192.0.2.2") || !strings.Contains(e.Reason, where) {
				t.Errorf("the event is %+v", e)
			}
			if r.established() != 1 || r.count(core.EvInitFailed) != 0 {
				t.Errorf("%d IKE SAs; events %s", r.established(), r.reasons())
			}
			// What comes after goes there too, until the configuration is loaded anew.
			q.request(message.ExchangeInformational, deleteIKE())
			r.pass(10 * time.Second)
			if s := r.take(); len(s) == 0 || s[len(s)-1].Remote.Addr() != otherGateway.Addr() {
				t.Errorf("the next attempt does not go to the other gateway: %v", s)
			}
			r.in(core.Command{Do: core.KillAll})
			r.in(core.Reconfigure{Config: r.cfg})
			r.pass(10 * time.Second)
			if s := r.take(); len(s) == 0 || s[len(s)-1].Remote != puppetAddr {
				t.Errorf("with the configuration loaded anew the next attempt goes elsewhere: %v", s)
			}
		})
	}
}

// What does not have our nonce is passed over, and the true answer counts.
func TestRedirectWithoutOurNonce(t *testing.T) {
	for name, nonce := range map[string]func(ni []byte) []byte{
		"none":    func([]byte) []byte { return nil },
		"another": func(ni []byte) []byte { return bytes.Repeat([]byte{1}, len(ni)) },
		"cut":     func(ni []byte) []byte { return ni[:len(ni)-1] },
		"longer":  func(ni []byte) []byte { return append(bytes.Clone(ni), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, initiates)
			p := newPuppet(r, 1)
			request := r.sends
			ni := p.calledFrom(netip.Addr{})
			p.replyInit(0, sendTo("192.0.2.3", nonce(ni)))
			r.silent("a forged REDIRECT")
			if r.count(core.EvBadMessage) != 1 || r.count(core.EvRedirected) != 0 {
				t.Errorf("events %s", r.reasons())
			}
			r.sends = request
			p.accept()
			r.at(puppetAddr.Addr())
		})
	}
}

// A REDIRECT that leads nowhere ends the attempt, and the next one goes to the
// configured address.
func TestRedirectThatCannotBe(t *testing.T) {
	raw := func(b ...byte) []byte { return b }
	for name, gateway := range map[string][]byte{
		"length of IPv4":  raw(1, 3, 192, 0, 2),
		"length of IPv6":  raw(2, 4, 192, 0, 2, 3),
		"beyond the end":  raw(1, 200, 192, 0, 2, 3),
		"unknown type":    raw(9, 4, 192, 0, 2, 3),
		"unspecified":     raw(1, 4, 0, 0, 0, 0),
		"multicast":       raw(1, 4, 224, 0, 0, 1),
		"loopback":        raw(1, 4, 127, 0, 0, 1),
		"no name":         raw(3, 0),
		"name with space": raw(3, 3, 'a', ' ', 'b'),
		"nothing":         nil,
		"itself":          raw(1, 4, 192, 0, 2, 2),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, initiates)
			p := newPuppet(r, 1)
			ni := p.calledFrom(netip.Addr{})
			r.take()
			p.replyInit(0, &message.Notify{Kind: message.NotifyRedirect, Data: append(gateway, ni...)})
			if r.count(core.EvInitFailed) != 1 || r.count(core.EvRedirected) != 0 {
				t.Errorf("events %s", r.reasons())
			}
			r.silent("it")
			r.pass(10 * time.Second)
			p.calledFrom(netip.Addr{})
		})
	}
}

func TestRedirectInAuth(t *testing.T) {
	for name, ok := range map[string]bool{"proven": true, "not proven": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, initiates)
			p, q := newPuppet(r, 1), gatewayAt(r, otherGateway, 2)
			if !ok {
				p.psk = "another"
			}
			p.acceptInit()
			h, _ := p.asked(message.ExchangeIKEAuth)
			p.answer(h, p.authPayloads(sendTo("192.0.2.3", nil))...)
			if !ok {
				if r.count(core.EvRedirected) != 0 || r.count(core.EvAuthFailed) != 1 {
					t.Errorf("events %s", r.reasons())
				}
				return
			}
			h, ps := p.asked(message.ExchangeInformational)
			says(t, ps, "Delete")
			if h.ID != 2 {
				t.Errorf("the Delete has message ID %d", h.ID)
			}
			q.takenFrom(puppetAddr.Addr())
			r.at(otherGateway.Addr())
			if r.established() != 1 || r.count(core.EvIKEUp) != 1 || r.count(core.EvRedirected) != 1 || r.count(core.EvInitFailed) != 0 {
				t.Errorf("%d IKE SAs; events %s", r.established(), r.reasons())
			}
		})
	}
}

// An IKE SA that is up stays until the one with the other gateway carries all.
func TestRedirectLater(t *testing.T) {
	r := newRig(t, initiates)
	p, q := newPuppet(r, 1), gatewayAt(r, otherGateway, 2)
	p.accept()
	says(t, p.request(message.ExchangeInformational, sendTo("192.0.2.3", nil)), "")
	if r.established() != 1 || len(r.children) != 1 {
		t.Fatalf("the old SAs did not stay: %d IKE SAs, %d CHILD SAs", r.established(), len(r.children))
	}
	p.request(message.ExchangeInformational, sendTo("192.0.2.3", nil)) // said twice
	if len(r.e.SAs()) != 2 {
		t.Fatalf("there are %d IKE SAs, not the old one and one attempt", len(r.e.SAs()))
	}
	q.takenFrom(puppetAddr.Addr())
	r.pass(10 * time.Second)
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h)
	r.pass(10 * time.Second)
	r.at(otherGateway.Addr())
	if r.established() != 1 || r.count(core.EvRedirected) != 1 {
		t.Errorf("%d IKE SAs; events %s", r.established(), r.reasons())
	}
	if e := r.event(core.EvIKEDown); !strings.Contains(e.Reason, "another gateway") {
		t.Errorf("the old one ended because %q", e.Reason)
	}
}

// It is who connected that can be sent elsewhere, also after the other end has
// rekeyed the IKE SA and so is its initiator.
func TestRedirectAfterRekey(t *testing.T) {
	r := newRig(t, initiates)
	p, q := newPuppet(r, 1), gatewayAt(r, otherGateway, 2)
	p.accept()
	p.nextID = 0
	s := p.rekeyed(true, 0xaaaa, 3, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 3)...))
	p.request(message.ExchangeInformational, deleteIKE())
	says(t, s.request(message.ExchangeInformational, sendTo("192.0.2.3", nil)), "")
	q.takenFrom(puppetAddr.Addr())
	r.pass(10 * time.Second)
	r.at(otherGateway.Addr())
}

// The other gateway does not answer: the old SA stays, and where it is lost too,
// the next attempt goes to the configured address.
func TestRedirectFails(t *testing.T) {
	r := newRig(t, initiates, func(c *core.Config) { c.Peers[0].Profile.DPD = 0 })
	p := newPuppet(r, 1)
	p.accept()
	p.request(message.ExchangeInformational, sendTo("192.0.2.3", nil))
	r.pass(5 * time.Minute)
	if r.count(core.EvInitFailed) != 1 || r.established() != 1 || len(r.e.SAs()) != 1 {
		t.Fatalf("%d IKE SAs; events %s", len(r.e.SAs()), r.reasons())
	}
	r.at(puppetAddr.Addr())
	p.request(message.ExchangeInformational, deleteIKE())
	r.take()
	r.pass(10 * time.Second)
	n := newPuppet(r, 3)
	n.calledFrom(netip.Addr{})
}

// Two gateways that send to each other: after five times it is over, until the
// period has passed.
func TestRedirectLoop(t *testing.T) {
	r := newRig(t, initiates)
	g := [2]*puppet{newPuppet(r, 1), gatewayAt(r, otherGateway, 2)}
	from := netip.Addr{}
	for i := range maxRedirects {
		p, other := g[i%2], g[1-i%2]
		ni := p.calledFrom(from)
		r.take()
		from = p.addr.Addr()
		p.replyInit(0, sendTo(other.addr.Addr().String(), ni))
	}
	last := g[maxRedirects%2]
	ni := last.calledFrom(from)
	r.take()
	last.replyInit(0, sendTo(g[0].addr.Addr().String(), ni))
	r.silent("a redirect too many")
	if e := r.event(core.EvInitFailed); r.count(core.EvRedirected) != maxRedirects || !strings.Contains(e.Reason, "redirects within") {
		t.Errorf("events %s", r.reasons())
	}
	r.pass(10 * time.Second)
	g[0].calledFrom(netip.Addr{}) // home
	r.pass(redirectPeriod)
	for r.take(); len(r.sends) == 0; { // of an attempt that still goes on
		r.pass(time.Second)
	}
	ni = g[0].calledFrom(netip.Addr{})
	r.take()
	g[0].replyInit(0, sendTo("192.0.2.3", ni))
	g[1].takenFrom(puppetAddr.Addr())
}

// A peer that connected to us cannot send us elsewhere.
func TestRedirectUnasked(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.init()
	p.auth(p.authPayloads(append(p.childOffer(), sendTo("192.0.2.3", nil))...)...)
	says(t, p.request(message.ExchangeInformational, sendTo("192.0.2.3", nil)), "")
	r.take()
	r.pass(time.Minute)
	r.silent("a redirect that we did not ask for")
	if r.established() != 1 || r.count(core.EvRedirected) != 0 || r.count(core.EvNotify) != 1 {
		t.Errorf("%d IKE SAs; events %s", r.established(), r.reasons())
	}
	r.at(puppetAddr.Addr())
}

// A gateway in another family than local-address is not gone to.
func TestRedirectOtherFamily(t *testing.T) {
	r := newRig(t, initiates, func(c *core.Config) { c.Peers[0].Local = rigAddr.Addr() })
	p := newPuppet(r, 1)
	p.accept()
	p.request(message.ExchangeInformational, sendTo("2001:db8::3", nil))
	r.pass(10 * time.Second)
	if e := r.event(core.EvInitFailed); !strings.Contains(e.Reason, "local-address") || r.established() != 1 {
		t.Errorf("events %s", r.reasons())
	}
	r.at(puppetAddr.Addr())
}
