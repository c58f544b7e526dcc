package ike

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// givesLeases turns the rig's endpoint into a server of road warriors: one
// template, 10.1.0.0/16 to 192.168.77.0/24.
func givesLeases(c *core.Config) {
	was := c.Policies[0]
	c.Policies = nil
	c.Templates = []*core.Template{{Ref: core.FirstTemplate + 1, Index: 4, Group: "rw", Local: netip.MustParsePrefix("10.1.0.0/16"),
		Remote: netip.MustParsePrefix("192.168.77.0/24"), Tunnel: true, Protocol: was.Protocol, Proposal: was.Proposal}}
	id := c.Peers[0].Identities[0]
	id.Generate, id.Group = core.GenerateStrict, "rw"
	id.Mode = &core.ModeConfig{Name: "rw", Responder: true, Pool: "pool", Split: []netip.Prefix{netip.MustParsePrefix("10.1.5.0/24")},
		DNS: []netip.Addr{netip.MustParseAddr("10.1.0.53"), netip.MustParseAddr("2001:db8::53")}}
	c.Where = func(entry any, key string) string {
		if _, ok := entry.(*core.Template); ok {
			return "site.toml:12"
		}
		return ""
	}
}

func cp(kind uint8, attrs ...message.Attribute) *message.Config {
	return &message.Config{CfgType: kind, Attributes: attrs}
}

// asksAddress asks for what most clients ask for.
func asksAddress() *message.Config {
	return cp(1, message.Attribute{Type: 1}, message.Attribute{Type: 2}, message.Attribute{Type: 3})
}

func wholeSpace(initiator bool) *message.TS { return ts(initiator, "0.0.0.0/0") }

func (p *puppet) offer(tsi, tsr *message.TS) []message.Payload {
	p.spi++
	return []message.Payload{saOf(withSPI(espProposal, u32(p.spi))), tsi, tsr}
}

// authLeased sends IKE_AUTH and answers the question for a lease; the response.
func (p *puppet) authLeased(addr string, ps ...message.Payload) []message.Payload {
	p.t.Helper()
	id := p.nextID
	p.nextID++
	p.r.hold, p.r.asks = true, nil
	p.r.datagram(p.addr, p.seal(p.header(message.ExchangeIKEAuth, id, false), ps...))
	p.r.hold = false
	if len(p.r.asks) != 1 {
		p.t.Fatalf("%d questions, not one", len(p.r.asks))
	}
	if _, ok := p.r.asks[0].Work.(core.Lease); !ok {
		p.t.Fatalf("the question is %T", p.r.asks[0].Work)
	}
	p.r.silent("IKE_AUTH, before there is an address,")
	a := core.Answer{ID: p.r.asks[0].ID}
	if addr == "" {
		a.Err = errors.New("all addresses are in use")
	} else {
		a.Data = core.AppendLease(nil, []netip.Addr{netip.MustParseAddr(addr)}, nil)
	}
	p.r.in(a)
	return p.response(message.ExchangeIKEAuth, id)
}

// outputs of a kind that the rig has seen.
func seen[T core.Output](r *rig) (list []T) {
	for _, o := range r.others {
		if x, ok := o.(T); ok {
			list = append(list, x)
		}
	}
	return list
}

