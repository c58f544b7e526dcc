package ike

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// The addresses of a transport mode SA with a NAT at either end. What the ends
// are outside is rigAddr and puppetAddr.
const (
	puppetInside  = "10.255.0.1/32"  // the puppet, as it sees itself behind its NAT
	puppetOutside = "192.0.2.2/32"   // the puppet, as the endpoint sees it
	rigInside     = "192.0.2.1/32"   // the endpoint, as it sees itself
	rigOutside    = "203.0.113.1/32" // the endpoint behind its NAT, as the puppet sees it
)

// hostToHost has the endpoint protect the two hosts' own traffic.
func hostToHost(c *core.Config) {
	p := c.Policies[0]
	p.Tunnel = false
	p.Pair = selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix(rigInside)), Remote: selector.FromPrefix(netip.MustParsePrefix(puppetOutside))}
}

// natCase is who is behind a NAT.
type natCase struct {
	puppet, rig bool
}

var natCases = map[string]natCase{"nobody": {}, "the puppet": {puppet: true}, "the endpoint": {rig: true}, "both": {true, true}}

// apply makes a puppet believe it.
func (c natCase) apply(p *puppet) {
	p.natted = c.puppet
	if c.rig {
		p.sees = netip.MustParseAddrPort("203.0.113.1:7001")
	}
}

// itself and other are the two ends as the puppet sees them.
func (c natCase) itself() string {
	if c.puppet {
		return puppetInside
	}
	return puppetOutside
}

func (c natCase) other() string {
	if c.rig {
		return rigOutside
	}
	return rigInside
}

// transportOffer is the puppet's request for transport mode between two addresses.
func (p *puppet) transportOffer(tsi, tsr string) []message.Payload {
	p.spi++
	return []message.Payload{note(message.NotifyUseTransportMode), saOf(withSPI(espProposal, u32(p.spi))), ts(true, tsi), ts(false, tsr)}
}

// transports fails the test unless selectors are what the endpoint sees.
func (r *rig) transports(ps []message.Payload, ours, theirs *message.TS) {
	r.t.Helper()
	if findNotify(ps, message.NotifyUseTransportMode) == nil {
		r.t.Errorf("the endpoint does not grant transport mode: %s; events %s", describe(ps), r.reasons())
		return
	}
	if fmt.Sprint(ours.Selectors, theirs.Selectors) != fmt.Sprint(ts(true, rigInside).Selectors, ts(true, puppetOutside).Selectors) {
		r.t.Errorf("the endpoint says %v => %v", ours.Selectors, theirs.Selectors)
	}
}

// installed fails the test unless the live CHILD SAs are of transport mode between
// the addresses that the endpoint sees.
func (r *rig) hostChildren(n int) {
	r.t.Helper()
	for _, k := range r.children {
		if k.retired {
			continue
		}
		n--
		if k.Tunnel || !k.UDP || len(k.Pairs) != 1 || k.Pairs[0].Local.Lo != rigAddr.Addr() || k.Pairs[0].Remote.Lo != puppetAddr.Addr() {
			r.t.Errorf("tunnel %v, UDP %v, pairs %v", k.Tunnel, k.UDP, k.Pairs)
		}
	}
	if n != 0 {
		r.t.Errorf("%d CHILD SAs are missing; events %s", n, r.reasons())
	}
}

// selectorsOf are TSi and TSr.
func selectorsOf(ps []message.Payload) (tsi, tsr *message.TS) {
	for _, p := range ps {
		if t, ok := p.(*message.TS); ok && t.Initiator {
			tsi = t
		} else if ok {
			tsr = t
		}
	}
	return tsi, tsr
}

// RFC 7296 §2.23.1 as the responder: the addresses of the path take the place of
// those that only the initiator knows, also in the response; and at a rekey that
// either end begins.
func TestTransportThroughNATAsResponder(t *testing.T) {
	for name, c := range natCases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, hostToHost)
			p := newPuppet(r, 1)
			c.apply(p)
			p.init()
			ps := p.auth(p.authPayloads(p.transportOffer(c.itself(), c.other())...)...)
			tsi, tsr := selectorsOf(ps)
			r.transports(ps, tsr, tsi)
			r.hostChildren(1)

			ps = p.request(message.ExchangeCreateChildSA, append([]message.Payload{rekeySA(p.spi), nonce(4)}, p.transportOffer(c.itself(), c.other())...)...)
			tsi, tsr = selectorsOf(ps)
			r.transports(ps, tsr, tsi)
			p.request(message.ExchangeInformational, deleteESP(p.spi-1))
			r.hostChildren(1)
			r.take()

			r.in(core.Command{Do: core.RekeyChildren})
			h, ps := p.asked(message.ExchangeCreateChildSA)
			tsi, tsr = selectorsOf(ps)
			r.transports(ps, tsi, tsr)
			p.spi++
			p.answer(h, note(message.NotifyUseTransportMode), saOf(withSPI(espProposal, u32(p.spi))), nonce(5), ts(true, c.other()), ts(false, c.itself()))
			r.hostChildren(1)
		})
	}
}

