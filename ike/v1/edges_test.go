package v1

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
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
		attrs := isakmp.Phase2{Encapsulation: isakmp.EncapUDPTunnel, KeyBits: e.KeyBits}.Attributes()
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

// As initiator we say all that we know of NAT traversal, as responder what the peer knows; nothing where the profile has none.
func TestVendorIDsOfNATTraversal(t *testing.T) {
	for _, c := range []struct {
		name            string
		initiator, none bool
		peer            isakmp.Vendor
		want            []isakmp.Vendor
	}{
		{"initiator", true, false, isakmp.VendorUnknown, natTraversals}, {"without NAT traversal", true, true, isakmp.VendorUnknown, nil},
		{"responder", false, false, isakmp.VendorNATTDraft03, []isakmp.Vendor{isakmp.VendorNATTDraft03}}, {"responder of a peer that knows none", false, false, isakmp.VendorUnknown, nil},
		{"responder without NAT traversal", false, true, isakmp.VendorNATT, nil},
	} {
		sa := bareSA()
		sa.base.Identity = &core.Identity{}
		sa.base.Initiator, sa.peer.natt, sa.base.Peer.Profile.NoNATT = c.initiator, c.peer, c.none
		var got []isakmp.Vendor
		for _, p := range sa.vendorIDs() {
			if v := isakmp.IdentifyVendor(p.(*isakmp.VendorID).Data); slices.Contains(natTraversals, v) {
				got = append(got, v)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// What an initiator says nothing of is as the responder has it.
func TestLifetimeOfWhichNothingIsSaid(t *testing.T) {
	ours := life{time.Hour, 1 << 20}
	p := &core.Proposal{Name: "default", Lifetime: ours.time, Lifebytes: ours.bytes}
	for _, c := range []struct {
		check core.ProposalCheck
		said  life
		want  life
		ok    bool
	}{
		{core.CheckObey, life{}, ours, true}, {core.CheckStrict, life{}, ours, true}, {core.CheckClaim, life{}, ours, true},
		{core.CheckExact, life{0, ours.bytes}, ours, true}, {core.CheckExact, life{time.Hour, 0}, life{}, false},
		{core.CheckObey, life{time.Minute, 0}, life{time.Minute, ours.bytes}, true}, {core.CheckObey, life{1, ours.bytes}, life{1, ours.bytes}, true},
	} {
		got, _, err := checkLife(c.check, p, c.said)
		if (err == nil) != c.ok || c.ok && got != c.want {
			t.Errorf("%v, said %v: %v, %v, want %v", c.check, c.said, got, err, c.want)
		}
	}
}

// A responder says that it knows Cisco Unity where any of those who the peer may be gets an address.
func TestWhoIsToldOfUnity(t *testing.T) {
	peer := func(modes ...*core.ModeConfig) *core.Peer {
		p := &core.Peer{}
		for _, m := range modes {
			p.Identities = append(p.Identities, &core.Identity{Mode: m})
		}
		return p
	}
	gives, asks := &core.ModeConfig{Responder: true}, &core.ModeConfig{}
	for _, c := range []struct {
		name  string
		peers []*core.Peer
		want  bool
	}{
		{"nobody", nil, false}, {"no mode-config", []*core.Peer{peer(nil), peer()}, false}, {"who asks for one", []*core.Peer{peer(asks)}, false}, {"one", []*core.Peer{peer(gives)}, true},
		{"the second peer", []*core.Peer{peer(nil), peer(gives)}, true}, {"the second identity", []*core.Peer{peer(nil, gives)}, true},
	} {
		sa := bareSA()
		sa.phase1.candidates = c.peers
		if got := saysUnity(sa); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// A proposal of AH has the number of AH's transform, and the algorithm as an attribute; one of ESP has the cipher's number.
func TestTransformIDs(t *testing.T) {
	sha, cbc := suite.IntegByName("sha256"), suite.EncrByName("aes-128-cbc")
	for _, c := range []struct {
		protocol core.Protocol
		id       uint8
	}{{core.ProtoAH, sha.V1.AH}, {core.ProtoESP, cbc.V1.ESP}} {
		p := &core.Policy{Tunnel: true, Protocol: c.protocol, Proposal: core.Proposal{Encrs: []*suite.Encr{cbc}, Integs: []*suite.Integ{sha}}}
		if c.protocol == core.ProtoAH {
			p.Proposal.Encrs = nil
		}
		q := phase2SA(p, nil, spis{own: 0xc0000001}, isakmp.EncapTunnel).Proposals[0]
		if q.Protocol != uint8(c.protocol) || len(q.Transforms) == 0 || q.Transforms[0].ID != c.id || isakmp.ReadPhase2(q.Transforms[0].Attributes).Auth != sha.V1.ESP {
			t.Errorf("%v: %+v, want the ID %d", c.protocol, q, c.id)
		}
	}
}

// keyed is bareSA with keys, as after phase 1.
func keyed() *SA {
	sa := bareSA()
	s := &sa.base.Suite
	s.PRF, s.Encr = suite.PRFByName("sha256"), suite.EncrByName("aes-128-cbc")
	sa.keys = deriveKeys(s.PRF, s.Encr, secret.Bytes("SKEYID"), secret.Bytes("g^xy"), 1, 2)
	sa.base.SPIi, sa.base.SPIr, sa.last, sa.phase1 = 1, 2, make([]byte, 16), nil
	return sa
}

// A transaction of ours that is answered is over: the same answer, and another one, do nothing more.
func TestTransactionIsAnsweredOnce(t *testing.T) {
	sa := keyed()
	answered, lost := 0, 0
	transact(sa, isakmp.CfgRequest, nil, func(*isakmp.Attributes) { answered++ }, func() { lost++ })
	if len(sa.exchanges) != 1 {
		t.Fatalf("%d exchanges", len(sa.exchanges))
	}
	for _, x := range sa.exchanges {
		for n := range 2 {
			iv := slices.Clone(x.iv)
			a := &isakmp.Attributes{CfgType: isakmp.CfgReply, ID: uint16(n)}
			raw := sa.sealHashed(isakmp.ExchangeTransaction, x.id, &iv, func(rest []byte) secret.Bytes { return sa.keys.hash1(x.id, rest) }, a)
			m, err := isakmp.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			err = transactionMessage(sa, x, m, raw, core.Datagram{Data: raw})
			if !x.over || answered != 1 || (err == nil) != (n == 0) {
				t.Errorf("answer %d: over %v, answered %d times, %v", n+1, x.over, answered, err)
			}
		}
	}
	for range 20 {
		sa.base.Env.SetNow(sa.base.Env.Now().Add(time.Minute))
		sa.base.Env.Timers.Run(sa.base.Env.Now())
	}
	if len(sa.exchanges) != 0 || lost != 0 {
		t.Errorf("%d exchanges are left, %d are lost", len(sa.exchanges), lost)
	}
}

// A question about a proof is answered when nobody waits for it any more: the IKE SA is gone, phase 1 is through, or the message that
// the proof was in was passed over and another one is looked at. The answer changes nothing.
func TestLateAnswerAboutAProof(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(p *phase1)
		heard     bool
	}{
		"in time":            {func(*phase1) {}, true},
		"it was passed over": {func(p *phase1) { p.misread++ }, false},
		"phase 1 is through": {func(p *phase1) { p.sa.phase1 = nil }, false},
		"another phase 1":    {func(p *phase1) { p.sa.phase1 = newPhase1(p.sa) }, false},
		"the SA is gone":     {func(p *phase1) { p.sa.base.State = Ended }, false},
	} {
		sa := bareSA()
		p, env, heard := sa.phase1, sa.base.Env, false
		proofSide{p: p}.Ask(core.SourceFor{}, func(secret.Bytes, error) error {
			heard = true
			return nil
		})
		o, _ := env.Poll()
		ask, ok := o.(core.Ask)
		if !ok {
			t.Fatalf("%s: %T", name, o)
		}
		c.meanwhile(p)
		env.Answered(core.Answer{ID: ask.ID})
		if heard != c.heard {
			t.Errorf("%s: heard %v", name, heard)
		}
	}
}