func TestLeaseForAClientThatAsksForEverything(t *testing.T) {
	r := newRig(t, givesLeases)
	p := newPuppet(r, 1)
	p.init()
	ps := p.authLeased("192.168.77.9", p.authPayloads(append([]message.Payload{asksAddress()}, p.offer(wholeSpace(true), wholeSpace(false))...)...)...)
	says(t, ps, "IDr AUTH CP SA TSi TSr")
	lease := r.asks[0].Work.(core.Lease)
	if lease.Pool != "pool" || !lease.V4 || lease.V6 || len(lease.Same) != 0 ||
		lease.Owner != "b\x00\x00at 192.0.2.2\x00"+string(rune(p.id.Type))+p.id.Data { // who comes back gets it again, and nobody else
		t.Errorf("lease %+v", lease)
	}
	want := cp(2, message.Attribute{Type: 1, Value: []byte{192, 168, 77, 9}}, message.Attribute{Type: 2, Value: []byte{255, 255, 255, 255}},
		message.Attribute{Type: 3, Value: []byte{10, 1, 0, 53}}, message.Attribute{Type: 13, Value: []byte{10, 1, 5, 0, 255, 255, 255, 0}})
	if got := findPayload[*message.Config](ps); string(got.AppendBody(nil)) != string(want.AppendBody(nil)) {
		t.Errorf("CFG_REPLY %v, want %v", got, want)
	}
	pair := selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix("10.1.0.0/16")), Remote: selector.FromPrefix(netip.MustParsePrefix("192.168.77.9/32"))}
	added := seen[core.AddPolicy](r)
	if len(added) != 1 || len(added[0].Pairs) != 1 || added[0].Pairs[0] != pair || added[0].Template != core.FirstTemplate+1 || added[0].Ref <= core.FirstMade {
		t.Fatalf("policies %+v", added)
	}
	for _, k := range r.children {
		if k.Policy != added[0].Ref || len(k.Pairs) != 1 || k.Pairs[0] != pair {
			t.Errorf("CHILD SA for %v of policy %d", k.Pairs, k.Policy)
		}
	}
	if infos := r.e.SAs(); len(infos) != 1 || len(infos[0].Leased) != 1 {
		t.Errorf("%+v", infos)
	}
	// Another CHILD SA for other selectors is outside the address that it has.
	ps = p.request(message.ExchangeCreateChildSA, append([]message.Payload{nonce(3)}, p.offer(ts(true, "192.168.77.10/32"), wholeSpace(false))...)...)
	if findNotify(ps, message.NotifyTSUnacceptable) == nil {
		t.Errorf("for somebody else's address: %s", describe(ps))
	}
	// The end of the IKE SA gives the address back and takes the policy away.
	p.request(message.ExchangeInformational, deleteIKE())
	if rel := seen[core.Release](r); len(rel) != 1 || rel[0].Holder != r.asks[0].SA {
		t.Errorf("released %v", rel)
	}
	if dropped := seen[core.DropPolicy](r); len(dropped) != 1 || dropped[0].Ref != added[0].Ref {
		t.Errorf("dropped %v", dropped)
	}
}

// An address is its client's across a rekey of the IKE SA, until the successor ends.
func TestLeaseAcrossARekey(t *testing.T) {
	r := newRig(t, givesLeases)
	p := newPuppet(r, 1)
	p.init()
	says(t, p.authLeased("192.168.77.9", p.authPayloads(append([]message.Payload{asksAddress()}, p.offer(wholeSpace(true), wholeSpace(false))...)...)...),
		"IDr AUTH CP SA TSi TSr")
	holder := r.asks[0].SA
	q := p.rekeyed(true, 0xaaaa, 3, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 3)...))
	says(t, p.request(message.ExchangeInformational, deleteIKE()), "")
	if rel, infos := seen[core.Release](r), r.e.SAs(); len(rel) != 0 || len(infos) != 1 || len(infos[0].Leased) != 1 {
		t.Fatalf("released %v; %+v", rel, infos)
	}
	says(t, q.request(message.ExchangeInformational, deleteIKE()), "")
	if rel := seen[core.Release](r); len(rel) != 1 || rel[0].Holder != holder {
		t.Errorf("released %v", rel)
	}
}

