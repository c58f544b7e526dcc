package v1

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// bareSA is an SA that has an Env, a peer and a host, and no other owner.
func bareSA() *SA {
	return newSA(&ikesa.SA{Env: core.NewEnv([32]byte{}), Peer: &core.Peer{}, Owner: ikesa.Owner{Host: oneHost{}}}, nil)
}

// oneHost is a host of which nothing is known.
type oneHost struct{}

func (oneHost) Config() *core.Config { return &core.Config{} }
func (oneHost) Addrs() []netip.Addr  { return nil }
func (oneHost) Nets() []netip.Prefix { return nil }

// Message IDs are remembered up to a bound; then the oldest ones are forgotten, and only those.
func TestUsedMessageIDs(t *testing.T) {
	var u usedIDs
	for id := range uint32(maxUsed) {
		u.add(id)
		u.add(id) // a second time it takes no place
	}
	if !u.has(0) || !u.has(maxUsed-1) || len(u.ids) != maxUsed {
		t.Fatalf("%d are remembered, want %d", len(u.ids), maxUsed)
	}
	for round := range uint32(2) { // the places are used again and again
		for id := range uint32(maxUsed) {
			u.add((round+1)*maxUsed + id)
			if id == 4 && (u.has(round*maxUsed+4) || !u.has(round*maxUsed+5) || !u.has((round+1)*maxUsed)) {
				t.Errorf("round %d: the fifth new one has the place of another than the fifth", round)
			}
		}
		if len(u.ids) != maxUsed || len(u.ring) != maxUsed {
			t.Fatalf("%d are remembered in %d places, want %d", len(u.ids), len(u.ring), maxUsed)
		}
	}
}

// An exchange without a quick mode ends like any other.
func TestExchangeWithoutQuickMode(t *testing.T) {
	sa := bareSA()
	sa.base.Suite = core.Suite{PRF: suite.PRFByName("sha256"), Encr: suite.EncrByName("aes-128-cbc")}
	for name, ends := range map[string]func(x *exchange){"finished": sa.finish, "concluded": sa.conclude} {
		x := sa.begin()
		sa.exchanges[x.id] = x
		if ends(x); !x.over {
			t.Errorf("%s: it is not over", name)
		}
	}
}

// What a peer says that it can do is heard from each of its messages, and stays.
func TestFeatures(t *testing.T) {
	say := func(list ...isakmp.Vendor) (ps []isakmp.Payload) {
		ps = append(ps, &isakmp.Nonce{})
		for _, v := range list {
			ps = append(ps, &isakmp.VendorID{Data: v.Bytes()})
		}
		return append(ps, &isakmp.VendorID{Data: []byte("nobody's")})
	}
	for _, c := range []struct {
		said [][]isakmp.Payload
		want features
	}{
		{[][]isakmp.Payload{say()}, features{}},
		{[][]isakmp.Payload{say(isakmp.VendorDPD)}, features{dpd: true}},
		{[][]isakmp.Payload{say(isakmp.VendorWindows), say()}, features{windows: true}},
		{[][]isakmp.Payload{say(), say(isakmp.VendorWindows, isakmp.VendorDPD)}, features{windows: true, dpd: true}},
		{[][]isakmp.Payload{say(isakmp.VendorDPD), say()}, features{dpd: true}},
		{[][]isakmp.Payload{say(isakmp.VendorNATTDraft02, isakmp.VendorNATTDraft03, isakmp.VendorNATT)}, features{natt: isakmp.VendorNATT}},
		{[][]isakmp.Payload{say(isakmp.VendorNATTDraft02, isakmp.VendorNATTDraft03)}, features{natt: isakmp.VendorNATTDraft03}},
		{[][]isakmp.Payload{say(isakmp.VendorNATTDraft02), say(isakmp.VendorNATT)}, features{natt: isakmp.VendorNATTDraft02}}, // what was answered stays
	} {
		var f features
		for _, ps := range c.said {
			f.hear(ps)
		}
		if f != c.want {
			t.Errorf("%+v, want %+v", f, c.want)
		}
	}
}

// While phase 1 is under way an error that somebody says in clear is kept for people; nothing else is, and later nothing.
func TestSaidInClear(t *testing.T) {
	for _, c := range []struct {
		name string
		ps   []isakmp.Payload
		up   bool
		said isakmp.NotifyType
	}{
		{"an error", []isakmp.Payload{&isakmp.Notify{Kind: isakmp.NotifyNoProposalChosen}}, false, isakmp.NotifyNoProposalChosen},
		{"behind something else", []isakmp.Payload{&isakmp.Hash{}, &isakmp.Notify{Kind: isakmp.NotifyInitialContact}, &isakmp.Notify{Kind: isakmp.NotifyNoProposalChosen}}, false, isakmp.NotifyNoProposalChosen},
		{"a status", []isakmp.Payload{&isakmp.Notify{Kind: isakmp.NotifyInitialContact}}, false, 0},
		{"nothing", nil, false, 0},
		{"an error when it is up", []isakmp.Payload{&isakmp.Notify{Kind: isakmp.NotifyNoProposalChosen}}, true, 0},
	} {
		sa := bareSA()
		p := sa.phase1
		if c.up {
			sa.phase1 = nil
		}
		err := sa.inClear(&isakmp.Message{Chain: isakmp.Chain{Payloads: c.ps}})
		if _, ok := err.(dropped); !ok || p.said != c.said || strings.Contains(err.Error(), "which anybody could") != (c.said != 0) {
			t.Errorf("%s: %v, said %v", c.name, err, p.said)
		}
	}
}

