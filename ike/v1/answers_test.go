package v1

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// A lifetime says only the limits that it has.
func TestLifetimeInWords(t *testing.T) {
	for want, l := range map[string]life{"1h0m0s": {time.Hour, 0}, "1h0m0s and 1024 bytes": {time.Hour, 1024}, "0s and 1 bytes": {0, 1}} {
		if got := l.String(); got != want {
			t.Errorf("%+v is %q, want %q", l, got, want)
		}
	}
}

// The networks of a client are in one attribute of Cisco Unity, or, where it knows nothing of that, one subnet each. Without
// networks there is neither.
func TestNetworksThatAreGiven(t *testing.T) {
	nets := []netip.Prefix{netip.MustParsePrefix("10.1.5.0/24"), netip.MustParsePrefix("10.1.9.0/24")}
	for _, c := range []struct {
		split  []netip.Prefix
		unity  bool
		unitys int
		subs   int
	}{{nets, true, 1, 0}, {nets, false, 0, 2}, {nil, true, 0, 0}, {nil, false, 0, 0}} {
		sa := bareSA()
		sa.base.Lease = &ikesa.Lease{Addrs: []netip.Addr{netip.MustParseAddr("192.168.77.9")}}
		unitys, subs := 0, 0
		for _, a := range given(sa, &core.ModeConfig{Split: c.split}, ikesa.ConfigRequest{V4: true}, c.unity) {
			switch a.Type {
			case isakmp.UnitySplitInclude:
				unitys++
				if got, err := isakmp.ParseNets(a.Value); err != nil || fmt.Sprint(got) != fmt.Sprint(c.split) {
					t.Errorf("networks %v, %v", got, err)
				}
			case ikesa.CfgIP4Subnet:
				subs++
			}
		}
		if unitys != c.unitys || subs != c.subs {
			t.Errorf("networks %v, Unity %v: %d attributes of Unity and %d subnets, want %d and %d", c.split, c.unity, unitys, subs, c.unitys, c.subs)
		}
	}
}

// A client that has said that it knows Cisco Unity gets its networks so, whether it asks for them in that form or not.
func TestWhoGetsNetworksOfUnity(t *testing.T) {
	for _, c := range []struct {
		says, asks, want bool
	}{{true, false, true}, {false, true, true}, {true, true, true}, {false, false, false}} {
		sa := keyed()
		sa.peer.unity = c.says
		sa.base.Lease = &ikesa.Lease{Addrs: []netip.Addr{netip.MustParseAddr("192.168.77.9")}}
		sa.base.Identity = &core.Identity{Mode: &core.ModeConfig{Responder: true, Split: []netip.Prefix{netip.MustParsePrefix("10.1.5.0/24")}}}
		var said *isakmp.Attributes
		sa.base.Env.Trace = func(sent bool, _ message.Header, ps []message.Payload) {
			if sent {
				said = find[*isakmp.Attributes](ps)
			}
		}
		request := &isakmp.Attributes{CfgType: isakmp.CfgRequest, List: []isakmp.Attribute{isakmp.Variable(ikesa.CfgIP4Address, nil)}}
		if c.asks {
			request.List = append(request.List, isakmp.Variable(isakmp.UnitySplitInclude, nil))
		}
		x := sa.newExchange(7, false)
		x.trans = &transaction{}
		giveConfig(sa, x, request)
		if said == nil || said.CfgType != isakmp.CfgReply {
			t.Fatalf("the answer is %v", said)
		}
		if _, ok := said.Find(isakmp.UnitySplitInclude); ok != c.want {
			t.Errorf("says Unity %v, asks for it %v: has it %v", c.says, c.asks, ok)
		}
	}
}