// Also where a policy of the table, and no template, is for all clients, each has
// its own address and no other's.
func TestLeaseUnderAPolicy(t *testing.T) {
	r := newRig(t, func(c *core.Config) {
		p := c.Policies[0]
		p.Pair.Remote = selector.FromPrefix(netip.MustParsePrefix("192.168.77.0/24"))
		givesLeases(c)
		c.Policies = []*core.Policy{p}
	})
	p := newPuppet(r, 1)
	p.init()
	in := p.authLeased("192.168.77.9", p.authPayloads(append([]message.Payload{asksAddress()}, p.offer(wholeSpace(true), wholeSpace(false))...)...)...)
	says(t, in, "IDr AUTH CP SA TSi TSr")
	if got, want := findPayload[*message.TS](in).Selectors, ts(true, "192.168.77.9/32").Selectors; !slices.Equal(got, want) {
		t.Errorf("the client has %v, not %v", got, want)
	}
}

// The addresses that a client had before are asked for; what is none is passed over.
func TestWishesForAnAddress(t *testing.T) {
	for _, c := range []struct {
		attrs []message.Attribute
		want  string
	}{
		{[]message.Attribute{{Type: 1, Value: []byte{192, 168, 77, 9}}}, "[192.168.77.9]"},
		{[]message.Attribute{{Type: 1, Value: []byte{0, 0, 0, 0}}, {Type: 1, Value: []byte{192, 168, 77, 8}}, {Type: 1, Value: []byte{192, 168, 77, 9}}}, "[192.168.77.8]"},
		{[]message.Attribute{{Type: 1}, {Type: 8, Value: append(netip.MustParseAddr("fd00::7").AsSlice(), 64)}}, "[fd00::7]"},
		{[]message.Attribute{{Type: 1, Value: []byte{1, 2, 3}}, {Type: 8, Value: make([]byte, 17)}}, "[]"},
	} {
		r := newRig(t, givesLeases)
		r.hold = true
		p := newPuppet(r, 1)
		p.init()
		id := p.nextID
		p.nextID++
		r.datagram(p.addr, p.seal(p.header(message.ExchangeIKEAuth, id, false),
			p.authPayloads(append([]message.Payload{cp(1, c.attrs...)}, p.offer(wholeSpace(true), wholeSpace(false))...)...)...))
		if got := fmt.Sprint(r.asks[0].Work.(core.Lease).Wishes); got != c.want {
			t.Errorf("%v: %s, want %s", c.attrs, got, c.want)
		}
	}
}

// An exhausted pool: the IKE SA is there, the CHILD SA is not (RFC 7296 §3.15.4).
func TestNoAddressIsLeft(t *testing.T) {
	r := newRig(t, givesLeases)
	p := newPuppet(r, 1)
	p.init()
	ps := p.authLeased("", p.authPayloads(append([]message.Payload{asksAddress()}, p.offer(wholeSpace(true), wholeSpace(false))...)...)...)
	says(t, ps, "IDr AUTH N(INTERNAL_ADDRESS_FAILURE)")
	if r.established() != 1 || len(r.children) != 0 || len(seen[core.Release](r)) != 1 {
		t.Errorf("%d established, %d CHILD SAs", r.established(), len(r.children))
	}
	if e := r.event(core.EvNotify); !strings.Contains(e.Reason, "mode-config \"rw\"") {
		t.Errorf("event %q", e.Reason)
	}
}

func TestSelectorsOutsideTheTemplate(t *testing.T) {
	r := newRig(t, givesLeases)
	p := newPuppet(r, 1)
	p.init()
	ps := p.authLeased("192.168.77.9", p.authPayloads(append([]message.Payload{asksAddress()}, p.offer(wholeSpace(true), ts(false, "10.9.0.0/16"))...)...)...)
	says(t, ps, "IDr AUTH CP N(TS_UNACCEPTABLE)")
	e := r.event(core.EvTSUnacceptable)
	for _, part := range []string{`policy-group "rw"`, "template 4 (site.toml:12)", "10.1.0.0/16 => 192.168.77.0/24", "10.9.0.0/16"} {
		if !strings.Contains(e.Reason, part) {
			t.Errorf("the event does not say %s: %s", part, e.Reason)
		}
	}
	if e.Detail == nil || e.Detail.Where != "site.toml:12" {
		t.Errorf("detail %+v", e.Detail)
	}
}

