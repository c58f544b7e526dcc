package isakmp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

var payloadCases = []struct {
	name    string
	body    string
	payload Payload
}{
	{"SA of phase 1",
		`00000001 00000001
		 00 00 005c 01 01 00 02
		 03 00 0028 01 01 0000 80010007 800e0100 80020002 8004000e 80030001 800b0001 000c0004 00015180
		 00 00 002c 02 01 0000 80010005 80020001 80040002 8003fde9 800b0001 800c7080 800b0002 000c0004 00100000`,
		&SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: []Proposal{{Number: 1, Protocol: ProtoISAKMP, SPI: []byte{}, Transforms: []Transform{
			{1, KeyIKE, Phase1{Encryption: 7, KeyBits: 256, Hash: 2, Group: 14, Auth: AuthPreShared, Life: Lifetime{Seconds: 86400}}.Attributes()},
			{2, KeyIKE, Phase1{Encryption: 5, Hash: 1, Group: 2, Auth: AuthXAuthInitPreShared, Life: Lifetime{28800, 1 << 20}}.Attributes()},
		}}}}},
	{"SA of phase 2: AH with ESP, or IPComp",
		`00000001 00000001
		 02 00 0024 01 02 04 01 a1a2a3a4 00 00 0018 01 03 0000 80040001 80050002 80010001 8002 0e10
		 02 00 0020 01 03 04 01 e1e2e3e4 00 00 0014 01 0c 0000 80040001 80050002 80060080
		 00 00 0016 02 04 02 01 0003 00 00 000c 01 02 0000 80040001`,
		&SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: []Proposal{
			{Number: 1, Protocol: ProtoAH, SPI: []byte{0xa1, 0xa2, 0xa3, 0xa4}, Transforms: []Transform{
				{1, 3, []Attribute{Basic(4, 1), Basic(5, 2), Basic(1, 1), Basic(2, 3600)}}}},
			{Number: 1, Protocol: ProtoESP, SPI: []byte{0xe1, 0xe2, 0xe3, 0xe4}, Transforms: []Transform{
				{1, 12, Phase2{Encapsulation: EncapTunnel, Auth: 2, KeyBits: 128}.Attributes()}}},
			{Number: 2, Protocol: ProtoIPComp, SPI: []byte{0, 3}, Transforms: []Transform{{1, 2, []Attribute{Basic(4, 1)}}}},
		}}},
	{"SA without transforms", `00000001 00000001 00 00 0008 01 01 00 00`,
		&SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: []Proposal{{Number: 1, Protocol: 1, SPI: []byte{}}}}},
	{"SA of the DOI of ISAKMP", `00000000 00000001 00 00 0008 01 01 00 00`,
		&SA{Situation: SituationIdentityOnly, Proposals: []Proposal{{Number: 1, Protocol: 1, SPI: []byte{}}}}},
	{"SA of another DOI", `00000002 00000001 010203`, &SA{DOI: 2, Situation: 1, Rest: []byte{1, 2, 3}}},
	{"SA with secrecy", `00000001 00000003 0000000a 0001`, &SA{DOI: 1, Situation: 3, Rest: []byte{0, 0, 0, 10, 0, 1}}},
	{"KE", `aabbcc`, &KE{[]byte{0xaa, 0xbb, 0xcc}}},
	{"ID of an address", `01 11 01f4 c0000201`, &ID{IDIPv4, 17, 500, []byte{192, 0, 2, 1}}},
	{"ID of a name", `02 00 0000 616263`, &ID{IDType: IDFQDN, Data: []byte("abc")}},
	{"CERT", `04 3082`, &Cert{CertX509, []byte{0x30, 0x82}}},
	{"CERTREQ", `04`, &CertReq{CertX509, []byte{}}},
	{"HASH", `0102`, &Hash{[]byte{1, 2}}},
	{"SIG", `0102`, &Sig{[]byte{1, 2}}},
	{"Nonce", `0001020304050607`, &Nonce{[]byte{0, 1, 2, 3, 4, 5, 6, 7}}},
	{"N", `00000001 01 10 8d28 0102030405060708 1112131415161718 0000002a`,
		&Notify{DOIIPsec, ProtoISAKMP, []byte{1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18}, NotifyRUThere, []byte{0, 0, 0, 42}}},
	{"D", `00000001 03 04 0002 00000100 00000200`, &Delete{DOIIPsec, ProtoESP, [][]byte{{0, 0, 1, 0}, {0, 0, 2, 0}}}},
	{"D of nothing", `00000001 03 00 0000`, &Delete{DOI: DOIIPsec, Protocol: ProtoESP}},
	{"VID", `63756c76657274`, &VendorID{[]byte("culvert")}},
	{"mode config request", `01 00 1234 0001 0000 0003 0000 7000 0000`,
		&Attributes{CfgRequest, 0x1234, []Attribute{Variable(1, []byte{}), Variable(3, []byte{}), Variable(UnityBanner, []byte{})}}},
	{"XAuth", `02 00 0001 c0880000 4089 0003 626f62 408a 0003 707764`,
		&Attributes{CfgReply, 1, []Attribute{Basic(XAuthType, XAuthGeneric), Variable(XAuthUserName, []byte("bob")), Variable(XAuthPassword, []byte("pwd"))}}},
	{"NAT-D", `0102`, &NATD{Data: []byte{1, 2}}},
	{"NAT-D of the drafts", `0102`, &NATD{Draft: true, Data: []byte{1, 2}}},
	{"NAT-OA", `01 000000 c0000201`, &NATOA{Addr: netip.MustParseAddr("192.0.2.1")}},
	{"NAT-OA of the drafts", `05 000000 20010db8000000000000000000000001`, &NATOA{true, netip.MustParseAddr("2001:db8::1")}},
	{"fragment", `0001 02 01 aabb`, &Fragment{1, 2, true, []byte{0xaa, 0xbb}}},
	{"unknown", `010203`, &Unknown{T: 200, Body: []byte{1, 2, 3}}},
}

