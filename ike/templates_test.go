package ike

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// l2tpServer makes of the rig's endpoint the manual's L2TP server: no policy but a
// template, which leaves the mode to the peer.
func l2tpServer(c *core.Config) {
	was := c.Policies[0]
	c.Policies = nil
	c.Templates = []*core.Template{{Ref: core.FirstTemplate + 1, Index: 0, Group: "default", Local: netip.MustParsePrefix("::/0"),
		Remote: netip.MustParsePrefix("::/0"), Tunnel: true, Transport: true, Protocol: was.Protocol, Proposal: was.Proposal}}
	id := c.Peers[0].Identities[0]
	id.Generate, id.Group = core.GenerateStrict, "default"
}

// l2tp is UDP, to port 1701 of the endpoint.
func l2tp(s *message.TS) *message.TS {
	for i := range s.Selectors {
		s.Selectors[i].Proto = 17
		if !s.Initiator {
			s.Selectors[i].PortLo, s.Selectors[i].PortHi = 1701, 1701
		}
	}
	return s
}

// l2tpOffer asks for transport mode, as clients of L2TP do.
func (p *puppet) l2tpOffer(c natCase) []message.Payload {
	return append([]message.Payload{note(message.NotifyUseTransportMode)}, p.offer(l2tp(ts(true, c.itself())), l2tp(ts(false, c.other())))...)
}

// The manual's dynamic policy: tunnel=no, between the addresses that the endpoint
// sees whoever is behind a NAT, for the ports that the peer named. It serves the
// rekeys of both ends, and goes with the SA.
func TestTransportFromATemplate(t *testing.T) {
	for name, c := range natCases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, l2tpServer)
			p := newPuppet(r, 1)
			c.apply(p)
			p.init()
			ps := p.auth(p.authPayloads(p.l2tpOffer(c)...)...)
			says(t, ps, "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr")
			tsi, tsr := selectorsOf(ps)
			if got := fmt.Sprint(tsi.Selectors, tsr.Selectors); got != "[192.0.2.2/32[udp]] [192.0.2.1/32[udp/1701]]" {
				t.Errorf("the endpoint says %s", got)
			}
			added := seen[core.AddPolicy](r)
			if len(added) != 1 || added[0].Tunnel || fmt.Sprint(added[0].Pairs) != "[192.0.2.1/32[udp/1701] => 192.0.2.2/32[udp]]" {
				t.Fatalf("policies %+v", added)
			}
			r.hostChildren(1)

			ps = p.request(message.ExchangeCreateChildSA, append([]message.Payload{rekeySA(p.spi), nonce(4)}, p.l2tpOffer(c)...)...)
			says(t, ps, "N(USE_TRANSPORT_MODE) SA Nonce TSi TSr")
			p.request(message.ExchangeInformational, deleteESP(p.spi-1))
			r.hostChildren(1)
			r.take()

			r.in(core.Command{Do: core.RekeyChildren})
			h, ps := p.asked(message.ExchangeCreateChildSA)
			if findNotify(ps, message.NotifyUseTransportMode) == nil {
				t.Errorf("the rekey does not ask for transport mode: %s", describe(ps))
			}
			p.spi++
			p.answer(h, note(message.NotifyUseTransportMode), saOf(withSPI(espProposal, u32(p.spi))), nonce(5), l2tpBack(ts(true, c.other())), l2tpBack(ts(false, c.itself())))
			r.hostChildren(1)
			if len(seen[core.AddPolicy](r)) != 1 {
				t.Errorf("policies %+v", seen[core.AddPolicy](r))
			}
			r.in(core.Command{Do: core.KillAll})
			r.pass(core.TimeToGiveUp * 2)
			if dropped := seen[core.DropPolicy](r); len(dropped) != 1 || dropped[0].Ref != added[0].Ref {
				t.Errorf("dropped %v", dropped)
			}
		})
	}
}

// l2tpBack is l2tp with the endpoint as the initiator.
func l2tpBack(s *message.TS) *message.TS {
	s.Initiator = !s.Initiator
	s = l2tp(s)
	s.Initiator = !s.Initiator
	return s
}

