package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

var elsewhere = core.Gateway{Addr: otherGateway.Addr()}

// away has the endpoint send newcomers of its peer elsewhere once there are so
// many IKE SAs.
func away(above int) func(*core.Config) {
	return func(c *core.Config) {
		c.Redirects = map[string]core.Redirect{"b": {To: elsewhere, Above: above}}
	}
}

func awayByIdentity(c *core.Config) {
	c.IdentityRedirects = map[*core.Identity]core.Gateway{c.Peers[0].Identities[0]: elsewhere}
}

// roaming is a puppet that says that it can be sent elsewhere.
func roaming(r *rig, seed byte) *puppet {
	p := newPuppet(r, seed)
	p.first = []message.Payload{note(message.NotifyRedirectSupported)}
	return p
}

// comesFrom is REDIRECTED_FROM.
func comesFrom(a netip.Addr) *message.Notify {
	return &message.Notify{Kind: message.NotifyRedirectedFrom, Data: sendTo(a.String(), nil).Data}
}

// isSent fails the test unless payloads send the puppet to the other gateway.
func (p *puppet) isSent(ps []message.Payload, nonce []byte) {
	p.t.Helper()
	if n := findNotify(ps, message.NotifyRedirect); n == nil || !bytes.Equal(n.Data, sendTo(elsewhere.String(), nonce).Data) {
		p.t.Errorf("the endpoint does not send to %v: %s", elsewhere, describe(ps))
	}
}

// A newcomer is sent away, as often as it asks, and nothing is kept of it.
func TestSendAwayInInit(t *testing.T) {
	for name, to := range map[string]core.Gateway{"IPv4": elsewhere,
		"IPv6": {Addr: netip.MustParseAddr("2001:db8::3")}, "name": {Name: "gw2.example.net"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *core.Config) { c.Redirects = map[string]core.Redirect{"b": {To: to}} })
			p := roaming(r, 1)
			r.take()
			r.datagram(p.addr, p.initRequest())
			first := r.one()
			m, err := message.Parse(first.Data)
			if err != nil || m.SPIr != 0 || m.SPIi != p.spii || !m.Response() || m.ID != 0 || first.Remote != p.addr {
				t.Fatalf("the answer is %+v, %v", m, err)
			}
			says(t, m.Payloads, "N(REDIRECT)")
			if n := findNotify(m.Payloads, message.NotifyRedirect); !bytes.Equal(n.Data, sendTo(to.String(), p.ni).Data) {
				t.Errorf("REDIRECT is %x", n.Data)
			}
			r.datagram(p.addr, p.initRequest())
			if again := r.one(); !bytes.Equal(again.Data, first.Data) {
				t.Error("the same request gets another answer")
			}
			if len(r.e.SAs()) != 0 || len(r.e.strangers.half) != 0 {
				t.Errorf("%d IKE SAs are kept", len(r.e.SAs()))
			}
			if _, ok := r.e.Deadline(); ok {
				t.Error("a timer is kept")
			}
			if e := r.event(core.EvRedirecting); e.Remote != p.addr || e.Peer != "b" || e.Reason != "sent it to the gateway "+to.String()+", as redirect of the peer says" {
				t.Errorf("the event is %+v", e)
			}
		})
	}
}

// Who cannot be sent is served: a client that does not know redirects, and one
// that comes from where it would be sent.
func TestSendAwayWhoCannotGo(t *testing.T) {
	for name, first := range map[string][]message.Payload{
		"does not support it":    nil,
		"comes from there":       {comesFrom(elsewhere.Addr)},
		"comes from there, both": {note(message.NotifyRedirectSupported), comesFrom(elsewhere.Addr)},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, away(0), awayByIdentity)
			p := newPuppet(r, 1)
			p.first = first
			says(t, p.connect(), "IDr AUTH SA TSi TSr")
			r.at(puppetAddr.Addr())
		})
	}
	t.Run("is there", func(t *testing.T) {
		r := newRig(t, away(0), awayByIdentity)
		r.local = otherGateway
		p := roaming(r, 1)
		says(t, p.connect(), "IDr AUTH SA TSi TSr")
	})
	t.Run("comes from a third", func(t *testing.T) {
		r := newRig(t, away(0))
		p := newPuppet(r, 1)
		p.first = []message.Payload{comesFrom(netip.MustParseAddr("192.0.2.77"))}
		r.datagram(p.addr, p.initRequest())
		_, ps := p.open(r.one().Data)
		p.isSent(ps, p.ni)
	})
}