// Who asks for no address gets no policy where the identity gives addresses.
func TestAddressIsRequired(t *testing.T) {
	r := newRig(t, givesLeases)
	p := newPuppet(r, 1)
	p.init()
	ps := p.auth(p.authPayloads(p.offer(ts(true, "192.168.77.9/32"), wholeSpace(false))...)...)
	says(t, ps, "IDr AUTH N(FAILED_CP_REQUIRED)")
}

// port-strict keeps the peer's ports; port-override makes a policy for any, and
// the CHILD SA what the peer asked for.
func TestPortsOfGeneratedPolicies(t *testing.T) {
	for _, c := range []struct {
		generate core.Generate
		want     string
	}{
		{core.GenerateStrict, "10.1.0.1/32[udp/1701] => 192.168.77.9/32[udp/1701]"},
		{core.GenerateOverride, "10.1.0.1/32[udp] => 192.168.77.9/32[udp]"},
	} {
		r := newRig(t, givesLeases, func(c *core.Config) { c.Peers[0].Identities[0].Mode = nil }, func(cfg *core.Config) { cfg.Peers[0].Identities[0].Generate = c.generate })
		p := newPuppet(r, 1)
		p.init()
		tsi, tsr := ts(true, "192.168.77.9/32"), ts(false, "10.1.0.1/32")
		for _, x := range []*message.TS{tsi, tsr} {
			x.Selectors[0].Proto, x.Selectors[0].PortLo, x.Selectors[0].PortHi = 17, 1701, 1701
		}
		says(t, p.auth(p.authPayloads(p.offer(tsi, tsr)...)...), "IDr AUTH SA TSi TSr")
		added := seen[core.AddPolicy](r)
		if len(added) != 1 || added[0].Pairs[0].String() != c.want {
			t.Errorf("policies %v, want %s", added, c.want)
		}
		for _, k := range r.children {
			if k.Pairs[0].Local.PortLo != 1701 || k.Pairs[0].Remote.PortHi != 1701 {
				t.Errorf("CHILD SA for %v", k.Pairs)
			}
		}
	}
}

// Two peers cannot have a policy for the same packets; one that comes back can.
func TestOnePolicyForOnePeer(t *testing.T) {
	r := newRig(t, givesLeases, func(c *core.Config) { c.Peers[0].Identities[0].Mode = nil })
	first := newPuppet(r, 1)
	first.init()
	says(t, first.auth(first.authPayloads(first.offer(ts(true, "192.168.77.9/32"), wholeSpace(false))...)...), "IDr AUTH SA TSi TSr")
	thief := newPuppet(r, 2)
	thief.id = core.ID{Type: core.IDFQDN, Data: "thief.example.net"}
	thief.init()
	says(t, thief.auth(thief.authPayloads(thief.offer(ts(true, "192.168.77.9/32"), wholeSpace(false))...)...), "IDr AUTH N(TS_UNACCEPTABLE)")
	again := newPuppet(r, 3)
	again.init()
	says(t, again.auth(again.authPayloads(again.offer(ts(true, "192.168.77.9/32"), wholeSpace(false))...)...), "IDr AUTH SA TSi TSr")
	if added := seen[core.AddPolicy](r); len(added) != 1 {
		t.Errorf("policies %v", added)
	}
	first.request(message.ExchangeInformational, deleteIKE())
	if dropped := seen[core.DropPolicy](r); len(dropped) != 0 {
		t.Errorf("dropped with a CHILD SA: %v", dropped)
	}
	again.request(message.ExchangeInformational, deleteIKE())
	if dropped := seen[core.DropPolicy](r); len(dropped) != 1 {
		t.Errorf("dropped %v", dropped)
	}
}