// Which mode and protocol come of what the peer asks for and what the templates say.
func TestModeOfAPolicyFromATemplate(t *testing.T) {
	integs := []*suite.Integ{suite.IntegByName("sha256")}
	ahProposal := message.Proposal{Number: 1, Protocol: uint8(core.ProtoAH), Transforms: []message.Transform{
		{Type: suite.TypeInteg, ID: integs[0].ID}, {Type: suite.TypeESN}}}
	for name, c := range map[string]struct {
		tunnel, transport bool // of the first template
		ah                bool // it is for AH
		second            func(*core.Template)
		asks, asksAH      bool
		want, policy      string
		reason            string
	}{
		"either, asked for transport": {tunnel: true, transport: true, asks: true, want: "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr", policy: "esp transport"},
		"either, asked for a tunnel":  {tunnel: true, transport: true, want: "IDr AUTH SA TSi TSr", policy: "esp tunnel"},
		"transport, asked for it":     {transport: true, asks: true, want: "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr", policy: "esp transport"},
		"transport, asked for a tunnel": {transport: true, want: "IDr AUTH N(TS_UNACCEPTABLE)",
			reason: "template 0: ::/0 => ::/0 in transport mode"},
		"a tunnel, asked for transport": {tunnel: true, asks: true, want: "IDr AUTH SA TSi TSr", policy: "esp tunnel"},
		"AH, asked for it":              {tunnel: true, transport: true, ah: true, asks: true, asksAH: true, want: "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr", policy: "ah transport"},
		"AH, asked for ESP":             {tunnel: true, transport: true, ah: true, want: "IDr AUTH N(NO_PROPOSAL_CHOSEN)", reason: "no proposal of the peer fits"},
		"ESP, then AH": {tunnel: true, transport: true, asksAH: true, second: func(t *core.Template) { t.Protocol = core.ProtoAH },
			want: "IDr AUTH SA TSi TSr", policy: "ah tunnel"},
		"a tunnel, then transport": {tunnel: true, asks: true, second: func(t *core.Template) { t.Tunnel, t.Transport = false, true },
			want: "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr", policy: "esp transport"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, l2tpServer, func(cfg *core.Config) {
				first := cfg.Templates[0]
				first.Tunnel, first.Transport = c.tunnel, c.transport
				first.Proposal.Integs = integs
				if c.ah {
					first.Protocol = core.ProtoAH
				}
				if c.second != nil {
					more := *first
					more.Ref++
					more.Index++
					c.second(&more)
					cfg.Templates = append(cfg.Templates, &more)
				}
			})
			p := newPuppet(r, 1)
			p.init()
			p.spi++
			proposal := espProposal
			if c.asksAH {
				proposal = ahProposal
			}
			offer := []message.Payload{saOf(withSPI(proposal, u32(p.spi))), ts(true, puppetOutside), ts(false, rigInside)}
			if c.asks {
				offer = append([]message.Payload{note(message.NotifyUseTransportMode)}, offer...)
			}
			says(t, p.auth(p.authPayloads(offer...)...), c.want)
			made := ""
			for _, k := range r.children {
				made = map[core.Protocol]string{core.ProtoESP: "esp ", core.ProtoAH: "ah "}[k.Protocol] + map[bool]string{true: "tunnel", false: "transport"}[k.Tunnel]
			}
			if made != c.policy {
				t.Errorf("made is %q, not %q; events %s", made, c.policy, r.reasons())
			}
			for _, a := range seen[core.AddPolicy](r) {
				if a.Tunnel != strings.HasSuffix(c.policy, "tunnel") {
					t.Errorf("policy %+v", a)
				}
			}
			if !strings.Contains(r.reasons(), c.reason) {
				t.Errorf("events %s", r.reasons())
			}
		})
	}
}

