package message

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"culvert/crypto/suite"
	"culvert/spd/selector"
)

// saInit is a plausible IKE_SA_INIT request.
func saInit() *Message {
	return &Message{
		Header: Header{SPIi: 0x0102030405060708, Version: 0x20, Exchange: ExchangeIKESAInit, Flags: FlagInitiator},
		Payloads: []Payload{
			&SA{[]Proposal{{Number: 1, Protocol: 1, Transforms: []Transform{
				{Type: suite.TypeEncr, ID: 20, KeyBits: 128}, {Type: suite.TypePRF, ID: 5}, {Type: suite.TypeDH, ID: 31}}}}},
			&KE{31, bytes.Repeat([]byte{7}, 32)},
			&Nonce{bytes.Repeat([]byte{9}, 32)},
			&Notify{Kind: NotifyNATDetectionSourceIP, Data: make([]byte, 20)},
			&VendorID{[]byte("culvert")},
			&Unknown{T: 99, Critical: true, Body: []byte{1}},
		},
	}
}

// wholeMessages are the messages that the tests cut and the fuzzers start from.
func wholeMessages() [][]byte {
	inner := []Payload{
		&ID{Initiator: true, IDType: 2, Data: []byte("left.example")},
		&Cert{4, []byte{0x30, 0}}, &CertReq{4, make([]byte, 20)}, &Auth{2, make([]byte, 32)},
		&Config{1, []Attribute{{Type: 1}, {Type: 3}}}, &EAP{[]byte{1, 0, 0, 5, 1}},
		&TS{Initiator: true, Selectors: []selector.TS{{Lo: addr("::"), Hi: addr("::1"), PortHi: 65535}}},
		&TS{Selectors: []selector.TS{{Lo: addr("10.0.0.0"), Hi: addr("10.0.0.9"), Proto: 6, PortLo: 80, PortHi: 80}}},
		&Delete{3, [][]byte{{1, 2, 3, 4}}},
	}
	h := Header{SPIi: 1, SPIr: 2, Version: 0x20, Exchange: ExchangeIKEAuth, Flags: FlagInitiator, ID: 1}
	auth := Message{h, inner}
	sealed := Message{h, []Payload{&Notify{Kind: NotifyInitialContact}, &Encrypted{TypeIDi, []byte("iv ciphertext icv")}}}
	fragment := Message{h, []Payload{&EncryptedFragment{NoNext, 2, 3, []byte("iv ciphertext icv")}}}
	all := [][]byte{saInit().Append(nil), auth.Append(nil), sealed.Append(nil), fragment.Append(nil)}
	return all
}

func TestHeader(t *testing.T) {
	b := unhex(t, `0102030405060708 1112131415161718 21 20 22 28 00000005 0000001c`)
	h, err := ParseHeader(b)
	want := Header{0x0102030405060708, 0x1112131415161718, TypeSA, 0x20, ExchangeIKESAInit, FlagInitiator | FlagResponse, 5, 28}
	if err != nil || h != want {
		t.Fatalf("%+v, %v", h, err)
	}
	if h.Major() != 2 || !h.Response() || !h.FromInitiator() {
		t.Error("major version 2, a response, from the initiator")
	}
	if got := h.Append([]byte{1}); !bytes.Equal(got[1:], b) {
		t.Errorf("appended %x", got)
	}
	for i := range b {
		if _, err := ParseHeader(b[:i]); err == nil {
			t.Errorf("%d bytes of a header were taken", i)
		}
	}
	if _, err := ParseHeader(append(b, 0)); err == nil {
		t.Error("a datagram longer than its message was taken")
	}
	// An IKEv1 header (main mode) is read too, but not by Parse.
	b[16], b[17], b[18] = 1, 0x10, 2
	if h, err := ParseHeader(b); err != nil || h.Major() != 1 {
		t.Errorf("IKEv1: %+v, %v", h, err)
	}
	if m, err := Parse(b); err == nil {
		t.Errorf("Parse took IKEv1: %+v", m)
	}
}

func TestMessage(t *testing.T) {
	m := saInit()
	b := m.Append([]byte("before"))[len("before"):]
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Length != uint32(len(b)) || got.Next != TypeSA || got.SPIi != m.SPIi || got.Exchange != m.Exchange {
		t.Errorf("header %+v", got.Header)
	}
	if len(got.Payloads) != len(m.Payloads) {
		t.Fatalf("%d payloads", len(got.Payloads))
	}
	for i, p := range got.Payloads {
		if p.Type() != m.Payloads[i].Type() || !bytes.Equal(p.AppendBody(nil), m.Payloads[i].AppendBody(nil)) {
			t.Errorf("payload %d is %s, want %s", i, p.Type(), m.Payloads[i].Type())
		}
	}
	if u, ok := got.Payloads[5].(*Unknown); !ok || !u.Critical {
		t.Errorf("the critical bit was lost: %+v", got.Payloads[5])
	}
	if again := got.Append(nil); !bytes.Equal(again, b) {
		t.Errorf("appended\n%x, want\n%x", again, b)
	}
}

