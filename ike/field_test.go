package ike

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
	"culvert/spd/selector"
)

// What peers in the field do that RFC 7296 lets them do, or that is wrong and has
// to be survived.

// Reserved bits are ignored (RFC 7296 §2.5): of the header, of payloads that are
// known, whose critical bit is ignored too, of an ID, of a proposal.
func TestReservedBits(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	raw := bytes.Clone(p.initRequest())
	raw[19] |= 0x47 // flags that do not exist
	next, at := raw[16], message.HeaderLen
	for next != 0 { // each generic header: critical bit and reserved
		raw[at+1] = 0xff
		if next == byte(message.TypeSA) {
			raw[at+5], raw[at+13] = 0xff, 0xff // of the proposal and of a transform
		}
		next, at = raw[at], at+int(binary.BigEndian.Uint16(raw[at+2:]))
	}
	p.sent = raw
	r.datagram(p.addr, raw)
	p.initResponse(r.one().Data)
	id := &message.ID{Initiator: true, IDType: uint8(p.id.Type), Data: []byte(p.id.Data), Reserved: [3]byte{1, 2, 3}}
	first, plain := message.AppendPayloads(nil, append([]message.Payload{id, p.proof(id)}, p.childOffer()...))
	for next, at := byte(first), 0; next != 0; {
		plain[at+1] = 0x7f
		next, at = plain[at], at+int(binary.BigEndian.Uint16(plain[at+2:]))
	}
	h := p.header(message.ExchangeIKEAuth, p.nextID, false)
	h.Flags |= 0x07
	p.nextID++
	r.datagram(p.addr, p.sealRaw(h, nil, first, plain))
	says(t, p.response(message.ExchangeIKEAuth, 1), "IDr AUTH SA TSi TSr")
	if r.established() != 1 || len(r.children) != 1 {
		t.Error(r.reasons())
	}
}

// What a peer says it can do and nobody asked for changes nothing.
func TestUnaskedNotifies(t *testing.T) {
	unasked := []message.Payload{
		note(message.NotifyIKEv2FragmentationSupported), note(message.NotifyIntermediateExchangeSupported), note(message.NotifyRedirectSupported),
		note(message.NotifyChildlessIKEv2Supported), note(message.NotifyUsePPK), note(message.NotifyHTTPCertLookupSupported),
		note(message.NotifyMultipleAuthSupported), note(message.NotifyIKEv2MessageIDSyncSupported), note(message.NotifyQuickCrashDetection),
		&message.Notify{Kind: message.NotifySignatureHashAlgorithms, Data: []byte{0, 1}}, &message.Notify{Kind: 40000, Data: []byte("of a vendor")},
		&message.Notify{Kind: 16500}, &message.VendorID{Data: []byte("somebody")},
	}
	inside := []message.Payload{
		&message.Notify{Kind: message.NotifySetWindowSize, Data: []byte{0, 0, 0, 16}}, note(message.NotifyMOBIKESupported), note(message.NotifyESPTFCPaddingNotSupported),
		note(message.NotifyNonFirstFragmentsAlso), &message.Notify{Kind: message.NotifyIPCompSupported, Data: []byte{1, 2, 3}},
		note(message.NotifyEAPOnlyAuthentication), note(message.NotifyAdditionalTSPossible), &message.Notify{Kind: message.NotifySupportedAuthMethods, Data: []byte{2, 2}},
	}
	t.Run("as initiator", func(t *testing.T) {
		r := newRig(t, initiates)
		p := newPuppet(r, 1)
		p.first = unasked
		p.acceptInit()
		h, ps := p.asked(message.ExchangeIKEAuth)
		says(t, ps, "IDi N(INITIAL_CONTACT) AUTH SA TSi TSr")
		p.answer(h, p.authPayloads(append(inside, p.childAnswer()...)...)...)
		h, _ = p.asked(message.ExchangeInformational)
		p.answer(h)
		says(t, p.request(message.ExchangeInformational), "")
		if r.established() != 1 || len(r.children) != 1 {
			t.Error(r.reasons())
		}
	})
	t.Run("as responder", func(t *testing.T) {
		r := newRig(t)
		p := newPuppet(r, 1)
		p.first = unasked
		p.init()
		says(t, p.auth(p.authPayloads(append(inside, p.childOffer()...)...)...), "IDr AUTH SA TSi TSr")
		if r.established() != 1 || len(r.children) != 1 {
			t.Error(r.reasons())
		}
	})
}