// Transport mode is for the two hosts themselves: more than that is narrowed, and
// for others it is refused, with a NAT too.
func TestTransportFromATemplateIsForTheTwoHosts(t *testing.T) {
	for name, c := range map[string]struct {
		nat            natCase
		tsi, tsr, want string // the pair, or nothing
	}{
		"everything":                {natCase{}, "0.0.0.0/0", "0.0.0.0/0", "192.0.2.1/32 => 192.0.2.2/32"},
		"another host":              {natCase{}, "192.0.2.9/32", rigInside, ""},
		"another end here":          {natCase{}, puppetOutside, "192.0.2.7/32", ""},
		"another host, with a NAT":  {natCase{rig: true}, "192.0.2.9/32", rigOutside, ""},
		"a network, with a NAT":     {natCase{puppet: true}, "10.255.0.0/24", rigInside, ""},
		"everything, through a NAT": {natCase{true, true}, "0.0.0.0/0", "0.0.0.0/0", "192.0.2.1/32 => 192.0.2.2/32"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, l2tpServer, func(c *core.Config) { c.Templates[0].Tunnel = false })
			p := newPuppet(r, 1)
			c.nat.apply(p)
			p.init()
			ps := p.auth(p.authPayloads(p.transportOffer(c.tsi, c.tsr)...)...)
			if c.want == "" {
				says(t, ps, "IDr AUTH N(TS_UNACCEPTABLE)")
				if !strings.Contains(r.event(core.EvTSUnacceptable).Reason, "in transport mode") {
					t.Errorf("the event says %q", r.event(core.EvTSUnacceptable).Reason)
				}
				return
			}
			says(t, ps, "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr")
			if added := seen[core.AddPolicy](r); len(added) != 1 || len(added[0].Pairs) != 1 || added[0].Pairs[0].String() != c.want {
				t.Errorf("policies %v, want %s", added, c.want)
			}
		})
	}
}

// The same peer asks for the other mode when it comes back: that is another policy.
func TestAnotherModeForTheSamePeer(t *testing.T) {
	r := newRig(t, l2tpServer)
	first, again := newPuppet(r, 1), newPuppet(r, 2)
	first.init()
	says(t, first.auth(first.authPayloads(first.transportOffer(puppetOutside, rigInside)...)...), "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr")
	again.init()
	says(t, again.auth(again.authPayloads(again.offer(ts(true, puppetOutside), ts(false, rigInside))...)...), "IDr AUTH SA TSi TSr")
	added := seen[core.AddPolicy](r)
	if len(added) != 2 || added[0].Tunnel || !added[1].Tunnel || added[0].Ref == added[1].Ref {
		t.Fatalf("policies %+v", added)
	}
	first.request(message.ExchangeInformational, deleteIKE())
	if dropped := seen[core.DropPolicy](r); len(dropped) != 1 || dropped[0].Ref != added[0].Ref {
		t.Errorf("dropped %v", dropped)
	}
	// Somebody else behind the same NAT has the same address.
	other := newPuppet(r, 3)
	other.natted, other.id = true, core.ID{Type: core.IDFQDN, Data: "other.example.net"}
	other.init()
	says(t, other.auth(other.authPayloads(other.transportOffer(puppetInside, rigInside)...)...), "IDr AUTH N(TS_UNACCEPTABLE)")
	if e := r.event(core.EvTSUnacceptable); !strings.Contains(e.Reason, "behind the same NAT") {
		t.Errorf("the event says %q", e.Reason)
	}
}

// Two clients behind one NAT have one address here, and are told apart by the ports
// that each asks for; for the same ports the second is refused.
func TestTwoBehindOneNATByPorts(t *testing.T) {
	r := newRig(t, l2tpServer)
	join := func(seed byte, id string, from, to uint16) []message.Payload {
		p := newPuppet(r, seed)
		p.natted, p.id = true, core.ID{Type: core.IDFQDN, Data: id}
		p.init()
		p.addr = netip.AddrPortFrom(p.addr.Addr(), 40000+uint16(seed))
		tsi := l2tp(ts(true, puppetInside))
		tsi.Selectors[0].PortLo, tsi.Selectors[0].PortHi = from, to
		return p.auth(p.authPayloads(append([]message.Payload{note(message.NotifyUseTransportMode)}, p.offer(tsi, l2tp(ts(false, rigInside)))...)...)...)
	}
	served, refused := "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr", "IDr AUTH N(TS_UNACCEPTABLE)"
	says(t, join(1, "one", 50001, 50001), served)
	says(t, join(2, "two", 50002, 50002), served)
	says(t, join(3, "three", 50001, 50001), refused)
	says(t, join(4, "four", 50000, 50009), refused)
	if added := seen[core.AddPolicy](r); len(added) != 2 || added[0].Pairs[0].Remote.PortLo != 50001 || added[1].Pairs[0].Remote.PortLo != 50002 {
		t.Errorf("policies %+v", added)
	}
}