func TestSealed(t *testing.T) {
	h := Header{SPIi: 1, SPIr: 2, Version: 0x20, Exchange: ExchangeIKEAuth}
	for _, last := range []Payload{
		&Encrypted{TypeIDi, []byte("closed")},
		&EncryptedFragment{TypeIDi, 1, 2, []byte("closed")},
	} {
		b := (&Message{h, []Payload{&VendorID{[]byte("v")}, last}}).Append(nil)
		m, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m.Payloads[1], last) {
			t.Errorf("%+v, want %+v", m.Payloads[1], last)
		}
		if _, err := ParsePayloads(m.Next, b[HeaderLen:]); err == nil {
			t.Errorf("%s inside SK was taken", last.Type())
		}
		b = append(b, 0, 0, 0, 4) // a payload behind SK
		binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
		if _, err := Parse(b); err == nil {
			t.Errorf("a payload behind %s was taken", last.Type())
		}
	}
	for _, bad := range []EncryptedFragment{{Number: 0, Total: 1}, {Number: 3, Total: 2}, {}} {
		if _, err := Parse((&Message{h, []Payload{&bad}}).Append(nil)); err == nil {
			t.Errorf("fragment %d of %d was taken", bad.Number, bad.Total)
		}
	}
}

func TestChain(t *testing.T) {
	first, b := AppendPayloads(nil, nil)
	if first != NoNext || len(b) != 0 {
		t.Errorf("the empty chain is %s, %x", first, b)
	}
	if ps, err := ParsePayloads(NoNext, nil); err != nil || len(ps) != 0 {
		t.Errorf("the empty chain is read as %v, %v", ps, err)
	}
	tests := []struct {
		first  PayloadType
		b      string
		reason string
	}{
		{NoNext, `00`, "after the last payload"},
		{TypeVendorID, ``, "ends before"},
		{TypeVendorID, `00 00 0003`, "does not fit"},
		{TypeVendorID, `00 00 0000`, "does not fit"},
		{TypeVendorID, `00 00 0005`, "does not fit"},
		{TypeVendorID, `2b 00 0004`, "ends before"},
		{TypeVendorID, strings.Repeat(`2b 00 0004`, 64), "more than 64"},
	}
	for _, c := range tests {
		_, err := ParsePayloads(c.first, unhex(t, c.b))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%.40s: %v, want %q", c.b, err, c.reason)
		}
	}
	full := strings.Repeat(`2b 00 0004`, 63) + `00 00 0004`
	if ps, err := ParsePayloads(TypeVendorID, unhex(t, full)); err != nil || len(ps) != 64 {
		t.Errorf("64 payloads: %d, %v", len(ps), err)
	}
	// The critical bit and reserved bits of known payloads mean nothing.
	if ps, err := ParsePayloads(TypeVendorID, unhex(t, `00 ff 0005 01`)); err != nil || !reflect.DeepEqual(ps, []Payload{&VendorID{[]byte{1}}}) {
		t.Errorf("critical Vendor ID: %v, %v", ps, err)
	}
}

func TestCutAtEveryByte(t *testing.T) {
	for n, whole := range wholeMessages() {
		if _, err := Parse(whole); err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
		for i := range whole {
			cut := bytes.Clone(whole[:i])
			if _, err := Parse(cut); err == nil {
				t.Fatalf("message %d cut at %d was taken", n, i)
			}
			if i < HeaderLen {
				continue
			}
			binary.BigEndian.PutUint32(cut[24:], uint32(i))
			if _, err := Parse(cut); err == nil {
				t.Fatalf("message %d cut at %d was taken with the length put right", n, i)
			}
		}
	}
}

func TestSeedsFixPoint(t *testing.T) {
	seeds := readAll(t, vectors(t, "ike-seeds/v2"))
	parsed, same := 0, 0
	for _, b := range seeds {
		m, err := Parse(b)
		if err != nil {
			continue
		}
		parsed++
		once := messageFixPoint(t, m)
		if bytes.Equal(once, b) {
			same++
		}
	}
	// Most messages come back to the byte; others have reserved bits, critical
	// bits on known payloads or attributes that are not kept.
	t.Logf("%d of %d seeds are messages, %d come back to the byte", parsed, len(seeds), same)
	if parsed < len(seeds)*9/10 || same < parsed*9/10 {
		t.Errorf("only %d of %d seeds are messages, %d come back to the byte", parsed, len(seeds), same)
	}
}

// messageFixPoint checks append∘parse∘append on m and returns its bytes.
func messageFixPoint(t testing.TB, m *Message) []byte {
	t.Helper()
	once := m.Append(nil)
	again, err := Parse(once)
	if err != nil {
		t.Fatalf("what was written cannot be read: %v\n%x", err, once)
	}
	if twice := again.Append(nil); !bytes.Equal(once, twice) {
		t.Fatalf("written as\n%x, then as\n%x", once, twice)
	}
	if again.ID != m.ID || len(again.Payloads) != len(m.Payloads) {
		t.Fatalf("%d payloads became %d", len(m.Payloads), len(again.Payloads))
	}
	return once
}