// Every payload that has a codec has a case, and with it the tests of every case.
func TestEveryPayloadHasACase(t *testing.T) {
	has := map[PayloadType]bool{}
	for _, c := range payloadCases {
		if c.payload != nil {
			has[c.payload.Type()] = true
		}
	}
	for i, parse := range parsers {
		if parse != nil && !has[PayloadType(i)] {
			t.Errorf("payloadCases has no %s", PayloadType(i))
		}
	}
}

func TestPayloads(t *testing.T) {
	for _, c := range payloadCases {
		if c.payload == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			body := unhex(t, c.body)
			var odd Odd
			p, err := parsePayload(c.payload.Type(), body, &odd)
			if err != nil {
				t.Fatal(err)
			}
			if odd != (Odd{}) {
				t.Errorf("reported %+v", odd)
			}
			if sa, ok := p.(*SA); ok {
				if !bytes.Equal(sa.Body(), body) {
					t.Errorf("the body is %x, want %x", sa.Body(), body)
				}
				sa.raw = nil
				if !bytes.Equal(sa.Body(), body) {
					t.Errorf("the body made of its parts is %x, want %x", sa.Body(), body)
				}
			}
			if !reflect.DeepEqual(p, c.payload) {
				t.Errorf("parsed\n%#v, want\n%#v", p, c.payload)
			}
			if got := c.payload.AppendBody([]byte("before")); !bytes.Equal(got, append([]byte("before"), body...)) {
				t.Errorf("appended\n%x, want\n%x", got[len("before"):], body)
			}
			for i := range body {
				fixPoint(t, c.payload.Type(), body[:i])
			}
		})
	}
}

// fixPoint checks that what can be parsed is written in a form that is parsed
// and written the same again.
func fixPoint(t testing.TB, typ PayloadType, body []byte) {
	t.Helper()
	var odd, none Odd
	p, err := parsePayload(typ, body, &odd)
	if err != nil {
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Payload != typ || p != nil {
			t.Fatalf("%s %x: payload %v, error %v", typ, body, p, err)
		}
		return
	}
	if p.Type() != typ {
		t.Fatalf("%s %x became a payload of type %s", typ, body, p.Type())
	}
	once := p.AppendBody(nil)
	q, err := parsePayload(typ, once, &none)
	if err != nil {
		t.Fatalf("%s %x was written as %x: %v", typ, body, once, err)
	}
	if twice := q.AppendBody(nil); !bytes.Equal(once, twice) {
		t.Fatalf("%s %x was written as %x, then as %x", typ, body, once, twice)
	}
	if none != (Odd{}) {
		t.Fatalf("%s %x was written as %x with %+v", typ, body, once, none)
	}
	switch p := p.(type) {
	case *SA:
		if !bytes.Equal(p.Body(), body) {
			t.Fatalf("the body of %x is %x", body, p.Body())
		}
		if !odd.Reserved && p.DOI == DOIIPsec && !bytes.Equal(once, body) {
			t.Fatalf("SA %x was written as %x", body, once)
		}
	case *ID:
		if !bytes.Equal(p.Body(), body) {
			t.Fatalf("the body of %x is %x", body, p.Body())
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
