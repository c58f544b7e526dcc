package ike

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
)

// settled1 is a puppet with an IKE SA and a CHILD SA.
func settled1(t testing.TB, mode func(*core.Config)) (*rig, *puppet1) {
	r := newRig(t, mode)
	p := newPuppet1(r, 1)
	if mode == nil || r.cfg.Peers[0].Mode == core.ModeMain {
		p.main()
	} else {
		p.aggressive(false)
	}
	p.quick(0xc0000001)
	if r.established() != 1 || len(r.children) != 1 {
		t.Fatal(r.reasons())
	}
	return r, p
}

// alive checks that the SAs of a puppet are there and answer.
func (p *puppet1) alive(t *testing.T, children int) {
	t.Helper()
	out := p.inform(&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: p.cookies(), Kind: isakmp.NotifyRUThere, Data: u32(1)})
	if len(out) != 1 || p.r.established() != 1 || len(p.r.children) != children {
		t.Errorf("%d answers; left: %v, %d CHILD SAs: %s", len(out), p.r.e.SAs(), len(p.r.children), p.r.reasons())
	}
}

// FuzzEndpointV1 hands an endpoint with one SA of IKEv1 any datagram, as it is or with the cookies of the SA, in clear and as if it were
// encrypted. Nothing that has no proof touches the SA.
func FuzzEndpointV1(f *testing.F) {
	dir := filepath.Join("..", "..", "shared", "vectors", "ike-seeds", "v1")
	if entries, err := os.ReadDir(dir); err == nil {
		for i, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, i%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, cookies bool) {
		r, p := settled1(t, inMainModeRig)
		if cookies && len(b) >= 16 {
			copy(b, p.cookies())
		}
		bad := r.count(core.EvBadMessage)
		r.datagram(p.addr, b)
		if n := r.count(core.EvBadMessage) - bad; n > 1 {
			t.Errorf("%d bad messages counted for one", n)
		}
		r.datagram(p.addr, b)
		r.pass(time.Minute)
		if n := len(r.take()); n > 4 {
			t.Errorf("%d answers to two messages", n)
		}
		p.alive(t, 1)
		if len(r.e.strangers.half) != 0 {
			t.Errorf("left: %v", r.e.SAs())
		}
	})
}

// FuzzInsideV1 is a peer that has proved itself and says anything at all, with a HASH that is right.
func FuzzInsideV1(f *testing.F) {
	add := func(x message.ExchangeType, ps ...isakmp.Payload) {
		first, b := isakmp.AppendPayloads(nil, ps)
		f.Add(uint8(x), uint8(first), b, uint32(0x7001))
	}
	add(isakmp.ExchangeInformational, deleteESPv1(0xc0000001))
	add(isakmp.ExchangeInformational, &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{make([]byte, 16)}})
	add(isakmp.ExchangeInformational, connected(0xc0000001), &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, Kind: isakmp.NotifyNoProposalChosen})
	add(isakmp.ExchangeInformational, &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyUnityLoadBalance, Data: []byte{192, 0, 2, 9}})
	add(isakmp.ExchangeTransaction, &isakmp.Attributes{CfgType: isakmp.CfgRequest, ID: 1, List: []isakmp.Attribute{isakmp.Variable(1, nil), isakmp.Variable(isakmp.XAuthUserName, nil)}})
	add(isakmp.ExchangeTransaction, &isakmp.Attributes{CfgType: isakmp.CfgSet, ID: 1, List: []isakmp.Attribute{isakmp.Basic(isakmp.XAuthStatus, 1), isakmp.Variable(isakmp.UnitySplitInclude, make([]byte, 14))}})
	add(isakmp.ExchangeQuick, &isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{{Number: 1, Protocol: isakmp.ProtoESP, SPI: u32(0xc0000002),
		Transforms: []isakmp.Transform{{Number: 1, ID: 20, Attributes: isakmp.Phase2{Encapsulation: isakmp.EncapTunnel, KeyBits: 128}.Attributes()}}}}}, &isakmp.Nonce{Data: make([]byte, 16)},
		&isakmp.ID{IDType: isakmp.IDIPv4Subnet, Data: []byte{10, 2, 0, 0, 255, 255, 0, 0}}, &isakmp.ID{IDType: isakmp.IDIPv4Subnet, Data: []byte{10, 1, 0, 0, 255, 255, 0, 0}})
	f.Fuzz(func(t *testing.T, x, first uint8, rest []byte, id uint32) {
		if len(rest) > 60000 {
			return
		}
		r, p := settled1(t, inMainModeRig)
		_, plain := isakmp.AppendPayloads(nil, []isakmp.Payload{&isakmp.Hash{Data: mac(p.a, u32(id), rest)}})
		plain[0] = first
		plain = append(plain, rest...)
		plain = append(plain, make([]byte, (16-len(plain)%16)%16)...)
		iv := p.quickIV(id)
		raw := p.sealPlain(message.ExchangeType(x), id, &iv, isakmp.TypeHash, plain)
		r.datagram(p.addr, raw)
		answers := len(r.take())
		r.datagram(p.addr, raw) // said again
		if n := len(r.take()); answers > 4 || n > answers {
			t.Errorf("%d answers, and %d when it is said again", answers, n)
		}
		if n := len(r.e.SAs()); n > 2 || len(r.children) > 2 {
			t.Errorf("%d IKE SAs, %d CHILD SAs", n, len(r.children))
		}
		// Whatever it was, in the end everything goes.
		r.in(core.Command{Do: core.Shutdown})
		r.pass(4 * time.Minute)
		if sas := r.e.SAs(); len(sas) != 0 || len(r.children) != 0 {
			t.Errorf("left: %v, %d CHILD SAs", sas, len(r.children))
		}
		if _, timer := r.e.Deadline(); timer {
			t.Error("a timer is left")
		}
	})
}
