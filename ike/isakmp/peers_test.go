package isakmp

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
)

// Messages of peers that differ from what the RFCs lead one to expect, byte for byte.
func TestPeersAsTheyAre(t *testing.T) {
	const header = `0102030405060708 1112131415161718`
	for _, c := range []struct {
		what     string
		message  string
		payloads []Payload
		odd      Odd
	}{
		{"the third message of aggressive mode in clear", header + `08 10 04 00 00000000 0000002c 00 00 0010 0102030405060708090a0b0c`,
			[]Payload{&Hash{unhex(t, `0102030405060708090a0b0c`)}}, Odd{}},
		{"NAT-D by RFC 3947 and its drafts at once", header + `14 10 02 00 00000000 00000034 14 00 0006 0a0b 82 00 0006 0c0d 82 00 0006 0a0b 00 00 0006 0c0d`,
			[]Payload{&NATD{Data: []byte{10, 11}}, &NATD{Data: []byte{12, 13}}, &NATD{Draft: true, Data: []byte{10, 11}}, &NATD{Draft: true, Data: []byte{12, 13}}}, Odd{}},
		{"NAT-OA under the number of the drafts, with reserved bytes", header + `83 10 20 00 00000001 00000028 00 00 000c 01 000100 c0000201`,
			[]Payload{&NATOA{true, netip.MustParseAddr("192.0.2.1")}}, Odd{Reserved: true}},
		{"a name as client ID (Windows behind NAT)", header + `05 10 20 00 00000001 00000028 00 00 000c 02 11 06a5 77696e37`,
			[]Payload{&ID{IDFQDN, 17, 1701, []byte("win7")}}, Odd{}},
		{"a phase 1 ID with UDP and a port", header + `05 10 02 00 00000000 00000028 00 00 000c 01 11 1194 c0000201`,
			[]Payload{&ID{IDIPv4, 17, 4500, []byte{192, 0, 2, 1}}}, Odd{}},
		{"a proposal of phase 1 with an SPI of zeros", header + `01 10 02 00 00000000 00000044 00 00 0028 00000001 00000001 00 00 001c 00 01 08 01 0000000000000000 00 00 000c 00 01 0000 80010005`,
			[]Payload{&SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: []Proposal{{0, ProtoISAKMP, make([]byte, 8), []Transform{{0, KeyIKE, []Attribute{Basic(1, 5)}}}}}}}, Odd{}},
		{"UNITY_LOAD_BALANCE", header + `0b 10 05 00 00000001 0000002c 00 00 0010 00000001 01 00 9e35 c0000209`,
			[]Payload{&Notify{DOIIPsec, ProtoISAKMP, []byte{}, NotifyUnityLoadBalance, []byte{192, 0, 2, 9}}}, Odd{}},
		{"CONNECTED in a fourth message of quick mode", header + `08 10 20 00 00000001 00000034 0b 00 0008 01020304 00 00 0010 00000001 03 04 4000 a1a2a3a4`,
			[]Payload{&Hash{[]byte{1, 2, 3, 4}}, &Notify{DOIIPsec, ProtoESP, []byte{0xa1, 0xa2, 0xa3, 0xa4}, NotifyConnected, []byte{}}}, Odd{}},
		{"a DELETE of phase 1 with one cookie", header + `0c 10 05 00 00000001 00000030 00 00 0014 00000001 01 08 0001 0102030405060708`,
			[]Payload{&Delete{DOIIPsec, ProtoISAKMP, [][]byte{{1, 2, 3, 4, 5, 6, 7, 8}}}}, Odd{}},
		{"R-U-THERE of the ISAKMP DOI with one cookie", header + `0b 10 05 00 00000001 00000034 00 00 0018 00000000 01 08 8d28 0102030405060708 00000001`,
			[]Payload{&Notify{DOIISAKMP, ProtoISAKMP, []byte{1, 2, 3, 4, 5, 6, 7, 8}, NotifyRUThere, []byte{0, 0, 0, 1}}}, Odd{}},
		{"XAuth that asks for an answer, with a text that is basic and empty", header + `0e 10 06 00 00000001 0000002c 00 00 0010 01 00 0007 c0880002 c08c0000`,
			[]Payload{&Attributes{CfgRequest, 7, []Attribute{Basic(XAuthType, XAuthOTP), Basic(XAuthMessage, 0)}}}, Odd{}},
		{"mode config whose payload is padded to four bytes (libreswan)", header + `0e 10 06 00 00000001 00000040 00 00 0024 02 00 8121 00010004 0a4d000a 7004000e 0a020000 ffffff00 000000000000 0000`,
			[]Payload{&Attributes{CfgReply, 0x8121, []Attribute{Variable(1, []byte{10, 77, 0, 10}), Variable(UnitySplitInclude, unhex(t, `0a020000 ffffff00 000000000000`))}}}, Odd{Padded: true}},
		{"a message padded to four bytes", header + `0d 10 02 00 00000000 00000024 00 00 0005 01 000000`,
			[]Payload{&VendorID{[]byte{1}}}, Odd{Trailing: 3}},
		{"reserved bytes of a payload that are not zero (Android 4)", header + `0a 10 02 00 00000000 00000028 00 2a 000c 0102030405060708`,
			[]Payload{&Nonce{[]byte{1, 2, 3, 4, 5, 6, 7, 8}}}, Odd{Reserved: true}},
		{"a payload of GSS-API (Windows)", header + `81 10 02 00 00000000 00000022 00 00 0006 0102`,
			[]Payload{&Unknown{T: 129, Body: []byte{1, 2}}}, Odd{}},
	} {
		b := unhex(t, c.message)
		m, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		got := m.Payloads
		for _, p := range got {
			if sa, ok := p.(*SA); ok {
				sa.raw = nil
			}
		}
		if !reflect.DeepEqual(got, c.payloads) || m.Odd != c.odd {
			t.Errorf("%s: %+v, %+v; want %+v, %+v", c.what, got, m.Odd, c.payloads, c.odd)
		}
		if again := Append(nil, m.Header, got); c.odd == (Odd{}) && !bytes.Equal(again, b) {
			t.Errorf("%s: written as %x", c.what, again)
		}
	}
}