// Keys that are made anew leave nothing of those before: a forged message 2 of aggressive mode has keys, too.
func TestKeysOfAForgedAnswerAreWiped(t *testing.T) {
	sa := keyed()
	p := newPhase1(sa)
	p.method, p.ni, p.nr = isakmp.AuthPreShared, []byte("nonce of the initiator"), []byte("nonce of the responder")
	p.ke.shared, p.ke.own, p.ke.peer = secret.Bytes("g^xy"), []byte("g^x"), []byte("g^y")
	sa.base.Identity = &core.Identity{Secret: secret.Bytes("a secret")}
	before := []secret.Bytes{sa.keys.d, sa.keys.a, sa.keys.enc}
	p.makeKeys()
	for i, k := range before {
		if !bytes.Equal(k, make([]byte, len(k))) {
			t.Errorf("key %d of before is still there", i)
		}
	}
	if !sa.keys.made() || len(p.iv) != 16 {
		t.Errorf("no new keys, or an IV of %d bytes", len(p.iv))
	}
}

// Of the CHILD SAs for one traffic the newest that seals counts: not one that waits for message 3, and none of other traffic.
func TestNewestChild(t *testing.T) {
	ts := func(s string) selector.TS { return selector.FromPrefix(netip.MustParsePrefix(s)) }
	pairs := selector.Pairs([]selector.TS{ts("10.1.0.0/16")}, []selector.TS{ts("10.2.0.0/16")})
	others := selector.Pairs([]selector.TS{ts("10.1.0.0/16")}, []selector.TS{ts("10.3.0.0/16")})
	policy, other := &core.Policy{Ref: 1}, &core.Policy{Ref: 2}
	sa := bareSA()
	add := func(id core.ChildID, p *core.Policy, pairs []selector.Pair, standby bool) *Child {
		c := &Child{SA: sa.base, ID: id, Policy: p, Agreement: ikesa.Agreement{Pairs: pairs}, Standby: standby}
		sa.base.Children = append(sa.base.Children, c)
		return c
	}
	if got := newest(sa.base, policy, pairs); got != nil {
		t.Errorf("without CHILD SAs: %d", got.ID)
	}
	first, third := add(1, policy, pairs, false), add(3, policy, pairs, false)
	add(2, policy, pairs, false)
	add(4, policy, pairs, true)
	add(5, other, pairs, false)
	add(6, policy, others, false)
	if got := newest(sa.base, policy, pairs); got != third {
		t.Errorf("%+v, want the third", got)
	}
	third.Standby = true
	sa.base.Children = sa.base.Children[:1:1]
	add(7, policy, pairs, true)
	if got := newest(sa.base, policy, pairs); got != first {
		t.Errorf("%+v, want the first", got)
	}
}

// An encapsulation that was not offered is refused: one that is not known, and none in UDP where ESP goes in UDP.
func TestEncapsulationThatWasNotOffered(t *testing.T) {
	for _, encap := range []uint16{99, isakmp.EncapTunnel} {
		gcm := suite.EncrByName("aes-128-gcm")
		attrs := isakmp.Phase2{Encapsulation: encap, KeyBits: gcm.KeyBits}.Attributes()
		sap := &isakmp.SA{Proposals: []isakmp.Proposal{{Number: 1, Protocol: isakmp.ProtoESP, SPI: []byte{0xc0, 0, 0, 1}, Transforms: []isakmp.Transform{{Number: 1, ID: gcm.V1.ESP, Attributes: attrs}}}}}
		sa := bareSA()
		sa.base.Local, sa.base.Remote = netip.MustParseAddrPort("192.0.2.1:500"), netip.MustParseAddrPort("192.0.2.2:500")
		q := newQuick(sa, &exchange{mine: true})
		q.policy = tunnelPolicy()
		err := q.read(&isakmp.Chain{}, sap)
		if r, ok := err.(refused); !ok || r.kind != isakmp.NotifyNoProposalChosen || !strings.Contains(r.reason, fmt.Sprintf("encapsulation %d, which was not offered", encap)) {
			t.Errorf("encapsulation %d: %v", encap, err)
		}
	}
}
