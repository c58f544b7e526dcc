package isakmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"culvert/ike/message"
)

// everyPayload has one of each payload.
func everyPayload(t testing.TB) []Payload {
	var ps []Payload
	for _, c := range payloadCases {
		var odd Odd
		p, err := parsePayload(c.payload.Type(), unhex(t, c.body), &odd)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	return ps
}

// wholeMessages are the messages that the tests cut and the fuzzers start from.
func wholeMessages(t testing.TB) [][]byte {
	h := message.Header{SPIi: 1, SPIr: 2, Version: Version, Exchange: ExchangeMain}
	return [][]byte{
		Append(nil, h, everyPayload(t)),
		Append(nil, h, []Payload{&Fragment{1, 1, true, []byte("part")}}),
		AppendSealed(nil, h, TypeHash, []byte("sixteen bytes of")),
	}
}

func TestMessage(t *testing.T) {
	ps := everyPayload(t)
	h := message.Header{SPIi: 1, SPIr: 2, Version: Version, Exchange: ExchangeAggressive, Flags: FlagCommit, ID: 7}
	b := Append([]byte("before"), h, ps)[len("before"):]
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	h.Next, h.Length = TypeSA, uint32(len(b))
	if m.Header != h || m.Sealed != nil || m.Odd != (Odd{}) {
		t.Errorf("%+v, sealed %x, %+v", m.Header, m.Sealed, m.Odd)
	}
	if len(m.Payloads) != len(ps) {
		t.Fatalf("%d payloads, want %d", len(m.Payloads), len(ps))
	}
	after := b[message.HeaderLen:]
	for i, p := range ps {
		if !reflect.DeepEqual(m.Payloads[i], p) {
			t.Errorf("payload %d is %+v, want %+v", i, m.Payloads[i], p)
		}
		if want := p.AppendBody(nil); !bytes.Equal(m.Body(i), want) {
			t.Errorf("body %d is %x, want %x", i, m.Body(i), want)
		}
		after = after[genericLen+len(p.AppendBody(nil)):]
		if !bytes.Equal(m.After(i), after) {
			t.Errorf("after payload %d is %x, want %x", i, m.After(i), after)
		}
	}
	if len(after) != 0 {
		t.Errorf("%d bytes behind the last payload", len(after))
	}
	// The buffer is used again: nothing of the message changes.
	before := Append(nil, m.Header, m.Payloads)
	for i := range b {
		b[i] = 0xee
	}
	if again := Append(nil, m.Header, m.Payloads); !bytes.Equal(again, before) {
		t.Errorf("the message became %x", again)
	}
	if _, sa := m.Body(0), m.Payloads[0].(*SA); !bytes.Equal(sa.Body(), unhex(t, payloadCases[0].body)) {
		t.Errorf("the body of the SA became %x", sa.Body())
	}
}

// An append to a part does not write over what follows it.
func TestPartsDoNotOverlap(t *testing.T) {
	m, err := Parse(wholeMessages(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	before := Append(nil, m.Header, m.Payloads)
	for i, p := range m.Payloads {
		grow := func(b []byte) { _ = append(b, 0xee, 0xee, 0xee, 0xee) }
		grow(m.Body(i))
		switch p := p.(type) {
		case *SA:
			grow(p.Body())
			grow(p.Rest)
			for _, q := range p.Proposals {
				grow(q.SPI)
				for _, tr := range q.Transforms {
					for _, a := range tr.Attributes {
						grow(a.Value)
					}
				}
			}
		case *Attributes:
			for _, a := range p.List {
				grow(a.Value)
			}
		case *Notify:
			grow(p.SPI)
			grow(p.Data)
		case *Delete:
			for _, spi := range p.SPIs {
				grow(spi)
			}
		case *ID:
			grow(p.Data)
		case *KE:
			grow(p.Data)
		}
	}
	if again := Append(nil, m.Header, m.Payloads); !bytes.Equal(again, before) {
		t.Errorf("the message became\n%x, was\n%x", again, before)
	}
	if again := m.After(0); !bytes.Equal(again, before[message.HeaderLen+len(m.Body(0))+genericLen:]) {
		t.Errorf("what is hashed became %x", again)
	}
}

func TestSealed(t *testing.T) {
	h := message.Header{SPIi: 1, SPIr: 2, Version: Version, Exchange: ExchangeQuick, ID: 9}
	sealed := []byte("sixteen bytes of")
	b := AppendSealed([]byte{1}, h, TypeHash, sealed)[1:]
	m, err := Parse(b)
	if err != nil || m.Flags != FlagEncryption || m.Next != TypeHash || !bytes.Equal(m.Sealed, sealed) || m.Payloads != nil {
		t.Fatalf("%+v, %v", m, err)
	}
	b[len(b)-1] ^= 1
	if !bytes.Equal(m.Sealed, sealed) {
		t.Error("the sealed part aliases the buffer")
	}
}

// A whole message that is cut anywhere, with a header that says so, is an error or a message
// that ends there; nothing reads behind the end.
func TestCut(t *testing.T) {
	for _, b := range wholeMessages(t) {
		for n := range b {
			short := bytes.Clone(b[:n])
			if _, err := Parse(short); err == nil {
				t.Fatalf("%d bytes of %d were taken", n, len(b))
			}
			if n < message.HeaderLen {
				continue
			}
			binary.BigEndian.PutUint32(short[24:], uint32(n))
			var syntax *SyntaxError
			if m, err := Parse(short); err != nil && (!errors.As(err, &syntax) || m != nil) || err == nil && m.Sealed == nil {
				t.Fatalf("%d bytes of %d: %+v, %v", n, len(b), m, err)
			}
		}
	}
}

func TestNotAMessage(t *testing.T) {
	h := message.Header{Version: 0x20, Exchange: ExchangeMain}
	if _, err := Parse(Append(nil, h, nil)); err == nil || !strings.Contains(err.Error(), "is not IKEv1") {
		t.Errorf("IKEv2: %v", err)
	}
	h.Version = 0x11 // a minor version that is not known is read (RFC 2408 §3.1)
	if m, err := Parse(Append(nil, h, nil)); err != nil || len(m.Payloads) != 0 {
		t.Errorf("no payloads: %+v, %v", m, err)
	}
	for _, c := range []struct{ body, reason string }{
		{"00 00 0003", "does not fit"},
		{"00 00 0000", "does not fit"},
		{"00 00 0005", "does not fit"},
		{"00 00 00", "ends before it"},
		{"0d 00 0004", "ends before it"},
		{strings.Repeat("0d 00 0004", maxPayloads) + "00 00 0004", "more than 64 payloads"},
	} {
		c2, err := ParsePayloads(TypeVendorID, unhex(t, c.body))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Payload != TypeVendorID || !strings.Contains(syntax.Reason, c.reason) || c2 != nil {
			t.Errorf("%.40s: %v, want %q", c.body, err, c.reason)
		}
	}
	if c, err := ParsePayloads(TypeVendorID, unhex(t, strings.Repeat("0d 00 0004", maxPayloads-1)+"00 00 0004")); err != nil || len(c.Payloads) != maxPayloads {
		t.Errorf("as many payloads as may be: %v", err)
	}
}

// What peers send against RFC 2408 and does no harm is read, and reported.
func TestOdd(t *testing.T) {
	sa := `00000001 00000001 00 %s 0014 01 01 00 01 00 %s 000c 01 01 %s 80010007`
	saWith := func(proposal, transform, second string) string {
		return strings.NewReplacer("00 %s 0014", "00 "+proposal+" 0014", "00 %s 000c", "00 "+transform+" 000c", "01 01 %s", "01 01 "+second).Replace(sa)
	}
	for _, c := range []struct {
		what  string
		first PayloadType
		chain string
		want  Odd
	}{
		{"nothing", TypeVendorID, "00 00 0005 01", Odd{}},
		{"padding of zeros", TypeVendorID, "00 00 0005 01 00000000000000", Odd{Trailing: 7}},
		{"padding with its length", TypeVendorID, "00 00 0005 01 0a0b0c0d0e0f06", Odd{Trailing: 7}},
		{"more padding than a block", TypeVendorID, "00 00 0005 01" + strings.Repeat("00", 200), Odd{Trailing: 200}},
		{"reserved byte of the payload", TypeVendorID, "00 80 0005 01", Odd{Reserved: true}},
		{"reserved byte of a proposal", TypeSA, "00 00 0020" + saWith("01", "00", "0000"), Odd{Reserved: true}},
		{"reserved byte of a transform", TypeSA, "00 00 0020" + saWith("00", "01", "0000"), Odd{Reserved: true}},
		{"second reserved bytes of a transform", TypeSA, "00 00 0020" + saWith("00", "00", "0100"), Odd{Reserved: true}},
		{"second reserved bytes of a transform, the other", TypeSA, "00 00 0020" + saWith("00", "00", "0001"), Odd{Reserved: true}},
		{"no reserved bytes in an SA", TypeSA, "00 00 0020" + saWith("00", "00", "0000"), Odd{}},
		{"reserved byte of mode config", TypeAttributes, "00 00 0008 01 01 0000", Odd{Reserved: true}},
		{"reserved bytes of NAT-OA", TypeNATOA, "00 00 000c 01 000001 c0000201", Odd{Reserved: true}},
		{"flags of a fragment", TypeFragment, "00 00 0008 0001 01 03", Odd{Reserved: true}},
	} {
		ps, err := ParsePayloads(c.first, unhex(t, c.chain))
		if err != nil || len(ps.Payloads) != 1 || ps.Odd != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.what, ps, err, c.want)
			continue
		}
		if len(ps.After(0)) != 0 {
			t.Errorf("%s: %x is hashed", c.what, ps.After(0))
		}
	}
	// The body of an SA is hashed as it was received, with what is reserved.
	ps, err := ParsePayloads(TypeSA, unhex(t, "00 00 0020"+saWith("01", "02", "0304")))
	if err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, saWith("01", "02", "0304")); !bytes.Equal(ps.Payloads[0].(*SA).Body(), want) || !bytes.Equal(ps.Body(0), want) {
		t.Errorf("the body is %x, want %x", ps.Body(0), want)
	}
}

