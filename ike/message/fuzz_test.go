package message

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, b := range wholeMessages() {
		f.Add(b)
	}
	for _, name := range []string{"ike-seeds/v2", "ike-seeds/v1"} {
		if dir, ok := findVectors(name); ok {
			for _, b := range readAll(f, dir) {
				f.Add(b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		h, err := ParseHeader(b)
		if err == nil && !bytes.Equal(h.Append(nil), b[:HeaderLen]) {
			t.Fatalf("header %x became %x", b[:HeaderLen], h.Append(nil))
		}
		m, err := Parse(b)
		if !bytes.Equal(b, before) {
			t.Fatal("Parse wrote to its input")
		}
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || m != nil {
				t.Fatalf("message %v, error %v", m, err)
			}
			return
		}
		if len(m.Payloads) > maxPayloads {
			t.Fatalf("%d payloads", len(m.Payloads))
		}
		messageFixPoint(t, m)
		// Whatever the verdict, it must come without a panic.
		_ = CheckOuter(m.Header, m.Payloads)
		_ = CheckGrammar(m.Header, m.Payloads)
	})
}

func FuzzPayloads(f *testing.F) {
	for _, c := range payloadCases {
		f.Add(uint8(c.payload.Type()), unhex(f, c.body))
	}
	f.Fuzz(func(t *testing.T, typ uint8, body []byte) {
		if len(body) > maxBody {
			return
		}
		switch p := PayloadType(typ); p {
		case NoNext:
		case TypeSK, TypeSKF:
			if sk, err := parseEncrypted(p, TypeIDi, body); err == nil && !bytes.Equal(sk.AppendBody(nil), body) {
				t.Fatalf("%s %x became %x", p, body, sk.AppendBody(nil))
			}
		default:
			fixPoint(t, p, body)
		}
	})
}