// A COOKIE that nobody asked for is no reason to refuse.
func TestCookieUnasked(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.first = []message.Payload{&message.Notify{Kind: message.NotifyCookie, Data: []byte("one that is not ours")}}
	says(t, p.connect(), "IDr AUTH SA TSi TSr")
}

// IKE_SA_INIT whose key exchange is missing, empty, zero or cut: no IKE SA, and as
// initiator the next attempt comes.
func TestInitWithoutKeyExchange(t *testing.T) {
	kes := map[string]*message.KE{"missing": nil, "empty": {Group: 31}, "zero": {Group: 31, Data: make([]byte, 32)}, "cut": {Group: 31, Data: bytes.Repeat([]byte{9}, 31)}}
	without := func(p *puppet, ke *message.KE) (ps []message.Payload) {
		for _, x := range p.initPayloads() {
			if _, is := x.(*message.KE); !is {
				ps = append(ps, x)
			} else if ke != nil {
				ps = append(ps, ke)
			}
		}
		return ps
	}
	for name, ke := range kes {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			p := newPuppet(r, 1)
			m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: without(p, ke)}
			r.datagram(p.addr, m.Append(nil))
			for _, s := range r.take() {
				_, ps := p.open(s.Data)
				says(t, ps, "N(INVALID_SYNTAX)")
			}
			if !r.e.Idle() {
				t.Error("as responder: something is kept")
			}
			r = newRig(t, initiates)
			p = newPuppet(r, 1)
			_, ps := p.called()
			p.nr = bytes.Repeat([]byte{9}, 32)
			p.agree(ps, &p.ni)
			p.replyInit(0x2222222222222222, without(p, ke)...)
			if r.established() != 0 {
				t.Error("as initiator: it came up")
			}
			r.take()
			r.pass(3 * time.Minute)
			again := false
			for _, s := range r.take() {
				h, _ := message.ParseHeader(s.Data)
				again = again || h.Exchange == message.ExchangeIKESAInit && h.SPIi != p.spii
			}
			if !again {
				t.Errorf("as initiator: no other attempt; %s", r.reasons())
			}
		})
	}
}

// Before IKE_AUTH a peer can say nothing else.
func TestTooEarly(t *testing.T) {
	for _, x := range []message.ExchangeType{message.ExchangeInformational, message.ExchangeCreateChildSA, message.ExchangeIntermediate, 99} {
		r := newRig(t)
		p := newPuppet(r, 1)
		p.init()
		r.datagram(p.addr, p.seal(p.header(x, 1, false), deleteIKE()))
		for _, s := range r.take() {
			_, ps := p.open(s.Data)
			says(t, ps, "N(INVALID_SYNTAX)")
		}
		r.pass(31 * time.Second) // an exchange that does not exist is passed over
		if r.established() != 0 || len(r.children) != 0 || !r.e.Idle() {
			t.Errorf("%v: left %v", x, r.e.SAs())
		}
	}
}

// Traffic for what is up or on its way asks for nothing.
func TestAcquireOfWhatIsUp(t *testing.T) {
	r := newRig(t, initiates, func(c *core.Config) { c.Peers[0].OnDemand = true })
	flow := core.Acquire{Policy: 1, Flow: selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix("10.1.0.5/32")), Remote: selector.FromPrefix(netip.MustParsePrefix("10.2.0.6/32"))}}
	r.in(flow)
	r.in(flow)
	p := newPuppet(r, 1)
	p.acceptInit()
	r.in(flow)
	h, ps := p.asked(message.ExchangeIKEAuth)
	p.note(ps)
	p.answer(h, p.authPayloads(p.childAnswer()...)...)
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	r.in(flow)
	r.in(flow)
	r.silent("traffic that has its CHILD SA")
	if len(r.children) != 1 {
		t.Errorf("%d CHILD SAs", len(r.children))
	}
}