// A fragment is in clear. Peers set the encryption flag of the message that they cut.
func TestEncryptionFlagOnFragments(t *testing.T) {
	for _, flags := range []message.Flags{0, FlagEncryption} {
		h := message.Header{SPIi: 1, SPIr: 2, Version: Version, Exchange: ExchangeMain, Flags: flags}
		m, err := Parse(Append(nil, h, []Payload{&Fragment{1, 2, false, []byte("part")}}))
		if err != nil || m.Sealed != nil || len(m.Payloads) != 1 || !reflect.DeepEqual(m.Payloads[0], &Fragment{1, 2, false, []byte("part")}) {
			t.Errorf("flags %d: %+v, %v", flags, m, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	const sa = "00000001 00000001"
	const ok = "00 00 0008 01 01 0000" // a transform
	for _, c := range []struct {
		typ    PayloadType
		body   string
		reason string
	}{
		{TypeSA, ``, short},
		{TypeSA, `00000001 000000`, short},
		{TypeSA, sa, short},
		{TypeSA, sa + `01 00 0008 01 01 00 00`, "neither last nor more"},
		{TypeSA, sa + `02 00 0008 01 01 00 00`, short},
		{TypeSA, sa + `00 00 0008 01 01 00 00 00`, "after the last proposal"},
		{TypeSA, sa + `00 00 0003 01 01 00 00`, "does not fit"},
		{TypeSA, sa + `00 00 0009 01 01 00 00`, "does not fit"},
		{TypeSA, sa + `00 00 0004`, short},
		{TypeSA, sa + `00 00 000c 01 01 00 01 00 00 0004`, short},
		{TypeSA, sa + `00 00 0008 01 01 ff 00`, short},
		{TypeSA, sa + `00 00 0010 01 01 00 02` + ok, "number of transforms"},
		{TypeSA, sa + `00 00 0010 01 01 00 00` + ok, "after the last transform"},
		{TypeSA, sa + `00 00 0018 01 01 00 02` + ok + ok, "number of transforms"},
		{TypeSA, sa + `00 00 0010 01 01 00 01 02 00 0008 01 01 0000`, "neither last nor more"},
		{TypeSA, sa + `00 00 0012 01 01 00 01 00 00 000a 01 01 0000 8001`, "an attribute does not fit"},
		{TypeSA, sa + `00 00 0014 01 01 00 01 00 00 000c 01 01 0000 000c 0001`, "an attribute does not fit"},
		{TypeSA, sa + strings.Repeat("02 00 0008 01 01 00 00", maxProposals) + "00 00 0008 01 01 00 00", "more than 64"},
		{TypeID, `010000`, short},
		{TypeCert, ``, short},
		{TypeCertReq, ``, short},
		{TypeNotify, `00000001 01 00 00`, short},
		{TypeNotify, `00000001 01 04 0001 010203`, short},
		{TypeDelete, `00000001 03 04`, short},
		{TypeDelete, `00000001 03 04 0001 000000`, short},
		{TypeDelete, `00000001 03 04 0001 0000000000`, "after the last SPI"},
		{TypeDelete, `00000001 03 00 0001`, "without a length"},
		{TypeDelete, `00000001 03 01 ffff`, "more than 1024"},
		{TypeAttributes, `010000`, short},
		{TypeAttributes, `01000000 00`, "an attribute does not fit"},
		{TypeAttributes, `01000000 0001 0001`, "an attribute does not fit"},
		{TypeAttributes, `01000000 8001 00`, "an attribute does not fit"},
		{TypeAttributes, `01000000` + strings.Repeat("0001 0000", maxAttributes+1), "more than 256"},
		{TypeNATOA, `0100`, short},
		{TypeNATOA, `01000000 c00002`, "not one address"},
		{TypeNATOA, `05000000 c0000201`, "not one address"},
		{TypeNATOADraft, `01000000 20010db8000000000000000000000001`, "not one address"},
		{TypeFragment, `0001 01`, short},
		{TypeFragment, `0001 00 00`, "count from 1"},
	} {
		var odd Odd
		p, err := parsePayload(c.typ, unhex(t, c.body), &odd)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Payload != c.typ || !strings.Contains(syntax.Reason, c.reason) || p != nil {
			t.Errorf("%s %.60s: %v, %v; want %q", c.typ, c.body, p, err, c.reason)
		}
	}
}

// Bounds belong to what they bound.
func TestBounds(t *testing.T) {
	for what, c := range map[string]struct {
		typ  PayloadType
		body string
	}{
		"the most proposals":  {TypeSA, "00000001 00000001" + strings.Repeat("02 00 0008 01 01 00 00", maxProposals-1) + "00 00 0008 01 01 00 00"},
		"the most transforms": {TypeSA, "00000001 00000001 00 00 0800 01 01 00 ff" + strings.Repeat("03 00 0008 02 01 0000", 254) + "00 00 0008 02 01 0000"},
		"the most SPIs":       {TypeDelete, "00000001 03 01 0400" + strings.Repeat("01", maxSPIs)},
		"the most attributes": {TypeAttributes, "01000000" + strings.Repeat("0001 0000", maxAttributes)},
	} {
		var odd Odd
		if _, err := parsePayload(c.typ, unhex(t, c.body), &odd); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What does not fit a length field is cut so that the message can still be read.
func TestTooMuch(t *testing.T) {
	long := make([]byte, 70000)
	proposals := make([]Proposal, maxProposals+1)
	proposals[0].SPI = make([]byte, 300)
	proposals[0].Transforms = make([]Transform, 300)
	spis := make([][]byte, maxSPIs+1)
	attributes := make([]Attribute, maxAttributes+1)
	for i := range spis {
		spis[i] = []byte{1, 2, 3, 4}
	}
	ps := []Payload{
		&SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: proposals},
		&Delete{Protocol: ProtoESP, SPIs: spis},
		&Notify{SPI: make([]byte, 300)},
		&Attributes{List: attributes},
		&VendorID{long},
	}
	m, err := Parse(Append(nil, message.Header{Version: Version, Exchange: ExchangeMain}, ps))
	if err != nil {
		t.Fatal(err)
	}
	sa := m.Payloads[0].(*SA)
	if len(sa.Proposals) != maxProposals || len(sa.Proposals[0].SPI) != 255 || len(sa.Proposals[0].Transforms) != maxTransforms {
		t.Errorf("%d proposals, SPI of %d bytes, %d transforms", len(sa.Proposals), len(sa.Proposals[0].SPI), len(sa.Proposals[0].Transforms))
	}
	if n := len(m.Payloads[1].(*Delete).SPIs); n != maxSPIs {
		t.Errorf("%d SPIs", n)
	}
	if n := len(m.Payloads[3].(*Attributes).List); n != maxAttributes {
		t.Errorf("%d attributes", n)
	}
	if n := len(m.Payloads[4].(*VendorID).Data); n != 65535-genericLen {
		t.Errorf("a vendor ID of %d bytes", n)
	}
	if a := Variable(1, long).append(nil); len(a) != 4+0xffff {
		t.Errorf("an attribute of %d bytes", len(a))
	}
	if a := (Attribute{Type: 0xffff, Basic: true, Value: []byte{1, 2, 3}}).append(nil); !bytes.Equal(a, []byte{0xff, 0xff, 1, 2}) {
		t.Errorf("a basic attribute %x", a)
	}
}

// Consecutive proposals of one number belong together.
func TestOffers(t *testing.T) {
	p := func(number, protocol uint8) Proposal { return Proposal{Number: number, Protocol: protocol} }
	sa := &SA{Proposals: []Proposal{p(1, ProtoAH), p(1, ProtoESP), p(2, ProtoESP), p(1, ProtoAH), p(0, ProtoESP)}}
	want := [][]Proposal{{p(1, ProtoAH), p(1, ProtoESP)}, {p(2, ProtoESP)}, {p(1, ProtoAH)}, {p(0, ProtoESP)}}
	if got := sa.Offers(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (&SA{}).Offers(); got != nil {
		t.Errorf("no proposals: %+v", got)
	}
}

func TestNotifyNames(t *testing.T) {
	if got := NotifyRUThere.String(); got != "R-U-THERE" {
		t.Error(got)
	}
	if got := NotifyType(40000).String(); got != "notify 40000" {
		t.Error(got)
	}
	for n, want := range map[NotifyType]bool{NotifyNoProposalChosen: true, 8192: true, 16383: true, NotifyConnected: false, NotifyInitialContact: false} {
		if n.IsError() != want {
			t.Errorf("%s is an error: %v", n, !want)
		}
	}
	// The numbers are those of IANA's registry and of RFC 3706.
	for n, want := range map[NotifyType]string{
		1: "INVALID-PAYLOAD-TYPE", 4: "INVALID-COOKIE", 14: "NO-PROPOSAL-CHOSEN", 16: "PAYLOAD-MALFORMED", 18: "INVALID-ID-INFORMATION",
		23: "INVALID-HASH-INFORMATION", 24: "AUTHENTICATION-FAILED", 30: "UNEQUAL-PAYLOAD-LENGTHS", 16384: "CONNECTED",
		24576: "RESPONDER-LIFETIME", 24577: "REPLAY-STATUS", 24578: "INITIAL-CONTACT", 36136: "R-U-THERE", 36137: "R-U-THERE-ACK", 40501: "UNITY-LOAD-BALANCE",
	} {
		if n.String() != want {
			t.Errorf("%d is %s, want %s", n, n, want)
		}
	}
}