// And as the initiator: our policy's addresses are offered, and the response is
// read through the NATs, whichever way the responder wrote the addresses.
func TestTransportThroughNATAsInitiator(t *testing.T) {
	for name, c := range natCases {
		for way, says := range map[string][2]string{
			"as the responder sees them": {c.other(), c.itself()},
			"as we offered them":         {rigInside, puppetOutside},
		} {
			t.Run(name+"/"+way, func(t *testing.T) {
				r := newRig(t, hostToHost, initiates)
				p := newPuppet(r, 1)
				c.apply(p)
				p.acceptInit()
				h, ps := p.asked(message.ExchangeIKEAuth)
				tsi, tsr := selectorsOf(ps)
				r.transports(ps, tsi, tsr)
				p.spi++
				p.answer(h, p.authPayloads(note(message.NotifyUseTransportMode), saOf(withSPI(espProposal, u32(p.spi))), ts(true, says[0]), ts(false, says[1]))...)
				r.hostChildren(1)
			})
		}
	}
}

// What a NAT cannot explain stays what it is: another address without a NAT, a
// network, another port.
func TestTransportThroughNATIsNoWayRound(t *testing.T) {
	behind := natCase{puppet: true}
	for name, c := range map[string]struct {
		nat      natCase
		tsi, tsr string
	}{
		"no NAT":    {natCase{}, puppetInside, rigInside},
		"a network": {behind, "10.255.0.0/24", rigInside},
		"our end":   {behind, puppetInside, rigOutside},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, hostToHost)
			p := newPuppet(r, 1)
			c.nat.apply(p)
			p.init()
			says(t, p.auth(p.authPayloads(p.transportOffer(c.tsi, c.tsr)...)...), "IDr AUTH N(TS_UNACCEPTABLE)")
			if e := r.event(core.EvTSUnacceptable); c.nat.puppet != strings.Contains(e.Reason, "through a NAT, which is") {
				t.Errorf("the event says %q", e.Reason)
			}
		})
	}
	t.Run("widened by the responder", func(t *testing.T) {
		r := newRig(t, hostToHost, initiates)
		p := newPuppet(r, 1)
		behind.apply(p)
		p.acceptInit()
		h, _ := p.asked(message.ExchangeIKEAuth)
		p.answer(h, p.authPayloads(note(message.NotifyUseTransportMode), saOf(withSPI(espProposal, u32(p.spi))), ts(true, rigInside), ts(false, "10.255.0.0/24"))...)
		if len(r.children) != 0 || r.count(core.EvTSUnacceptable) != 1 {
			t.Errorf("%d CHILD SAs; events %s", len(r.children), r.reasons())
		}
	})
}

// Where only a policy for tunnel mode is there, the original addresses count.
func TestTransportThroughNATFallsBackToTunnel(t *testing.T) {
	r := newRig(t, hostToHost, func(c *core.Config) {
		p := *c.Policies[0]
		p.Ref, p.Tunnel = 2, true
		p.Pair.Remote = selector.FromPrefix(netip.MustParsePrefix("10.255.0.0/16"))
		c.Policies = []*core.Policy{&p}
	})
	p := newPuppet(r, 1)
	p.natted = true
	p.init()
	ps := p.auth(p.authPayloads(p.transportOffer(puppetInside, rigInside)...)...)
	says(t, ps, "IDr AUTH SA TSi TSr")
	if tsi, _ := selectorsOf(ps); tsi.Selectors[0] != ts(true, puppetInside).Selectors[0] {
		t.Errorf("TSi is %v", tsi.Selectors)
	}
}

// Two hosts behind one NAT have one address here: the second one is refused, until
// the first has gone. One that comes back is the same.
func TestTransportTwoBehindOneNAT(t *testing.T) {
	r := newRig(t, hostToHost)
	join := func(seed byte, id string, port uint16) []message.Payload {
		p := newPuppet(r, seed)
		p.natted, p.id = true, core.ID{Type: core.IDFQDN, Data: id}
		p.init()
		p.addr = netip.AddrPortFrom(p.addr.Addr(), port)
		return p.auth(p.authPayloads(p.transportOffer(puppetInside, rigInside)...)...)
	}
	served, refused := "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr", "IDr AUTH N(TS_UNACCEPTABLE)"
	says(t, join(1, "one", 40001), served)
	says(t, join(2, "two", 40002), refused)
	if e := r.event(core.EvTSUnacceptable); !strings.Contains(e.Reason, "fqdn:two is behind the same NAT as fqdn:one") {
		t.Errorf("the event says %q", e.Reason)
	}
	says(t, join(3, "one", 40003), served)
	r.in(core.Command{Do: core.KillAll})
	r.pass(core.TimeToGiveUp * 2)
	says(t, join(4, "two", 40004), served)
}