// A rekey that asks for other selectors than the old CHILD SA has: more is
// narrowed to the policy, less is less, and nothing in common is refused while the
// old one goes on (RFC 7296 §2.9.2).
func TestRekeyWithOtherSelectors(t *testing.T) {
	for _, c := range []struct{ tsi, says, pairs string }{
		{"0.0.0.0/0", "SA Nonce TSi TSr", "10.1.0.0/16 => 10.2.0.0/16"},
		{"10.2.7.0/24", "SA Nonce TSi TSr", "10.1.0.0/16 => 10.2.7.0/24"},
		{"10.9.0.0/16", "N(TS_UNACCEPTABLE)", ""},
	} {
		r, p := settled(t)
		old := p.spi
		p.spi++
		says(t, p.request(message.ExchangeCreateChildSA, rekeySA(old), saOf(withSPI(espProposal, u32(p.spi))), nonce(3), ts(true, c.tsi), ts(false, "10.1.0.0/16")), c.says)
		all := r.pairs()
		if c.pairs == "" {
			if len(all) != 1 {
				t.Errorf("%s: %q", c.tsi, all)
			}
			continue
		}
		if len(all) != 2 || all[1] != c.pairs {
			t.Errorf("%s: %q", c.tsi, all)
		}
	}
}

// Protocols and ports in selectors, from both ends of a narrow policy.
func TestSelectorsWithPorts(t *testing.T) {
	sel := func(prefix string, proto uint8, lo, hi uint16) selector.TS {
		s := selector.FromPrefix(netip.MustParsePrefix(prefix))
		s.Proto, s.PortLo, s.PortHi = proto, lo, hi
		return s
	}
	type pairOf struct{ local, remote selector.TS } // as we see them
	tcp80 := pairOf{sel("10.1.0.0/16", 6, 80, 80), sel("10.2.0.0/16", 6, 0, 65535)}
	for _, c := range []struct {
		name           string
		policy, wanted pairOf
		want           string
	}{
		{"any is narrowed to the service", tcp80, pairOf{sel("0.0.0.0/0", 0, 0, 65535), sel("0.0.0.0/0", 0, 0, 65535)}, "10.1.0.0/16[tcp/80] => 10.2.0.0/16[tcp]"},
		{"a range around it", tcp80, pairOf{sel("10.1.0.0/16", 6, 1, 1023), sel("10.2.0.0/16", 6, 1024, 65535)}, "10.1.0.0/16[tcp/80] => 10.2.0.0/16[tcp/1024-65535]"},
		{"another port", tcp80, pairOf{sel("10.1.0.0/16", 6, 443, 443), sel("10.2.0.0/16", 6, 0, 65535)}, ""},
		{"another protocol", tcp80, pairOf{sel("10.1.0.0/16", 17, 80, 80), sel("10.2.0.0/16", 17, 0, 65535)}, ""},
		{"an ICMP type", pairOf{sel("10.1.0.0/16", 1, 8<<8, 8<<8|255), sel("10.2.0.0/16", 1, 8<<8, 8<<8|255)}, pairOf{sel("10.1.0.0/16", 1, 0, 65535), sel("10.2.0.0/16", 1, 0, 65535)}, "10.1.0.0/16[icmp/8:0-8:255] => 10.2.0.0/16[icmp/8:0-8:255]"},
		{"opaque ports where any is allowed", pairOf{sel("10.1.0.0/16", 17, 0, 65535), sel("10.2.0.0/16", 17, 0, 65535)}, pairOf{sel("10.1.0.0/16", 17, 65535, 0), sel("10.2.0.0/16", 17, 65535, 0)}, "10.1.0.0/16[udp/opaque] => 10.2.0.0/16[udp/opaque]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(cfg *core.Config) {
				cfg.Policies[0].Pair = selector.Pair{Local: c.policy.local, Remote: c.policy.remote}
			})
			p := newPuppet(r, 1)
			p.init()
			p.auth(p.authPayloads()...)
			in := p.request(message.ExchangeCreateChildSA, saOf(withSPI(espProposal, u32(0xc0de0001))), nonce(3),
				&message.TS{Initiator: true, Selectors: []selector.TS{c.wanted.remote}}, &message.TS{Selectors: []selector.TS{c.wanted.local}})
			got := ""
			if all := r.pairs(); len(all) > 0 {
				got = all[0]
			}
			if got != c.want {
				t.Errorf("%q (%s), not %q", got, describe(in), c.want)
			}
		})
	}
}

