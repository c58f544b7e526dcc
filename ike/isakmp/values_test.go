package isakmp

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"culvert/spd/selector"
)

// A lifetime is read whatever its encoding.
func TestPhase1(t *testing.T) {
	for _, c := range []struct {
		what, attributes string
		want             Phase1
	}{
		{"lifetime of two bytes", `800b0001 800c7080`, Phase1{Life: Lifetime{Seconds: 28800}}},
		{"lifetime of two bytes, variable", `800b0001 000c0002 7080`, Phase1{Life: Lifetime{Seconds: 28800}}},
		{"lifetime of four bytes", `800b0001 000c0004 00015180`, Phase1{Life: Lifetime{Seconds: 86400}}},
		{"lifetime of eight bytes", `800b0001 000c0008 0000000000015180`, Phase1{Life: Lifetime{Seconds: 86400}}},
		{"lifetime of three bytes", `800b0001 000c0003 015180`, Phase1{Life: Lifetime{Seconds: 86400}}},
		{"lifetime of nine bytes, one of them zero", `800b0001 000c0009 00ffffffffffffffff`, Phase1{Life: Lifetime{Seconds: 1<<64 - 1}}},
		{"lifetime of nine bytes", `800b0001 000c0009 01ffffffffffffffff`, Phase1{Strange: true}},
		{"lifetime of no bytes", `800b0001 000c0000`, Phase1{Strange: true}},
		{"both lifetimes, kilobytes first", `800b0002 000c0004 00500000 800b0001 800c0e10`, Phase1{Life: Lifetime{3600, 0x500000}}},
		{"a type that is variable", `000b0002 0001 800c0e10`, Phase1{Life: Lifetime{Seconds: 3600}}},
		{"the same lifetime twice", `800b0001 800c0e10 800b0001 800c0e10`, Phase1{Life: Lifetime{Seconds: 3600}}},
		{"two lifetimes", `800b0001 800c0e10 800b0001 800c0e11`, Phase1{Life: Lifetime{Seconds: 3601}, Strange: true}},
		{"one type for two", `800b0001 800c0e10 800c0e11`, Phase1{Life: Lifetime{Seconds: 3600}, Strange: true}},
		{"no type", `800c0e10`, Phase1{Strange: true}},
		{"no duration", `800b0001`, Phase1{Strange: true}},
		{"a type that is not known", `800b0003 800c0e10`, Phase1{Strange: true}},
		{"everything", `80010007 800e0080 80020004 80040013 8003fded`, Phase1{Encryption: 7, KeyBits: 128, Hash: 4, Group: 19, Auth: AuthXAuthInitRSA}},
		{"a number that is variable", `00010002 0007`, Phase1{Encryption: 7}},
		{"a number that is too large", `00010003 010007`, Phase1{Strange: true}},
		{"two numbers", `80010007 80010005`, Phase1{Encryption: 5, Strange: true}},
		{"the same number twice", `80010007 80010007`, Phase1{Encryption: 7}},
		{"what is not understood", `80010007 800d0001`, Phase1{Encryption: 7, Strange: true}},
		{"nothing", ``, Phase1{}},
	} {
		as, reason := parseAttributes(unhex(t, c.attributes))
		if reason != "" {
			t.Fatalf("%s: %s", c.what, reason)
		}
		if got := ReadPhase1(as); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
	for _, p := range []Phase1{
		{Encryption: 7, KeyBits: 256, Hash: 2, Group: 14, Auth: 1, Life: Lifetime{86400, 0}},
		{Encryption: 5, Hash: 1, Group: 2, Auth: 3, Life: Lifetime{0xffff, 0x10000}},
		{Encryption: 5, Hash: 1, Group: 2, Auth: 3, Life: Lifetime{0xffffffff, 0x100000000}},
		{},
	} {
		if got := ReadPhase1(p.Attributes()); got != p {
			t.Errorf("%+v became %+v", p, got)
		}
	}
}

func TestPhase2(t *testing.T) {
	for _, c := range []struct {
		what, attributes string
		want             Phase2
	}{
		{"everything", `80010001 80020e10 80010002 0002 0004 00465000 80030002 80040001 80050002 80060080 800b0001`,
			Phase2{Life: Lifetime{3600, 4608000}, Group: 2, Encapsulation: EncapTunnel, Auth: 2, KeyBits: 128, ESN: 1}},
		{"UDP of the drafts", `8004f003`, Phase2{Encapsulation: EncapUDPTunnelDraft}},
		{"what is not understood", `80080001`, Phase2{Strange: true}},
		{"an attribute of phase 1", `800e0080`, Phase2{Strange: true}},
	} {
		as, reason := parseAttributes(unhex(t, c.attributes))
		if reason != "" {
			t.Fatalf("%s: %s", c.what, reason)
		}
		if got := ReadPhase2(as); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
	for _, p := range []Phase2{
		{Encapsulation: EncapUDPTransport, Auth: 5, KeyBits: 256, Group: 20, ESN: 1, Life: Lifetime{3600, 1 << 33}},
		{Encapsulation: EncapTunnel},
	} {
		if got := ReadPhase2(p.Attributes()); got != p {
			t.Errorf("%+v became %+v", p, got)
		}
	}
}

func TestResponderLifetime(t *testing.T) {
	b := AppendResponderLifetime([]byte{1}, Lifetime{3600, 1 << 20})
	if want := unhex(t, `01 80010001 80020e10 80010002 00020004 00100000`); !bytes.Equal(b, want) {
		t.Errorf("%x, want %x", b, want)
	}
	if life, ok := ReadResponderLifetime(b[1:]); !ok || life != (Lifetime{3600, 1 << 20}) {
		t.Errorf("%+v, %v", life, ok)
	}
	for _, bad := range []string{`8001`, `80010001`, `80010003 80020e10`, `80010001 80020e10 80030002`} {
		if life, ok := ReadResponderLifetime(unhex(t, bad)); ok {
			t.Errorf("%s: %+v", bad, life)
		}
	}
	if life, ok := ReadResponderLifetime(nil); !ok || life != (Lifetime{}) {
		t.Errorf("no data: %+v, %v", life, ok)
	}
}

func TestAttributeValues(t *testing.T) {
	for v, want := range map[uint64]string{0: "80050000", 0xffff: "8005ffff", 0x10000: "00050004 00010000", 0xffffffff: "00050004 ffffffff", 1 << 32: "00050008 0000000100000000"} {
		if got := Number(5, v).append(nil); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%d: %x, want %s", v, got, want)
		}
	}
	for value, want := range map[string]struct {
		v  uint16
		ok bool
	}{"": {0, false}, "00": {0, true}, "ff": {255, true}, "0001ff": {0x1ff, true}, "010000": {0, false}} {
		if v, ok := Variable(1, unhex(t, value)).Uint16(); ok != want.ok || ok && v != want.v {
			t.Errorf("%s: %d, %v", value, v, ok)
		}
	}
	if a, ok := Variable(1, []byte{192, 0, 2, 1}).Addr(); !ok || a != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("%v, %v", a, ok)
	}
	if _, ok := Variable(1, nil).Addr(); ok {
		t.Error("an address of no bytes")
	}
	p := &Attributes{List: []Attribute{Basic(1, 2), Variable(3, []byte{4}), Basic(3, 5)}}
	if a, ok := p.Find(3); !ok || !reflect.DeepEqual(a, Variable(3, []byte{4})) {
		t.Errorf("%v, %v", a, ok)
	}
	if a, ok := p.Find(2); ok || a.Value != nil {
		t.Errorf("%v, %v", a, ok)
	}
}

