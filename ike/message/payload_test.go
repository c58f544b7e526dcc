package message

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"culvert/crypto/suite"
	"culvert/spd/selector"
)

var payloadCases = []struct {
	name    string
	body    string
	payload Payload
}{
	{"SA of IKE",
		`02 00 00 2c 01 01 00 04
		 03 00 00 0c 01 00 00 0c 80 0e 01 00
		 03 00 00 08 02 00 00 05
		 03 00 00 08 03 00 00 0c
		 00 00 00 08 04 00 00 13
		 00 00 00 1c 02 01 08 01 0102030405060708
		 00 00 00 0c 01 00 00 14 80 0e 00 80`,
		&SA{[]Proposal{
			{Number: 1, Protocol: 1, SPI: []byte{}, Transforms: []Transform{
				{Type: suite.TypeEncr, ID: 12, KeyBits: 256},
				{Type: suite.TypePRF, ID: 5},
				{Type: suite.TypeInteg, ID: 12},
				{Type: suite.TypeDH, ID: 19},
			}},
			{Number: 2, Protocol: 1, SPI: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Transforms: []Transform{
				{Type: suite.TypeEncr, ID: 20, KeyBits: 128},
			}},
		}}},
	{"SA without transforms", `00 00 00 0c 01 03 04 00 c0ffee00`,
		&SA{[]Proposal{{Number: 1, Protocol: 3, SPI: []byte{0xc0, 0xff, 0xee, 0}}}}},
	{"KE", `0013 0000 aabbcc`, &KE{19, []byte{0xaa, 0xbb, 0xcc}}},
	{"IDi", `01 000000 c0000201`, &ID{Initiator: true, IDType: 1, Data: []byte{192, 0, 2, 1}}},
	{"IDr", `02 000000 616263`, &ID{IDType: 2, Data: []byte("abc")}},
	{"IDi with reserved bytes", `0b 010203 00`, &ID{Initiator: true, IDType: 11, Data: []byte{0}, Reserved: [3]byte{1, 2, 3}}},
	{"CERT", `04 3082`, &Cert{4, []byte{0x30, 0x82}}},
	{"CERTREQ", `04 0102`, &CertReq{4, []byte{1, 2}}},
	{"AUTH", `02 000000 0a0b`, &Auth{2, []byte{10, 11}}},
	{"Nonce", `000102030405060708090a0b0c0d0e0f`, &Nonce{[]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}},
	{"Notify", `00 00 0011 0013`, &Notify{SPI: []byte{}, Kind: NotifyInvalidKEPayload, Data: []byte{0, 19}}},
	{"Notify with SPI", `03 04 4009 deadbeef`, &Notify{3, []byte{0xde, 0xad, 0xbe, 0xef}, NotifyRekeySA, []byte{}}},
	{"Delete of the IKE SA", `01 00 0000`, &Delete{Protocol: 1}},
	{"Delete of CHILD SAs", `03 04 0002 00000100 00000200`, &Delete{3, [][]byte{{0, 0, 1, 0}, {0, 0, 2, 0}}}},
	{"Vendor ID", `63756c76657274`, &VendorID{[]byte("culvert")}},
	{"TSi",
		`03 000000
		 07 00 0010 0000 ffff 0a000000 0a0000ff
		 07 06 0010 ffff 0000 c0000201 c0000201
		 08 11 0028 0035 0035 20010db8000000000000000000000000 20010db80000000000000000ffffffff`,
		&TS{Initiator: true, Selectors: []selector.TS{
			{Lo: addr("10.0.0.0"), Hi: addr("10.0.0.255"), PortHi: 65535},
			{Lo: addr("192.0.2.1"), Hi: addr("192.0.2.1"), Proto: 6, PortLo: 65535, PortHi: 0},
			{Lo: addr("2001:db8::"), Hi: addr("2001:db8::ffff:ffff"), Proto: 17, PortLo: 53, PortHi: 53},
		}}},
	{"TSr of mapped addresses",
		`01 000000 08 3a 0028 8000 80ff 00000000000000000000ffff0a000000 00000000000000000000ffff0a000001`,
		&TS{Selectors: []selector.TS{
			{Lo: addr("::ffff:10.0.0.0"), Hi: addr("::ffff:10.0.0.1"), Proto: 58, PortLo: 0x8000, PortHi: 0x80ff},
		}}},
	{"TSr of nothing", `00 000000`, &TS{}},
	{"CP", `01 000000 0001 0000 0003 0004 08080808`,
		&Config{1, []Attribute{{1, []byte{}}, {3, []byte{8, 8, 8, 8}}}}},
	{"EAP", `01 01 0005 01`, &EAP{[]byte{1, 1, 0, 5, 1}}},
	{"unknown", `010203`, &Unknown{T: 200, Body: []byte{1, 2, 3}}},
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// Every payload that has a codec has a case, and with it the tests of every case.
func TestEveryPayloadHasACase(t *testing.T) {
	has := map[PayloadType]bool{}
	for _, c := range payloadCases {
		has[c.payload.Type()] = true
	}
	for i, parse := range parsers {
		if parse != nil && !has[PayloadType(i)] {
			t.Errorf("payloadCases has no %s", PayloadType(i))
		}
	}
}

func TestPayloads(t *testing.T) {
	for _, c := range payloadCases {
		t.Run(c.name, func(t *testing.T) {
			body := unhex(t, c.body)
			p, err := parsePayload(c.payload.Type(), false, body)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(p, c.payload) {
				t.Errorf("parsed\n%+v, want\n%+v", p, c.payload)
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
	p, err := parsePayload(typ, true, body)
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
	q, err := parsePayload(typ, true, once)
	if err != nil {
		t.Fatalf("%s %x was written as %x: %v", typ, body, once, err)
	}
	if twice := q.AppendBody(nil); !bytes.Equal(once, twice) {
		t.Fatalf("%s %x was written as %x, then as %x", typ, body, once, twice)
	}
}

func TestLenient(t *testing.T) {
	tests := []struct {
		name    string
		body    string
		payload Payload
	}{
		{"transform with an attribute of its own (TLV) and reserved bits",
			`00 ff 0020 01 03 00 01 00 ee 0018 01 ee 0014 800e 0080 0001 0004 01020304 800e 0100`,
			&SA{[]Proposal{{Number: 1, Protocol: 3, SPI: []byte{}, Transforms: []Transform{
				{Type: suite.TypeEncr, ID: 20, KeyBits: 128, Unknown: true}}}}}},
		{"key length of zero", `00 00 0014 01 03 00 01 00 00 000c 01 00 0014 800e 0000`,
			&SA{[]Proposal{{Number: 1, Protocol: 3, SPI: []byte{}, Transforms: []Transform{
				{Type: suite.TypeEncr, ID: 20, Unknown: true}}}}}},
		{"key length as TLV", `00 00 0016 01 03 00 01 00 00 000e 01 00 0014 000e 0002 0080`,
			&SA{[]Proposal{{Number: 1, Protocol: 3, SPI: []byte{}, Transforms: []Transform{
				{Type: suite.TypeEncr, ID: 20, Unknown: true}}}}}},
		{"Fibre Channel selector",
			`02 000000 09 00 001c 00000000000000000000000000000000 0000000000000000
			 07 00 0010 0000 ffff 00000000 00000000`,
			&TS{Unknown: 1, Selectors: []selector.TS{{Lo: addr("0.0.0.0"), Hi: addr("0.0.0.0"), PortHi: 65535}}}},
		{"attribute with the reserved bit", `02 ffffff 8001 0000`, &Config{2, []Attribute{{1, []byte{}}}}},
		{"Delete of no CHILD SA", `03 04 0000`, &Delete{Protocol: 3}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			body := unhex(t, c.body)
			p, err := parsePayload(c.payload.Type(), true, body)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(p, c.payload) {
				t.Errorf("parsed\n%+v, want\n%+v", p, c.payload)
			}
			fixPoint(t, c.payload.Type(), body)
		})
	}
}

func TestMalformed(t *testing.T) {
	const ok = "00 00 0008 02 00 0005" // a transform
	tests := []struct {
		typ    PayloadType
		body   string
		reason string
	}{
		{TypeSA, ``, short},
		{TypeSA, `01 00 0008 01 01 00 00`, "neither last nor more"},
		{TypeSA, `02 00 0008 01 01 00 00`, short},
		{TypeSA, `00 00 0008 01 01 00 00 00`, "after the last proposal"},
		{TypeSA, `00 00 0003 01 01 00 00`, "does not fit"},
		{TypeSA, `00 00 0009 01 01 00 00`, "does not fit"},
		{TypeSA, `00 00 0000 01 01 00 00`, "does not fit"},
		{TypeSA, `00 00 0004`, short},
		{TypeSA, `00 00 000c 01 01 00 01 00 00 0004`, short},
		{TypeSA, `00 00 000c 01 01 00 01 00 00 0003`, "does not fit"},
		{TypeSA, `00 00 0008 01 01 ff 00`, short},
		{TypeSA, `00 00 0010 01 01 00 02` + ok, "number of transforms"},
		{TypeSA, `00 00 0010 01 01 00 00` + ok, "after the last transform"},
		{TypeSA, `00 00 0018 01 01 00 02` + ok + ok, "number of transforms"},
		{TypeSA, `00 00 0010 01 01 00 01 02 00 0008 02 00 0005`, "neither last nor more"},
		{TypeSA, `00 00 0012 01 01 00 01 00 00 000a 02 00 0005 800e`, short},
		{TypeSA, `00 00 0014 01 01 00 01 00 00 000c 02 00 0005 000e 0001`, short},
		{TypeSA, strings.Repeat("02 00 0008 01 01 00 00", maxProposals) + "00 00 0008 01 01 00 00", "more than 64"},
		{TypeKE, `000e00`, short},
		{TypeIDi, `010000`, short},
		{TypeIDr, ``, short},
		{TypeCERT, ``, short},
		{TypeCERTREQ, ``, short},
		{TypeAUTH, `020000`, short},
		{TypeNonce, strings.Repeat("00", 15), "not 16 to 256"},
		{TypeNonce, strings.Repeat("00", 257), "not 16 to 256"},
		{TypeNotify, `000000`, short},
		{TypeNotify, `03 04 4009 010203`, short},
		{TypeDelete, `03 04`, short},
		{TypeDelete, `03 04 0001 000000`, short},
		{TypeDelete, `03 04 0001 0000000000`, "after the last SPI"},
		{TypeDelete, `01 00 0001`, "without a length"},
		{TypeDelete, `03 01 ffff`, "more than 1024"},
		{TypeTSi, `00`, short},
		{TypeTSi, `01 000000 07 00 0010`, "does not fit"},
		{TypeTSi, `01 000000 07 00 0003`, "does not fit"},
		{TypeTSi, `01 000000 07 00 0000`, "does not fit"},
		{TypeTSi, `01 000000 07 00 0004`, "wrong length"},
		{TypeTSi, `01 000000 07 00 000f 0000 ffff 00000000 000000`, "wrong length"},
		{TypeTSi, `01 000000 08 00 0010 0000 ffff 00000000 00000000`, "wrong length"},
		{TypeTSi, `01 000000 07 00 0011 0000 ffff 00000000 00000000 00`, "wrong length"},
		{TypeTSr, `01 000000 07 00 0010 0000 ffff 00000001 00000000`, "before they start"},
		{TypeTSr, `01 000000 07 00 0010 0002 0001 00000000 00000000`, "before they start"},
		{TypeTSr, `00 000000 07 00 0010 0000 ffff 00000000 00000000`, "after the last selector"},
		{TypeCP, `0100`, short},
		{TypeCP, `01000000 0001 0001`, "does not fit"},
		{TypeCP, `01000000` + strings.Repeat("0001 0000", maxAttributes+1), "more than 256"},
	}
	for _, c := range tests {
		p, err := parsePayload(c.typ, false, unhex(t, c.body))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Payload != c.typ || !strings.Contains(syntax.Reason, c.reason) {
			t.Errorf("%s %.60s: %v, %v; want %q", c.typ, c.body, p, err, c.reason)
		}
	}
}

// What does not fit a length field is cut so that the message can still be read.
func TestTooMuch(t *testing.T) {
	long := make([]byte, 70000)
	many := make([]Proposal, maxProposals+1)
	many[0].SPI = make([]byte, 300)
	many[0].Transforms = make([]Transform, 300)
	ps := []Payload{
		&SA{many},
		&Delete{3, slicesOf([]byte{1, 2, 3, 4}, maxSPIs+1)},
		&TS{Selectors: slicesOf(selector.FromPrefix(netip.MustParsePrefix("10.0.0.0/8")), 300)},
		&Notify{SPI: make([]byte, 300)},
		&VendorID{long},
	}
	m := &Message{Header{Version: 0x20, Exchange: ExchangeIKESAInit}, ps}
	got, err := Parse(m.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Payloads) != len(ps) {
		t.Fatalf("%d payloads, want %d", len(got.Payloads), len(ps))
	}
	sa := got.Payloads[0].(*SA)
	if len(sa.Proposals) != 64 || len(sa.Proposals[0].SPI) != 255 || len(sa.Proposals[0].Transforms) != 255 {
		t.Errorf("%d proposals, SPI of %d bytes, %d transforms", len(sa.Proposals), len(sa.Proposals[0].SPI), len(sa.Proposals[0].Transforms))
	}
	if n := len(got.Payloads[2].(*TS).Selectors); n != 255 {
		t.Errorf("%d selectors", n)
	}
	if n := len(got.Payloads[4].(*VendorID).Data); n != maxBody {
		t.Errorf("Vendor ID of %d bytes", n)
	}
}

func slicesOf[T any](v T, n int) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = v
	}
	return s
}

// The numbers are those of the registries of IKEv2 and, for payloads and exchanges, of IKEv1, and no others have a name.
func TestNumbers(t *testing.T) {
	notifies := map[NotifyType]string{
		1: "UNSUPPORTED_CRITICAL_PAYLOAD", 4: "INVALID_IKE_SPI", 5: "INVALID_MAJOR_VERSION", 7: "INVALID_SYNTAX", 9: "INVALID_MESSAGE_ID", 11: "INVALID_SPI",
		14: "NO_PROPOSAL_CHOSEN", 17: "INVALID_KE_PAYLOAD", 24: "AUTHENTICATION_FAILED", 34: "SINGLE_PAIR_REQUIRED", 35: "NO_ADDITIONAL_SAS",
		36: "INTERNAL_ADDRESS_FAILURE", 37: "FAILED_CP_REQUIRED", 38: "TS_UNACCEPTABLE", 39: "INVALID_SELECTORS", 40: "UNACCEPTABLE_ADDRESSES",
		41: "UNEXPECTED_NAT_DETECTED", 43: "TEMPORARY_FAILURE", 44: "CHILD_SA_NOT_FOUND", 47: "STATE_NOT_FOUND", 48: "TS_MAX_QUEUE", 16384: "INITIAL_CONTACT",
		16385: "SET_WINDOW_SIZE", 16386: "ADDITIONAL_TS_POSSIBLE", 16387: "IPCOMP_SUPPORTED", 16388: "NAT_DETECTION_SOURCE_IP",
		16389: "NAT_DETECTION_DESTINATION_IP", 16390: "COOKIE", 16391: "USE_TRANSPORT_MODE", 16392: "HTTP_CERT_LOOKUP_SUPPORTED", 16393: "REKEY_SA",
		16394: "ESP_TFC_PADDING_NOT_SUPPORTED", 16395: "NON_FIRST_FRAGMENTS_ALSO", 16396: "MOBIKE_SUPPORTED", 16397: "ADDITIONAL_IP4_ADDRESS",
		16398: "ADDITIONAL_IP6_ADDRESS", 16399: "NO_ADDITIONAL_ADDRESSES", 16400: "UPDATE_SA_ADDRESSES", 16401: "COOKIE2", 16402: "NO_NATS_ALLOWED",
		16403: "AUTH_LIFETIME", 16404: "MULTIPLE_AUTH_SUPPORTED", 16405: "ANOTHER_AUTH_FOLLOWS", 16406: "REDIRECT_SUPPORTED", 16407: "REDIRECT",
		16408: "REDIRECTED_FROM", 16409: "TICKET_LT_OPAQUE", 16410: "TICKET_REQUEST", 16411: "TICKET_ACK", 16412: "TICKET_NACK", 16413: "TICKET_OPAQUE",
		16417: "EAP_ONLY_AUTHENTICATION", 16418: "CHILDLESS_IKEV2_SUPPORTED", 16419: "QUICK_CRASH_DETECTION", 16420: "IKEV2_MESSAGE_ID_SYNC_SUPPORTED",
		16421: "IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED", 16422: "IKEV2_MESSAGE_ID_SYNC", 16423: "IPSEC_REPLAY_COUNTER_SYNC",
		16430: "IKEV2_FRAGMENTATION_SUPPORTED", 16431: "SIGNATURE_HASH_ALGORITHMS", 16435: "USE_PPK", 16436: "PPK_IDENTITY", 16437: "NO_PPK_AUTH",
		16438: "INTERMEDIATE_EXCHANGE_SUPPORTED", 16441: "ADDITIONAL_KEY_EXCHANGE", 16443: "SUPPORTED_AUTH_METHODS", 16444: "SA_RESOURCE_INFO", 49217: "PATH_PROBE",
	}
	for n := range NotifyType(65535) {
		want := notifies[n]
		if n.Known() != (want != "") || n.Known() && n.String() != want {
			t.Errorf("notify %d is %s, want %q", uint16(n), n, want)
		}
	}
	payloads := map[PayloadType]string{0: "No Next Payload",
		1: "SA", 2: "Proposal", 3: "Transform", 4: "KE", 5: "ID", 6: "CERT", 7: "CERTREQ", 8: "HASH", 9: "SIG", 10: "NONCE", 11: "N", 12: "D", 13: "VID",
		14: "ATTRIBUTES", 20: "NAT-D", 21: "NAT-OA", 130: "NAT-D (draft)", 131: "NAT-OA (draft)", 132: "FRAGMENT",
		33: "SA", 34: "KE", 35: "IDi", 36: "IDr", 37: "CERT", 38: "CERTREQ", 39: "AUTH", 40: "Nonce", 41: "Notify",
		42: "Delete", 43: "Vendor ID", 44: "TSi", 45: "TSr", 46: "SK", 47: "CP", 48: "EAP", 53: "SKF"}
	exchanges := map[ExchangeType]string{1: "base mode", 2: "main mode", 4: "aggressive mode", 5: "informational", 6: "transaction", 32: "quick mode",
		34: "IKE_SA_INIT", 35: "IKE_AUTH", 36: "CREATE_CHILD_SA", 37: "INFORMATIONAL", 38: "IKE_SESSION_RESUME", 43: "IKE_INTERMEDIATE", 44: "IKE_FOLLOWUP_KE"}
	for n := range 256 {
		want := payloads[PayloadType(n)]
		if want == "" {
			want = fmt.Sprintf("unknown(%d)", n)
		}
		if got := PayloadType(n).String(); got != want {
			t.Errorf("payload %d is %s, want %s", n, got, want)
		}
		if want = exchanges[ExchangeType(n)]; want == "" {
			want = fmt.Sprintf("exchange %d", n)
		}
		if got := ExchangeType(n).String(); got != want {
			t.Errorf("exchange %d is %s, want %s", n, got, want)
		}
	}
}

// Of the flags of a payload one says that it is critical.
func TestCriticalBit(t *testing.T) {
	for flags, want := range map[byte]bool{0: false, 0x7f: false, 0x80: true, 0xff: true} {
		ps, err := ParsePayloads(200, []byte{0, flags, 0, 5, 1})
		if err != nil || len(ps) != 1 || ps[0].(*Unknown).Critical != want {
			t.Errorf("flags %02x: %+v, %v", flags, ps, err)
		}
	}
}

// Bounds belong to what they bound.
func TestBounds(t *testing.T) {
	for what, body := range map[string]struct {
		typ  PayloadType
		body string
	}{
		"the shortest nonce":     {TypeNonce, strings.Repeat("00", MinNonce)},
		"the longest nonce":      {TypeNonce, strings.Repeat("00", MaxNonce)},
		"the most proposals":     {TypeSA, strings.Repeat("02 00 0008 01 01 00 00", maxProposals-1) + "00 00 0008 01 01 00 00"},
		"the most transforms":    {TypeSA, "00 00 0800 01 01 00 ff" + strings.Repeat("03 00 0008 02 00 0005", 254) + "00 00 0008 02 00 0005"},
		"the most SPIs":          {TypeDelete, "03 01 0400" + strings.Repeat("01", maxSPIs)},
		"the most attributes":    {TypeCP, "01000000" + strings.Repeat("0001 0000", maxAttributes)},
		"a selector of no bytes": {TypeTSi, "01 000000 63 00 0004"}, // of a type that is skipped
	} {
		if _, err := parsePayload(body.typ, false, unhex(t, body.body)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	h := Header{Version: 0x20, Exchange: ExchangeIKEAuth}
	for _, n := range []uint16{1, 2, 65535} { // the last fragment
		if _, err := Parse((&Message{h, []Payload{&EncryptedFragment{Number: n, Total: n}}}).Append(nil)); err != nil {
			t.Errorf("fragment %d of %d: %v", n, n, err)
		}
	}
	// Addresses of two families are written as the length says.
	for _, ts := range []selector.TS{{Lo: addr("10.0.0.1"), Hi: addr("::1")}, {Lo: addr("::1"), Hi: addr("10.0.0.1")}, {Lo: addr("::1"), Hi: addr("::2")}} {
		if b := (&TS{Selectors: []selector.TS{ts}}).AppendBody(nil); len(b) != 4+40 || b[4] != tsIPv6Range || b[7] != 40 {
			t.Errorf("%v: %x", ts, b)
		}
	}
}

func TestNames(t *testing.T) {
	tests := []struct{ got, want string }{
		{TypeSA.String(), "SA"},
		{TypeIDr.String(), "IDr"},
		{TypeSKF.String(), "SKF"},
		{PayloadType(49).String(), "unknown(49)"},
		{PayloadType(200).String(), "unknown(200)"},
		{ExchangeIKESAInit.String(), "IKE_SA_INIT"},
		{ExchangeIntermediate.String(), "IKE_INTERMEDIATE"},
		{ExchangeType(3).String(), "exchange 3"},
		{NotifyInvalidKEPayload.String(), "INVALID_KE_PAYLOAD"},
		{NotifySignatureHashAlgorithms.String(), "SIGNATURE_HASH_ALGORITHMS"},
		{NotifyType(8192).String(), "notify 8192"},
	}
	for _, c := range tests {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	if !NotifyTSUnacceptable.IsError() || NotifyInitialContact.IsError() || !NotifyType(16383).IsError() {
		t.Error("errors are the types below 16384")
	}
}