// asksLease turns the rig's endpoint into a road warrior of the puppet.
func asksLease(c *core.Config) {
	givesLeases(c)
	initiates(c)
	c.Templates[0].Local, c.Templates[0].Remote = netip.MustParsePrefix("::/0"), netip.MustParsePrefix("::/0")
	c.Peers[0].Identities[0].Mode = &core.ModeConfig{Name: "request-only"}
}

func subnet(a, b, c, bits byte) message.Attribute {
	return message.Attribute{Type: 13, Value: append([]byte{a, b, c, 0}, u32(^uint32(0)<<(32-bits))...)}
}

// The peer names two networks and agrees to one of them: that is the policy of
// the first CHILD SA, and the other network gets a CHILD SA of its own.
func TestLeasedByThePeer(t *testing.T) {
	r := newRig(t, asksLease)
	p := newPuppet(r, 1)
	p.acceptInit()
	h, ps := p.asked(message.ExchangeIKEAuth)
	p.note(ps)
	if req := findPayload[*message.Config](ps); req == nil || req.CfgType != 1 || len(req.Attributes) != 7 {
		t.Fatalf("request %v", req)
	}
	p.spi++
	reply := cp(2, message.Attribute{Type: 1, Value: []byte{192, 168, 77, 254}}, message.Attribute{Type: 3, Value: []byte{10, 5, 8, 1}},
		subnet(10, 5, 8, 24), subnet(192, 168, 55, 24))
	p.answer(h, p.authPayloads(reply, saOf(withSPI(espProposal, u32(p.spi))), wholeSpace(true), ts(false, "10.5.0.0/16"))...)

	conf := seen[core.Configured](r)
	if len(conf) != 1 || conf[0].Addrs[0].String() != "192.168.77.254" || conf[0].DNS[0].String() != "10.5.8.1" {
		t.Fatalf("configured %+v", conf)
	}
	added := seen[core.AddPolicy](r)
	if len(added) != 1 || len(added[0].Pairs) != 1 || added[0].Pairs[0].String() != "192.168.77.254/32 => 10.5.8.0/24" {
		t.Fatalf("policies %+v", added)
	}
	h, ps = p.asked(message.ExchangeCreateChildSA)
	if got := findPayload[*message.TS](ps[3:]); got == nil || got.Selectors[0].String() != "192.168.55.0/24" {
		t.Fatalf("asked for %s", describe(ps))
	}
	p.spi++
	p.answer(h, saOf(withSPI(espProposal, u32(p.spi))), nonce(5), ts(true, "192.168.77.254/32"), ts(false, "192.168.55.0/24"))
	if added = seen[core.AddPolicy](r); len(added) != 2 || added[1].Pairs[0].String() != "192.168.77.254/32 => 192.168.55.0/24" || added[1].Ref == added[0].Ref {
		t.Fatalf("policies %+v", added)
	}
	for _, k := range r.children { // what the peer agreed to beyond our address is not for us
		if k.Pairs[0].Local.String() != "192.168.77.254/32" {
			t.Errorf("CHILD SA for %v", k.Pairs)
		}
	}
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	p.nextID = 0
	p.request(message.ExchangeInformational, deleteIKE())
	if len(seen[core.Unconfigured](r)) != 1 || len(seen[core.DropPolicy](r)) != 2 {
		t.Errorf("after the end: %v, %v", seen[core.Unconfigured](r), seen[core.DropPolicy](r))
	}
}

// A peer that gives no address is left and tried again later.
func TestThePeerGivesNoAddress(t *testing.T) {
	r := newRig(t, asksLease)
	p := newPuppet(r, 1)
	p.acceptInit()
	h, _ := p.asked(message.ExchangeIKEAuth)
	p.answer(h, p.authPayloads(note(message.NotifyInternalAddressFailure))...)
	if len(seen[core.Configured](r))+len(r.children) != 0 {
		t.Error("something came of it")
	}
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h)
	r.take()
	r.pass(5 * time.Second)
	if len(r.take()) == 0 {
		t.Error("it is not tried again")
	}
}