func TestListOfMethods(t *testing.T) {
	for want, names := range map[string][]string{"nothing": nil, "a": {"a"}, "a or b": {"a", "b"}, "a or b or c": {"a", "b", "c"}} {
		if got := list(names); got != want {
			t.Errorf("%q: %q", names, got)
		}
	}
}

// The group of a quick mode's own key exchange: that of the CHILD SA before, that of phase 1 where any will do, else the
// first that IKEv1 has a number for. None where none comes first.
func TestGroupOfQuickMode(t *testing.T) {
	ecp, modp, x25519 := suite.GroupByName("ecp256"), suite.GroupByName("modp2048"), suite.GroupByName("x25519")
	if ecp.V1 == 0 || modp.V1 == 0 || x25519.V1 != 0 {
		t.Fatal("IKEv1 has numbers for other groups than this test says")
	}
	of := func(groups ...*suite.Group) (list []suite.KeyExchange) {
		for _, g := range groups {
			list = append(list, suite.KeyExchange{Group: g})
		}
		return list
	}
	for _, c := range []struct {
		name        string
		pfs         []suite.KeyExchange
		any         bool
		phase1, old *suite.Group
		want        *suite.Group
	}{
		{"no PFS", nil, false, ecp, nil, nil}, {"none first", append(of(nil), of(modp)...), false, ecp, nil, nil},
		{"the first", of(modp, ecp), false, ecp, nil, modp}, {"the first that has a number", of(x25519, modp, ecp), false, ecp, nil, modp},
		{"none has a number", of(x25519), false, ecp, nil, nil},
		{"any: that of phase 1", of(modp, ecp), true, ecp, nil, ecp}, {"any, and not that of phase 1", of(x25519, modp), true, ecp, nil, modp},
		{"any: that of phase 1 comes last", of(x25519, modp, ecp), true, ecp, nil, ecp},
		{"as before", of(modp, ecp), false, modp, ecp, ecp}, {"as before, without PFS now", nil, false, modp, ecp, ecp},
	} {
		q := &quick{sa: bareSA(), policy: &core.Policy{Proposal: core.Proposal{PFS: c.pfs, AnyPFS: c.any}}}
		q.sa.base.Suite.Group = c.phase1
		if c.old != nil {
			q.old = &Child{}
			q.old.Suite.Group = c.old
		}
		if got := q.group(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// tunnelPolicy is one of ESP with AES-GCM.
func tunnelPolicy() *core.Policy {
	return &core.Policy{Tunnel: true, Protocol: core.ProtoESP, Proposal: core.Proposal{Name: "default", Encrs: []*suite.Encr{suite.EncrByName("aes-128-gcm")}}}
}

// What the responder chose and we have not offered is refused before anything is noted of it.
func TestChoiceThatWasNotOffered(t *testing.T) {
	for name, encr := range map[string]string{"another key length": "aes-256-gcm", "another cipher": "3des"} {
		e := suite.EncrByName(encr)
		attrs := isakmp.Phase2{Encapsulation: isakmp.EncapTunnel, KeyBits: e.KeyBits}.Attributes()
		sap := &isakmp.SA{Proposals: []isakmp.Proposal{{Number: 1, Protocol: isakmp.ProtoESP, SPI: []byte{0xc0, 0, 0, 1}, Transforms: []isakmp.Transform{{Number: 1, ID: e.V1.ESP, Attributes: attrs}}}}}
		sa := bareSA()
		sa.base.Local, sa.base.Remote = netip.MustParseAddrPort("192.0.2.1:500"), netip.MustParseAddrPort("192.0.2.2:500")
		q := newQuick(sa, &exchange{mine: true})
		p := tunnelPolicy()
		q.policy = p
		err := q.read(&isakmp.Chain{}, sap)
		r, ok := err.(refused)
		if !ok || r.kind != isakmp.NotifyNoProposalChosen || !strings.Contains(r.reason, "was not offered") || q.policy != p || q.agreed.SPIOut != 0 {
			t.Errorf("%s: %v, SPI %08x", name, err, q.agreed.SPIOut)
		}
	}
}

// What IKEv1 can say of more selectors is the first of each end: the CHILD SA is for that, and the peer is told so.
func TestNarrowedToOneSelector(t *testing.T) {
	ts := func(s string) selector.TS { return selector.FromPrefix(netip.MustParsePrefix(s)) }
	a, b, remote := ts("10.1.0.0/24"), ts("10.1.5.0/24"), ts("10.2.0.0/16")
	q := &quick{sa: bareSA(), policy: tunnelPolicy()}
	q.agreed.Local, q.agreed.Remote = []selector.TS{a, b}, []selector.TS{remote}
	q.agreed.Pairs = selector.Pairs(q.agreed.Local, q.agreed.Remote)
	if err := q.replyIDs(&isakmp.Chain{}, remote, ts("10.1.0.0/16")); err != nil {
		t.Fatal(err)
	}
	if want := selector.Pairs([]selector.TS{a}, []selector.TS{remote}); !slices.Equal(q.agreed.Pairs, want) {
		t.Errorf("the CHILD SA is for %v, want %v", q.agreed.Pairs, want)
	}
	var said []selector.TS
	for _, p := range q.reply {
		s, _ := p.(*isakmp.ID).Selector()
		said = append(said, s)
	}
	if !slices.Equal(said, []selector.TS{remote, a}) {
		t.Errorf("the peer is told %v", said)
	}
}