// Android puts a NUL behind the password, and only one is no part of it.
func TestNULBehindThePassword(t *testing.T) {
	var odd Odd
	p, err := parsePayload(TypeAttributes, unhex(t, `02 00 0001 4089 0004 626f6200 408a 0004 70776400 4088 0000`), &odd)
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[uint16]string{XAuthUserName: "bob", XAuthPassword: "pwd", XAuthType: ""} {
		if a, ok := p.(*Attributes).Find(kind); !ok || string(a.Text()) != want {
			t.Errorf("%d: %q, %v, want %q", kind, a.Text(), ok, want)
		}
	}
	for value, want := range map[string]string{"": "", "\x00": "", "a\x00\x00": "a\x00", "a\x00b": "a\x00b", "a": "a"} {
		if got := Variable(1, []byte(value)).Text(); string(got) != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// A password is not printed, whoever prints what holds it.
func TestAttributesHideTheirValues(t *testing.T) {
	p := &Attributes{CfgType: CfgReply, List: []Attribute{Variable(XAuthPassword, []byte("hunter2"))}}
	for _, form := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		for _, v := range []any{p, *p, p.List, p.List[0], &p.List[0]} {
			got := fmt.Sprintf(form, v)
			for _, secret := range []string{"hunter2", "68756e74", "104, 117", "104 117", "0x68, 0x75"} {
				if strings.Contains(got, secret) {
					t.Errorf("%s prints %s", form, got)
				}
			}
		}
	}
	if got := p.List[0].String(); got != "attribute 16522 of 7 bytes" {
		t.Error(got)
	}
}

func TestIDAddrs(t *testing.T) {
	for _, c := range []struct{ body, lo, hi string }{
		{`01 00 0000 c0000201`, "192.0.2.1", "192.0.2.1"},
		{`04 00 0000 c0000200 ffffff00`, "192.0.2.0", "192.0.2.255"},
		{`04 00 0000 c0000277 ffffff00`, "192.0.2.0", "192.0.2.255"},
		{`04 00 0000 00000000 00000000`, "0.0.0.0", "255.255.255.255"},
		{`04 00 0000 c0000201 ffffffff`, "192.0.2.1", "192.0.2.1"},
		{`04 00 0000 c0000200 fffffe00`, "192.0.2.0", "192.0.3.255"},
		{`04 00 0000 c0000200 ffff00ff`, "", ""},
		{`04 00 0000 c0000200 fffffd00`, "", ""},
		{`04 00 0000 c0000200 fffe8000`, "", ""},
		{`04 00 0000 c0000200 00ffffff`, "", ""},
		{`04 00 0000 c0000200 ffffff`, "", ""},
		{`05 00 0000 20010db8000000000000000000000001`, "2001:db8::1", "2001:db8::1"},
		{`06 00 0000 20010db8000000000000000000000000 ffffffff000000000000000000000000`, "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
		{`06 00 0000 20010db8000000000000000000000000 ffffffff0000000000000000000000`, "", ""},
		{`07 00 0000 c0000201 c0000209`, "192.0.2.1", "192.0.2.9"},
		{`07 00 0000 c0000201 c0000201`, "192.0.2.1", "192.0.2.1"},
		{`07 00 0000 c0000202 c0000201`, "", ""},
		{`08 00 0000 20010db8000000000000000000000001 20010db8000000000000000000000009`, "2001:db8::1", "2001:db8::9"},
		{`08 00 0000 c0000201 c0000209`, "", ""},
		{`02 00 0000 c0000201`, "", ""},
		{`01 00 0000`, "", ""},
		{`01 00 0000 c000020101`, "", ""},
	} {
		var odd Odd
		p, err := parsePayload(TypeID, unhex(t, c.body), &odd)
		if err != nil {
			t.Fatal(err)
		}
		lo, hi, ok := p.(*ID).Addrs()
		if ok != (c.lo != "") || ok && (lo != netip.MustParseAddr(c.lo) || hi != netip.MustParseAddr(c.hi)) || !ok && (lo.IsValid() || hi.IsValid()) {
			t.Errorf("%s: %v to %v, %v", c.body, lo, hi, ok)
		}
		if _, has := p.(*ID).Selector(); has != ok {
			t.Errorf("%s: selector %v", c.body, has)
		}
	}
}

func TestSelectorID(t *testing.T) {
	prefix := func(s string) selector.TS { return selector.FromPrefix(netip.MustParsePrefix(s)) }
	ranged := func(lo, hi string) selector.TS {
		return selector.TS{Lo: netip.MustParseAddr(lo), Hi: netip.MustParseAddr(hi), PortHi: 0xffff}
	}
	l2tp := prefix("192.0.2.1/32")
	l2tp.Proto, l2tp.PortLo, l2tp.PortHi = 17, 1701, 1701
	for _, c := range []struct {
		ts   selector.TS
		body string
	}{
		{prefix("192.0.2.1/32"), `01 00 0000 c0000201`},
		{prefix("192.0.2.0/24"), `04 00 0000 c0000200 ffffff00`},
		{prefix("192.0.2.0/23"), `04 00 0000 c0000200 fffffe00`},
		{prefix("0.0.0.0/0"), `04 00 0000 00000000 00000000`},
		{prefix("2001:db8::1/128"), `05 00 0000 20010db8000000000000000000000001`},
		{prefix("2001:db8::/33"), `06 00 0000 20010db8000000000000000000000000 ffffffff800000000000000000000000`},
		{ranged("192.0.2.1", "192.0.2.9"), `07 00 0000 c0000201 c0000209`},
		{ranged("192.0.2.0", "192.0.2.254"), `07 00 0000 c0000200 c00002fe`},
		{ranged("2001:db8::1", "2001:db8::9"), `08 00 0000 20010db8000000000000000000000001 20010db8000000000000000000000009`},
		{l2tp, `01 11 06a5 c0000201`},
	} {
		id, ok := SelectorID(c.ts)
		if !ok || !bytes.Equal(id.Body(), unhex(t, c.body)) {
			t.Errorf("%v: %+v, %v, want %s", c.ts, id, ok, c.body)
			continue
		}
		if back, ok := id.Selector(); !ok || back != c.ts {
			t.Errorf("%v came back as %v, %v", c.ts, back, ok)
		}
	}
	some := prefix("192.0.2.1/32")
	for _, ports := range [][2]uint16{{1, 2}, {0, 2}, {1, 0xffff}} {
		some.PortLo, some.PortHi = ports[0], ports[1]
		if id, ok := SelectorID(some); ok {
			t.Errorf("ports %v: %+v", ports, id)
		}
	}
	if id, ok := SelectorID(selector.TS{PortHi: 0xffff}); ok {
		t.Errorf("no addresses: %+v", id)
	}
}

func TestNets(t *testing.T) {
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.128/25"), netip.MustParsePrefix("0.0.0.0/0")}
	want := unhex(t, `0a000000 ff000000 000000000000 c0000280 ffffff80 000000000000 00000000 00000000 000000000000`)
	if got := AppendNets(nil, append([]netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}, nets...)); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if got := AppendNets(nil, []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}); !bytes.Equal(got, want[:14]) {
		t.Errorf("%x", got)
	}
	for _, b := range [][]byte{want, want[:len(want)-netPad]} { // without padding behind the last one
		if got, err := ParseNets(b); err != nil || !reflect.DeepEqual(got, nets) {
			t.Errorf("%v, %v", got, err)
		}
	}
	if got, err := ParseNets(nil); err != nil || got != nil {
		t.Errorf("none: %v, %v", got, err)
	}
	if got, err := ParseNets(bytes.Repeat(want[:14], maxNets)); err != nil || len(got) != maxNets {
		t.Errorf("as many as may be: %d, %v", len(got), err)
	}
	for what, b := range map[string][]byte{
		"more than 1024":  bytes.Repeat(want[:14], maxNets+1),
		"no whole number": want[:len(want)-1],
		"has holes":       unhex(t, `0a000000 ff00ff00 000000000000`),
	} {
		if got, err := ParseNets(b); err == nil || !strings.Contains(err.Error(), what) || got != nil {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	for i := range want {
		if got, err := ParseNets(want[:i]); (err == nil) != (i%14 == 0 || i%14 == 8) {
			t.Errorf("%d bytes: %v, %v", i, got, err)
		}
	}
}

func TestVendors(t *testing.T) {
	for text, want := range map[string]Vendor{
		"RFC 3947":                         VendorNATT,
		"draft-ietf-ipsec-nat-t-ike-03":    VendorNATTDraft03,
		"draft-ietf-ipsec-nat-t-ike-02":    VendorNATTDraft02,
		"draft-ietf-ipsec-nat-t-ike-02\n":  VendorNATTDraft02LF,
		"draft-ietf-ipsec-nat-t-ike-01":    VendorNATTDraft01,
		"draft-ietf-ipsec-nat-t-ike-00":    VendorNATTDraft00,
		"FRAGMENTATION":                    VendorFragmentation,
		"Vid-Initial-Contact":              VendorInitialContact,
		"MS NT5 ISAKMPOAKLEY":              VendorWindows,
		"MS-Negotiation Discovery Capable": VendorNegotiationDiscovery,
		"IKE CGA version 1":                VendorCGA,
		"MS-MamieExists":                   VendorAuthIP,
		"GSSAPI":                           VendorGSSAPI,
		"strongSwan":                       VendorStrongSwan,
		"KAME/racoon":                      VendorRacoon,
		"something else":                   VendorUnknown,
	} {
		sum := md5.Sum([]byte(text))
		if got := IdentifyVendor(sum[:]); got != want {
			t.Errorf("the hash of %q is %s, want %s", text, got, want)
		}
		sent := sum[:]
		if want == VendorFragmentation { // and its flags: in every exchange of phase 1
			sent = append(sent, 0x80, 0, 0, 0)
		}
		if want != VendorUnknown && !bytes.Equal(want.Bytes(), sent) {
			t.Errorf("%s is sent as %x, want %x", want, want.Bytes(), sent)
		}
	}
	for data, want := range map[string]Vendor{
		"09002689dfd6b712":                         VendorXAuth,
		"09002689dfd6b71280":                       VendorUnknown,
		"09002689dfd6b7":                           VendorUnknown,
		"afcad71368a1f1c96b8696fc77570100":         VendorDPD,
		"12f5f28c457168a9702d9fe274cc0100":         VendorUnity, // Cisco's clients and ASA
		"12f5f28c457168a9702d9fe274cc0204":         VendorUnity, // VPN 3000
		"12f5f28c457168a9702d9fe274cc02d4":         VendorUnity, // the hash of CISCO-UNITY, uncut
		"12f5f28c457168a9702d9fe274cc010000":       VendorUnknown,
		"4048b7d56ebce88525e7de7f00d6c2d380000000": VendorFragmentation,
		"4048b7d56ebce88525e7de7f00d6c2d3c0000000": VendorFragmentation,
		"1e2b516905991c7d7c96fcbfb587e46100000009": VendorWindows, // Windows 8 and later
		"1f07f70eaa6514d3b0fa96542a500100":         VendorConcentrator,
		"":                                         VendorUnknown,
	} {
		if got := IdentifyVendor(unhex(t, data)); got != want {
			t.Errorf("%s is %s, want %s", data, got, want)
		}
	}
	if got := VendorUnity.Bytes(); !bytes.Equal(got, unhex(t, "12f5f28c457168a9702d9fe274cc0100")) {
		t.Errorf("Unity is sent as %x", got)
	}
	if got := VendorUnknown.Bytes(); got != nil {
		t.Errorf("an unknown vendor ID is sent as %x", got)
	}
	for _, v := range vendors {
		if got := IdentifyVendor(v.vendor.Bytes()); got != v.vendor || v.vendor.String() != v.name {
			t.Errorf("%s is identified as %s", v.name, got)
		}
	}
	if VendorUnknown.String() != "unknown vendor ID" {
		t.Error(VendorUnknown.String())
	}
}