// With redirect-above the first are served, and once one of them has left, the
// next one is.
func TestSendAwayAbove(t *testing.T) {
	r := newRig(t, away(1))
	p := roaming(r, 1)
	p.connect()
	q := roaming(r, 2)
	q.addr = netip.MustParseAddrPort("192.0.2.2:1500")
	r.take()
	r.datagram(q.addr, q.initRequest())
	_, ps := q.open(r.one().Data)
	q.isSent(ps, q.ni)
	// A rekey of the IKE SA changes nothing: one is up.
	p = p.rekeyed(true, 0xaaaa, 3, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 3)...))
	r.take()
	r.datagram(q.addr, q.initRequest())
	_, ps = q.open(r.one().Data)
	q.isSent(ps, q.ni)
	p.request(message.ExchangeInformational, deleteIKE())
	r.take()
	r.datagram(q.addr, q.initRequest())
	if _, ps = q.open(r.one().Data); findPayload[*message.SA](ps) == nil {
		t.Errorf("with nobody here a newcomer hears %s", describe(ps))
	}
}

// In IKE_AUTH the client is sent once it is known who it is; both have proven
// themselves, and nothing else comes of it.
func TestSendAwayInAuth(t *testing.T) {
	r := newRig(t, awayByIdentity)
	p := roaming(r, 1)
	p.init()
	ps := p.auth(p.authPayloads(p.childOffer()...)...)
	says(t, ps, "IDr AUTH N(REDIRECT)")
	p.isSent(ps, nil)
	if len(r.children) != 0 || r.count(core.EvRedirecting) != 1 {
		t.Errorf("%d CHILD SAs; events %s", len(r.children), r.reasons())
	}
	r.in(core.Acquire{Policy: 1}) // traffic does not hold it back
	r.take()
	p.request(message.ExchangeInformational, deleteIKE())
	if len(r.e.SAs()) != 0 {
		t.Error("its IKE SA is still there")
	}
	r.pass(10 * time.Minute)
	r.silent("a client that has gone")

	q := roaming(r, 2)
	q.psk = "another"
	q.init()
	says(t, q.auth(q.authPayloads(q.childOffer()...)...), "N(AUTHENTICATION_FAILED)")
}

// A client that stays is disconnected.
func TestSendAwayInAuthAndItStays(t *testing.T) {
	r := newRig(t, awayByIdentity)
	p := roaming(r, 1)
	p.init()
	p.auth(p.authPayloads(p.childOffer()...)...)
	r.pass(119 * time.Second)
	r.silent("a client that has still time to go")
	r.pass(2 * time.Second)
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h)
	if len(r.e.SAs()) != 0 {
		t.Error("its IKE SA is still there")
	}
}

func TestSendAwayLater(t *testing.T) {
	for name, within := range map[string]time.Duration{"for ever": 0, "within 5 minutes": 5 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *core.Config) { c.Peers[0].Profile.DPD = 0 })
			p := roaming(r, 1)
			p.connect()
			r.take()
			r.in(core.Command{Do: core.RedirectPeers, Peer: "somebody else", To: elsewhere})
			r.silent("a command for another peer")
			if i := r.e.SAs()[0]; !i.Redirectable || i.Leaving {
				t.Errorf("the IKE SA is shown as %+v", i)
			}
			r.in(core.Command{Do: core.RedirectPeers, Peer: "b", To: elsewhere, Within: within})
			h, ps := p.asked(message.ExchangeInformational)
			says(t, ps, "N(REDIRECT)")
			p.isSent(ps, nil)
			p.answer(h)
			if i := r.e.SAs()[0]; !i.Leaving || r.count(core.EvRedirecting) != 1 {
				t.Errorf("the IKE SA is shown as %+v; events %s", i, r.reasons())
			}
			r.at(puppetAddr.Addr())

			// A rekey in the meantime gives it no more time.
			r.pass(4 * time.Minute)
			s := p.rekeyed(true, 0xaaaa, 3, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 3)...))
			p.request(message.ExchangeInformational, deleteIKE())
			r.pass(59 * time.Second)
			r.silent("a client that has still time to go")
			r.pass(2 * time.Second)
			if within == 0 {
				r.silent("a client that may stay")
				s.request(message.ExchangeInformational, deleteIKE())
			} else {
				h, ps := s.asked(message.ExchangeInformational)
				says(t, ps, "Delete")
				s.answer(h)
			}
			if len(r.e.SAs()) != 0 || len(r.children) != 0 {
				t.Errorf("%d IKE SAs and %d CHILD SAs are left", len(r.e.SAs()), len(r.children))
			}
		})
	}
}

