package wire

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestPathHeaders(t *testing.T) {
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	chain := func(protos ...uint8) []byte {
		var rest []byte
		for _, next := range protos[1:] {
			rest = append(rest, next, 0, 1, 4, 0, 0, 0, 0)
		}
		return append(IPv6{Next: protos[0], Src: a, Dst: b}.Append(nil, len(rest)+4), append(rest, 1, 2, 3, 4)...)
	}
	v4 := IPv4{Proto: 6, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2")}.Append(nil, 4)
	for _, c := range []struct {
		name    string
		pkt     []byte
		end, at int
		proto   uint8
	}{
		{"IPv4", append(v4, 1, 2, 3, 4), 20, 9, 6},
		{"plain", chain(17), 40, 6, 17},
		{"hop by hop", chain(0, 17), 48, 40, 17},
		{"to the end", chain(60, 17), 40, 6, 60},
		{"to each hop", chain(60, 43, 17), 56, 48, 17},
		{"both", chain(0, 60, 43, 60, 58), 64, 56, 60},
		{"fragment", chain(0, 44, 17), 48, 40, 44},
		{"two to the end", chain(0, 60, 60, 58), 48, 40, 60},
	} {
		end, at, proto, ok := PathHeaders(c.pkt)
		if !ok || end != c.end || at != c.at || proto != c.proto || c.pkt[at] != proto {
			t.Errorf("%s: %d %d %d %v, want %d %d %d", c.name, end, at, proto, ok, c.end, c.at, c.proto)
		}
		for i := range c.end {
			if end, _, _, ok := PathHeaders(c.pkt[:i]); ok && end > i {
				t.Errorf("%s cut at %d: %d", c.name, i, end)
			}
		}
	}
	if _, _, _, ok := PathHeaders(chain(0, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60)); ok {
		t.Error("a chain without end")
	}
	for _, v := range []uint8{0, 0x30, 0x44} {
		pkt := append([]byte{v}, make([]byte, 60)...)
		if _, _, _, ok := PathHeaders(pkt); ok {
			t.Errorf("%#x", v)
		}
	}
}

func TestSetTotal(t *testing.T) {
	for _, want := range [][]byte{
		AppendEcho(nil, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), false, 1, 2, make([]byte, 9)),
		AppendEcho(nil, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), false, 1, 2, make([]byte, 9)),
	} {
		pkt := bytes.Clone(want)
		if !SetTotal(pkt, 77) || TotalLen(pkt) != 77 || !VerifyIPv4Checksum(pkt) || !SetTotal(pkt, len(pkt)) || !bytes.Equal(pkt, want) {
			t.Errorf("%x, want %x", pkt, want)
		}
		if SetTotal(pkt, 0x10000+40) {
			t.Error("too long")
		}
	}
}

// FuzzPathHeaders: where the headers of the path end is within the packet, and where
// ParseFlow finds nothing wrong they end no later than the upper layer begins.
func FuzzPathHeaders(f *testing.F) {
	for _, c := range good {
		f.Add(c.pkt)
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		end, at, proto, ok := PathHeaders(pkt)
		if ok && (end > len(pkt) || at >= end || pkt[at] != proto) {
			t.Fatalf("%x: %d %d %d", pkt, end, at, proto)
		}
		var flow Flow
		if i, sound := ParseFlow(pkt, &flow); sound && (!ok || end > i.Payload) {
			t.Fatalf("%x: %v %d, upper layer at %d", pkt, ok, end, i.Payload)
		}
	})
}
