package isakmp

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"culvert/ike/message"
	"culvert/internal/testing/vectors"
)

func FuzzParse(f *testing.F) {
	for _, b := range wholeMessages(f) {
		f.Add(b)
	}
	// The messages of all captures, once each.
	if _, err := os.Stat(filepath.Join("..", "..", "..", "shared", "vectors")); err == nil {
		for _, name := range vectors.Glob(f, "ike-seeds/v1/*") {
			f.Add(vectors.Read(f, name))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
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
		if m.Sealed != nil {
			if again := AppendSealed(nil, m.Header, m.Next, m.Sealed); !bytes.Equal(again, b) {
				t.Fatalf("%x was written as %x", b, again)
			}
			return
		}
		chainFixPoint(t, m.Next, b[message.HeaderLen:], &m.Chain)
	})
}

// FuzzDecrypted reads chains as they come out of decryption, with padding.
func FuzzDecrypted(f *testing.F) {
	first, chain := AppendPayloads(nil, everyPayload(f))
	f.Add(uint8(first), append(chain, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, first uint8, b []byte) {
		c, err := ParsePayloads(PayloadType(first), b)
		if err != nil {
			return
		}
		chainFixPoint(t, PayloadType(first), b, c)
	})
}

// chainFixPoint checks that the parts of a chain are those of b, and that it is written in a form that
// is read the same.
func chainFixPoint(t *testing.T, first PayloadType, b []byte, c *Chain) {
	t.Helper()
	if len(c.Payloads) > maxPayloads {
		t.Fatalf("%d payloads", len(c.Payloads))
	}
	size := 0
	for i := range c.Payloads {
		size += genericLen + len(c.Body(i))
		if !bytes.HasPrefix(b[size:], c.After(i)) || size+len(c.After(i))+c.Odd.Trailing != len(b) {
			t.Fatalf("after payload %d of %x is %x, with %d bytes behind", i, b, c.After(i), c.Odd.Trailing)
		}
		if !bytes.HasSuffix(b[:size], c.Body(i)) {
			t.Fatalf("body %d of %x is %x", i, b, c.Body(i))
		}
	}
	next, once := AppendPayloads(nil, c.Payloads)
	if next != first {
		t.Fatalf("the first payload is %s, was %s", next, first)
	}
	again, err := ParsePayloads(next, once)
	if err != nil || again.Odd != (Odd{}) {
		t.Fatalf("%x was written as %x: %v", b, once, err)
	}
	if _, twice := AppendPayloads(nil, again.Payloads); !bytes.Equal(once, twice) {
		t.Fatalf("%x was written as %x, then as %x", b, once, twice)
	}
}

func FuzzPayloads(f *testing.F) {
	for _, c := range payloadCases {
		f.Add(uint8(c.payload.Type()), unhex(f, c.body))
	}
	f.Fuzz(func(t *testing.T, typ uint8, body []byte) {
		if len(body) <= 65535-genericLen && typ != 0 {
			fixPoint(t, PayloadType(typ), body)
		}
	})
}

// FuzzAttributes reads attributes as those of each phase, of mode config and of RESPONDER-LIFETIME.
func FuzzAttributes(f *testing.F) {
	f.Add(unhex(f, `80010007 800e0100 80020002 8004000e 80030001 800b0001 000c0004 00015180`))
	f.Add(unhex(f, `80010001 80020e10 80010002 00020008 0000000000465000 80030002 80040001 80050002 80060080`))
	f.Add(unhex(f, `00010004 c0000201 7004001c 0a000000ff000000000000000000 c0000280ffffff80000000000000`))
	f.Fuzz(func(t *testing.T, b []byte) {
		as, reason := parseAttributes(b)
		if reason != "" {
			return
		}
		if again := appendAttributes(nil, as); !bytes.Equal(again, b) {
			t.Fatalf("%x was written as %x", b, again)
		}
		if p := ReadPhase1(as); !p.Strange && ReadPhase1(p.Attributes()) != p {
			t.Fatalf("%x: %+v became %+v", b, p, ReadPhase1(p.Attributes()))
		}
		if p := ReadPhase2(as); !p.Strange && ReadPhase2(p.Attributes()) != p {
			t.Fatalf("%x: %+v became %+v", b, p, ReadPhase2(p.Attributes()))
		}
		if life, ok := ReadResponderLifetime(b); ok {
			if again, ok := ReadResponderLifetime(AppendResponderLifetime(nil, life)); !ok || again != life {
				t.Fatalf("%x: %+v became %+v", b, life, again)
			}
		}
		for _, a := range as {
			a.Addr()
			a.Text()
			if v, ok := a.Uint(); ok {
				if again, ok := Number(a.Type, v).Uint(); !ok || again != v {
					t.Fatalf("%x: %d became %d", a.Value, v, again)
				}
			}
		}
	})
}

func FuzzNets(f *testing.F) {
	f.Add(unhex(f, `0a000000 ff000000 000000000000 c0000280 ffffff80`))
	f.Fuzz(func(t *testing.T, b []byte) {
		nets, err := ParseNets(b)
		if err != nil {
			return
		}
		once := AppendNets(nil, nets)
		again, err := ParseNets(once)
		if err != nil || !bytes.Equal(AppendNets(nil, again), once) || len(again) != len(nets) {
			t.Fatalf("%x: %v became %v, %v", b, nets, again, err)
		}
	})
}

// FuzzID reads the addresses of IDs.
func FuzzID(f *testing.F) {
	f.Add(uint8(4), uint8(17), uint16(1701), unhex(f, `c0000200 ffffff00`))
	f.Fuzz(func(t *testing.T, kind, proto uint8, port uint16, data []byte) {
		id := &ID{kind, proto, port, data}
		ts, ok := id.Selector()
		if !ok {
			return
		}
		made, ok := SelectorID(ts)
		if !ok {
			t.Fatalf("%+v is %v, which no ID names", id, ts)
		}
		if again, ok := made.Selector(); !ok || again != ts {
			t.Fatalf("%+v is %v, then %v", id, ts, again)
		}
	})
}

func FuzzUnwrapPKCS7(f *testing.F) {
	made, err := WrapPKCS7([][]byte{{0x30, 0}, {0x30, 3, 2, 1, 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(made)
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := UnwrapPKCS7(b)
		if err != nil {
			return
		}
		made, err := WrapPKCS7(certs)
		if err != nil {
			t.Fatal(err)
		}
		again, err := UnwrapPKCS7(made)
		if err != nil || len(again) != len(certs) {
			t.Fatalf("%x: %x became %x, %v", b, certs, again, err)
		}
	})
}