// Only clients that said so are sent; and nobody that we connect to.
func TestSendAwayLaterWhoCannotGo(t *testing.T) {
	r := newRig(t)
	newPuppet(r, 1).connect()
	r.take()
	r.in(core.Command{Do: core.RedirectPeers, To: elsewhere})
	r.silent("a command that cannot be carried out")
	r = newRig(t, initiates)
	p := newPuppet(r, 1)
	p.first = []message.Payload{note(message.NotifyRedirectSupported)}
	p.accept()
	r.take()
	r.in(core.Command{Do: core.RedirectPeers, To: elsewhere})
	r.silent("a command about a gateway that we connected to")
}

// A reload that changes where newcomers go changes no SA.
func TestSendAwayAndReload(t *testing.T) {
	r := newRig(t)
	p := roaming(r, 1)
	p.connect()
	r.take()
	next := *r.cfg
	away(0)(&next)
	awayByIdentity(&next)
	r.in(core.Reconfigure{Config: &next})
	r.silent("the new configuration")
	r.at(puppetAddr.Addr())
	q := roaming(r, 2)
	q.addr = netip.MustParseAddrPort("192.0.2.2:1500")
	r.datagram(q.addr, q.initRequest())
	_, ps := q.open(r.one().Data)
	q.isSent(ps, q.ni)
}

// three is a client and two gateways, of which it knows the first.
func three(t *testing.T, change func(b *core.Config)) (*pair, *side) {
	p := newPair(t, 5, goodLink, passive, func(_, b *core.Config) { change(b) })
	_, cc := pairConfigs()
	cc.Peers[0].Passive = true
	c := p.newSide("c", elsewhere.String(), 5+2<<32, cc)
	p.up()
	c.in(core.Reconfigure{Config: cc})
	return p, c
}

// A client of our own goes where one of our own gateways sends it, at each of the
// three moments, whichever message is lost, doubled or late.
func TestSendAwayOurOwnClient(t *testing.T) {
	for _, moment := range []struct {
		name   string
		change func(*core.Config)
		later  bool
	}{
		{"IKE_SA_INIT", func(b *core.Config) { b.Redirects = map[string]core.Redirect{"a": {To: elsewhere}} }, false},
		{"IKE_AUTH", awayByIdentity, false},
		{"INFORMATIONAL", func(*core.Config) {}, true},
	} {
		run := func(t *testing.T, carry func(p *pair, deliver func())) {
			p, c := three(t, moment.change)
			p.carry = func(deliver func()) { carry(p, deliver) }
			if moment.later {
				p.until(time.Minute, "the first gateway", p.bothUp)
				p.b.in(core.Command{Do: core.RedirectPeers, To: elsewhere, Within: 2 * time.Minute})
			}
			p.until(5*time.Minute, "the other gateway", func() bool {
				return p.a.established() == 1 && c.established() == 1 && len(p.b.e.SAs()) == 0 && len(p.b.children) == 0
			})
			p.run(3 * time.Minute)
			if n := p.a.outbound(); n == nil || n.Remote.Addr() != elsewhere.Addr || len(p.a.children) != 1 || len(c.children) != 1 || len(p.b.children) != 0 {
				t.Errorf("CHILD SAs: client %d, first gateway %d, other %d", len(p.a.children), len(p.b.children), len(c.children))
			}
			if p.b.count(core.EvRedirecting) == 0 || p.a.count(core.EvRedirected) != 1 || len(p.b.e.SAs()) != 0 {
				t.Errorf("first gateway: %d IKE SAs, events %v; client %v", len(p.b.e.SAs()), p.b.events, p.a.events)
			}
			if n := p.a.count(core.EvPeerDead) + p.b.count(core.EvPeerDead) + p.a.count(core.EvInitFailed); n > 0 {
				t.Errorf("complaints: client %v, gateway %v", p.a.events, p.b.events)
			}
		}
		count := 0
		t.Run(moment.name, func(t *testing.T) {
			run(t, func(_ *pair, deliver func()) { count++; deliver() })
		})
		for mishap, do := range map[string]func(p *pair, deliver func()){
			"lost":    func(*pair, func()) {},
			"doubled": func(_ *pair, deliver func()) { deliver(); deliver() },
			"late":    func(p *pair, deliver func()) { p.clock.After(700*time.Millisecond, deliver) },
		} {
			for i := range count {
				t.Run(fmt.Sprintf("%s/%s/%d", moment.name, mishap, i), func(t *testing.T) {
					n := 0
					run(t, func(p *pair, deliver func()) {
						if n++; n-1 == i {
							do(p, deliver)
						} else {
							deliver()
						}
					})
				})
			}
		}
	}
}