// A peer that begins on the NAT-T port, and one that is reached there.
func TestInitOnNATTPort(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.addr = netip.AddrPortFrom(p.addr.Addr(), 4500)
	p.r.local = netip.AddrPortFrom(r.local.Addr(), 4500)
	r.datagram(p.addr, p.initRequest())
	s := r.one()
	if !s.NATT || s.Remote != p.addr || s.Local.Port() != 4500 {
		t.Errorf("answered from %v to %v", s.Local, s.Remote)
	}
	p.initResponse(s.Data)
	says(t, p.auth(p.authPayloads(p.childOffer()...)...), "IDr AUTH SA TSi TSr")

	r = newRig(t, initiates, func(c *core.Config) { c.Peers[0].Port = 4500 })
	s = r.one()
	if !s.NATT || s.Remote.Port() != 4500 || s.Local.Port() != 4500 {
		t.Errorf("called from %v to %v, non-ESP marker %v", s.Local, s.Remote, s.NATT)
	}
}

// IKE over IPv6, also in fragments, for packets of IPv4: up, rekeyed by either
// end, moved to a successor, and packets all along.
func TestOverIPv6(t *testing.T) {
	for _, cut := range []bool{false, true} {
		p := &pair{t: t, clock: simnet.NewClock(epoch), net: simnet.New(1, goodLink), byIP: map[netip.Addr]*side{}}
		a, b := pairConfigs()
		for addr, c := range map[string]*core.Config{"2001:db8::2": a, "2001:db8::1": b} {
			c.Peers[0].Address = netip.PrefixFrom(netip.MustParseAddr(addr), 128)
		}
		passive(a, b)
		if cut {
			fragmented(a, b)
		}
		p.a, p.b = p.newSide("a", "2001:db8::1", 1, a), p.newSide("b", "2001:db8::2", 2, b)
		p.up()
		p.until(time.Second, "both ends up", p.bothUpOrStandby)
		if _, n := p.a.longest(message.ExchangeIKEAuth); (n > 0) != cut {
			t.Errorf("IKE_AUTH in %d fragments", n)
		}
		p.run(10 * time.Second)
		for _, s := range []*side{p.a, p.b} {
			for _, do := range []core.CommandKind{core.RekeyChildren, core.RekeyIKE} {
				s.in(core.Command{Do: do})
				p.run(10 * time.Second)
				p.a.esp()
				p.b.esp()
				p.run(time.Second)
			}
		}
		if p.a.opened != 4 || p.b.opened != 4 || len(p.a.lost)+len(p.b.lost) > 0 || p.a.count(core.EvIKERekeyed) != 2 {
			t.Errorf("%d and %d packets; lost %v %v", p.a.opened, p.b.opened, p.a.lost, p.b.lost)
		}
		if sa := p.a.e.SAs(); len(sa) != 1 || !sa[0].Remote.Addr().Is6() || sa[0].NATT != (sa[0].Remote.Port() == 4500) {
			t.Errorf("%+v", sa)
		}
	}
}
