package underlay

import (
	"bytes"
	"testing"
)

func TestClassify(t *testing.T) {
	ike := bytes.Repeat([]byte{7}, minIKE)
	marked := append(make([]byte, MarkerLen), ike...)
	tests := []struct {
		name string
		natt bool
		in   []byte
		kind Kind
		off  int
		ok   bool
	}{
		{"IKE", false, ike, IKE, 0, true},
		{"IKE cut", false, ike[:minIKE-1], IKE, 0, false},
		{"IKE with an initiator SPI that starts with zeros", false, marked, IKE, 0, true},
		{"nothing", false, nil, IKE, 0, false},
		{"keepalive on the IKE port", false, []byte{0xFF}, IKE, 0, false},
		{"NAT-T IKE", true, marked, IKE, MarkerLen, true},
		{"NAT-T IKE cut", true, marked[:len(marked)-1], IKE, 0, false},
		{"marker alone", true, marked[:4], IKE, 0, false},
		{"keepalive", true, []byte{0xFF}, Keepalive, 0, true},
		{"another byte", true, []byte{0xFE}, IKE, 0, false},
		{"two bytes", true, []byte{0xFF, 0xFF}, IKE, 0, false},
		{"ESP", true, ike[:minESP], ESP, 0, true},
		{"ESP with a small SPI", true, []byte{0, 0, 0, 1, 0, 0, 0, 0}, ESP, 0, true},
		{"ESP cut", true, ike[:minESP-1], IKE, 0, false},
		{"empty", true, nil, IKE, 0, false},
	}
	for _, tt := range tests {
		kind, off, ok := classify(tt.natt, tt.in)
		if ok != tt.ok || ok && (kind != tt.kind || off != tt.off) {
			t.Errorf("%s: %v %d %v", tt.name, kind, off, ok)
		}
	}
}

func TestFrame(t *testing.T) {
	buf := bytes.Repeat([]byte{9}, 100)
	p := Packet{Buf: buf, Off: 10, Len: 30, Kind: IKE}
	if w, ok := p.frame(false); !ok || !bytes.Equal(w, buf[10:40]) || buf[9] != 9 {
		t.Error("IKE port")
	}
	if w, ok := p.frame(true); !ok || !bytes.Equal(w[:5], []byte{0, 0, 0, 0, 9}) || len(w) != 34 || buf[5] != 9 {
		t.Error("NAT-T port")
	}
	for name, p := range map[string]Packet{
		"no room for the marker": {Buf: buf, Off: 3, Len: 30, Kind: IKE},
		"beyond the buffer":      {Buf: buf, Off: 80, Len: 30, Kind: ESP},
		"negative":               {Buf: buf, Off: -1, Len: 30, Kind: ESP},
		"of a negative length":   {Buf: buf, Off: 10, Len: -1, Kind: ESP},
		"longer than UDP":        {Buf: make([]byte, 70000), Len: MaxDatagram + 1, Kind: ESP},
	} {
		if _, ok := p.frame(true); ok {
			t.Error(name, "was framed")
		}
	}
	if _, ok := (&Packet{Buf: buf, Len: 30, Kind: ESP}).frame(false); ok {
		t.Error("ESP on the IKE port was framed")
	}
	for name, p := range map[string]Packet{
		"just room for the marker": {Buf: buf, Off: MarkerLen, Len: 30, Kind: IKE},
		"to the end of the buffer": {Buf: buf, Off: 70, Len: 30, Kind: ESP},
		"from its beginning":       {Buf: buf, Len: 30, Kind: ESP},
		"nothing":                  {Buf: buf, Off: 10, Kind: ESP},
		"the longest of UDP":       {Buf: make([]byte, 70000), Len: MaxDatagram, Kind: ESP},
	} {
		if w, ok := p.frame(true); !ok || p.Kind == ESP && len(w) != p.Len || p.Kind == IKE && len(w) != p.Len+MarkerLen {
			t.Errorf("%s: %d bytes, %v", name, len(w), ok)
		}
	}
	for name, c := range map[string]struct {
		p  Packet
		ok bool
	}{
		"ESP":                     {Packet{Buf: buf, Len: 100, Kind: ESP}, true},
		"nothing":                 {Packet{Buf: buf, Off: 100, Kind: ESP}, true},
		"the longest":             {Packet{Buf: make([]byte, 70000), Len: maxIP, Kind: ESP}, true},
		"longer":                  {Packet{Buf: make([]byte, 70000), Len: maxIP + 1, Kind: ESP}, false},
		"beyond the buffer":       {Packet{Buf: buf, Off: 71, Len: 30, Kind: ESP}, false},
		"in front of the buffer":  {Packet{Buf: buf, Off: -1, Len: 30, Kind: ESP}, false},
		"of a negative length":    {Packet{Buf: buf, Off: 10, Len: -1, Kind: ESP}, false},
		"AH":                      {Packet{Buf: buf, Len: 100, Kind: AH, Header: true}, true},
		"AH without its header":   {Packet{Buf: buf, Len: 100, Kind: AH}, false},
		"ESP with its own header": {Packet{Buf: buf, Len: 100, Kind: ESP, Header: true}, true},
	} {
		if data, ok := c.p.frameRaw(); ok != c.ok || ok && len(data) != c.p.Len {
			t.Errorf("raw, %s: %d bytes, %v", name, len(data), ok)
		}
	}
}

// Whatever arrives, what is accepted is inside the datagram and, framed again,
// is the same datagram.
func FuzzClassify(f *testing.F) {
	f.Add(true, []byte{0xFF})
	f.Add(true, make([]byte, 32))
	f.Add(true, []byte{0, 0, 1, 0, 0, 0, 0, 1, 5})
	f.Add(false, make([]byte, 28))
	f.Fuzz(func(t *testing.T, natt bool, b []byte) {
		p := Packet{Buf: append(make([]byte, Headroom), b...)}
		p.accept(len(b), natt, addrPort{}, addrPort{})
		if p.Kind == Runt {
			if p.Len != len(b) || len(b) >= MarkerLen+minIKE {
				t.Fatalf("%x is a runt", b)
			}
			return
		}
		if p.Len < 1 || p.Kind == IKE && p.Len < minIKE || p.Kind == ESP && (p.Len < minESP || !natt) {
			t.Fatalf("%+v", p)
		}
		w, ok := p.frame(natt)
		if !ok || !bytes.Equal(w, b) {
			t.Fatalf("%x became %x", b, w)
		}
	})
}

// Whatever is cut, each datagram is within its bounds, and all of them are what there was.
func FuzzCut(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, uint16(8))
	f.Add(make([]byte, 80), uint16(32))
	f.Fuzz(func(t *testing.T, data []byte, segment uint16) {
		p := Packet{Buf: append(make([]byte, Headroom), data...), Off: Headroom, Len: len(data), Segment: max(1, int(segment)), NATT: true}
		var one Packet
		var got []byte
		for p.Cut(&one) {
			if one.Len < 0 || one.Off+one.Len != len(one.Buf) || cap(one.Buf) != len(one.Buf) || one.Segment != 0 {
				t.Fatalf("%+v", one)
			}
			if one.Kind == IKE && one.Len < minIKE || one.Kind == ESP && one.Len < minESP {
				t.Fatalf("%v of %d bytes", one.Kind, one.Len)
			}
			got = append(got, one.Buf[Headroom+len(got):]...)
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("% x, want % x", got, data)
		}
	})
}
